/* Shards on a disk of the node: what is read from the copy, and what happens where there is none.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <flambeau/core/base/log.h>

#include "io/cache_priv.h"
#include "io/loader_priv.h"
#include "tests/io/io_test_priv.h"

enum { SHARDS = 3, OLD_S = 3600 };

typedef struct place {
    fb_context *ctx;
    char folder[64], path[128], cache[128];
} place;

/* --- the log --- */

static char logged[4096];

static void note_line(const char *line, void *user)
{
    (void)user;
    size_t n = strlen(logged);
    snprintf(logged + n, sizeof logged - n, "%s\n", line);
}

static void check_logged(const char *text)
{
    if (!strstr(logged, text))
        fail_msg("the log has no \"%s\": %s", text, logged);
}

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    *logged = '\0';
    fb_log_set(note_line, NULL);
    p->ctx = check_open(1);
    make_folder(p->folder);
    snprintf(p->path, sizeof p->path, "%s/d.h5", p->folder);
    snprintf(p->cache, sizeof p->cache, "%s/a/cache", p->folder);
    make_dataset(p->ctx, p->path);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    place *p = *state;
    remove_folder(p->folder);
    assert_int_equal(fb_context_close(p->ctx), FB_OK);
    fb_log_set(NULL, NULL);
    free(p);
    return 0;
}

/* --- datasets and loaders --- */

/* As if its fields were too large to be held in memory. */
static fb_dataset *open_large(place *p)
{
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    check_ok(p->ctx);
    for (int s = 0; s < ds->n_shards; s++)
        for (int f = 0; f < ds->n_fields; f++) {
            free(ds->shards[s].held[f]);
            ds->shards[s].held[f] = NULL;
        }
    return ds;
}

static fb_loader *open_cached(place *p, fb_dataset *ds, int64_t bytes)
{
    return fb_loader_open(NULL, ds,
                          FB_OPTS(fb_loader_options, .global_batch = 10, .shuffle = true,
                                  .cache = p->cache, .cache_bytes = bytes, .threads = 2));
}

/* An epoch, of which every sample is as it was made. */
static void check_epoch(fb_loader *l)
{
    fb_batch b;
    int64_t seen = 0;
    fb_loader_rewind(l);
    while (fb_loader_next(l, &b)) {
        FB_SCOPE(l->ctx);
        int64_t n;
        const int64_t *index = fb_loader_indices(l, &n);
        const float *x = fb_data(b.input);
        const int32_t *y = fb_data(b.target);
        for (int64_t i = 0; i < n; i++, seen++) {
            assert_int_equal(y[i], 3 * index[i]);
            for (int k = 0; k < WIDTH; k++)
                assert_true(x[i * WIDTH + k] == 0.5f * (float)(index[i] + k) - 1);
        }
    }
    check_ok(l->ctx);
    assert_int_equal(seen, SAMPLES);
}

static void overwrite(const place *p, int shard)
{
    char path[512];
    struct stat info;
    shard_path(p->folder, shard, path);
    assert_int_equal(stat(path, &info), 0);
    int fd = open(path, O_WRONLY);
    char *zeros = calloc(1, (size_t)info.st_size);
    assert_int_equal(write(fd, zeros, (size_t)info.st_size), info.st_size);
    free(zeros);
    close(fd);
}

static int files_in(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));)
        n += e->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n;
}

/* --- what is true --- */

static void samples_come_from_the_copy_which_has_no_name(void **state)
{
    place *p = *state;
    fb_loader *l = open_cached(p, open_large(p), 0);
    check_ok(p->ctx);
    check_logged("note: loader: 3 shards of dataset");
    assert_int_equal(files_in(p->cache), 0);
    for (int s = 0; s < SHARDS; s++)
        overwrite(p, s);
    check_epoch(l);
}

static void what_has_no_room_is_read_from_where_it_is(void **state)
{
    place *p = *state;
    fb_dataset *ds = open_large(p);
    int64_t one = ds->shards[0].bytes;
    fb_loader *l = open_cached(p, ds, one + one / 2);
    check_ok(p->ctx);
    check_logged("there is room for 1 of 3 shards");
    overwrite(p, 0);
    check_epoch(l);
}

static void a_disk_that_fills_up_is_told_and_left_alone(void **state)
{
    place *p = *state;
    fb_dataset *ds = open_large(p);
    struct rlimit before, low;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)(ds->shards[0].bytes + 1000);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    fb_loader *l = open_cached(p, ds, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    check_ok(p->ctx);
    check_logged("it cannot be written: File too large; dataset");
    assert_int_equal(files_in(p->cache), 0);
    assert_int_equal(ds->cache->fd, -1);
    check_epoch(l);
}

static void a_folder_that_cannot_be_made_is_told(void **state)
{
    place *p = *state;
    snprintf(p->cache, sizeof p->cache, "/proc/nowhere");
    fb_loader *l = open_cached(p, open_large(p), 0);
    check_ok(p->ctx);
    check_logged("warning: loader: cache /proc/nowhere: no file can be made there: No such file");
    check_epoch(l);
}

