#include "tests/io/transform_test_priv.h"

#include "io/loader_priv.h"

/* Everything random that images have. */
static fb_loader *open_all(fb_context *ctx, int threads, int64_t batch, int64_t micro, bool shuffle)
{
    const double half = 0.5;
    return fb_loader_open(
        NULL, pictures(ctx),
        FB_OPTS(fb_loader_options, .global_batch = batch, .micro_batch = micro, .threads = threads,
                .shuffle = shuffle, .seed = 5,
                .transforms = FB_TRANSFORMS(
                    fb_transform_random_crop(ctx, 8, 6,
                                             FB_OPTS(fb_crop_options, .padding = {1, 1, 1, 1})),
                    fb_transform_random_horizontal_flip(ctx, 0.5),
                    fb_transform_random_resized_crop(ctx, 8, 8, NULL),
                    fb_transform_random_affine(ctx, FB_OPTS(fb_affine_options, .degrees = 20)),
                    fb_transform_color_jitter(
                        ctx, FB_OPTS(fb_color_jitter_options, .brightness = 0.3, .hue = 0.1)),
                    fb_transform_random_erasing(ctx, NULL), fb_transform_to_float(ctx),
                    fb_transform_normalize(ctx, 1, &half, &half),
                    fb_transform_one_of(ctx,
                                        FB_TRANSFORMS(fb_transform_mixup(ctx, 5, NULL),
                                                      fb_transform_cutmix(ctx, 5, NULL)),
                                        NULL))));
}

enum { SAMPLE = 3 * 8 * 8 + 5, EPOCHS = 2 };
typedef float outcome[EPOCHS][N][SAMPLE];

/* Input and target of every sample of two epochs, by its number. */
static void collect(fb_loader *l, outcome out)
{
    fb_batch b;
    while (fb_loader_epoch(l, EPOCHS))
        while (fb_loader_next(l, &b)) {
            int64_t n;
            const int64_t *index = fb_loader_indices(l, &n);
            const float *x = fb_data(b.input), *y = fb_data(b.target);
            for (int64_t i = 0; i < n; i++) {
                float *to = out[b.at.epoch][index[i]];
                memcpy(to, x + i * 192, 192 * sizeof *x);
                memcpy(to + 192, y + i * 5, 5 * sizeof *y);
            }
        }
}

static void a_sample_has_the_same_bits_in_any_batch_and_on_any_thread(void **state)
{
    (void)state;
    static outcome first, other;
    static const struct {
        int threads;
        int64_t batch, micro;
        bool shuffle;
    } rows[] = {{1, 8, 0, false}, {4, 8, 0, false}, {3, 10, 3, true}, {1, 40, 1, true}};
    for (int r = 0; r < 4; r++) {
        fb_context *ctx = check_open(1);
        fb_loader *l =
            open_all(ctx, rows[r].threads, rows[r].batch, rows[r].micro, rows[r].shuffle);
        collect(l, r ? other : first);
        if (r)
            assert_memory_equal(other, first, sizeof first);
        check_close(ctx);
    }
    for (int i = 0; i < N; i++)
        assert_memory_not_equal(first[0][i], first[1][i], sizeof first[0][i]);
}

static void an_epoch_that_goes_on_has_the_bits_of_a_whole_one(void **state)
{
    (void)state;
    static outcome whole, rest;
    fb_context *ctx = check_open(1);
    collect(open_all(ctx, 2, BATCH, 0, true), whole);
    check_close(ctx);
    ctx = check_open(1);
    fb_loader *l = open_all(ctx, 1, 5, 0, true);
    l->epoch = 1; /* as from a checkpoint */
    l->position = 15;
    collect(l, rest);
    int seen = 0;
    for (int i = 0; i < N; i++) {
        static const float none[SAMPLE];
        bool there = memcmp(rest[1][i], none, sizeof none) != 0;
        seen += there;
        if (there)
            assert_memory_equal(rest[1][i], whole[1][i], sizeof whole[1][i]);
    }
    assert_int_equal(seen, N - 15);
    check_close(ctx);
}

