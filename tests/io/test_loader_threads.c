/* Batches by several threads: bits, order and errors are those of one thread. */
#include <sched.h>

#include <flambeau/core/tensor/tensor.h>

#include "io/loader_priv.h"
#include "tests/io/io_test_priv.h"

enum { TEXTS = 57, LONGEST = 18, BATCHES = 64, MOST = 1 << 20 };
static const int counts[] = {1, 2, 3, 7};

typedef struct place {
    fb_context *ctx;
    char folder[64], path[128];
} place;

/* Sample i: i * i % 23 tokens i, i + 1, ... and the label i. No square is more than 18 modulo 23.
 */
static void make_texts(place *p)
{
    const fb_dataset_field fields[] = {{.name = "text", .dtype = FB_U16, .varies = true},
                                       {.name = "target", .dtype = FB_I32}};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, fields, 2,
                                       FB_OPTS(fb_dataset_options, .shard_samples = 20));
    for (int32_t i = 0; i < TEXTS; i++) {
        uint16_t tokens[LONGEST];
        int64_t n = i * i % 23;
        for (int64_t k = 0; k < n; k++)
            tokens[k] = (uint16_t)(i + k);
        fb_dataset_append_rows(ds, 1, (const void *const[]){tokens, &i},
                               (const int64_t *const[]){&n, NULL});
    }
    fb_dataset_finish(ds);
    fb_dataset_close(ds);
    check_ok(p->ctx);
}

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    p->ctx = check_open(1);
    make_folder(p->folder);
    snprintf(p->path, sizeof p->path, "%s/texts.h5", p->folder);
    make_texts(p);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    place *p = *state;
    remove_folder(p->folder);
    assert_int_equal(fb_context_close(p->ctx), FB_OK);
    free(p);
    return 0;
}

/* As if the fields were too large to be held in memory: they are read from the files. */
static void hold_nothing(fb_dataset *ds)
{
    for (int s = 0; s < ds->n_shards; s++)
        for (int f = 0; f < ds->n_fields; f++) {
            free(ds->shards[s].held[f]);
            free(ds->shards[s].starts[f]);
            ds->shards[s].held[f] = NULL;
            ds->shards[s].starts[f] = NULL;
        }
}

/* --- what a loader gives, one batch behind the other --- */

typedef struct tape {
    char *data;
    size_t n;
} tape;

static void put(tape *t, const void *data, size_t bytes)
{
    assert_true(t->n + bytes <= MOST);
    memcpy(t->data + t->n, data, bytes);
    t->n += (bytes + 7) / 8 * 8;
}

static void put_tensor(tape *t, fb_tensor *x)
{
    if (x)
        put(t, fb_data(x), (size_t)fb_numel(x) * fb_dtype_size(fb_dtype_of(x)));
}

static void record(fb_loader *l, tape *t)
{
    fb_batch b;
    while (fb_loader_next(l, &b)) {
        int64_t n;
        const int64_t *indices = fb_loader_indices(l, &n);
        put(t, indices, (size_t)n * sizeof *indices);
        for (int f = 0; f < l->n_fields; f++) {
            put_tensor(t, fb_loader_field(l, l->fields[f].name));
            put_tensor(t, fb_loader_lengths(l, l->fields[f].name));
        }
    }
}

/* Two epochs, with a look at the beginning of the second before it. */
static tape record_all(fb_loader *l)
{
    tape t = {.data = calloc(MOST, 1)};
    assert_non_null(t.data);
    assert_true(fb_loader_epoch(l, 1));
    record(l, &t);
    fb_loader_rewind(l);
    record(l, &t);
    assert_true(fb_loader_epoch(l, 2));
    record(l, &t);
    check_ok(l->ctx);
    fb_loader_close(l);
    return t;
}

static const void *take(const tape *t, size_t *at, size_t bytes)
{
    const char *data = t->data + *at;
    *at += (bytes + 7) / 8 * 8;
    return data;
}

