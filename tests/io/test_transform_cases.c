/* What transforms make of known samples, as .npy files in the folder FLAMBEAU_CASES:
 * test_transformed.py and judge_transform.py compare them with NumPy and PyTorch. Without a folder:
 * they are made, and finite. */
#include "tests/io/io_test_priv.h"

#include <math.h>

#include <flambeau/core/tensor/tensor.h>
#include <flambeau/io/interchange.h>
#include <flambeau/io/transform.h>

typedef struct samples {
    fb_dataset_field field;
    int64_t rows; /* of sample 0, if the field varies: then 1 less each */
    int kind;
} samples;

enum { N = 24 };
enum { NOISE, RAMP, SOUND };

static double noise(int64_t i)
{
    fb_rng rng = fb_rng_make(7, (uint64_t)i);
    return fb_rng_uniform(&rng, 0, 1);
}

/* Element k of sample i: noise, its own place (x, y, 1 of an image), or three tones. */
static double element(const samples *s, int64_t i, int64_t k)
{
    const fb_shape *shape = &s->field.shape;
    if (s->kind == NOISE)
        return noise(i * 100003 + k);
    if (s->kind == SOUND)
        return 0.5 * sin(0.05 * (double)k) + 0.3 * sin(0.31 * (double)k + (double)i) +
               0.1 * noise(k + i * 77);
    int64_t h = shape->d[1], w = shape->d[2], x = k % w, y = k / w % h;
    return k < h * w ? (double)x : k < 2 * h * w ? (double)y : 1;
}

static int make(void *user, int64_t index, void *const *out)
{
    const samples *s = user;
    int64_t n = fb_shape_numel(s->field.shape);
    for (int64_t k = 0; k < n; k++) {
        double x = element(s, index, k);
        if (s->field.dtype == FB_F32)
            ((float *)out[0])[k] = (float)x;
        else if (s->field.dtype == FB_U8)
            ((uint8_t *)out[0])[k] = (uint8_t)(s->kind == RAMP ? x : x * 255.99);
        else
            ((int64_t *)out[0])[k] = (int64_t)(x * 1000);
    }
    *(int64_t *)out[1] = index % 10;
    return 0;
}

static void save(const char *folder, const char *name, const char *what, fb_tensor *t)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s-%s.npy", folder, name, what);
    assert_int_equal(fb_npy_save(t, path), FB_OK);
}

static void check_finite(fb_tensor *t)
{
    const float *x = fb_data(t);
    for (int64_t i = 0; fb_dtype_of(t) == FB_F32 && i < fb_numel(t); i++)
        assert_true(isfinite(x[i]));
}

/* N samples through a list: what goes in, what comes out, and the targets. */
static void save_case(fb_context *ctx, const char *folder, const char *name, samples *s,
                      fb_transforms list)
{
    fb_dataset_field fields[] = {s->field, {.name = "target", .dtype = FB_I64, .shape = FB_SCALAR}};
    fields[0].name = "input";
    fb_dataset *ds = fb_dataset_custom(ctx, N, fields, 2, make, s);
    for (int i = 0; i < 2; i++) {
        fb_loader *l = fb_loader_open(NULL, ds,
                                      FB_OPTS(fb_loader_options, .global_batch = N,
                                              .transforms = i ? list : (fb_transforms){0}));
        fb_batch b;
        fb_loader_rewind(l);
        assert_true(fb_loader_next(l, &b));
        check_ok(ctx);
        check_finite(b.input);
        save(folder, name, i ? "out" : "in", b.input);
        save(folder, name, i ? "target" : "class", b.target);
        fb_loader_close(l);
    }
}

static samples images(fb_dtype dtype, int kind, int64_t channels, int64_t height, int64_t width)
{
    return (samples){.field = {.dtype = dtype, .shape = FB_SHAPE(channels, height, width)},
                     .kind = kind};
}

