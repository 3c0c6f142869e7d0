#include "tests/check.h"

#include <math.h>

#include "io/sampler_priv.h"

/* A dataset of n samples of 8 bytes; sampler functions do not read them. */
static int nothing(void *user, int64_t index, void *const *out)
{
    (void)user;
    *(int64_t *)out[0] = index;
    return 0;
}

static fb_dataset *numbers(fb_context *ctx, int64_t n)
{
    fb_dataset_field field = {.name = "input", .dtype = FB_I64, .shape = FB_SCALAR};
    return fb_dataset_custom(ctx, n, &field, 1, nothing, NULL);
}

static fbi_sampler sampler_of(fb_dataset *ds, fb_loader_options o)
{
    fbi_sampler s;
    o.limit = o.limit ? o.limit : fb_dataset_size(ds);
    assert_int_equal(fbi_sampler_check(ds, &o), FB_OK);
    assert_int_equal(fbi_sampler_open(&s, NULL, ds, &o), FB_OK);
    return s;
}

static fbi_sampler open_sampler(fb_context *ctx, int64_t n, fb_loader_options o)
{
    return sampler_of(numbers(ctx, n), o);
}

/* --- blocks --- */

static void check_permutation(fbi_sampler *s)
{
    char *seen = calloc((size_t)s->n, 1);
    for (int64_t i = 0; i < s->n; i++) {
        size_t at = (size_t)fbi_sampler_at(s, i);
        assert_true(at < (size_t)s->n);
        assert_int_equal(seen[at], 0);
        seen[at] = 1;
    }
    free(seen);
}

static void blocks_of_any_size_give_every_sample_once(void **state)
{
    (void)state;
    const int64_t cases[][3] = {{1, 1, 1},  {7, 3, 2},      {64, 8, 4},     {65, 8, 4},
                                {63, 8, 1}, {100, 1, 10},   {1000, 999, 3}, {5003, 17, 5},
                                {12, 5, 9}, {4096, 4096, 2}};
    fb_context *ctx = check_open(1);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (int64_t epoch = 0; epoch < 5; epoch++) {
            fbi_sampler s = open_sampler(ctx, cases[k][0],
                                         (fb_loader_options){.shuffle = true,
                                                             .seed = 3,
                                                             .shuffle_block = cases[k][1],
                                                             .shuffle_window = cases[k][2]});
            fbi_sampler_begin(&s, epoch);
            check_permutation(&s);
        }
    check_close(ctx);
}

/* Blocks that the positions of a window lead to. */
static int blocks_of(fbi_sampler *s, int64_t begin, int64_t end, int64_t block)
{
    int n = 0;
    char *seen = calloc((size_t)(s->n / block + 1), 1);
    for (int64_t i = begin; i < end; i++) {
        int64_t b = fbi_sampler_at(s, i) / block;
        n += !seen[b];
        seen[b] = 1;
    }
    free(seen);
    return n;
}

static void a_window_reads_its_blocks_whole_and_no_others(void **state)
{
    (void)state;
    enum { N = 1000, BLOCK = 25, WINDOW = 4 };
    fb_context *ctx = check_open(1);
    fbi_sampler s = open_sampler(
        ctx, N,
        (fb_loader_options){
            .shuffle = true, .seed = 5, .shuffle_block = BLOCK, .shuffle_window = WINDOW});
    for (int64_t w = 0; w < N / (BLOCK * WINDOW); w++)
        assert_int_equal(blocks_of(&s, w * BLOCK * WINDOW, (w + 1) * BLOCK * WINDOW, BLOCK),
                         WINDOW);
    int64_t neighbours = 0, risen = 0; /* the samples of a window are permuted, too */
    for (int64_t i = 0; i + 1 < N; i++) {
        int64_t step = fbi_sampler_at(&s, i + 1) - fbi_sampler_at(&s, i);
        neighbours += step == 1;
        risen += step > 0;
    }
    assert_true(neighbours < 30);
    assert_true(risen > 420 && risen < 580);
    check_close(ctx);
}

