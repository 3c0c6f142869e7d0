/* Options of convolutions and pooling, with the defaults filled in. */
#ifndef FLAMBEAU_CORE_OPS_CONV_PRIV_H
#define FLAMBEAU_CORE_OPS_CONV_PRIV_H

#include <flambeau/core/ops/conv.h>

#include "core/ops/window_priv.h"

typedef struct fbi_conv_opts {
    int64_t stride[2], padding[2], dilation[2], groups;
} fbi_conv_opts;

static inline int64_t fbi_conv_opt(const int64_t v[3], int i, int64_t def)
{
    int64_t x = v[i] ? v[i] : v[0];
    return x == 0 ? def : x == FB_ZERO_INT ? 0 : x;
}

/* `stride`: the default stride, 1 or the kernel's size. */
static inline fbi_conv_opts fbi_conv_opts_of(const fb_conv_options *o, const int64_t stride[2])
{
    static const fb_conv_options none;
    fbi_conv_opts r;
    o = o ? o : &none;
    for (int i = 0; i < 2; i++) {
        r.stride[i] = fbi_conv_opt(o->stride, i, stride[i]);
        r.padding[i] = fbi_conv_opt(o->padding, i, 0);
        r.dilation[i] = fbi_conv_opt(o->dilation, i, 1);
    }
    r.groups = o->groups ? o->groups : 1;
    return r;
}

#endif
