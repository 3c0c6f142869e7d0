/* Transforms of samples on a loader's threads: augmentation of images, sound and text.
 *
 * A loader runs its list of transforms on each sample as it is stored (images U8, 0 .. 255; sound
 * I16), before it becomes part of a batch. A transform draws its random numbers by (seed, epoch,
 * sample) and its place in the list (and by the draw, of loaders that draw a sample more than
 * once), so that a sample has the same bits for any number of threads and ranks, in any batch, and
 * after a resume. A field's scale and shift are applied behind the list if that leaves the dtype as
 * it is stored; fb_transform_to_float applies them within it.
 *
 * Images are [channels, height, width], or [height, width]; fb_transform_permute makes them of
 * others. Sound has time first: [time], or [time, channels]. Fields that vary in length have their
 * rows first, all that are stored, with zeros behind; the loader's `longest` cuts what comes out.
 *
 * Transforms change the field "input" unless fb_transform_on says otherwise. They belong to the
 * context, can be in several lists, and are not collective. Constructors: NULL with FB_E_ARG for
 * options out of range, FB_E_NOMEM. Whether one fits its field is looked at when the loader opens:
 * FB_E_SHAPE, FB_E_DTYPE, FB_E_NOT_FOUND with the transform's name, its field, and what it has.
 * Names and definitions are torchvision's and torchaudio's where they have one. */
#ifndef FLAMBEAU_IO_TRANSFORM_H
#define FLAMBEAU_IO_TRANSFORM_H

#include <flambeau/core/base/rng.h>
#include <flambeau/io/dataset.h>

FB_BEGIN

typedef struct fb_transform fb_transform;

/** A list of transforms: FB_TRANSFORMS(a, b). NULL in it is an error that was told before. */
typedef struct fb_transforms {
    fb_transform *const *t;
    int n;
} fb_transforms;

/** Add a field to those that a transform changes; the first call replaces "input". All of them get
 * the same random numbers, e.g. the same crop of an image and its mask. Returns `t`. FB_E_ARG for
 * transforms that name their fields themselves (copy, mixup, cutmix, mask_tokens). */
FB_API fb_transform *fb_transform_on(fb_transform *t, const char *field);
/** Let go, unless a loader uses it; the context closes what is left. */
FB_API void fb_transform_close(fb_transform *t);

/* --- images: parts of them. Any dtype; they move elements --- */

typedef enum fb_padding_mode {
    FB_PADDING_CONSTANT = 0, /**< `fill` */
    FB_PADDING_EDGE,         /**< the outermost elements */
    FB_PADDING_REFLECT,      /**< mirrored, without the outermost elements */
    FB_PADDING_SYMMETRIC     /**< mirrored with them */
} fb_padding_mode;

typedef struct fb_crop_options {
    int64_t padding[4]; /**< left, top, right, bottom: added to the image first */
    int mode;           /**< fb_padding_mode: what is outside of the image */
    double fill;        /**< of CONSTANT, in the unit of the field's elements */
} fb_crop_options;

/** A part of this size at a random place of the padded image, which must be as large
 * (torchvision.transforms.RandomCrop). */
FB_API FB_USE_RESULT fb_transform *fb_transform_random_crop(fb_context *ctx, int64_t height,
                                                            int64_t width,
                                                            const fb_crop_options *opts);
/** The part of this size in the middle; what the image lacks is `fill` (CenterCrop). */
FB_API FB_USE_RESULT fb_transform *fb_transform_center_crop(fb_context *ctx, int64_t height,
                                                            int64_t width,
                                                            const fb_crop_options *opts);
/** The image with opts->padding around it (Pad). */
FB_API FB_USE_RESULT fb_transform *fb_transform_pad(fb_context *ctx, const fb_crop_options *opts);
/** Mirrored left to right with probability p (RandomHorizontalFlip). */
FB_API FB_USE_RESULT fb_transform *fb_transform_random_horizontal_flip(fb_context *ctx, double p);
/** Mirrored top to bottom with probability p (RandomVerticalFlip). */
FB_API FB_USE_RESULT fb_transform *fb_transform_random_vertical_flip(fb_context *ctx, double p);
/** The sample's dimensions in another order: FB_DIMS(2, 0, 1) makes [C, H, W] of [H, W, C]. Any
 * shape; not of fields that vary. */
FB_API FB_USE_RESULT fb_transform *fb_transform_permute(fb_context *ctx, fb_shape order);

