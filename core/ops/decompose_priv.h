/* What the rows that LAPACK does share. */
#ifndef FLAMBEAU_CORE_OPS_DECOMPOSE_PRIV_H
#define FLAMBEAU_CORE_OPS_DECOMPOSE_PRIV_H

#include <flambeau/core/ops/decompose.h>

#include "core/ops/op_priv.h"

#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/view.h>

/* LAPACK's dtypes; as in PyTorch there are no decompositions of F16 and BF16. */
static inline fb_status fbi_need_lapack(const fbi_call *c, int i)
{
    fb_dtype d = (fb_dtype)c->in[i]->dtype;
    if (d == FB_F32 || d == FB_F64)
        return FB_OK;
    return fbi_op_fail(c, FB_E_DTYPE, "input %d is %s; needs F32 or F64", i, fb_dtype_name(d));
}

static inline fb_status fbi_need_matrix(const fbi_call *c, int i)
{
    fb_status st = fbi_need_lapack(c, i);
    if (st || c->in[i]->ndim >= 2)
        return st;
    return fbi_op_fail(c, FB_E_SHAPE, "input %d %s is no matrix", i, fbi_text(c->in[i]));
}

static inline fb_status fbi_need_square(const fbi_call *c, int i)
{
    const fb_tensor *a = c->in[i];
    fb_status st = fbi_need_matrix(c, i);
    if (st || a->size[a->ndim - 2] == a->size[a->ndim - 1])
        return st;
    return fbi_op_fail(c, FB_E_SHAPE, "input %d %s is not square", i, fbi_text(a));
}

/* The shape of t with other last two sizes. */
static inline fb_shape fbi_with_matrix(const fb_tensor *t, int64_t rows, int64_t cols)
{
    fb_shape s = fb_shape_of(t);
    s.d[s.n - 2] = rows;
    s.d[s.n - 1] = cols;
    return s;
}

/* The shape of t without its last n dimensions. */
static inline fb_shape fbi_without_last(const fb_tensor *t, int n)
{
    fb_shape s = fb_shape_of(t);
    s.n -= n;
    return s;
}

static inline int64_t fbi_rows_of(const fb_tensor *t)
{
    return t->size[t->ndim - 2];
}
static inline int64_t fbi_cols_of(const fb_tensor *t)
{
    return t->size[t->ndim - 1];
}

/* Give the first `n` outputs to those who want them; of a call that failed there are none. */
static inline fb_status fbi_hand_out(fb_status st, fb_tensor *const *out, fb_tensor **const *to,
                                     int n)
{
    for (int i = 0; i < n; i++)
        if (to[i])
            *to[i] = st ? NULL : out[i];
        else if (!st)
            fb_drop(out[i]);
    return st;
}

static inline fb_tensor *fbi_mt(fb_tensor *t)
{
    return fb_transpose(t, -2, -1);
}

/* a^T b, a b^T */
static inline fb_tensor *fbi_tn(fb_tensor *a, fb_tensor *b)
{
    return fb_matmul(fbi_mt(a), b);
}
static inline fb_tensor *fbi_nt(fb_tensor *a, fb_tensor *b)
{
    return fb_matmul(a, fbi_mt(b));
}

/* a + b, where either may be NULL. */
static inline fb_tensor *fbi_plus(fb_tensor *a, fb_tensor *b)
{
    return a && b ? fb_add(a, b) : a ? a : b;
}

/* The n x n identity, to be broadcast. */
fb_tensor *fbi_identity(fb_context *ctx, fb_dtype dtype, int64_t n);

#endif