static void draws_of_one_sample_differ(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    double weights[N] = {[3] = 1};
    fb_loader *l = fb_loader_open(
        NULL, pictures(ctx),
        FB_OPTS(fb_loader_options, .global_batch = 2, .weights = weights, .n_weights = N,
                .transforms = FB_TRANSFORMS(fb_transform_random_resized_crop(ctx, 8, 8, NULL))));
    fb_batch b;
    fb_loader_rewind(l);
    assert_true(fb_loader_next(l, &b));
    const float *x = fb_data(b.input);
    assert_true(fb_loader_indices(l, &b.n)[0] == 3 && fb_loader_indices(l, &b.n)[1] == 3);
    assert_memory_not_equal(x, x + 192, 192 * sizeof *x);
    check_close(ctx);
}

/* --- fields --- */

static fb_batch first_batch(fb_loader *l)
{
    fb_batch b;
    fb_loader_rewind(l);
    assert_true(fb_loader_next(l, &b));
    return b;
}

static void scale_and_shift_are_applied_once(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset *ds = pictures(ctx);
    fb_loader *plain = open_on(ds, (fb_transforms){0});
    fb_batch a = first_batch(plain);
    fb_transform *crop = fb_transform_center_crop(ctx, HIGH, WIDE, NULL);
    fb_transform *to_float = fb_transform_to_float(ctx);
    fb_transforms lists[] = {FB_TRANSFORMS(crop), FB_TRANSFORMS(crop, to_float),
                             FB_TRANSFORMS(to_float, to_float)};
    for (int i = 0; i < 3; i++) {
        fb_loader *l = open_on(ds, lists[i]);
        fb_batch b = first_batch(l);
        assert_memory_equal(fb_data(a.input), fb_data(b.input), BATCH * 3 * HIGH * WIDE * 4);
        fb_loader_close(l);
    }
    check_close(ctx);
}

static void fields_of_one_transform_get_the_same_numbers(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_transform *crop = fb_transform_random_crop(ctx, 5, 4, NULL);
    fb_transform *flip = fb_transform_random_vertical_flip(ctx, 0.5);
    fb_transform_on(fb_transform_on(crop, "input"), "mask");
    fb_transform_on(fb_transform_on(flip, "mask"), "input");
    fb_loader *l = open_on(pictures(ctx), FB_TRANSFORMS(crop, flip));
    fb_batch b = first_batch(l);
    const float *x = fb_data(b.input);
    const uint8_t *mask = fb_data(fb_loader_field(l, "mask"));
    for (int i = 0; i < BATCH; i++)
        for (int k = 0; k < 20; k++)
            assert_true(x[i * 60 + k] == 2 * (float)mask[i * 20 + k] + 1);
    check_close(ctx);
}

static void a_copy_is_a_second_view(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_transform *other = fb_transform_random_crop(ctx, 5, 4, NULL);
    fb_loader *l = open_on(pictures(ctx), FB_TRANSFORMS(fb_transform_copy(ctx, "input", "view"),
                                                        fb_transform_random_crop(ctx, 6, 6, NULL),
                                                        fb_transform_on(other, "view"),
                                                        fb_transform_copy(ctx, "mask", "label")));
    first_batch(l);
    assert_true(fb_shape_equal(fb_shape_of(fb_loader_field(l, "input")), FB_SHAPE(BATCH, 3, 6, 6)));
    assert_true(fb_shape_equal(fb_shape_of(fb_loader_field(l, "view")), FB_SHAPE(BATCH, 3, 5, 4)));
    assert_memory_equal(fb_data(fb_loader_field(l, "label")), fb_data(fb_loader_field(l, "mask")),
                        BATCH * HIGH * WIDE);
    check_close(ctx);
}