typedef struct fb_erasing_options {
    double p;        /**< 0: 0.5; FB_ZERO: never */
    double scale[2]; /**< share of the image, from .. to; {0, 0}: 0.02 .. 0.33 */
    double ratio[2]; /**< of the rectangle's sides; {0, 0}: 0.3 .. 3.3 */
    double value;    /**< what is written, in the unit of the field's elements */
    bool noise;      /**< standard normal numbers instead; F32 only */
} fb_erasing_options;

/** A random rectangle is overwritten (RandomErasing; Zhong et al., arXiv:1708.04896). */
FB_API FB_USE_RESULT fb_transform *fb_transform_random_erasing(fb_context *ctx,
                                                               const fb_erasing_options *opts);
/** A square of this side around a random place is overwritten with `value`; it may reach out of the
 * image (DeVries, Taylor: Cutout, arXiv:1708.04552). */
FB_API FB_USE_RESULT fb_transform *fb_transform_cutout(fb_context *ctx, int64_t size, double value);

/* --- images: resampled. U8 and F32; other integers are labels of pixels: the nearest one --- */

typedef enum fb_resize_filter {
    FB_RESIZE_BILINEAR = 0,
    FB_RESIZE_NEAREST, /**< PyTorch's "nearest-exact" */
    FB_RESIZE_BICUBIC
} fb_resize_filter;

typedef struct fb_resize_options {
    int filter;        /**< fb_resize_filter */
    bool no_antialias; /**< as wide a filter where the image gets smaller as elsewhere */
} fb_resize_options;

/** Another size (torchvision.transforms.Resize; torch.nn.functional.interpolate, antialiased as
 * Pillow does it). U8 is rounded and limited once, not after each axis as there: bilinear
 * results differ by at most 1. */
FB_API FB_USE_RESULT fb_transform *
fb_transform_resize(fb_context *ctx, int64_t height, int64_t width, const fb_resize_options *opts);

typedef struct fb_resized_crop_options {
    double scale[2];          /**< share of the image, from .. to; {0, 0}: 0.08 .. 1 */
    double ratio[2];          /**< width / height; {0, 0}: 3/4 .. 4/3 */
    fb_resize_options resize; /**< how it gets its size */
} fb_resized_crop_options;

/** A random part of random area and ratio, in this size (RandomResizedCrop). */
FB_API FB_USE_RESULT fb_transform *
fb_transform_random_resized_crop(fb_context *ctx, int64_t height, int64_t width,
                                 const fb_resized_crop_options *opts);

typedef struct fb_affine_options {
    double degrees;      /**< turned by -degrees .. degrees */
    double translate[2]; /**< moved by at most this share of the width, and of the height */
    double scale[2];     /**< from .. to; {0, 0}: 1 */
    double shear[2];     /**< along x and y, at most so many degrees */
    int filter;          /**< fb_resize_filter, but not BICUBIC */
    double fill;         /**< outside of the image */
} fb_affine_options;

/** Turned, moved, scaled and sheared about the middle (RandomAffine; RandomRotation is `degrees`
 * alone). */
FB_API FB_USE_RESULT fb_transform *fb_transform_random_affine(fb_context *ctx,
                                                              const fb_affine_options *opts);

/* --- values --- */

/** F32: x * scale + shift of the field if it has them, else U8 / 255, I16 / 32768, and others as
 * they are. Any shape. */
FB_API FB_USE_RESULT fb_transform *fb_transform_to_float(fb_context *ctx);
/** (x - mean[c]) / std[c] for each channel c of n, the first dimension; n = 1: for all (Normalize).
 * F32. The numbers are copied; a std must be positive. */
FB_API FB_USE_RESULT fb_transform *fb_transform_normalize(fb_context *ctx, int n,
                                                          const double *mean, const double *std);

/** How far from 1 each factor may be (at least 0 is meant), and how far hues may turn: 0.5 is half
 * a circle. 0: not at all. */
typedef struct fb_color_jitter_options {
    double brightness, contrast, saturation, hue;
} fb_color_jitter_options;

/** Brightness, contrast, saturation and hue changed by random factors in a random order
 * (ColorJitter). Images of 1 or 3 channels, U8 or F32 of 0 .. 1; U8 is rounded once, at the end. */
FB_API FB_USE_RESULT fb_transform *fb_transform_color_jitter(fb_context *ctx,
                                                             const fb_color_jitter_options *opts);

