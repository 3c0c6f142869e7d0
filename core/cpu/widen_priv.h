/* F16, BF16 and small integers under kernels that do not know them: wider copies, in one place. */
#ifndef FLAMBEAU_CORE_CPU_WIDEN_PRIV_H
#define FLAMBEAU_CORE_CPU_WIDEN_PRIV_H

#include "core/ops/op_priv.h"

/* The dtype in which the row's kernel takes an operand of dtype d. */
static inline fb_dtype fbi_wide_dtype(const fbi_opdef *op, fb_dtype d)
{
    if (d == FB_F16 || d == FB_BF16)
        return op->flags & FBI_CPU_HALF ? d : FB_F32;
    bool known = !(op->flags & FBI_INTS) && d <= FB_BOOL; /* I8, I16 and U16 are in no kernel */
    return fb_dtype_is_float(d) || known ? d : FB_I64;
}

static inline bool fbi_wants_wide(const fbi_call *c)
{
    if (c->op->flags & FBI_CPU_HALF)
        return false;
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i] && c->in[i]->dtype > FB_F64 &&
            fbi_wide_dtype(c->op, (fb_dtype)c->in[i]->dtype) != c->in[i]->dtype)
            return true;
    return false;
}

/* `kernel` on wide copies of the operands that need one; results are rounded once, to nearest. */
fb_status fbi_cpu_widened(const fbi_call *c, fbi_kernel kernel);

#endif
