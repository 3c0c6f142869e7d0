/* Images of other sizes, and samples of images. Local, not collective. NULL on error: FB_E_SHAPE,
 * FB_E_DTYPE, FB_E_ARG, FB_E_NOMEM. F16 and BF16 are computed in F32 and rounded once. */
#ifndef FLAMBEAU_CORE_OPS_INTERPOLATE_H
#define FLAMBEAU_CORE_OPS_INTERPOLATE_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

typedef enum fb_interpolation {
    FB_NEAREST,       /**< the element below, as old OpenCV has it */
    FB_NEAREST_EXACT, /**< the nearest one */
    FB_LINEAR,        /**< of one, two (bilinear) or three (trilinear) dimensions */
    FB_CUBIC,         /**< bicubic: of two dimensions */
    FB_AREA           /**< means over cells: fb_adaptive_avg_pool */
} fb_interpolation;

/** Zero in every field is the default. */
typedef struct fb_interpolate_options {
    fb_interpolation mode;
    bool align_corners; /**< linear and cubic: the corners' centres fall on each other */
    bool antialias;     /**< linear and cubic of two dimensions: smoothed where it gets smaller */
    double scale[3];    /**< without sizes: the result is that many times as large; if only scale[0]
                             is given it holds for every dimension */
    bool recompute_scale; /**< places by the sizes, not by `scale` */
} fb_interpolate_options;

/**
 * Images with other sizes.
 *
 * @param x    [N, C, L], [N, C, H, W] or [N, C, D, H, W] of floats
 * @param size of the last dimensions; FB_ALL: by opts->scale
 * @param opts NULL: nearest
 * One pass a dimension; the derivative of every mode, to any order. Source:
 * torch.nn.functional.interpolate; antialiased as Pillow does it.
 */
FB_API FB_USE_RESULT fb_tensor *fb_interpolate(fb_tensor *x, fb_shape size,
                                               const fb_interpolate_options *opts);

/** What fb_grid_sample takes for elements outside the image. */
typedef enum fb_grid_padding { FB_GRID_ZEROS, FB_GRID_BORDER, FB_GRID_REFLECTION } fb_grid_padding;

/** How fb_grid_sample reads between elements: bilinear (trilinear), the nearest, bicubic. */
typedef enum fb_grid_mode { FB_GRID_LINEAR, FB_GRID_NEAREST, FB_GRID_CUBIC } fb_grid_mode;

/** Zero in every field is the default. */
typedef struct fb_grid_options {
    fb_grid_mode mode; /**< cubic: of two dimensions */
    fb_grid_padding padding;
    bool align_corners; /**< -1 and 1 are the centres of the outermost elements, not their edges */
} fb_grid_options;

/**
 * Elements of images at the places of a grid: made of gathers, so a card's fused kernel would be
 * faster.
 *
 * @param x    [N, C, H, W] or [N, C, D, H, W] of floats
 * @param grid [N, OH, OW, 2] or [N, OD, OH, OW, 3], same dtype: (column, row(, depth)), from -1 to
 * 1 across the image; NaN is taken for -1
 * @return     [N, C, OH, OW] or [N, C, OD, OH, OW]. Source: torch.nn.functional.grid_sample
 */
FB_API FB_USE_RESULT fb_tensor *fb_grid_sample(fb_tensor *x, fb_tensor *grid,
                                               const fb_grid_options *opts);
/** The grid that fb_grid_sample wants for affine maps theta [N, 2, 3] of images of `size` [N, C, H,
 * W], or [N, 3, 4] of volumes [N, C, D, H, W]. */
FB_API FB_USE_RESULT fb_tensor *fb_affine_grid(fb_tensor *theta, fb_shape size, bool align_corners);

FB_END
#endif
