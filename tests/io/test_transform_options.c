#include "tests/io/transform_test_priv.h"

#include "io/fft_priv.h"

/* --- what is refused --- */

static int nothing(void *user, const fb_sample *sample, const fb_value *in, fb_value *out,
                   fb_rng *rng)
{
    (void)user;
    (void)sample;
    (void)in;
    (void)out;
    (void)rng;
    return 0;
}

typedef struct refusal {
    fb_transform *t;
    fb_status status;
    const char *text;
} refusal;

static void what_does_not_fit_a_field_is_told_when_the_loader_opens(void **state)
{
    (void)state;
    enum { ROWS = 18 };
    for (int i = 0; i < ROWS; i++) {
        fb_context *ctx = check_open(1);
        const double two[] = {1, 1};
        fb_transform *flip = fb_transform_random_horizontal_flip(ctx, 0.5);
        fb_transform *crop = fb_transform_random_crop(ctx, 4, 4, NULL);
        fb_transform *mix = fb_transform_mixup(ctx, 5, NULL);
        const refusal rows[ROWS] = {
            {fb_transform_random_crop(ctx, 10, 4, NULL), FB_E_SHAPE,
             "loader: transform random_crop of field input, U8 [3, 9, 7]: 10 x 4 is asked for, the "
             "padded image is 9 x 7"},
            {fb_transform_on(flip, "target"), FB_E_SHAPE,
             "an image [channels, height, width] or [height, width] is needed"},
            {fb_transform_on(fb_transform_random_vertical_flip(ctx, 1), "label"), FB_E_NOT_FOUND,
             "transform random_vertical_flip: there is no field \"label\", but input, mask, "
             "target"},
            {fb_transform_normalize(ctx, 2, two, two), FB_E_DTYPE,
             "F32 is needed: use fb_transform_to_float before it"},
            {fb_transform_mel_spectrogram(ctx, NULL), FB_E_DTYPE, "mel_spectrogram of field input"},
            {fb_transform_time_masking(ctx, 2, NULL), FB_E_SHAPE,
             "F32 [..., bands, frames] is needed"},
            {fb_transform_permute(ctx, FB_DIMS(1, 0)), FB_E_SHAPE,
             "2 dimensions of fixed size are needed"},
            {fb_transform_random_erasing(ctx, FB_OPTS(fb_erasing_options, .noise = true)),
             FB_E_DTYPE, "noise needs F32"},
            {fb_transform_mixup(ctx, 5, FB_OPTS(fb_mixup_options, .target = "mask")), FB_E_SHAPE,
             "field mask must be a class, an integer, or F32 [5]"},
            {fb_transform_mixup(ctx, 5, FB_OPTS(fb_mixup_options, .target = "no")), FB_E_NOT_FOUND,
             "there is no field \"no\""},
            {fb_transform_copy(ctx, "input", "mask"), FB_E_ARG,
             "there is a field \"mask\" already"},
            {fb_transform_random_apply(ctx, 0.5, crop), FB_E_SHAPE,
             "random_crop gives another shape, dtype or field than it gets"},
            {fb_transform_one_of(ctx, FB_TRANSFORMS(crop, fb_transform_cutout(ctx, 1, 0)), NULL),
             FB_E_SHAPE, "cutout gives another shape, dtype or field than random_crop"},
            {fb_transform_random_apply(ctx, 0.5, mix), FB_E_SHAPE, "mixup gives another shape"},
            {fb_transform_mask_tokens(ctx, 1, 9,
                                      FB_OPTS(fb_mask_tokens_options, .labels = "input")),
             FB_E_DTYPE, "labels in another field are needed"},
            {fb_transform_on(fb_transform_time_shift(ctx, 0.1, NULL), "target"), FB_E_SHAPE,
             "rows, [time] or [time, ...], are needed"},
            {fb_transform_on(fb_transform_color_jitter(ctx, NULL), "target"), FB_E_SHAPE,
             "an image"},
            {NULL, FB_E_ARG, "loader: transform 0 of the list is NULL"},
        };
        check_ok(ctx);
        assert_null(open_on(pictures(ctx), FB_TRANSFORMS(rows[i].t)));
        check_error(ctx, rows[i].status, rows[i].text);
        fb_context_close(ctx);
    }
    fb_context *ctx = check_open(1);
    assert_null(open_on(pictures(ctx), FB_TRANSFORMS(fb_transform_mixup(ctx, 5, NULL),
                                                     fb_transform_cutmix(ctx, 5, NULL))));
    check_error(ctx, FB_E_ARG,
                "transform cutmix: the list mixes samples twice: use fb_transform_one_of");
    fb_context_close(ctx);
}

