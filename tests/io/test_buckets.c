#include "tests/io/io_test_priv.h"

#include <math.h>

#include "io/sampler_priv.h"

/* Texts of 0 to 60 rows of two bytes; row k of sample i is (i, k). */
enum { TEXTS = 210, LONGEST = 60 };

static int64_t length_of(int64_t i)
{
    return i == 17 ? LONGEST : i * 37 % 53;
}

typedef struct place {
    fb_context *ctx;
    char folder[64], path[128];
    fb_dataset *ds;
} place;

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    *state = p;
    make_folder(p->folder);
    snprintf(p->path, sizeof p->path, "%s/d.h5", p->folder);
    p->ctx = check_open_device(1);
    fb_dataset_field fields[] = {
        {.name = "target", .dtype = FB_I64, .shape = FB_SCALAR},
        {.name = "input", .dtype = FB_U8, .shape = FB_SHAPE(2), .varies = true}};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, fields, 2,
                                       FB_OPTS(fb_dataset_options, .shard_samples = 64));
    for (int64_t i = 0; i < TEXTS; i++) {
        uint8_t rows[LONGEST][2];
        int64_t n = length_of(i);
        for (int k = 0; k < n; k++) {
            rows[k][0] = (uint8_t)i;
            rows[k][1] = (uint8_t)k;
        }
        fb_dataset_append_rows(ds, 1, (const void *const[]){&i, rows},
                               (const int64_t *const[]){NULL, &n});
    }
    fb_dataset_finish(ds);
    p->ds = fb_dataset_open(p->ctx, p->path);
    return fb_status_of(p->ctx);
}

static int tear_down(void **state)
{
    place *p = *state;
    remove_folder(p->folder);
    int failed = fb_context_close(p->ctx);
    free(p);
    return failed;
}

/* What a micro-batch must be: each sample's rows, up to `most`, then zeros up to `width`. */
static void check_batch(fb_loader *l, const fb_batch *b, int64_t width, int64_t most)
{
    int64_t n;
    const int64_t *index = fb_loader_indices(l, &n);
    const uint8_t *x = check_data(b->input);
    const int64_t *lengths = check_data(fb_loader_lengths(l, "input"));
    assert_true(fb_shape_equal(fb_shape_of(b->input), FB_SHAPE(n, width, 2)));
    for (int64_t i = 0; i < n; i++) {
        int64_t has = length_of(index[i]) < most ? length_of(index[i]) : most;
        assert_int_equal(lengths[i], has);
        for (int64_t k = 0; k < width; k++) {
            assert_int_equal(x[(i * width + k) * 2], k < has ? (uint8_t)index[i] : 0);
            assert_int_equal(x[(i * width + k) * 2 + 1], k < has ? k : 0);
        }
    }
}

/* Rows that micro-batches of these options should have: written with lengths alone. */
static int64_t width_of(fb_loader *l, int64_t most, int64_t multiple)
{
    int64_t n, width = 1;
    const int64_t *index = fb_loader_indices(l, &n);
    for (int64_t i = 0; i < n; i++)
        while (width < most && (width < length_of(index[i]) || width % multiple))
            width++;
    while (width < most && width % multiple)
        width++;
    return width;
}

/* An epoch whose micro-batches are as they should be; returns the padding. */
static double check_epoch(place *p, fb_loader_options o)
{
    int64_t most = o.longest ? o.longest : LONGEST, samples = 0;
    double rows = 0, had = 0;
    fb_loader *l = fb_loader_open(NULL, p->ds, &o);
    check_ok(p->ctx);
    fb_batch b;
    assert_true(fb_loader_padding(l, "input") == 0);
    assert_true(fb_loader_epoch(l, 1));
    while (fb_loader_next(l, &b)) {
        int64_t width = width_of(l, most, o.pad_multiple ? o.pad_multiple : 1), n;
        check_batch(l, &b, width, most);
        const int64_t *index = fb_loader_indices(l, &n);
        for (int64_t i = 0; i < n; i++)
            had += (double)(length_of(index[i]) < most ? length_of(index[i]) : most);
        rows += (double)(n * width);
        samples += n;
    }
    check_ok(p->ctx);
    assert_int_equal(samples, TEXTS);
    double padding = fb_loader_padding(l, "input");
    assert_true(fabs(padding - (1 - had / rows)) < 1e-12);
    assert_true(fb_loader_padding(l, "target") == 0 && fb_loader_padding(l, "none") == 0);
    fb_loader_close(l);
    return padding;
}