/* --- two samples as one --- */

typedef struct fb_mixup_options {
    double alpha;       /**< of the Beta(alpha, alpha) that shares are drawn from; 0: 1 */
    double p;           /**< how often; 0: 1; FB_ZERO: never (the target still gets its new form) */
    const char *target; /**< NULL: "target": a class (any integer dtype), or F32 [classes] */
} fb_mixup_options;

/**
 * share * a + (1 - share) * b of "input" (F32; U8 is rounded), and of the classes as F32 [classes],
 * which fb_cross_entropy takes (Zhang et al., arXiv:1710.09412).
 *
 * The other sample is a random one of the dataset (of its first `limit`), transformed by the list
 * up to here: one of the batch would depend on how many ranks and leaves there are. It is read for
 * this: that costs as much as a second sample. FB_E_ARG for two such transforms in a list; use
 * fb_transform_one_of.
 */
FB_API FB_USE_RESULT fb_transform *fb_transform_mixup(fb_context *ctx, int64_t classes,
                                                      const fb_mixup_options *opts);
/** The same with a rectangle of b in a: its area is 1 - share (Yun et al., arXiv:1905.04899). Any
 * dtype; the share of the classes is that of the pixels. */
FB_API FB_USE_RESULT fb_transform *fb_transform_cutmix(fb_context *ctx, int64_t classes,
                                                       const fb_mixup_options *opts);

/* --- sound --- */

typedef struct fb_time_shift_options {
    bool rolls; /**< what leaves at one end enters at the other; else zeros do */
} fb_time_shift_options;

/** Moved in time by up to `most` of its length (0 .. 1), in either direction. Any dtype; the first
 * dimension is time. */
FB_API FB_USE_RESULT fb_transform *fb_transform_time_shift(fb_context *ctx, double most,
                                                           const fb_time_shift_options *opts);
/** So many rows of a field from a random one on, with zeros behind if it has fewer: a field that
 * varies does not, afterwards. Any dtype. */
FB_API FB_USE_RESULT fb_transform *fb_transform_random_window(fb_context *ctx, int64_t rows);

typedef enum fb_mel_log { FB_MEL_POWER = 0, FB_MEL_LN, FB_MEL_DB } fb_mel_log;

typedef struct fb_mel_options {
    double sample_rate;  /**< 0: 16000 */
    int64_t n_fft;       /**< 0: 400; quick if its prime factors are small */
    int64_t window;      /**< length of the Hann window, in the middle of n_fft; 0: n_fft */
    int64_t hop;         /**< 0: window / 2 */
    int64_t n_mels;      /**< 0: 128 */
    double f_min, f_max; /**< Hz; f_max 0: sample_rate / 2 */
    double power;        /**< of the magnitudes; 0: 2 */
    bool slaney_scale;   /**< mel scale of Slaney's toolbox; default: HTK's */
    bool slaney_norm;    /**< each filter divided by its width in Hz */
    bool no_center;      /**< frame t begins at t * hop; default: is centred there, reflected */
    int log;             /**< fb_mel_log: the power, ln(max(x, floor)), or 10 log10(max(x, floor)),
                                     20 for magnitudes */
    double floor;        /**< 0: 1e-10 */
} fb_mel_options;

/** Mel spectrogram [n_mels, frames] of F32 [time], [channels, n_mels, frames] of [time, channels];
 * frames = 1 + time / hop (torchaudio.transforms.MelSpectrogram, AmplitudeToDB; librosa with the
 * two slaney options). Of a field that varies the frames do, so that they come first: [frames,
 * n_mels], [frames, channels, n_mels]. */
FB_API FB_USE_RESULT fb_transform *fb_transform_mel_spectrogram(fb_context *ctx,
                                                                const fb_mel_options *opts);

typedef struct fb_spectrum_mask_options {
    int masks;    /**< how many; 0: 1 */
    double share; /**< at most this share of the axis each; 0: 1 */
    double value; /**< what is written */
} fb_spectrum_mask_options;

/** Fewer than `most` neighbouring frames are overwritten: the last dimension of F32 [..., bands,
 * frames], the first one of [frames, ..., bands] that varies (torchaudio.transforms.TimeMasking;
 * Park et al.: SpecAugment, arXiv:1904.08779). */
FB_API FB_USE_RESULT fb_transform *fb_transform_time_masking(fb_context *ctx, int64_t most,
                                                             const fb_spectrum_mask_options *opts);