/* What is read ahead is what the window's samples are from, in every pass. */
static void a_window_says_which_blocks_it_has(void **state)
{
    (void)state;
    enum { N = 203, BLOCK = 10, WINDOW = 4, BLOCKS = 21 };
    fb_context *ctx = check_open(1);
    fbi_sampler s = open_sampler(
        ctx, N,
        (fb_loader_options){
            .shuffle = true, .seed = 8, .shuffle_block = BLOCK, .shuffle_window = WINDOW});
    int64_t last = -1, first, n, left = 0;
    char in[BLOCKS];
    for (int64_t q = 0; q < 3 * N; q++) {
        fbi_walk walk = s.walk;
        int64_t window = fbi_walk_window(&walk, q);
        if (window != last) {
            assert_int_equal(window, last + 1);
            assert_int_equal(left, 0); /* the one before was used up */
            memset(in, 0, sizeof in);
            for (int64_t k = 0; fbi_walk_block(&walk, window, k, &first, &n); k++, left += n) {
                assert_int_equal(n, first == N / BLOCK * BLOCK ? N % BLOCK : BLOCK);
                in[first / BLOCK] = 1;
            }
        }
        last = window;
        left--;
        assert_true(in[fbi_walk_at(&s.walk, q) / BLOCK]);
    }
    assert_int_equal(left, 0);
    check_close(ctx);
}

static void blocks_have_another_order_in_each_epoch(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_loader_options o = {.shuffle = true, .shuffle_block = 10, .shuffle_window = 2};
    fbi_sampler a = open_sampler(ctx, 1003, o), b = a;
    fbi_sampler_begin(&b, 1);
    int same = 0;
    for (int64_t i = 0; i < 1003; i++)
        same += fbi_sampler_at(&a, i) == fbi_sampler_at(&b, i);
    assert_true(same < 20);
    check_close(ctx);
}

static void a_block_in_bytes_has_the_samples_that_fit(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fbi_sampler s =
        open_sampler(ctx, 1000, (fb_loader_options){.shuffle = true, .shuffle_bytes = 100});
    assert_int_equal(s.walk.block, 12); /* of 8 bytes */
    assert_int_equal(s.walk.window, 16);
    check_close(ctx);
}

/* --- weights --- */

/* Draws of each of n things against what is expected of them: sum (o - e)^2 / e over those that can
 * come; those that cannot must not. */
static double chi_square(const int64_t *seen, const double *weights, int64_t n)
{
    double sum = 0, chi = 0;
    int64_t draws = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += weights[i];
        draws += seen[i];
    }
    for (int64_t i = 0; i < n; i++) {
        double expected = weights[i] / sum * (double)draws, off = (double)seen[i] - expected;
        if (weights[i] > 0)
            chi += off * off / expected;
        else
            assert_int_equal(seen[i], 0);
    }
    return chi;
}

/* 1 in 1000 of good samplers is outside of this (Wilson and Hilferty, for f degrees of freedom). */
static void check_chi_square(double chi, double f)
{
    double a = 2 / (9 * f), low = 1 - a - 3.3 * sqrt(a), high = 1 - a + 3.3 * sqrt(a);
    if (chi < f * low * low * low || chi > f * high * high * high)
        fail_msg("chi-square %g of %g degrees of freedom", chi, f);
}

static void count_draws(fbi_sampler *s, int64_t epochs, int64_t *seen)
{
    for (int64_t epoch = 0; epoch < epochs; epoch++) {
        fbi_sampler_begin(s, epoch);
        for (int64_t i = 0; i < s->n; i++)
            seen[fbi_sampler_at(s, i)]++;
    }
}

static void samples_come_as_often_as_their_weights_say(void **state)
{
    (void)state;
    enum { N = 500, EPOCHS = 400 };
    fb_context *ctx = check_open(1);
    for (int shape = 0; shape < 4; shape++) {
        double w[N], f = -1;
        int64_t seen[N] = {0};
        for (int i = 0; i < N; i++) {
            w[i] = shape == 0 ? 1 : shape == 1 ? i % 7 : shape == 2 ? 1e300 * (i + 1) : 1 + i % 2;
            if (shape == 3 && i == 77)
                w[i] = 1e4;
            f += w[i] > 0;
        }
        fbi_sampler s =
            open_sampler(ctx, N, (fb_loader_options){.weights = w, .n_weights = N, .seed = 11});
        count_draws(&s, EPOCHS, seen);
        check_chi_square(chi_square(seen, w, N), f);
        fbi_sampler_close(&s);
    }
    check_close(ctx);
}

