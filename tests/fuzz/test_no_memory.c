/* timeout: 240
 * Readers without memory: for each input of the corpus the n-th allocation of our code fails, for
 * every n (the linker leads our calls here). Nothing crashes or leaks, and afterwards the same
 * input makes as many allocations as before. */
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

#include <flambeau/core/ops/create.h>
#include <flambeau/io/interchange.h>

#include "tests/fuzz/targets.h"
#include "tests/io/io_test_priv.h"

enum { MOST = 1 << 16, EACH = 150 };

static atomic_long count, fail_at; /* fail_at 0: never */

static bool refused(void)
{
    if (atomic_fetch_add(&count, 1) + 1 != atomic_load(&fail_at))
        return false;
    errno = ENOMEM;
    return true;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t most);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t most);

void *__wrap_malloc(size_t bytes)
{
    return refused() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return refused() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    return refused() ? NULL : __real_realloc(old, bytes);
}

char *__wrap_strdup(const char *text)
{
    return refused() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t most)
{
    return refused() ? NULL : __real_strndup(text, most);
}

/* How many allocations of ours a run makes, of which the n-th fails (0: none). */
static long run(const fuzz_target *target, const uint8_t *data, size_t size, long n)
{
    atomic_store(&count, 0);
    atomic_store(&fail_at, n);
    target->run(data, size);
    atomic_store(&fail_at, 0);
    return atomic_load(&count);
}

/* Later ones are a sample: what repeats is refused somewhere in its middle. */
static long next(long n)
{
    return n < EACH ? n + 1 : n + 1 + n / 10;
}

static void without_memory(const fuzz_target *target, const char *path)
{
    static uint8_t data[MOST];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t size = fread(data, 1, MOST, f);
    fclose(f);
    run(target, data, size, 0); /* what is made once is there from now on */
    long all = run(target, data, size, 0);
    for (long n = 1; n <= all; n = next(n))
        assert_true(run(target, data, size, n) >= n);
    run(target, data, size, 0);
    if (run(target, data, size, 0) != all)
        fail_msg("%s: something of a run without memory has stayed", path);
}

static void the_nth_allocation_fails(void **state)
{
    (void)state;
    for (int i = 0; i < n_fuzz_targets; i++) {
        char folder[1024], path[1400];
        long inputs = 0;
        const fuzz_target *target = fuzz_find(fuzz_targets[i].name);
        snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", getenv("FLAMBEAU_SOURCE"),
                 target->name);
        DIR *dir = opendir(folder);
        assert_non_null(dir);
        for (struct dirent *e; (e = readdir(dir));) {
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            if (e->d_name[0] == '.')
                continue;
            without_memory(target, path);
            inputs++;
        }
        closedir(dir);
        assert_true(inputs > 0);
    }
    fuzz_clean();
}

/* --- what is not read from a file of one input --- */

/* A tensor to another library and back, twice. */
static void exchange(fb_context *ctx)
{
    enum { AT_DELETER = 16 }; /* in a DLManagedTensorVersioned; before DLPack 1 at 56 */
    FB_SCOPE(ctx);
    void (*deleter)(void *);
    char *out = (char *)fb_dlpack_export(fb_ones(ctx, FB_F32, FB_SHAPE(2, 3)));
    fb_tensor *in = fb_dlpack_import(ctx, (struct DLManagedTensorVersioned *)out);
    if (out && !in) {
        memcpy(&deleter, out + AT_DELETER, sizeof deleter);
        deleter(out);
    }
    char *old = (char *)fb_dlpack_export_old(in);
    if (old && !fb_dlpack_import_old(ctx, (struct DLManagedTensor *)old)) {
        memcpy(&deleter, old + 56, sizeof deleter);
        deleter(old);
    }
}

static char path[96]; /* of a dataset */

static void batches(fb_context *ctx)
{
    fb_dataset *ds = fb_dataset_open(ctx, path);
    fb_loader *l = fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .global_batch = 30));
    fb_batch b;
    while (fb_loader_epoch(l, 1))
        for (bool more = true; more;) {
            FB_SCOPE(ctx);
            more = fb_loader_next(l, &b);
        }
    fb_loader_close(l);
    fb_dataset_close(ds);
}

/* Each allocation of `work` fails: that is said, and the next time it works. */
static void refuse_each(void (*work)(fb_context *ctx))
{
    fb_context *ctx = check_open(1);
    char text[1024];
    long failures = 0, n = 1;
    for (bool reached = true; reached; n++) {
        work(ctx);
        check_ok(ctx);
        atomic_store(&count, 0);
        atomic_store(&fail_at, n);
        work(ctx);
        atomic_store(&fail_at, 0);
        reached = atomic_load(&count) >= n;
        fb_status st = fb_error_take(ctx, text, sizeof text);
        bool said = st == FB_E_NOMEM || strstr(text, "no memory");
        if (st != FB_OK && !(reached && said))
            fail_msg("allocation %ld: %s: %s", n, fb_status_name(st), text);
        failures += st != FB_OK;
    }
    assert_true(failures > 0);
    check_close(ctx);
}

static void tensors_of_other_libraries(void **state)
{
    (void)state;
    refuse_each(exchange);
}

static void fields_of_datasets(void **state)
{
    (void)state;
    char folder[64];
    make_folder(folder);
    snprintf(path, sizeof path, "%s/train.h5", folder);
    fb_context *ctx = check_open(1);
    make_dataset(ctx, path);
    check_close(ctx);
    refuse_each(batches);
    remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_nth_allocation_fails),
                                       cmocka_unit_test(tensors_of_other_libraries),
                                       cmocka_unit_test(fields_of_datasets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