static void lists_and_results_too_large_are_told(void **state)
{
    (void)state;
    enum { MANY = 129 };
    fb_context *ctx = check_open(1);
    fb_transform *many[MANY],
        *huge = fb_transform_custom(
            ctx, nothing, NULL,
            FB_OPTS(fb_transform_custom_options, .shape = FB_SHAPE(1LL << 40, 1LL << 40)));
    for (int i = 0; i < MANY; i++)
        many[i] = fb_transform_random_horizontal_flip(ctx, 0.5);
    assert_null(open_on(pictures(ctx), (fb_transforms){many, MANY}));
    check_error(ctx, FB_E_ARG, "more than 128 transforms");
    assert_null(open_on(pictures(ctx), FB_TRANSFORMS(huge)));
    check_error(ctx, FB_E_SHAPE, "its result would have no elements, or too many");
    const double ones[] = {1, 1};
    assert_null(open_on(pictures(ctx), FB_TRANSFORMS(fb_transform_to_float(ctx),
                                                     fb_transform_normalize(ctx, 2, ones, ones))));
    check_error(ctx, FB_E_SHAPE, "it has means of 2 channels");
    for (int i = 0; i < FB_MAX_FIELDS; i++)
        assert_ptr_equal(fb_transform_on(many[0], "mask"), many[0]);
    assert_null(fb_transform_on(many[0], "mask"));
    check_error(ctx, FB_E_ARG, "more than 16 fields");
    check_close(ctx);
}

static int make_halves(void *user, int64_t index, void *const *out)
{
    (void)user;
    (void)index;
    memset(out[0], 0, 4 * 4 * 4);
    return 0;
}

static void halves_are_moved_but_not_computed(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset_field field = {.name = "input", .dtype = FB_F16, .shape = FB_SHAPE(2, 4, 4)};
    fb_dataset *ds = fb_dataset_custom(ctx, 8, &field, 1, make_halves, NULL);
    const fb_crop_options ones = {.fill = 1};
    assert_null(open_on(ds, FB_TRANSFORMS(fb_transform_resize(ctx, 2, 2, NULL))));
    check_error(ctx, FB_E_DTYPE, "U8, F32 or another integer is needed: use fb_transform_to_float");
    assert_null(open_on(ds, FB_TRANSFORMS(fb_transform_center_crop(ctx, 6, 6, &ones))));
    check_error(ctx, FB_E_DTYPE, "only zeros can be filled in");
    assert_null(open_on(ds, FB_TRANSFORMS(fb_transform_cutout(ctx, 2, 1))));
    check_error(ctx, FB_E_DTYPE, "only zeros can be filled in");
    assert_null(open_on(ds, FB_TRANSFORMS(fb_transform_color_jitter(ctx, NULL))));
    check_error(ctx, FB_E_SHAPE, "1 or 3 channels are needed");
    assert_non_null(open_on(ds, FB_TRANSFORMS(fb_transform_center_crop(ctx, 6, 6, NULL),
                                              fb_transform_random_horizontal_flip(ctx, 0.5))));
    check_close(ctx);
}