static void weights_of_rounding_never_draw_what_has_none(void **state)
{
    (void)state;
    for (int n = 1; n < 60; n++) {
        double w[60] = {0};
        fbi_alias table[60];
        for (int i = 0; i < n; i += 3)
            w[i] = 0.1 * (i + 1);
        assert_true(fbi_alias_make(w, n, table));
        for (uint64_t d = 0; d < 3000; d++)
            assert_int_equal(fbi_alias_at(table, n, 5, d) % 3, 0);
    }
}

/* Sample i is of class i % 10, but every class above 6 is 7. */
static int64_t class_of(int64_t i)
{
    return i % 10 < 7 ? i % 10 : 7;
}

static int classes(void *user, int64_t index, void *const *out)
{
    (void)user;
    *(int64_t *)out[0] = index;
    *(int16_t *)out[1] = (int16_t)class_of(index);
    return 0;
}

static fb_dataset *labelled(fb_context *ctx, int64_t n)
{
    fb_dataset_field fields[] = {{.name = "input", .dtype = FB_I64, .shape = FB_SCALAR},
                                 {.name = "target", .dtype = FB_I16, .shape = FB_SCALAR}};
    return fb_dataset_custom(ctx, n, fields, 2, classes, NULL);
}

static void classes_come_as_often_as_their_weights_say(void **state)
{
    (void)state;
    enum { N = 200, EPOCHS = 500 };
    const double given[8] = {3, 0, 1, 1, 1, 1, 1, 2.5};
    fb_context *ctx = check_open(1);
    for (int even = 0; even < 2; even++) {
        int64_t seen[N] = {0}, by_class[8] = {0};
        double of_sample[N], of_class[8] = {0};
        fbi_sampler s =
            sampler_of(labelled(ctx, N), (fb_loader_options){.weights = even ? NULL : given,
                                                             .n_weights = even ? 0 : 8,
                                                             .weigh_by = "target",
                                                             .seed = 2});
        count_draws(&s, EPOCHS, seen);
        for (int64_t i = 0; i < N; i++) {
            int64_t c = class_of(i);
            of_sample[i] = even ? 1 / (c < 7 ? N / 10. : 3 * N / 10.) : given[c];
            of_class[c] += of_sample[i];
            by_class[c] += seen[i];
        }
        check_chi_square(chi_square(seen, of_sample, N), N - 1 - (even ? 0 : N / 10));
        check_chi_square(chi_square(by_class, of_class, 8), even ? 7 : 6);
        fbi_sampler_close(&s);
    }
    check_close(ctx);
}

/* --- mixtures --- */

static fb_dataset *mix_of(fb_context *ctx, const double *weights, int64_t block)
{
    fb_dataset *sources[] = {numbers(ctx, 70), numbers(ctx, 11), numbers(ctx, 400)};
    fb_dataset *mix =
        fb_dataset_mix(ctx, sources, weights, 3, FB_OPTS(fb_mix_options, .block = block));
    check_ok(ctx);
    return mix;
}

static void a_mixture_has_its_proportions_in_each_block_of_draws(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    const double weights[] = {0.5, 0.3, 0.2};
    fb_dataset *mix = mix_of(ctx, weights, 100);
    assert_int_equal(fb_dataset_size(mix), 481);
    fbi_sampler s = sampler_of(mix, (fb_loader_options){.shuffle = true, .seed = 9});
    int64_t seen[481] = {0}, of[3] = {0}, sample;
    for (int64_t q = 0; q < 40000; q++) { /* 83 epochs and a part of one */
        fbi_sampler_begin(&s, q / 481);
        int64_t index = fbi_sampler_at(&s, q % 481);
        seen[index]++;
        of[fb_dataset_source(mix, index, &sample)]++;
        if (q % 100 != 99)
            continue;
        assert_int_equal(of[0], (q + 1) / 2);
        assert_int_equal(of[1], (q + 1) * 3 / 10);
    }
    /* each source in whole passes: 20000 = 285 * 70 + 50, 12000 = 1090 * 11 + 10, 8000 = 20 * 400
     */
    int more = 0;
    for (int i = 0; i < 70; i++) {
        assert_true(seen[i] == 285 || seen[i] == 286);
        more += seen[i] == 286;
    }
    assert_int_equal(more, 50);
    for (int i = 81; i < 481; i++)
        assert_int_equal(seen[i], 20);
    fbi_sampler_close(&s);
    check_close(ctx);
}