static void a_random_apply_changes_some_and_one_of_takes_each(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    const double shares[] = {1, 3};
    fb_transform *dark = fb_transform_cutout(ctx, 100, 0),
                 *light = fb_transform_cutout(ctx, 100, 9);
    fb_loader *l =
        open_on(pictures(ctx),
                FB_TRANSFORMS(fb_transform_random_apply(
                    ctx, 0.5, fb_transform_one_of(ctx, FB_TRANSFORMS(dark, light), shares))));
    int counts[3] = {0};
    fb_batch b;
    while (fb_loader_epoch(l, 50))
        while (fb_loader_next(l, &b)) {
            const float *x = fb_data(b.input);
            for (int i = 0; i < BATCH; i++, x += 3 * HIGH * WIDE)
                counts[x[0] == 1 && x[1] == 1 ? 0 : x[0] == 19 && x[1] == 19 ? 1 : 2]++;
        }
    /* Of 2000: within 4.5 standard deviations of an eighth, three eighths, a half. */
    assert_true(abs(counts[0] - 250) < 67 && abs(counts[1] - 750) < 98 &&
                abs(counts[2] - 1000) < 101);
    check_close(ctx);
}

/* --- a program's own --- */

static int sum_up(void *user, const fb_sample *sample, const fb_value *in, fb_value *out,
                  fb_rng *rng)
{
    if (sample->index == *(const int64_t *)user)
        return 7;
    double *to = out->data;
    to[0] = to[1] = 0;
    for (int64_t k = 0; k < fb_shape_numel(in->shape); k++)
        to[0] += ((const uint8_t *)in->data)[k];
    const fb_value *mask = fb_sample_field(sample, "mask");
    for (int64_t k = 0; k < HIGH * WIDE; k++)
        to[1] += ((const uint8_t *)mask->data)[k];
    to[2] = fb_rng_uniform(rng, 0, 1);
    return fb_sample_field(sample, "nothing") != NULL;
}

static fb_transform *sums(fb_context *ctx, int64_t *fails)
{
    return fb_transform_custom(ctx, sum_up, fails,
                               FB_OPTS(fb_transform_custom_options, .name = "sums", .dtype = FB_F64,
                                       .shape = FB_SHAPE(3)));
}

static void a_programs_own_function_says_shape_and_dtype(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    int64_t none = -1;
    fb_loader *l = open_on(pictures(ctx), FB_TRANSFORMS(sums(ctx, &none)));
    fb_batch b = first_batch(l);
    assert_int_equal(fb_dtype_of(b.input), FB_F64);
    assert_true(fb_shape_equal(fb_shape_of(b.input), FB_SHAPE(BATCH, 3)));
    const double *x = fb_data(b.input);
    for (int64_t i = 0; i < BATCH; i++) {
        uint8_t image[3 * HIGH * WIDE], mask[HIGH * WIDE];
        int32_t class;
        double sum = 0, part = 0;
        make_image(NULL, i, (void *const[]){image, mask, &class});
        for (int k = 0; k < 3 * HIGH * WIDE; k++) {
            sum += image[k];
            part += k < HIGH * WIDE ? image[k] : 0;
        }
        assert_true(x[3 * i] == sum && x[3 * i + 1] == part);
        assert_true(i == 0 || x[3 * i + 2] != x[2]);
    }
    check_close(ctx);
}

static void a_failing_function_is_told_with_its_sample(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    int64_t bad = 21;
    fb_loader *l = open_on(pictures(ctx), FB_TRANSFORMS(sums(ctx, &bad)));
    fb_batch b;
    int n = 0;
    while (fb_loader_epoch(l, 3))
        while (fb_loader_next(l, &b))
            n++;
    assert_int_equal(n, 2);
    check_error(ctx, FB_E_USER, "transform sums failed with 7 at sample 21");
    fb_context_close(ctx);
}

static void a_class_out_of_range_is_told_with_its_sample(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_loader *l =
        open_on(pictures(ctx),
                FB_TRANSFORMS(fb_transform_mixup(ctx, 4, FB_OPTS(fb_mixup_options, .p = FB_ZERO))));
    fb_batch b;
    fb_loader_rewind(l);
    assert_false(fb_loader_next(l, &b));
    check_error(ctx, FB_E_ARG,
                "mixup: class 4 in a sample of the epoch, 4 were said to exist (at sample 4)");
    fb_context_close(ctx);
}