static void options_out_of_range_are_told_at_once(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    const double one = 1, zero = 0;
    fb_transform *flip = fb_transform_random_horizontal_flip(ctx, 0.5);
    fb_transform *copy = fb_transform_copy(ctx, "input", "x");
    fb_transform *other = fb_transform_on(fb_transform_random_horizontal_flip(ctx, 1), "mask");
#define REFUSED(call, text)                 \
    do {                                    \
        assert_null(call);                  \
        check_error(ctx, FB_E_ARG, (text)); \
    } while (0)
    REFUSED(fb_transform_random_crop(ctx, 0, 4, NULL), "transform random_crop: 0 x 4");
    REFUSED(fb_transform_pad(ctx, FB_OPTS(fb_crop_options, .padding = {-1})), "padding -1");
    REFUSED(fb_transform_pad(ctx, FB_OPTS(fb_crop_options, .mode = 9)), "no padding mode 9");
    REFUSED(fb_transform_random_horizontal_flip(ctx, NAN), "p = nan: 0 to 1 is needed");
    REFUSED(fb_transform_permute(ctx, FB_DIMS(0, 0)), "each of the dimensions");
    REFUSED(fb_transform_random_erasing(ctx, FB_OPTS(fb_erasing_options, .p = 2)), "p = 2");
    REFUSED(fb_transform_random_erasing(ctx, FB_OPTS(fb_erasing_options, .scale = {0.5, 0.1})),
            "scale 0.5 .. 0.1");
    REFUSED(fb_transform_cutout(ctx, 0, 0), "size 0");
    REFUSED(fb_transform_resize(ctx, 5, 1 << 20, NULL), "5 x 1048576");
    REFUSED(fb_transform_resize(ctx, 5, 5, FB_OPTS(fb_resize_options, .filter = 7)), "filter 7");
    REFUSED(fb_transform_random_resized_crop(ctx, 5, 5,
                                             FB_OPTS(fb_resized_crop_options, .ratio = {2, 1})),
            "ratio 2 .. 1 must be positive");
    REFUSED(fb_transform_random_affine(ctx, FB_OPTS(fb_affine_options, .degrees = 200)),
            "degrees = 200");
    REFUSED(fb_transform_normalize(ctx, 1, &one, &zero), "a positive deviation is needed");
    REFUSED(fb_transform_color_jitter(ctx, FB_OPTS(fb_color_jitter_options, .hue = 0.6)),
            "hue 0.6");
    REFUSED(fb_transform_mixup(ctx, 0, NULL), "0 classes");
    REFUSED(fb_transform_cutmix(ctx, 5, FB_OPTS(fb_mixup_options, .alpha = -1)), "alpha = -1");
    REFUSED(fb_transform_time_shift(ctx, 2, NULL), "2 of the length");
    REFUSED(fb_transform_random_window(ctx, 0), "0 rows");
    REFUSED(fb_transform_mel_spectrogram(ctx, FB_OPTS(fb_mel_options, .window = 500)),
            "window in 1 .. n_fft");
    REFUSED(fb_transform_mel_spectrogram(ctx, FB_OPTS(fb_mel_options, .f_max = 9000)),
            "f_max <= sample_rate / 2");
    REFUSED(fb_transform_time_masking(ctx, 0, NULL), "at least 1 is needed");
    REFUSED(fb_transform_mask_tokens(ctx, 1, 0, NULL), "vocabulary 0");
    REFUSED(fb_transform_mask_tokens(ctx, 1, 9, FB_OPTS(fb_mask_tokens_options, .masked = 0.99)),
            "masked 0.99 and random 0.1");
    REFUSED(fb_transform_random_apply(ctx, 1.5, flip), "p = 1.5");
    REFUSED(fb_transform_one_of(ctx, (fb_transforms){0}, NULL), "0 transforms");
    REFUSED(fb_transform_one_of(ctx, FB_TRANSFORMS(flip), &zero), "all probabilities are 0");
    REFUSED(fb_transform_one_of(ctx, FB_TRANSFORMS(flip, other), NULL), "change different fields");
    REFUSED(fb_transform_custom(ctx, NULL, NULL, NULL), "the function is NULL");
    REFUSED(fb_transform_custom(ctx, nothing, NULL,
                                FB_OPTS(fb_transform_custom_options, .fixed = true)),
            "needs a shape");
    REFUSED(fb_transform_copy(ctx, "", "x"), "a field's name has 1 to 127 bytes");
    REFUSED(fb_transform_on(copy, "mask"), "it says itself which fields it changes");
    REFUSED(fb_transform_on(flip, ""), "a field's name");
#undef REFUSED
    check_close(ctx);
}