static void batches_are_as_long_as_their_longest_sample(void **state)
{
    place *p = *state;
    for (int threads = 1; threads < 4; threads++) {
        fb_loader_options o = {.global_batch = 12,
                               .micro_batch = 5,
                               .shuffle = true,
                               .seed = 3,
                               .pad_to_batch = true,
                               .threads = threads};
        check_epoch(*state, o);
        o.longest = 30;
        check_epoch(*state, o);
        o.pad_multiple = 8;
        check_epoch(*state, o);
        o.pad_multiple = 1000;
        check_epoch(*state, o);
    }
    check_ok(p->ctx);
}

static void samples_of_like_length_need_little_padding(void **state)
{
    fb_loader_options o = {.global_batch = 10, .shuffle = true, .seed = 3, .pad_to_batch = true};
    double before = check_epoch(*state, o);
    o.bucket_window = 7;
    double after = check_epoch(*state, o);
    o.bucket_window = 21; /* all */
    double least = check_epoch(*state, o);
    if (before < 0.4 || after > 0.15 || least > 0.07)
        fail_msg("padding: %g without buckets, %g with, %g at least", before, after, least);
}

static void a_window_is_its_samples_sorted_and_dealt_out(void **state)
{
    place *p = *state;
    fb_loader_options o = {.global_batch = 10,
                           .shuffle = true,
                           .seed = 9,
                           .limit = 205,
                           .bucket_window = 4,
                           .bucket_by = "input"};
    fb_loader_options plain = {.global_batch = 10, .shuffle = true, .seed = 9, .limit = 205};
    fbi_sampler s, drawn;
    assert_int_equal(fbi_sampler_check(p->ds, &o) || fbi_sampler_check(p->ds, &plain), FB_OK);
    assert_int_equal(fbi_sampler_open(&s, NULL, p->ds, &o), FB_OK);
    assert_int_equal(fbi_sampler_open(&drawn, NULL, p->ds, &plain), FB_OK);
    int moved = 0;
    for (int64_t begin = 0; begin < 205; begin += 40) {
        int64_t end = begin + 40 < 205 ? begin + 40 : 205, last = -1;
        char in[TEXTS] = {0};
        for (int64_t i = begin; i < end; i++)
            in[fbi_sampler_at(&drawn, i)] = 1;
        for (int64_t i = begin; i < end; i++) {
            int64_t index = fbi_sampler_at(&s, i), length = length_of(index);
            assert_int_equal(in[index], 1);
            in[index] = 2;
            assert_true(i % 10 == 0 || length >= last);
            moved += i % 10 == 0 && length < last;
            last = length;
        }
    }
    assert_true(moved > 3); /* batches are in no order */
    /* any place, any time */
    for (int64_t i = 204; i >= 0; i -= 13) {
        int64_t at = fbi_sampler_at(&s, i);
        fbi_sampler_begin(&s, 1);
        fbi_sampler_at(&s, 204 - i);
        fbi_sampler_begin(&s, 0);
        assert_int_equal(fbi_sampler_at(&s, i), at);
    }
    fbi_sampler_close(&s);
    fbi_sampler_close(&drawn);
}

/* Lengths of the uneven rest of an epoch, which drop_last leaves out, over many epochs. */
static void the_rest_of_an_epoch_has_any_length(void **state)
{
    place *p = *state;
    fb_loader_options o = {
        .global_batch = 20, .shuffle = true, .seed = 1, .bucket_window = 11, .limit = TEXTS};
    fbi_sampler s;
    assert_int_equal(fbi_sampler_check(p->ds, &o), FB_OK);
    assert_int_equal(fbi_sampler_open(&s, NULL, p->ds, &o), FB_OK);
    int64_t shortest = LONGEST, longest = 0;
    for (int64_t epoch = 0; epoch < 20; epoch++) {
        fbi_sampler_begin(&s, epoch);
        for (int64_t i = 200; i < TEXTS; i++) {
            int64_t length = length_of(fbi_sampler_at(&s, i));
            shortest = length < shortest ? length : shortest;
            longest = length > longest ? length : longest;
        }
    }
    assert_true(shortest < 10 && longest > 40);
    fbi_sampler_close(&s);
}