static void a_closed_transform_lives_as_long_as_its_loader(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_transform *flip = fb_transform_random_horizontal_flip(ctx, 1);
    fb_transform *maybe = fb_transform_random_apply(ctx, 1, flip);
    fb_transform_close(flip);
    fb_loader *l = open_on(pictures(ctx), FB_TRANSFORMS(maybe));
    fb_transform_close(maybe);
    fb_batch b = first_batch(l);
    const float *x = fb_data(b.input);
    uint8_t image[3 * HIGH * WIDE], mask[HIGH * WIDE];
    int32_t class;
    make_image(NULL, 0, (void *const[]){image, mask, &class});
    for (int k = 0; k < WIDE; k++)
        assert_true(x[k] == 2 * (float)image[WIDE - 1 - k] + 1);
    fb_loader_close(l);
    check_close(ctx);
}

/* --- sequences that vary --- */

enum { TEXTS = 30 };

static int64_t length_of(int64_t i)
{
    return i * i % 23;
}

/* Text i: i * i % 23 tokens 100 i + k, as the same in F32, and a class. */
static fb_dataset *texts(fb_context *ctx, const char *folder)
{
    char path[128];
    fb_dataset_field fields[] = {{.name = "input", .dtype = FB_I32, .varies = true},
                                 {.name = "sound", .dtype = FB_F32, .varies = true}};
    snprintf(path, sizeof path, "%s/t.h5", folder);
    fb_dataset *ds = fb_dataset_create(ctx, path, fields, 2, NULL);
    for (int64_t i = 0; i < TEXTS; i++) {
        int32_t x[23];
        float y[23];
        int64_t n = length_of(i);
        for (int64_t k = 0; k < n; k++)
            y[k] = (float)(x[k] = (int32_t)(100 * i + k));
        fb_dataset_append_rows(ds, 1, (const void *const[]){x, y},
                               (const int64_t *const[]){&n, &n});
    }
    fb_dataset_finish(ds);
    fb_dataset_close(ds);
    return fb_dataset_open(ctx, path);
}

static void masks_of_texts_keep_their_lengths(void **state)
{
    (void)state;
    enum { LONGEST = 9 };
    fb_context *ctx = check_open(1);
    char folder[64];
    make_folder(folder);
    fb_loader *l = fb_loader_open(
        NULL, texts(ctx, folder),
        FB_OPTS(fb_loader_options, .global_batch = TEXTS, .longest = LONGEST, .threads = 3,
                .transforms = FB_TRANSFORMS(fb_transform_mask_tokens(
                    ctx, 7, 50, FB_OPTS(fb_mask_tokens_options, .p = 0.5)))));
    fb_batch b = first_batch(l);
    const int64_t *x = fb_data(b.input), *y = fb_data(b.target);
    const int64_t *n = fb_data(fb_loader_lengths(l, "target"));
    int chosen = 0;
    assert_true(fb_shape_equal(fb_shape_of(b.target), FB_SHAPE(TEXTS, LONGEST)));
    for (int64_t i = 0; i < TEXTS; i++) {
        int64_t has = length_of(i) < LONGEST ? length_of(i) : LONGEST;
        assert_int_equal(n[i], has);
        for (int64_t k = 0; k < LONGEST; k++) {
            int64_t token = 100 * i + k, at = i * LONGEST + k;
            chosen += k < has && y[at] == token;
            assert_true(k < has ? y[at] == token || (y[at] == -100 && x[at] == token) : x[at] == 0);
        }
    }
    assert_true(chosen > 40 && chosen < 160);
    check_close(ctx);
    remove_folder(folder);
}