static void small_weights_get_a_draw_and_none_gets_none(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    const double weights[] = {1e-9, 0, 5};
    const fbi_mixture *m = fbi_mixture_of(mix_of(ctx, weights, 0));
    assert_int_equal(m->sources[0].share, 1);
    assert_int_equal(m->sources[1].share, 0);
    assert_int_equal(m->sources[2].share, 999);
    check_close(ctx);
}

static void a_mixture_without_weights_is_one_set(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset *mix = mix_of(ctx, NULL, 0);
    fbi_sampler s = sampler_of(mix, (fb_loader_options){.shuffle = true, .shuffle_block = 32});
    check_permutation(&s);
    int64_t sample;
    assert_int_equal(fb_dataset_source(mix, 80, &sample), 1);
    assert_int_equal(sample, 10);
    assert_int_equal(fb_dataset_source(mix, 481, &sample), -1);
    assert_int_equal(fb_item_int(fb_dataset_sample(mix, "input", 81)), 0);
    assert_int_equal(fb_item_int(fb_dataset_sample(mix, "input", 480)), 399);
    fbi_sampler_close(&s);
    check_close(ctx);
}

/* --- epochs --- */

static void epochs_of_other_length_go_on_through_passes(void **state)
{
    (void)state;
    enum { N = 100, EPOCH = 64 };
    fb_context *ctx = check_open(1);
    fbi_sampler whole = open_sampler(ctx, N, (fb_loader_options){.shuffle = true, .seed = 6});
    fbi_sampler s = open_sampler(
        ctx, N, (fb_loader_options){.shuffle = true, .seed = 6, .epoch_samples = EPOCH});
    for (int64_t q = 0; q < 10 * N; q++) {
        fbi_sampler_begin(&whole, q / N);
        fbi_sampler_begin(&s, q / EPOCH);
        assert_int_equal(fbi_sampler_at(&s, q % EPOCH), fbi_sampler_at(&whole, q % N));
    }
    check_close(ctx);
}

/* --- options --- */

static void refused(fb_loader_options o, const char *text)
{
    fb_context *ctx = check_open(1);
    assert_null(fb_loader_open(NULL, numbers(ctx, 64), &o));
    check_error(ctx, FB_E_ARG, text);
    fb_context_close(ctx);
}

static void options_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    refused((fb_loader_options){.shuffle_block = 4}, "set shuffle, too");
    refused((fb_loader_options){.shuffle = true, .shuffle_block = 4, .shuffle_bytes = 100},
            "either as shuffle_block samples or as shuffle_bytes, got 4 and 100");
    refused((fb_loader_options){.shuffle = true, .shuffle_window = 4},
            "either as shuffle_block samples or as shuffle_bytes, got 0 and 0");
    refused((fb_loader_options){.shuffle = true, .shuffle_block = -4},
            "shuffle_block -4 must not be negative");
}

static void weights_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    double w[64];
    for (int i = 0; i < 64; i++)
        w[i] = 1;
    fb_loader_options o = {.weights = w, .n_weights = 63};
    refused(o, "63 weights for 64 samples");
    o.n_weights = 64;
    o.shuffle = true;
    refused(o, "leave shuffle out");
    o.shuffle = false;
    w[5] = -1;
    refused(o, "weight 5 is -1");
    w[5] = NAN;
    refused(o, "weight 5 is nan");
    memset(w, 0, sizeof w);
    refused(o, "all weights are 0");
    refused((fb_loader_options){.n_weights = 3}, "n_weights 3 without weights");
    refused((fb_loader_options){.weigh_by = "label"}, "has no field label");
    refused((fb_loader_options){.epoch_samples = -1}, "epoch_samples -1 must not be negative");
    refused((fb_loader_options){.epoch_samples = 10}, "a batch of 32 is larger than an epoch of");
    refused((fb_loader_options){.bucket_window = 4}, "no field whose samples are of different");
    refused((fb_loader_options){.bucket_by = "input"}, "bucket_by input without bucket_window");
}

