/* What the operators that take elements by index share. */
#ifndef FLAMBEAU_CORE_OPS_INDEX_PRIV_H
#define FLAMBEAU_CORE_OPS_INDEX_PRIV_H

#include "core/ops/op_priv.h"

/* FB_E_DTYPE unless in[i] holds integers. */
static inline fb_status fbi_need_index(const fbi_call *c, int i)
{
    const fb_tensor *t = c->in[i];
    if (t->dtype >= FB_I32 && t->dtype != FB_BOOL)
        return FB_OK;
    return fbi_op_fail(c, FB_E_DTYPE, "index must hold integers, got %s",
                       fb_dtype_name((fb_dtype)t->dtype));
}

/* x with src (of index's shape) joined at index; NULLs give NULL. scatter_priv.h has how; self: x's
 * own element counts. */
fb_tensor *fbi_set_elements(fb_tensor *x, int64_t dim, fb_tensor *index, fb_tensor *src, int how,
                            bool self);
/* x with src (NULL: zeros) written (FBI_SET_COPY) or added (FBI_SET_SUM) at index [n] of dim. */
fb_tensor *fbi_set_slices(fb_tensor *x, int64_t dim, fb_tensor *index, fb_tensor *src, int how);

#endif