static void save_resized(fb_context *ctx, const char *folder)
{
    static const struct {
        const char *name;
        int64_t height, width;
        fb_resize_options o;
    } rows[] = {{"smaller", 7, 12, {0}},
                {"larger", 30, 41, {0}},
                {"both", 31, 9, {0}},
                {"cubic", 9, 30, {.filter = FB_RESIZE_BICUBIC}},
                {"plain", 9, 30, {.no_antialias = true}},
                {"plain_cubic", 9, 30, {.filter = FB_RESIZE_BICUBIC, .no_antialias = true}},
                {"nearest", 9, 30, {.filter = FB_RESIZE_NEAREST}}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int bytes = 0; bytes < 2; bytes++) {
            char name[64];
            samples s = images(bytes ? FB_U8 : FB_F32, NOISE, 3, 17, 23);
            snprintf(name, sizeof name, "resize_%s%s", rows[i].name, bytes ? "_u8" : "");
            fb_transform *t = fb_transform_resize(ctx, rows[i].height, rows[i].width, &rows[i].o);
            save_case(ctx, folder, name, &s, FB_TRANSFORMS(t));
        }
}

static void save_places(fb_context *ctx, const char *folder)
{
    samples ramp = images(FB_F32, RAMP, 3, 40, 50), noisy = images(FB_U8, NOISE, 3, 12, 9);
    save_case(ctx, folder, "resized_crop", &ramp,
              FB_TRANSFORMS(fb_transform_random_resized_crop(ctx, 16, 20, NULL)));
    save_case(ctx, folder, "affine", &ramp,
              FB_TRANSFORMS(fb_transform_random_affine(
                  ctx, FB_OPTS(fb_affine_options, .degrees = 30, .translate = {0.1, 0.1},
                               .scale = {0.8, 1.2}, .fill = -1))));
    save_case(ctx, folder, "shear", &ramp,
              FB_TRANSFORMS(fb_transform_random_affine(
                  ctx, FB_OPTS(fb_affine_options, .shear = {20, 10}, .fill = -1))));
    save_case(ctx, folder, "affine_nearest", &ramp,
              FB_TRANSFORMS(fb_transform_random_affine(ctx, FB_OPTS(fb_affine_options,
                                                                    .degrees = 45, .fill = -1,
                                                                    .filter = FB_RESIZE_NEAREST))));
    static const char *const modes[] = {"constant", "edge", "reflect", "symmetric"};
    for (int m = 0; m < 4; m++) {
        char name[64];
        snprintf(name, sizeof name, "crop_%s", modes[m]);
        save_case(ctx, folder, name, &noisy,
                  FB_TRANSFORMS(fb_transform_random_crop(
                      ctx, 10, 8,
                      FB_OPTS(fb_crop_options, .padding = {1, 2, 3, 4}, .mode = m, .fill = 9))));
        snprintf(name, sizeof name, "pad_%s", modes[m]);
        save_case(
            ctx, folder, name, &noisy,
            FB_TRANSFORMS(fb_transform_pad(
                ctx, FB_OPTS(fb_crop_options, .padding = {1, 2, 3, 4}, .mode = m, .fill = 9))));
    }
    save_case(ctx, folder, "center_crop", &noisy,
              FB_TRANSFORMS(fb_transform_center_crop(ctx, 5, 12, NULL)));
    save_case(ctx, folder, "flips", &noisy,
              FB_TRANSFORMS(fb_transform_random_horizontal_flip(ctx, 0.5),
                            fb_transform_random_vertical_flip(ctx, 0.5)));
    save_case(ctx, folder, "permute", &noisy,
              FB_TRANSFORMS(fb_transform_permute(ctx, FB_DIMS(1, 2, 0))));
    save_case(ctx, folder, "erasing", &noisy,
              FB_TRANSFORMS(fb_transform_random_erasing(
                  ctx, FB_OPTS(fb_erasing_options, .p = 1, .value = 256))));
    save_case(ctx, folder, "cutout", &noisy, FB_TRANSFORMS(fb_transform_cutout(ctx, 4, 256)));
}