static void classes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    const double zero[8] = {0, 1}, two[2] = {1, 1};
    assert_null(fb_loader_open(
        NULL, labelled(ctx, 64),
        FB_OPTS(fb_loader_options, .weights = two, .n_weights = 2, .weigh_by = "target")));
    check_error(ctx, FB_E_ARG, "there is a class 7, but only 2 weights");
    assert_null(fb_loader_open(NULL, numbers(ctx, 1 << 25),
                               FB_OPTS(fb_loader_options, .weigh_by = "input")));
    check_error(ctx, FB_E_ARG, "field input of sample 16777216 is 16777216: classes are 0 to");
    assert_null(fb_loader_open(NULL, labelled(ctx, 1),
                               FB_OPTS(fb_loader_options, .global_batch = 1, .weights = zero,
                                       .n_weights = 8, .weigh_by = "target")));
    check_error(ctx, FB_E_ARG, "no sample is of a class with a weight above 0");
    check_close(ctx);
}

static void mix_refused(fb_context *ctx, fb_dataset *a, fb_dataset *b, const double *weights,
                        fb_status status, const char *text)
{
    fb_dataset *sources[] = {a, b};
    assert_null(fb_dataset_mix(ctx, sources, weights, 2, NULL));
    check_error(ctx, status, text);
}

static void mixtures_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset *a = numbers(ctx, 5), *b = numbers(ctx, 6);
    const double good[] = {1, 2};
    mix_refused(ctx, a, NULL, NULL, FB_E_ARG, "source 1 is NULL");
    mix_refused(ctx, a, labelled(ctx, 9), NULL, FB_E_SHAPE,
                "source 1, (custom), has not the fields of source 0");
    mix_refused(ctx, labelled(ctx, 9), a, NULL, FB_E_SHAPE, "has not the fields");
    mix_refused(ctx, a, b, (const double[]){1, -2}, FB_E_ARG, "weight 1 is -2");
    mix_refused(ctx, a, b, (const double[]){0, 0}, FB_E_ARG, "the weights' sum is 0");
    fb_dataset *sources[] = {a, b}, *mix = fb_dataset_mix(ctx, sources, good, 2, NULL);
    mix_refused(ctx, a, mix, NULL, FB_E_ARG, "source 1 has proportions of its own");
    assert_null(fb_dataset_mix(ctx, sources, good, 2, FB_OPTS(fb_mix_options, .block = 1)));
    check_error(ctx, FB_E_ARG, "a block of 1 draws is too short for 2 sources");
    assert_null(fb_dataset_mix(ctx, NULL, NULL, 0, NULL));
    check_error(ctx, FB_E_ARG, "at least one is needed");
    assert_null(
        fb_loader_open(NULL, mix, FB_OPTS(fb_loader_options, .global_batch = 2, .limit = 8)));
    check_error(ctx, FB_E_ARG, "drawn by the proportions of its sources: leave limit out");
    assert_null(fb_loader_open(NULL, mix,
                               FB_OPTS(fb_loader_options, .global_batch = 2, .weigh_by = "input")));
    check_error(ctx, FB_E_ARG, "leave weights and weigh_by out");
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_any_size_give_every_sample_once),
        cmocka_unit_test(a_window_reads_its_blocks_whole_and_no_others),
        cmocka_unit_test(a_window_says_which_blocks_it_has),
        cmocka_unit_test(blocks_have_another_order_in_each_epoch),
        cmocka_unit_test(a_block_in_bytes_has_the_samples_that_fit),
        cmocka_unit_test(samples_come_as_often_as_their_weights_say),
        cmocka_unit_test(weights_of_rounding_never_draw_what_has_none),
        cmocka_unit_test(classes_come_as_often_as_their_weights_say),
        cmocka_unit_test(a_mixture_has_its_proportions_in_each_block_of_draws),
        cmocka_unit_test(small_weights_get_a_draw_and_none_gets_none),
        cmocka_unit_test(a_mixture_without_weights_is_one_set),
        cmocka_unit_test(epochs_of_other_length_go_on_through_passes),
        cmocka_unit_test(options_that_do_not_fit_are_refused),
        cmocka_unit_test(weights_that_do_not_fit_are_refused),
        cmocka_unit_test(classes_that_do_not_fit_are_refused),
        cmocka_unit_test(mixtures_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
