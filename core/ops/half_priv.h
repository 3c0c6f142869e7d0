/* Families whose kernels know F32 and F64 only compute F16 and BF16 in F32. */
#ifndef FLAMBEAU_CORE_OPS_HALF_PRIV_H
#define FLAMBEAU_CORE_OPS_HALF_PRIV_H

#include <flambeau/core/ops/cast.h>

#include "core/ops/op_priv.h"

static inline bool fbi_is_half(const fb_tensor *t)
{
    return t && (t->dtype == FB_F16 || t->dtype == FB_BF16);
}

/* First statement of a public function of x: computes `call`, in which x is then F32, and casts
 * back. */
#define FBI_HALF_VIA_F32(x, call)                  \
    do {                                           \
        if (fbi_is_half(x)) {                      \
            FBI_ENTRY((x)->ctx);                   \
            fb_dtype half_ = (fb_dtype)(x)->dtype; \
            (x) = fb_to((x), FB_F32);              \
            return fb_to((call), half_);           \
        }                                          \
    } while (0)

/* FB_E_DTYPE unless in[i] is F32 or F64. */
static inline fb_status fbi_need_f32_f64(const fbi_call *c, int i)
{
    if (c->in[i]->dtype == FB_F32 || c->in[i]->dtype == FB_F64)
        return FB_OK;
    return fbi_op_fail(c, FB_E_DTYPE, "needs F32 or F64, got %s",
                       fb_dtype_name((fb_dtype)c->in[i]->dtype));
}

#endif