/** The same with bands (FrequencyMasking). */
FB_API FB_USE_RESULT fb_transform *
fb_transform_frequency_masking(fb_context *ctx, int64_t most, const fb_spectrum_mask_options *opts);

/* --- text --- */

typedef struct fb_mask_tokens_options {
    double p;            /**< share of the tokens that are to be found; 0: 0.15 */
    double masked;       /**< share of these that become `mask`; 0: 0.8 */
    double random;       /**< share that become any token; 0: 0.1; FB_ZERO. The rest stays */
    const int64_t *keep; /**< tokens that are never chosen, e.g. those between sentences; copied */
    int n_keep;
    const char
        *labels;    /**< field for what is to be found; NULL: "target". Added if there is none */
    int64_t ignore; /**< label of tokens that were not chosen; 0: -100 */
} fb_mask_tokens_options;

/** Masked language modelling: "input" of any integer dtype becomes I64 with masks, `labels` is I64
 * of its shape (Devlin et al.: BERT, arXiv:1810.04805; 80 / 10 / 10). Behind the tokens of a text
 * that varies stand zeros, in both: fb_loader_lengths says where. */
FB_API FB_USE_RESULT fb_transform *fb_transform_mask_tokens(fb_context *ctx, int64_t mask,
                                                            int64_t vocabulary,
                                                            const fb_mask_tokens_options *opts);

/* --- of transforms, and a program's own --- */

/** A new field `to` with what `from` is at this place of the list: for two views of an image, or
 * for an autoencoder's target. */
FB_API FB_USE_RESULT fb_transform *fb_transform_copy(fb_context *ctx, const char *from,
                                                     const char *to);
/** `t` with probability p, else nothing; its result must have the shape and dtype of its input
 * (RandomApply). */
FB_API FB_USE_RESULT fb_transform *fb_transform_random_apply(fb_context *ctx, double p,
                                                             fb_transform *t);
/** One of the list, with these probabilities (NULL: equal ones), which are copied; all of them must
 * change the same fields into the same shapes and dtypes (RandomChoice). */
FB_API FB_USE_RESULT fb_transform *fb_transform_one_of(fb_context *ctx, fb_transforms list,
                                                       const double *probabilities);

/** A field of a sample within the list. */
typedef struct fb_value {
    const char *field;
    fb_dtype dtype;
    fb_shape shape;
    bool varies;  /**< in length */
    int64_t rows; /**< if it varies, how much of the first dimension there is */
    void *data;   /**< row-major */
} fb_value;

/** A sample within the list. */
typedef struct fb_sample {
    int64_t index, epoch; /**< of the dataset; from 0 */
    int n_fields;
    fb_value fields[FB_MAX_FIELDS];
} fb_sample;

/** A field by name; NULL: there is none. */
FB_API const fb_value *fb_sample_field(const fb_sample *sample, const char *name);

/** Writes out->data, of the shape and dtype that was asked for, from in->data, which is another
 * buffer and may be overwritten; it may change out->rows, which is in->rows. Other fields of the
 * sample are there to read. Called from several threads: touch no context. 0: good. */
typedef int (*fb_transform_fn)(void *user, const fb_sample *sample, const fb_value *in,
                               fb_value *out, fb_rng *rng);

typedef struct fb_transform_custom_options {
    const char *name; /**< in messages; NULL: "custom" */
    fb_dtype dtype;   /**< of the result; FB_DTYPE_DEFAULT: as before */
    fb_shape shape;   /**< of the result; n = 0: as before */
    bool fixed;       /**< the result does not vary, although the field does; needs `shape` */
} fb_transform_custom_options;

/** A program's own function. A batch fails with FB_E_USER and the sample if it returns another
 * number than 0. */
FB_API FB_USE_RESULT fb_transform *fb_transform_custom(fb_context *ctx, fb_transform_fn fn,
                                                       void *user,
                                                       const fb_transform_custom_options *opts);

FB_END

#ifndef __cplusplus
#define FB_TRANSFORMS(...) \
    ((fb_transforms){(fb_transform *const[]){__VA_ARGS__}, FB_COUNT(__VA_ARGS__)})
#else
inline fb_transforms fbi_transforms(std::initializer_list<fb_transform *> l)
{
    return fb_transforms{l.begin(), (int)l.size()};
}
#define FB_TRANSFORMS(...) fbi_transforms({__VA_ARGS__})
#endif

#endif