/* Sample i of a batch that was recorded is what was written. */
static void check_texts(const tape *t, int64_t batch, int64_t samples)
{
    size_t at = 0;
    for (int64_t done = 0; done < samples; done += batch) {
        int64_t n = samples - done < batch ? samples - done : batch;
        const int64_t *indices = take(t, &at, (size_t)n * sizeof *indices);
        const uint16_t *text = take(t, &at, (size_t)(n * LONGEST) * sizeof *text);
        const int64_t *lengths = take(t, &at, (size_t)n * sizeof *lengths);
        const int32_t *target = take(t, &at, (size_t)n * sizeof *target);
        for (int64_t i = 0; i < n; i++) {
            int64_t index = indices[i];
            assert_int_equal(lengths[i], index * index % 23);
            assert_int_equal(target[i], index);
            for (int64_t k = 0; k < LONGEST; k++)
                assert_int_equal(text[i * LONGEST + k], k < lengths[i] ? index + k : 0);
        }
    }
}

static void any_number_of_threads_gives_the_same_batches(void **state)
{
    place *p = *state;
    for (int from_files = 0; from_files < 2; from_files++) {
        fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
        if (from_files)
            hold_nothing(ds);
        tape want = {0};
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            fb_loader *l = fb_loader_open(NULL, ds,
                                          FB_OPTS(fb_loader_options, .global_batch = 8,
                                                  .shuffle = true, .threads = counts[i]));
            check_ok(p->ctx);
            assert_int_equal(l->n_workers, counts[i]);
            tape got = record_all(l);
            if (!i)
                check_texts(&got, 8, TEXTS);
            if (want.data) {
                assert_int_equal(got.n, want.n);
                assert_memory_equal(got.data, want.data, want.n);
            }
            free(want.data);
            want = got;
        }
        free(want.data);
        fb_dataset_close(ds);
    }
}

static void by_default_a_copy_of_memory_has_one_thread(void **state)
{
    place *p = *state;
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    fb_loader *l = fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .global_batch = 8));
    assert_int_equal(l->n_workers, 1);
    fb_loader_close(l);
    hold_nothing(ds);
    l = fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .global_batch = 8));
    assert_true(l->n_workers >= 1 && l->n_workers <= 4);
    fb_loader_close(l);
    assert_null(fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .threads = -1)));
    check_error(p->ctx, FB_E_ARG, "loader: -1 threads: give 1 to 1024, or 0 for what the training");
    assert_null(fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .prefetch = 1 << 20)));
    check_error(p->ctx, FB_E_ARG, "prefetch 1048576: at most 65536 micro-batches are read ahead");
}

/* --- errors --- */

enum { WIDE = 8192 }; /* 64 KiB: a thread takes few samples at once */
static const fb_dataset_field wide = {
    .name = "input", .dtype = FB_I64, .shape = {.n = 1, .d = {WIDE}}};

/* Sample 7 fails, but only after sample 8 has. */
static int fail_the_later_first(void *user, int64_t index, void *const *out)
{
    atomic_int *later = user;
    memset(out[0], 0, WIDE * sizeof(int64_t));
    if (index == 8)
        atomic_store(later, 1);
    while (index == 7 && !atomic_load(later))
        sched_yield();
    return index == 7 || index == 8 ? (int)index : 0;
}

static void of_samples_that_fail_the_first_of_the_batch_is_told(void **state)
{
    place *p = *state;
    for (int threads = 2; threads <= 4; threads++) {
        atomic_int later = 0;
        fb_dataset *ds = fb_dataset_custom(p->ctx, 20, &wide, 1, fail_the_later_first, &later);
        fb_loader *l = fb_loader_open(
            NULL, ds, FB_OPTS(fb_loader_options, .global_batch = 5, .threads = threads));
        l->chunk = 1; /* or one thread would have both */
        fb_batch b;
        assert_true(fb_loader_epoch(l, 1));
        assert_true(fb_loader_next(l, &b)); /* the batch before it is given */
        assert_false(fb_loader_next(l, &b));
        check_error(p->ctx, FB_E_USER, "the read callback failed with 7 at sample 7");
        fb_loader_close(l);
    }
}