static void save_values(fb_context *ctx, const char *folder)
{
    static const struct {
        const char *name;
        fb_color_jitter_options o;
    } rows[] = {{"brightness", {.brightness = 0.8}},
                {"contrast", {.contrast = 0.8}},
                {"saturation", {.saturation = 0.8}},
                {"hue", {.hue = 0.4}}};
    samples floats = images(FB_F32, NOISE, 3, 8, 6), bytes = images(FB_U8, NOISE, 3, 8, 6);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_u8", rows[i].name);
        save_case(ctx, folder, rows[i].name, &floats,
                  FB_TRANSFORMS(fb_transform_color_jitter(ctx, &rows[i].o)));
        save_case(ctx, folder, name, &bytes,
                  FB_TRANSFORMS(fb_transform_color_jitter(ctx, &rows[i].o)));
    }
    const double mean[] = {0.485, 0.456, 0.406}, std[] = {0.229, 0.224, 0.225};
    save_case(ctx, folder, "normalize", &bytes,
              FB_TRANSFORMS(fb_transform_to_float(ctx), fb_transform_normalize(ctx, 3, mean, std)));
    save_case(ctx, folder, "mixup", &floats,
              FB_TRANSFORMS(fb_transform_mixup(ctx, 10, FB_OPTS(fb_mixup_options, .alpha = 0.4))));
    save_case(ctx, folder, "mixup_u8", &bytes, FB_TRANSFORMS(fb_transform_mixup(ctx, 10, NULL)));
    save_case(ctx, folder, "cutmix", &bytes, FB_TRANSFORMS(fb_transform_cutmix(ctx, 10, NULL)));
}

static void save_sound(fb_context *ctx, const char *folder)
{
    static const struct {
        const char *name;
        fb_mel_options o;
    } rows[] = {
        {"default", {.n_mels = 40}},
        {"window", {.n_fft = 512, .window = 400, .hop = 160, .n_mels = 80, .log = FB_MEL_LN}},
        {"slaney",
         {.sample_rate = 22050,
          .n_fft = 1024,
          .hop = 256,
          .slaney_scale = true,
          .slaney_norm = true,
          .log = FB_MEL_DB}},
        {"magnitude",
         {.n_fft = 486, .power = 1, .no_center = true, .n_mels = 20, .f_min = 50, .f_max = 7000}},
        {"prime", {.n_fft = 254, .n_mels = 16, .hop = 90}}};
    samples mono = {.field = {.dtype = FB_F32, .shape = FB_SHAPE(3000)}, .kind = SOUND};
    samples stereo = {.field = {.dtype = FB_F32, .shape = FB_SHAPE(1500, 2)}, .kind = SOUND};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[64];
        snprintf(name, sizeof name, "mel_%s", rows[i].name);
        save_case(ctx, folder, name, &mono,
                  FB_TRANSFORMS(fb_transform_mel_spectrogram(ctx, &rows[i].o)));
    }
    save_case(
        ctx, folder, "mel_stereo", &stereo,
        FB_TRANSFORMS(fb_transform_mel_spectrogram(ctx, FB_OPTS(fb_mel_options, .n_mels = 30))));
    save_case(ctx, folder, "shift", &mono, FB_TRANSFORMS(fb_transform_time_shift(ctx, 0.2, NULL)));
    save_case(ctx, folder, "roll", &stereo,
              FB_TRANSFORMS(fb_transform_time_shift(
                  ctx, 0.2, FB_OPTS(fb_time_shift_options, .rolls = true))));
    save_case(ctx, folder, "window", &mono, FB_TRANSFORMS(fb_transform_random_window(ctx, 1000)));
    save_case(ctx, folder, "masks", &mono,
              FB_TRANSFORMS(
                  fb_transform_mel_spectrogram(ctx, FB_OPTS(fb_mel_options, .n_mels = 40)),
                  fb_transform_time_masking(ctx, 6, FB_OPTS(fb_spectrum_mask_options, .value = -7)),
                  fb_transform_frequency_masking(ctx, 15,
                                                 FB_OPTS(fb_spectrum_mask_options, .value = -8))));
    samples text = {.field = {.dtype = FB_I64, .shape = FB_SHAPE(500)}};
    const int64_t keep[] = {3, 4, 5};
    save_case(ctx, folder, "tokens", &text,
              FB_TRANSFORMS(fb_transform_mask_tokens(
                  ctx, 5000, 1000, FB_OPTS(fb_mask_tokens_options, .keep = keep, .n_keep = 3))));
}

static void every_case_is_finite_and_saved(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    char own[64];
    const char *folder = getenv("FLAMBEAU_CASES");
    if (!folder)
        make_folder(own);
    save_resized(ctx, folder ? folder : own);
    save_places(ctx, folder ? folder : own);
    save_values(ctx, folder ? folder : own);
    save_sound(ctx, folder ? folder : own);
    if (!folder)
        remove_folder(own);
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_case_is_finite_and_saved)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