/* --- numbers --- */

static void a_stream_is_uniform_and_normal_and_whole(void **state)
{
    (void)state;
    enum { DRAWS = 100000 };
    fb_rng rng = fb_rng_make(1, 2), copy = rng, other = fb_rng_make(1, 3);
    double sum = 0, squares = 0, mean = 0;
    int counts[6] = {0};
    for (int i = 0; i < DRAWS; i++) {
        double x = fb_rng_normal(&rng, 3, 2), u = fb_rng_uniform(&rng, -1, 1);
        int64_t k = fb_rng_int(&rng, -2, 4);
        assert_true(u >= -1 && u < 1 && k >= -2 && k < 4);
        sum += x;
        squares += (x - 3) * (x - 3);
        mean += u;
        counts[k + 2]++;
    }
    assert_true(fabs(sum / DRAWS - 3) < 0.03 && fabs(squares / DRAWS - 4) < 0.1);
    assert_true(fabs(mean / DRAWS) < 0.01);
    for (int k = 0; k < 6; k++)
        assert_true(abs(counts[k] - DRAWS / 6) < 600);
    rng = fb_rng_make(1, 2);
    assert_true(fb_rng_normal(&rng, 0, 1) == fb_rng_normal(&copy, 0, 1));
    assert_true(fb_rng_uniform(&rng, 0, 1) != fb_rng_uniform(&other, 0, 1));
    assert_true(fb_rng_uniform(NULL, 2, 3) == 2 && fb_rng_normal(NULL, 2, 3) == 2);
    assert_true(fb_rng_int(NULL, 2, 3) == 2 && fb_rng_int(&rng, 5, 5) == 5);
}

static void a_transform_of_any_length_is_the_sum_in_double(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 12, 30, 49, 64, 97, 210, 400};
    static fbi_complex x[400], y[400], scratch[400];
    for (size_t c = 0; c < sizeof lengths / sizeof *lengths; c++) {
        int64_t n = lengths[c];
        fbi_fft fft;
        fb_rng rng = fb_rng_make(9, (uint64_t)n);
        for (int64_t j = 0; j < n; j++)
            x[j] =
                (fbi_complex){(float)fb_rng_normal(&rng, 0, 1), (float)fb_rng_normal(&rng, 0, 1)};
        assert_true(fbi_fft_open(&fft, n));
        fbi_fft_run(&fft, x, y, scratch);
        for (int64_t k = 0; k < n; k++) {
            double re = 0, im = 0;
            for (int64_t j = 0; j < n; j++) {
                double a = -2 * 3.14159265358979323846 * (double)(j * k % n) / (double)n;
                re += x[j].re * cos(a) - x[j].im * sin(a);
                im += x[j].re * sin(a) + x[j].im * cos(a);
            }
            assert_true(fabs(re - y[k].re) + fabs(im - y[k].im) < 2e-6 * (double)n + 1e-5);
        }
        fbi_fft_close(&fft);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_a_field_is_told_when_the_loader_opens),
        cmocka_unit_test(lists_and_results_too_large_are_told),
        cmocka_unit_test(halves_are_moved_but_not_computed),
        cmocka_unit_test(options_out_of_range_are_told_at_once),
        cmocka_unit_test(a_stream_is_uniform_and_normal_and_whole),
        cmocka_unit_test(a_transform_of_any_length_is_the_sum_in_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
