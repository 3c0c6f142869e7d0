/* Checks that pools of one, two and three dimensions share. */
#ifndef FLAMBEAU_CORE_OPS_POOL_SHAPE_PRIV_H
#define FLAMBEAU_CORE_OPS_POOL_SHAPE_PRIV_H

#include <flambeau/core/ops/pool.h>

#include "core/ops/op_priv.h"

typedef struct fbi_windows {
    fb_shape kernel, stride, padding, dilation; /* all but the kernel may be left out (n = 0) */
    int64_t ceil_mode;
} fbi_windows;

/* in[0] is [n, c] and nd dimensions. */
fb_status fbi_need_images(const fbi_call *c, int nd);
/* Complete w and set the sizes of the result's last nd dimensions. */
fb_status fbi_pool_windows(const fbi_call *c, int nd, fbi_windows *w, int64_t out[3]);
/* The same of a grid of cells; -1: as many as the image has elements. */
fb_status fbi_pool_grid(const fbi_call *c, int nd, fb_shape *output);

#endif
