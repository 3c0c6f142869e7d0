/* ranks: 2 3 4
 * Saves whose values several nodes write: each rank is a node here, of four every two are. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <mpi.h>

#include <flambeau/comm/mpi.h>
#include <flambeau/comm/world.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/io/checkpoint.h>

#include "comm/group_priv.h"
#include "comm/world_priv.h"
#include "io/checkpoint_priv.h"
#include "tests/io/io_test_priv.h"

enum { WIDE = 100000 }; /* a weight of several buckets, and rows that are cut */

static fb_world *world;
static fb_context *ctx;
static char folder[64], heard[8192];

static bool root(void)
{
    return fb_world_root(world);
}

static void meet(void)
{
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

static void hear(const char *line, void *user)
{
    (void)user;
    size_t at = strlen(heard);
    snprintf(heard + at, sizeof heard - at, "%s\n", line);
}

/* --- a program --- */

typedef struct program {
    fb_module *m;
    fb_optimizer *opt;
    fb_state *s;
    fb_tensor *own; /* something of each rank's own making */
    int64_t step;
    char text[16];
} program;

static size_t save_text(void *user, void *out, size_t size)
{
    program *p = user;
    if (out)
        memcpy(out, p->text, size < sizeof p->text ? size : sizeof p->text);
    return sizeof p->text;
}

static int load_text(void *user, const void *data, size_t size)
{
    program *p = user;
    memcpy(p->text, data, size);
    return size != sizeof p->text;
}

static void train_on(fb_context *c, program *p)
{
    FB_SCOPE(c);
    fb_tensor *y = fb_nn_forward(p->m, fb_full(c, FB_F32, FB_SHAPE(3, 5), 0.5));
    fb_backward(fb_mean(fb_mul(y, y), FB_ALL, false));
    fb_optim_step(p->opt);
    p->step++;
}

static void train(program *p)
{
    train_on(ctx, p);
    check_ok(ctx);
}

static void begin_on(fb_context *c, program *p)
{
    *p = (program){.text = "of the program"};
    p->m = fb_nn_sequential(c, fb_nn_linear(c, 5, WIDE, NULL), fb_nn_linear(c, WIDE, 2, NULL));
    p->opt = fb_optim_adam(c, p->m, NULL);
    p->own = fb_keep(fb_full(c, FB_F64, FB_SHAPE(7, 3, 1000), 1));
    p->s = fb_state_open(c);
    fb_state_add(p->s, "model", p->m);
    fb_state_add(p->s, "optimizer", p->opt);
    fb_state_add(p->s, "own", p->own);
    fb_state_add(p->s, "step", &p->step);
    fb_state_add_custom(p->s, "text", save_text, load_text, p);
    train_on(c, p);
}

static void end(program *p)
{
    fb_state_close(p->s);
    fb_optim_close(p->opt);
    fb_nn_close(p->m);
}

static program now;

static int set_up(void **unused)
{
    (void)unused;
    meet();
    if (root())
        make_folder(folder);
    heard[0] = '\0';
    begin_on(ctx, &now);
    check_ok(ctx);
    return fbi_group_broadcast(fb_world_group(world), "test", folder, sizeof folder, 0);
}

static int tear_down(void **unused)
{
    (void)unused;
    meet();
    end(&now);
    if (root())
        remove_folder(folder);
    return 0;
}

/* --- what is on the disk --- */

/* The checkpoint of a step is whole; in how many files its values are. */
static int files_of(int64_t step)
{
    char path[128], text[512] = "";
    snprintf(path, sizeof path, "%s/step-%09lld", folder, (long long)step);
    json_t *manifest = fbi_manifest_load(path, true, text, sizeof text);
    if (!manifest)
        fail_msg("%s: %s", path, text);
    int n = (int)json_array_size(json_object_get(manifest, "files")) - 1;
    json_decref(manifest);
    DIR *dir = opendir(path); /* and nothing else lies there */
    int entries = 0;
    for (struct dirent *e; (e = readdir(dir));)
        entries += e->d_name[0] != '.';
    closedir(dir);
    assert_int_equal(entries, n + 2);
    return n;
}

static void there_are(int files)
{
    meet();
    if (root())
        assert_int_equal(files_of(now.step), files);
    meet();
}

/* A job of the first n ranks goes on from it. */
static void resumes_on(int n, const char *digest)
{
    MPI_Comm some;
    MPI_Comm_split(MPI_COMM_WORLD, fb_world_rank(world) < n, fb_world_rank(world), &some);
    if (fb_world_rank(world) < n) {
        fb_world *w = fb_world_open_comm(some, FB_OPTS(fb_world_options, .log = hear));
        program p;
        char found[17];
        begin_on(fb_world_context(w), &p);
        p.text[0] = '\0';
        assert_int_equal(fb_checkpoint_resume(w, folder, p.s), FB_OK);
        assert_string_equal(fb_state_digest(p.s, found), digest);
        end(&p);
        assert_int_equal(fb_world_close(w), FB_OK);
    }
    MPI_Comm_free(&some);
    meet();
}

/* --- tests --- */

static void each_node_writes_a_file_and_any_number_of_ranks_resumes(void **unused)
{
    (void)unused;
    char digest[17];
    fb_state_digest(now.s, digest);
    assert_int_equal(
        fb_checkpoint_save_with(world, folder, now.s, FB_OPTS(fb_checkpoint_options, .files = 100)),
        FB_OK);
    there_are(world->nodes);
    for (int n = 1; n <= fb_world_size(world); n++)
        resumes_on(n, digest);
}

static void the_values_of_the_call_are_saved_by_threads(void **unused)
{
    (void)unused;
    char digest[17], later[17];
    for (int i = 0; i < 3; i++) {
        int64_t step = now.step;
        fb_state_digest(now.s, digest);
        assert_int_equal(fb_checkpoint_save_async(world, folder, now.s,
                                                  FB_OPTS(fb_checkpoint_options, .files = 2)),
                         FB_OK);
        train(&now);
        train(&now);
        assert_string_not_equal(fb_state_digest(now.s, later), digest);
        assert_int_equal(fb_checkpoint_wait(world), FB_OK);
        if (root())
            assert_int_equal(files_of(step), 2);
        resumes_on(1, digest);
    }
}

/* A save waits for the one before, and so does resuming. */
static void saves_follow_one_another(void **unused)
{
    (void)unused;
    const fb_checkpoint_options two = {.files = 2, .keep = -1}, one = {.files = 1, .keep = -1};
    char digest[17], found[17];
    for (int i = 0; i < 4; i++) {
        fb_state_digest(now.s, digest);
        assert_int_equal((i == 2 ? fb_checkpoint_save_with : fb_checkpoint_save_async)(
                             world, folder, now.s, i == 1 ? &one : &two),
                         FB_OK);
        train(&now);
    }
    assert_int_equal(fb_checkpoint_resume(world, folder, now.s), FB_OK);
    assert_string_equal(fb_state_digest(now.s, found), digest);
    for (int64_t step = now.step - 3; step <= now.step && root(); step++)
        assert_int_equal(files_of(step), step == now.step - 2 ? 1 : 2);
}

static void small_values_are_one_file(void **unused)
{
    (void)unused;
    assert_int_equal(fb_checkpoint_save(world, folder, now.s), FB_OK);
    there_are(1);
    assert_int_equal(
        fb_checkpoint_save_with(world, folder, now.s, FB_OPTS(fb_checkpoint_options, .files = -3)),
        FB_E_ARG);
    check_error(ctx, FB_E_ARG, "checkpoint: files -3: a number, or 0 for one per node, is needed");
}

static void over_one_of_the_same_step_rank_0_writes_alone(void **unused)
{
    (void)unused;
    const fb_checkpoint_options two = {.files = 2};
    char digest[17];
    assert_int_equal(fb_checkpoint_save_with(world, folder, now.s, &two), FB_OK);
    there_are(2);
    strcpy(now.text, "something else");
    fb_state_digest(now.s, digest);
    assert_int_equal(fb_checkpoint_save_with(world, folder, now.s, &two), FB_OK);
    there_are(1);
    resumes_on(1, digest);
}

/* What a killed job has left is in nobody's way. */
static void an_unfinished_save_gives_way(void **unused)
{
    (void)unused;
    char path[160];
    if (root()) {
        snprintf(path, sizeof path, "%s/step-%09lld", folder, (long long)now.step);
        assert_int_equal(mkdir(path, 0777), 0);
        snprintf(path, sizeof path, "%s/step-%09lld/data.1.h5.9-9.tmp", folder,
                 (long long)now.step);
        fclose(fopen(path, "w"));
    }
    meet();
    assert_int_equal(
        fb_checkpoint_save_with(world, folder, now.s, FB_OPTS(fb_checkpoint_options, .files = 2)),
        FB_OK);
    there_are(2);
}

static void a_folder_of_each_node_is_left_to_rank_0(void **unused)
{
    (void)unused;
    const fb_checkpoint_options two = {.files = 2, .keep = -1};
    char digest[17], own[80], who[96], want[256];
    snprintf(own, sizeof own, "%s%s", folder, root() ? "" : "-elsewhere");
    for (int i = 0; i < 2; i++) {
        fb_state_digest(now.s, digest);
        assert_int_equal(
            (i ? fb_checkpoint_save_async : fb_checkpoint_save_with)(world, own, now.s, &two),
            FB_OK);
        assert_int_equal(fb_checkpoint_wait(world), FB_OK);
        there_are(1);
        train(&now);
    }
    resumes_on(fb_world_size(world), digest);
    int second = world->nodes == fb_world_size(world) ? 1 : 2; /* the other node's first rank */
    snprintf(want, sizeof want, "%s does not see the files that rank 0 makes there, so rank 0 ",
             fbi_rank_text(world, second, who, sizeof who));
    char *said = strstr(heard, want);
    assert_int_equal(said != NULL, root());
    if (said)
        assert_null(strstr(said + strlen(want), "does not see")); /* once */
}

/* Whatever other ranks have: a checkpoint consists of rank 0's values. */
static void values_of_rank_0_are_saved(void **unused)
{
    (void)unused;
    const fb_checkpoint_options two = {.files = 2};
    char digest[17];
    {
        FB_SCOPE(ctx);
        fb_no_grad(ctx);
        fb_fill_(now.own, 10 + fb_world_rank(world));
    }
    strcpy(now.text, root() ? "rank 0" : "another");
    for (int i = 0; i < 2; i++) {
        fb_state_digest(now.s, digest);
        fbi_group_broadcast(fb_world_group(world), "test", digest, sizeof digest, 0);
        assert_int_equal(
            (i ? fb_checkpoint_save_async : fb_checkpoint_save_with)(world, folder, now.s, &two),
            FB_OK);
        assert_int_equal(fb_checkpoint_wait(world), FB_OK);
        there_are(1);
        resumes_on(1, digest);
        train(&now);
    }
    const char *want = "is not what rank 0 has, of whose values a checkpoint consists";
    char *said = strstr(heard, want);
    assert_int_equal(said != NULL, root());
    if (said)
        assert_null(strstr(said + 1, want)); /* once */
}

/* No file of this rank may be longer. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void a_node_that_cannot_write_is_named_and_the_previous_one_stays(void **unused)
{
    (void)unused;
    const fb_checkpoint_options two = {.files = 2};
    char digest[17], found[17], who[96], want[256];
    signal(SIGXFSZ, SIG_IGN);
    int second = world->nodes == fb_world_size(world) ? 1 : 2;
    fb_state_digest(now.s, digest);
    assert_int_equal(fb_checkpoint_save_with(world, folder, now.s, &two), FB_OK);
    for (int i = 0; i < 2; i++) {
        train(&now);
        heard[0] = '\0';
        meet();
        if (fb_world_rank(world) == second)
            limit_files(10000);
        fb_status st =
            (i ? fb_checkpoint_save_async : fb_checkpoint_save_with)(world, folder, now.s, &two);
        assert_int_equal(st, FB_OK);
        assert_int_equal(fb_checkpoint_wait(world), FB_E_IO);
        limit_files(RLIM_INFINITY);
        check_ok(ctx);
        snprintf(want, sizeof want, "was not saved: %s: cannot write %s/step-%09lld/data.1.h5",
                 fbi_rank_text(world, second, who, sizeof who), folder, (long long)now.step);
        assert_int_equal(strstr(heard, want) != NULL, root());
        if (root()) {
            assert_non_null(strstr(heard, "File too large; earlier ones are untouched"));
            char path[128];
            struct stat info;
            snprintf(path, sizeof path, "%s/step-%09lld", folder, (long long)now.step);
            assert_int_equal(stat(path, &info), -1);
        }
        resumes_on(fb_world_size(world), digest);
    }
    assert_int_equal(fb_checkpoint_save_with(world, folder, now.s, &two), FB_OK);
    fb_state_digest(now.s, found);
    resumes_on(1, found);
}

/* And if rank 0 cannot, the others' files go as well. */
static void a_rank_0_that_cannot_write_waits_for_the_others(void **unused)
{
    (void)unused;
    const fb_checkpoint_options two = {.files = 2};
    struct stat info;
    char path[128];
    for (int i = 0; i < 2; i++) {
        meet();
        if (root())
            limit_files(10000);
        fb_status st =
            (i ? fb_checkpoint_save_async : fb_checkpoint_save_with)(world, folder, now.s, &two);
        assert_int_equal(st, FB_OK);
        assert_int_equal(fb_checkpoint_wait(world), FB_E_IO);
        limit_files(RLIM_INFINITY);
        snprintf(path, sizeof path, "%s/step-%09lld", folder, (long long)now.step);
        assert_int_equal(stat(path, &info), -1);
        meet();
    }
    assert_int_equal(fb_checkpoint_save_with(world, folder, now.s, &two), FB_OK);
    there_are(2);
}

/* The world's end waits for the threads of all nodes. */
static bool closing_waits(fb_status *closed)
{
    program p;
    char path[128], text[512];
    begin_on(ctx, &p);
    fb_checkpoint_save_async(world, folder, p.s, FB_OPTS(fb_checkpoint_options, .files = 2));
    snprintf(path, sizeof path, "%s/step-%09d", folder, 1);
    bool checks = root(), whole = true;
    *closed = fb_world_close(world);
    if (checks) {
        whole = fb_checkpoint_verify(path, text, sizeof text);
        remove_folder(folder);
    }
    return whole;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    int size;
    MPI_Init(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    setenv("FLAMBEAU_RANKS_PER_NODE", size == 4 ? "2" : "1", 1);
    world = fb_world_open_with(&argc, &argv, FB_OPTS(fb_world_options, .log = hear));
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(small_values_are_one_file),
        CASE(each_node_writes_a_file_and_any_number_of_ranks_resumes),
        CASE(the_values_of_the_call_are_saved_by_threads),
        CASE(saves_follow_one_another),
        CASE(over_one_of_the_same_step_rank_0_writes_alone),
        CASE(an_unfinished_save_gives_way),
        CASE(a_folder_of_each_node_is_left_to_rank_0),
        CASE(a_node_that_cannot_write_is_named_and_the_previous_one_stays),
        CASE(a_rank_0_that_cannot_write_waits_for_the_others),
        CASE(values_of_rank_0_are_saved), /* from then on rank 0 is alone */
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fb_status closed = fb_world_close(world);
    world = fb_world_open_with(&argc, &argv, FB_OPTS(fb_world_options, .log = hear));
    ctx = fb_world_context(world);
    if (root())
        make_folder(folder);
    fbi_group_broadcast(fb_world_group(world), "test", folder, sizeof folder, 0);
    bool whole = closing_waits(&closed);
    if (!whole)
        fprintf(stderr, "fb_world_close has not waited for the save\n");
    MPI_Finalize();
    return failed || closed || !whole;
}