static void a_damaged_shard_is_refused_by_name(void **state)
{
    place *p = *state;
    fb_dataset *ds = open_large(p);
    overwrite(p, 1);
    assert_null(open_cached(p, ds, 0));
    check_error(p->ctx, FB_E_IO, "-00001.h5 has checksum");
    assert_int_equal(files_in(p->cache), 0);
    assert_null(ds->cache);
}

/* A file of the cache's folder, last written so many seconds ago. */
static int leave_file(const place *p, const char *name, int seconds)
{
    char path[256];
    struct timespec times[2];
    snprintf(path, sizeof path, "%s/%s", p->cache, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= seconds;
    times[1] = times[0];
    assert_int_equal(futimens(fd, times), 0);
    return fd;
}

static void what_dead_jobs_left_is_removed_and_nothing_else(void **state)
{
    place *p = *state;
    char path[256];
    snprintf(path, sizeof path, "%s/a", p->folder);
    assert_int_equal(mkdir(path, 0700) || mkdir(p->cache, 0700), 0);
    close(leave_file(p, "flambeau-cache-dead-0-0", OLD_S));
    close(leave_file(p, "flambeau-cache-young-0-0", 0));
    close(leave_file(p, "somebody-else", OLD_S));
    int held = leave_file(p, "flambeau-cache-alive-0-0", OLD_S);
    assert_int_equal(flock(held, LOCK_EX), 0);
    assert_non_null(open_cached(p, open_large(p), 0));
    check_logged("1 file of jobs that are dead: removed");
    assert_int_equal(files_in(p->cache), 3);
    snprintf(path, sizeof path, "%s/flambeau-cache-dead-0-0", p->cache);
    assert_int_equal(access(path, F_OK), -1);
    close(held);
}

static void loaders_on_the_same_files_share_a_copy(void **state)
{
    place *p = *state;
    fb_dataset *one = open_large(p), *two = open_large(p);
    fb_loader *a = open_cached(p, one, 0), *b = open_cached(p, two, 0);
    fb_loader *c = open_cached(p, one, 0);
    check_ok(p->ctx);
    assert_non_null(one->cache);
    assert_ptr_equal(one->cache, two->cache);
    assert_int_equal(one->cache->refs, 2);
    for (int s = 0; s < SHARDS; s++)
        overwrite(p, s);
    check_epoch(a);
    fb_loader_close(a);
    fb_loader_close(c);
    fb_dataset_close(one);
    check_epoch(b);
}

static void sources_of_a_mixture_are_copied(void **state)
{
    place *p = *state;
    fb_dataset *ds = open_large(p);
    fb_dataset *mix = fb_dataset_mix(p->ctx, &ds, NULL, 1, NULL);
    fb_loader *l = open_cached(p, mix, 0);
    check_ok(p->ctx);
    assert_non_null(ds->cache);
    for (int s = 0; s < SHARDS; s++)
        overwrite(p, s);
    check_epoch(l);
}

static void a_copy_that_cannot_be_read_is_told_once_and_not_used(void **state)
{
    place *p = *state;
    fb_dataset *ds = open_large(p);
    fb_loader *l = open_cached(p, ds, 0);
    assert_int_equal(ftruncate(ds->cache->fd, 10), 0);
    check_epoch(l);
    check_logged("cannot be read: its file ends too early; dataset");
    char *first = strstr(logged, "cannot be read");
    assert_null(strstr(first + 1, "cannot be read"));
}

static void what_is_in_memory_needs_no_copy(void **state)
{
    place *p = *state;
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    fb_loader *l = open_cached(p, ds, 0);
    check_ok(p->ctx);
    assert_null(ds->cache);
    assert_string_equal(logged, "");
    check_epoch(l);
}

static int nothing(void *user, int64_t index, void *const *out)
{
    (void)user, (void)index, (void)out;
    return 0;
}

static void options_that_do_not_fit_are_refused(void **state)
{
    place *p = *state;
    const fb_dataset_field field = {.name = "input", .dtype = FB_U8, .shape = FB_SCALAR};
    fb_dataset *own = fb_dataset_custom(p->ctx, 100, &field, 1, nothing, NULL);
    assert_null(open_cached(p, own, 0));
    check_error(p->ctx, FB_E_ARG, "a dataset of the program's own has no shards: leave it out");
    fb_dataset *ds = open_large(p);
    assert_null(open_cached(p, ds, -1));
    check_error(p->ctx, FB_E_ARG, "cache_bytes -1 must not be negative");
    assert_null(fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .cache_bytes = 1)));
    check_error(p->ctx, FB_E_ARG, "cache_bytes without cache: name the folder, too");
    assert_null(fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .cache = "")));
    check_error(p->ctx, FB_E_ARG, "cache \"\": give the path of a folder on a disk of each node");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(samples_come_from_the_copy_which_has_no_name),
        TEST(what_has_no_room_is_read_from_where_it_is),
        TEST(a_disk_that_fills_up_is_told_and_left_alone),
        TEST(a_folder_that_cannot_be_made_is_told),
        TEST(a_damaged_shard_is_refused_by_name),
        TEST(what_dead_jobs_left_is_removed_and_nothing_else),
        TEST(loaders_on_the_same_files_share_a_copy),
        TEST(sources_of_a_mixture_are_copied),
        TEST(a_copy_that_cannot_be_read_is_told_once_and_not_used),
        TEST(what_is_in_memory_needs_no_copy),
        TEST(options_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
