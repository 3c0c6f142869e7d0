/* F16 and BF16 are stored; sums, statistics and composed derivatives are F32. */
#ifndef FLAMBEAU_CORE_OPS_HALF_PRIV_H
#define FLAMBEAU_CORE_OPS_HALF_PRIV_H

#include <flambeau/core/ops/cast.h>

#include "core/ops/op_priv.h"

static inline bool fbi_is_half(const fb_tensor *t)
{
    return t && (t->dtype == FB_F16 || t->dtype == FB_BF16);
}

/* The dtype of statistics of t. */
static inline fb_dtype fbi_stat_dtype(const fb_tensor *t)
{
    return fbi_is_half(t) ? FB_F32 : (fb_dtype)t->dtype;
}

/* t in that dtype (recorded), for derivatives of several steps: they are rounded once, by the cast
 * back. NULL stays NULL. */
static inline fb_tensor *fbi_exact(fb_tensor *t)
{
    return fbi_is_half(t) ? fb_to(t, FB_F32) : t;
}

/* As in PyTorch, weight in[1] has the dtype of in[0], or F32 if that is F16 or BF16; bias in[2] has
 * that of the weight. */
static inline fb_status fbi_need_fitting(const fbi_call *c, int i)
{
    const fb_tensor *x = c->in[0], *w = c->in[1];
    if (i == 1 && w->dtype == fbi_stat_dtype(x))
        return FB_OK;
    return fbi_need_dtype(c, i, (fb_dtype)(i == 2 && w ? w : x)->dtype);
}

#endif