static void a_file_that_ends_too_early_is_named_with_its_sample(void **state)
{
    place *p = *state;
    char path[512];
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    hold_nothing(ds);
    shard_path(p->folder, 1, path);
    assert_int_equal(truncate(path, 100), 0);
    for (int threads = 1; threads <= 3; threads += 2) {
        fb_loader *l = fb_loader_open(
            NULL, ds, FB_OPTS(fb_loader_options, .global_batch = 6, .threads = threads));
        fb_batch b;
        int n = 0;
        assert_true(fb_loader_epoch(l, 1));
        while (fb_loader_next(l, &b))
            n++;
        assert_int_equal(n, 3); /* samples 0 to 17 lie in the shard before it */
        check_error(p->ctx, FB_E_IO,
                    "-00001.h5: cannot read it: the file ends too early (sample 20)");
        fb_loader_close(l);
    }
}

/* --- beginning again --- */

static int number(void *user, int64_t index, void *const *out)
{
    (void)user;
    for (int k = 0; k < WIDE; k++)
        ((int64_t *)out[0])[k] = index;
    return 0;
}

static void what_was_read_ahead_is_dropped_whatever_the_threads_do(void **state)
{
    place *p = *state;
    fb_dataset *ds = fb_dataset_custom(p->ctx, 96, &wide, 1, number, NULL);
    fb_loader *l =
        fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .global_batch = 16, .threads = 4));
    fb_batch b;
    for (int64_t round = 0; round < BATCHES; round++) {
        FB_SCOPE(p->ctx);
        fb_loader_rewind(l);
        for (int64_t k = 0; k <= round % 7 && fb_loader_next(l, &b); k++) {
            const int64_t *x = fb_data(b.input);
            for (int64_t i = 0; i < b.n; i++) {
                assert_int_equal(x[i * WIDE], 16 * k + i);
                assert_int_equal(x[(i + 1) * WIDE - 1], 16 * k + i);
            }
        }
    }
    fb_loader_close(l);
    check_ok(p->ctx);
}

static void closing_ends_all_threads_whatever_they_do(void **state)
{
    place *p = *state;
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    for (int round = 0; round < 4 * BATCHES; round++) {
        fb_batch b;
        fb_loader *l = fb_loader_open(
            NULL, ds,
            FB_OPTS(fb_loader_options, .global_batch = 4, .prefetch = 2, .threads = 1 + round % 4));
        assert_true(fb_loader_epoch(l, 1));
        for (int k = 0; k < round % 3; k++)
            assert_true(fb_loader_next(l, &b));
        fb_loader_close(l);
    }
    check_ok(p->ctx);
}

/* --- a stage --- */

/* Of a text: its sum with the seed and epoch as `input`, its length times two as many bytes
 * `pairs`. */
static fb_status sum_up(const fbi_stage *stage, const fbi_sample *s, char *text, size_t size)
{
    (void)stage;
    const uint16_t *tokens = s->in[0];
    int64_t *scratch = s->scratch, sum = 0, has = 2 * s->in_rows[0];
    for (int64_t i = 0; i < s->in_rows[0]; i++)
        scratch[i] = tokens[i];
    for (int64_t i = 0; i < s->in_rows[0]; i++)
        sum += scratch[i];
    double out = (double)(sum + 1000 * s->epoch) + (double)s->seed;
    memcpy(s->out[0], &out, sizeof out);
    s->rows[1] = has < s->rows[1] ? has : s->rows[1];
    memset(s->out[1], (int)s->index, (size_t)s->rows[1]);
    if (s->index != 33)
        return FB_OK;
    snprintf(text, size, "stage: sample %lld is the one", (long long)s->index);
    return s->seed == 5 ? FB_E_USER : FB_OK;
}