static void in_turn_batches_go_from_short_to_long(void **state)
{
    place *p = *state;
    fb_loader_options o = {.global_batch = 10, .bucket_window = 3};
    fb_loader *l = fb_loader_open(NULL, p->ds, &o);
    fb_batch b;
    int64_t n, last = -1;
    fb_loader_rewind(l);
    for (int k = 0; fb_loader_next(l, &b); k++) {
        const int64_t *index = fb_loader_indices(l, &n);
        for (int64_t i = 0; i < n; i++) {
            assert_true((k % 3 == 0 && i == 0) || length_of(index[i]) >= last);
            last = length_of(index[i]);
        }
    }
    check_ok(p->ctx);
}

static void options_that_do_not_fit_are_refused(void **state)
{
    place *p = *state;
    assert_null(fb_loader_open(NULL, p->ds, FB_OPTS(fb_loader_options, .pad_multiple = 4)));
    check_error(p->ctx, FB_E_ARG, "pad_multiple 4 without pad_to_batch");
    assert_null(fb_loader_open(
        NULL, p->ds, FB_OPTS(fb_loader_options, .bucket_window = 4, .bucket_by = "target")));
    check_error(p->ctx, FB_E_ARG, "no field target whose samples are of different length");
    assert_null(
        fb_loader_open(NULL, p->ds, FB_OPTS(fb_loader_options, .bucket_window = INT64_MAX / 2)));
    check_error(p->ctx, FB_E_ARG, "batches of 32 are more than 16777216 samples");
}

/* As if the fields were too large to be held. */
static void open_as_large(place *p)
{
    fb_dataset_close(p->ds);
    p->ds = fb_dataset_open(p->ctx, p->path);
    for (int s = 0; s < p->ds->n_shards; s++)
        for (int f = 0; f < p->ds->n_fields; f++) {
            free(p->ds->shards[s].held[f]);
            free(p->ds->shards[s].starts[f]);
            p->ds->shards[s].held[f] = NULL;
            p->ds->shards[s].starts[f] = NULL;
        }
}

static void blocks_that_are_read_ahead_are_the_same_samples(void **state)
{
    place *p = *state;
    open_as_large(p);
    for (int64_t block = 1; block < 300; block = block * 3 + 1) {
        fb_loader_options o = {.global_batch = 10,
                               .shuffle = true,
                               .shuffle_block = block,
                               .shuffle_window = 2,
                               .pad_to_batch = true};
        check_epoch(p, o);
        o.bucket_window = 3;
        check_epoch(p, o);
    }
}

static void damaged_lengths_are_told_when_the_loader_opens(void **state)
{
    place *p = *state;
    char shard[512];
    open_as_large(p);
    shard_path(p->folder, 1, shard);
    FILE *f = fopen(shard, "r+b");
    int64_t first = -7;
    fseek(f, (long)p->ds->shards[1].place[1].offsets + 8 * 3, SEEK_SET);
    assert_int_equal(fwrite(&first, sizeof first, 1, f), 1);
    fclose(f);
    assert_null(fb_loader_open(NULL, p->ds, FB_OPTS(fb_loader_options, .bucket_window = 4)));
    check_error(p->ctx, FB_E_IO, "-00001.h5: lengths of field input: its offsets are damaged");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(batches_are_as_long_as_their_longest_sample),
        CASE(samples_of_like_length_need_little_padding),
        CASE(a_window_is_its_samples_sorted_and_dealt_out),
        CASE(the_rest_of_an_epoch_has_any_length),
        CASE(in_turn_batches_go_from_short_to_long),
        CASE(blocks_that_are_read_ahead_are_the_same_samples),
        CASE(options_that_do_not_fit_are_refused),
        CASE(damaged_lengths_are_told_when_the_loader_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