static void windows_and_shifts_of_what_varies_stay_within_its_rows(void **state)
{
    (void)state;
    enum { ROWS = 6 };
    fb_context *ctx = check_open(1);
    char folder[64];
    make_folder(folder);
    fb_transform *shift = fb_transform_time_shift(ctx, 0.5, NULL);
    fb_loader *l =
        fb_loader_open(NULL, texts(ctx, folder),
                       FB_OPTS(fb_loader_options, .global_batch = TEXTS,
                               .transforms = FB_TRANSFORMS(fb_transform_random_window(ctx, ROWS),
                                                           fb_transform_on(shift, "sound"))));
    fb_batch b = first_batch(l);
    assert_true(fb_shape_equal(fb_shape_of(b.input), FB_SHAPE(TEXTS, ROWS)));
    assert_null(fb_loader_lengths(l, "input"));
    const int32_t *x = fb_data(b.input);
    const float *y = fb_data(fb_loader_field(l, "sound"));
    const int64_t *n = fb_data(fb_loader_lengths(l, "sound"));
    int64_t room = fb_shape_of(fb_loader_field(l, "sound")).d[1];
    for (int64_t i = 0; i < TEXTS; i++) {
        int64_t has = length_of(i), first = has > ROWS ? x[i * ROWS] - 100 * i : 0;
        assert_true(first >= 0 && first + (has < ROWS ? has : ROWS) <= has);
        for (int64_t k = 0; k < ROWS; k++)
            assert_int_equal(x[i * ROWS + k], k < has ? 100 * i + first + k : 0);
        assert_int_equal(n[i], has);
        for (int64_t k = has; k < room; k++)
            assert_true(y[i * room + k] == 0);
    }
    check_close(ctx);
    remove_folder(folder);
}

static void frames_of_sound_that_varies_are_those_of_each_alone(void **state)
{
    (void)state;
    enum { BANDS = 3 };
    fb_context *ctx = check_open(1);
    char folder[64];
    make_folder(folder);
    const fb_mel_options o = {.n_fft = 8, .hop = 3, .n_mels = BANDS};
    fb_transform *mel = fb_transform_on(fb_transform_mel_spectrogram(ctx, &o), "sound");
    fb_transform *mask = fb_transform_time_masking(ctx, 3, NULL);
    fb_dataset *ds = texts(ctx, folder);
    fb_loader *l = open_on(ds, FB_TRANSFORMS(mel, fb_transform_on(mask, "sound")));
    fb_loader *bare = open_on(ds, FB_TRANSFORMS(mel));
    first_batch(l);
    first_batch(bare);
    const int64_t *n = fb_data(fb_loader_lengths(l, "sound"));
    const float *x = fb_data(fb_loader_field(l, "sound"));
    const float *all = fb_data(fb_loader_field(bare, "sound"));
    int64_t room = fb_shape_of(fb_loader_field(l, "sound")).d[1];
    assert_int_equal(fb_shape_of(fb_loader_field(l, "sound")).d[2], BANDS);
    for (int64_t i = 0; i < BATCH; i++) {
        int masked = 0;
        assert_int_equal(n[i], length_of(i) ? 1 + length_of(i) / 3 : 0);
        for (int64_t t = 0; t < room; t++) {
            const float *frame = x + (i * room + t) * BANDS, *was = all + (i * room + t) * BANDS;
            bool zero = frame[0] == 0 && frame[1] == 0 && frame[2] == 0;
            assert_true(zero || (t < n[i] && !memcmp(frame, was, sizeof *was * BANDS)));
            masked += zero && t < n[i] && was[1] != 0;
        }
        assert_true(masked < 3);
    }
    check_close(ctx);
    remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_has_the_same_bits_in_any_batch_and_on_any_thread),
        cmocka_unit_test(an_epoch_that_goes_on_has_the_bits_of_a_whole_one),
        cmocka_unit_test(draws_of_one_sample_differ),
        cmocka_unit_test(scale_and_shift_are_applied_once),
        cmocka_unit_test(fields_of_one_transform_get_the_same_numbers),
        cmocka_unit_test(a_copy_is_a_second_view),
        cmocka_unit_test(a_random_apply_changes_some_and_one_of_takes_each),
        cmocka_unit_test(a_programs_own_function_says_shape_and_dtype),
        cmocka_unit_test(a_failing_function_is_told_with_its_sample),
        cmocka_unit_test(a_class_out_of_range_is_told_with_its_sample),
        cmocka_unit_test(a_closed_transform_lives_as_long_as_its_loader),
        cmocka_unit_test(masks_of_texts_keep_their_lengths),
        cmocka_unit_test(windows_and_shifts_of_what_varies_stay_within_its_rows),
        cmocka_unit_test(frames_of_sound_that_varies_are_those_of_each_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