/* Every sample has that of the first one added. */
static fb_status add_first(const fbi_stage *stage, const fbi_made *b, char *text, size_t size)
{
    (void)stage, (void)text, (void)size;
    double *x = b->fields[0], first = x[0];
    for (int64_t i = 0; i < b->n; i++)
        x[i] += first;
    return FB_OK;
}

static void freed(fbi_stage *stage)
{
    stage->scratch_bytes = 0;
}

static fbi_stage stage_of(void)
{
    return (fbi_stage){.n_fields = 2,
                       .fields = {{.name = "input", .dtype = FB_F64},
                                  {.name = "pairs", .dtype = FB_U8, .varies = true, .longest = 30}},
                       .scratch_bytes = LONGEST * sizeof(int64_t),
                       .sample = sum_up,
                       .batch = add_first,
                       .free = freed};
}

static double sum_of(int64_t i)
{
    int64_t n = i * i % 23;
    return (double)(n * i + n * (n - 1) / 2);
}

static void a_stage_makes_other_fields_of_samples(void **state)
{
    place *p = *state;
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        fbi_stage stage = stage_of();
        fb_loader *l =
            fbi_loader_open_staged(NULL, ds,
                                   FB_OPTS(fb_loader_options, .global_batch = 10, .shuffle = true,
                                           .seed = 3, .threads = counts[i]),
                                   &stage);
        check_ok(p->ctx);
        fb_batch b;
        for (int64_t epoch = 0; epoch < 2; epoch++) {
            assert_true(fb_loader_epoch(l, epoch + 1));
            while (fb_loader_next(l, &b)) {
                FB_SCOPE(p->ctx);
                int64_t n;
                const int64_t *index = fb_loader_indices(l, &n);
                const double *x = fb_data(b.input), key = 3 + 1000 * (double)epoch;
                const int64_t *lengths = fb_data(fb_loader_lengths(l, "pairs"));
                const uint8_t *pairs = fb_data(fb_loader_field(l, "pairs"));
                assert_null(b.target);
                for (int64_t k = 0; k < n; k++) {
                    double first = sum_of(index[0]) + key;
                    assert_true(x[k] == sum_of(index[k]) + key + first);
                    int64_t has = 2 * (index[k] * index[k] % 23);
                    assert_int_equal(lengths[k], has < 30 ? has : 30);
                    for (int64_t at = 0; at < 30; at++)
                        assert_int_equal(pairs[k * 30 + at], at < lengths[k] ? index[k] : 0);
                }
            }
        }
        fb_loader_close(l);
        assert_int_equal(stage.scratch_bytes, 0); /* the loader has freed it */
    }
    check_ok(p->ctx);
}

static void a_stage_that_fails_says_so_itself(void **state)
{
    place *p = *state;
    fbi_stage stage = stage_of();
    fb_loader *l = fbi_loader_open_staged(
        NULL, fb_dataset_open(p->ctx, p->path),
        FB_OPTS(fb_loader_options, .global_batch = 10, .seed = 5, .threads = 3), &stage);
    fb_batch b;
    int n = 0;
    assert_true(fb_loader_epoch(l, 1));
    while (fb_loader_next(l, &b))
        n++;
    assert_int_equal(n, 3);
    check_error(p->ctx, FB_E_USER, "stage: sample 33 is the one");
    fb_loader_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_number_of_threads_gives_the_same_batches, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(by_default_a_copy_of_memory_has_one_thread, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(of_samples_that_fail_the_first_of_the_batch_is_told, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_ends_too_early_is_named_with_its_sample, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_was_read_ahead_is_dropped_whatever_the_threads_do,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(closing_ends_all_threads_whatever_they_do, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_stage_makes_other_fields_of_samples, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stage_that_fails_says_so_itself, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
