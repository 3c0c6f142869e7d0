/* What the operators that take elements by index share. */
#ifndef FLAMBEAU_CORE_OPS_INDEX_PRIV_H
#define FLAMBEAU_CORE_OPS_INDEX_PRIV_H

#include "core/ops/half_priv.h"

/* FB_E_DTYPE unless in[i] holds integers. */
static inline fb_status fbi_need_index(const fbi_call *c, int i)
{
    const fb_tensor *t = c->in[i];
    if (t->dtype >= FB_I32 && t->dtype != FB_BOOL)
        return FB_OK;
    return fbi_op_fail(c, FB_E_DTYPE, "index must hold integers, got %s",
                       fb_dtype_name((fb_dtype)t->dtype));
}

/* Rows of backward add in F32 or F64: a half-precision gradient is widened and given back narrow.
 */
static inline fb_tensor *fbi_widened(fb_tensor *g)
{
    return fbi_is_half(g) ? fb_to(g, FB_F32) : g;
}

static inline fb_status fbi_give_narrow(fbi_bw *bw, fb_tensor *g)
{
    fb_dtype dtype = (fb_dtype)bw->grad[0]->dtype;
    return fbi_bw_give(bw, 0, g && g->dtype != dtype ? fb_to(g, dtype) : g);
}

#endif
