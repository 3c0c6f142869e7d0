/* vander, bilinear, matrix_exp. */
#include <flambeau/core/ops/linalg.h>

#include <math.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/scan.h>

#include "core/ops/decompose_priv.h"

/* --- vander --- */

fb_status fbi_compose_vander(fbi_call *c)
{
    const fbi_attrs_vander *a = c->attrs;
    fb_tensor *x = c->in[0];
    if (x->ndim < 1 || x->ndim == FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s needs 1 to %d dimensions", fbi_text(x),
                           FB_MAX_DIMS - 1);
    int64_t n = a->n ? a->n : x->size[x->ndim - 1];
    if (n < 1)
        return fbi_op_fail(c, FB_E_ARG, "%lld columns of input %s", (long long)n, fbi_text(x));
    fb_shape wide = fb_shape_of(x), one = wide;
    wide.d[wide.n++] = n - 1;
    one.d[one.n++] = 1;
    if (n == 1) { /* x^0 does not depend on x */
        fb_dtype d = fb_dtype_is_float((fb_dtype)x->dtype) ? (fb_dtype)x->dtype : FB_I64;
        return fbi_composed(c, fb_ones(c->ctx, d, one));
    }
    fb_tensor *powers = fb_cumprod(fb_expand(fb_unsqueeze(x, -1), wide), -1);
    fb_tensor *ones = powers ? fb_ones(c->ctx, (fb_dtype)powers->dtype, one) : NULL;
    fb_tensor *y = ones ? fb_cat(FB_TENSORS(ones, powers), -1) : NULL;
    return fbi_composed(c, y && !a->increasing ? fb_flip(y, FB_SHAPE(-1)) : y);
}

fb_tensor *fb_vander(fb_tensor *x, int64_t n, bool increasing)
{
    return FBI_RUN(vander, (&(fbi_attrs_vander){n, increasing}), x);
}

void fbi_sample_vander(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(4), .lo = 0.5, .hi = 2};
    fbi_attrs_vander a = {0};
    fbi_sample_add(s, &a, 1, &in);
    a = (fbi_attrs_vander){.n = 3, .increasing = 1};
    in.shape = FB_SHAPE(2, 3);
    fbi_sample_add(s, &a, 1, &in);
    a.n = -1;
    fbi_sample_bad(s, &a, 1, &in, FB_E_ARG, "vander: -1 columns of input [2, 3]");
    in.shape = FB_SCALAR;
    fbi_sample_bad(s, &a, 1, &in, FB_E_SHAPE, "vander: input [] needs 1 to 7 dimensions");
}

/* --- bilinear --- */

static fb_status need_bilinear(const fbi_call *c)
{
    const fb_tensor *x = c->in[0], *y = c->in[1], *w = c->in[2], *b = c->in[3];
    bool fits = w->ndim == 3 && x->ndim >= 1 && x->ndim == y->ndim &&
                x->size[x->ndim - 1] == w->size[1] && y->size[y->ndim - 1] == w->size[2];
    for (int i = 0; fits && i < x->ndim - 1; i++)
        fits = x->size[i] == y->size[i];
    if (!fits || (b && (b->ndim != 1 || b->size[0] != w->size[0])))
        return fbi_op_fail(c, FB_E_SHAPE,
                           "inputs %s and %s, weight %s, bias %s: [..., a], [..., b], [out, a, b] "
                           "and [out] wanted",
                           fbi_text(x), fbi_text(y), fbi_text(w), b ? fbi_text(b) : "none");
    fb_status st = FB_OK;
    for (int i = 0; i < 4 && !st; i++)
        st = c->in[i] ? fbi_need_float(c, i) : FB_OK;
    return st;
}

/* The first input's products with all matrices at once, then each one's with the second input. */
fb_status fbi_compose_bilinear(fbi_call *c)
{
    fb_tensor *x = c->in[0], *y = c->in[1], *w = c->in[2];
    fb_status st = need_bilinear(c);
    if (st)
        return st;
    int64_t out = w->size[0], a = w->size[1], b = w->size[2];
    fb_tensor *all = fb_permute(w, FB_SHAPE(1, 0, 2));
    all = all ? fb_reshape(all, FB_SHAPE(a, out * b)) : NULL;
    fb_tensor *p = all ? fb_matmul(fb_reshape(x, FB_SHAPE(a ? x->numel / a : 0, a)), all) : NULL;
    p = p ? fb_reshape(p, FB_SHAPE(p->size[0], out, b)) : NULL;
    fb_tensor *second = p ? fb_reshape(y, FB_SHAPE(p->size[0], 1, b)) : NULL;
    p = second ? fb_sum(fb_mul(p, second), FB_SHAPE(-1), false) : NULL;
    p = p && c->in[3] ? fb_add(p, c->in[3]) : p;
    fb_shape s = fb_shape_of(x);
    s.d[s.n - 1] = out;
    return fbi_composed(c, p ? fb_reshape(p, s) : NULL);
}

fb_tensor *fb_bilinear(fb_tensor *x, fb_tensor *y, fb_tensor *weight, fb_tensor *bias)
{
    return FBI_RUN(bilinear, NULL, x, y, weight, bias);
}

#define IN(...)                                           \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1 \
    }

void fbi_sample_bilinear(fbi_samples *s)
{
    fbi_sample_in in[4] = {IN(4, 3), IN(4, 2), IN(5, 3, 2), IN(5)};
    fbi_sample_add(s, NULL, 4, in);
    in[0].shape = FB_SHAPE(2, 3, 3);
    in[1].shape = FB_SHAPE(2, 3, 2);
    in[3].absent = true;
    fbi_sample_add(s, NULL, 4, in);
    in[1].shape = FB_SHAPE(2, 3, 4);
    fbi_sample_bad(s, NULL, 4, in, FB_E_SHAPE,
                   "bilinear: inputs [2, 3, 3] and [2, 3, 4], weight [5, 3, 2], bias none");
}

/* --- matrix_exp --- */

enum { TERMS = 14 }; /* of Taylor's series: 0.5^15 / 15! is below the epsilon of F64 */

/* How often a is halved until its norm is at most 0.5. */
static int halvings(fb_tensor *a)
{
    FB_SCOPE(a->ctx);
    fb_no_grad(a->ctx);
    double norm = fb_item(fb_amax(fb_sum(fb_abs(a), FB_SHAPE(-2), false), FB_ALL, false));
    int k = 0;
    while (norm > 0.5 && isfinite(norm) && k < 1100) {
        norm /= 2;
        k++;
    }
    return k;
}

fb_status fbi_compose_matrix_exp(fbi_call *c)
{
    fb_tensor *a = c->in[0], *y = NULL;
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (a->ndim < 2 || a->size[a->ndim - 2] != a->size[a->ndim - 1])
        return fbi_op_fail(c, FB_E_SHAPE, "input 0 %s is not square", fbi_text(a));
    if (a->numel == 0)
        return fbi_composed(c, fb_clone(a));
    int squarings = halvings(a);
    fb_tensor *x = fb_mul_scalar(a, ldexp(1, -squarings));
    fb_tensor *one = fbi_identity(c->ctx, (fb_dtype)a->dtype, a->size[a->ndim - 1]);
    if (!x || !one)
        return c->ctx->status;
    y = fb_add(fb_mul_scalar(x, 1.0 / TERMS), one);
    for (int k = TERMS - 1; k > 0; k--) /* 1 + x / k (1 + x / (k + 1) (...)) */
        y = fb_add(fb_matmul(fb_mul_scalar(x, 1.0 / k), y), one);
    for (int k = 0; k < squarings; k++)
        y = fb_matmul(y, y);
    return fbi_composed(c, y);
}

fb_tensor *fb_matrix_exp(fb_tensor *a)
{
    return FBI_RUN(matrix_exp, NULL, a);
}

void fbi_sample_matrix_exp(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(3, 3), .lo = -0.2, .hi = 0.2};
    fbi_sample_add(s, NULL, 1, &in);
    in = (fbi_sample_in){.shape = FB_SHAPE(2, 2, 2), .lo = -1, .hi = 1};
    fbi_sample_add(s, NULL, 1, &in);
    in.shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, NULL, 1, &in, FB_E_SHAPE, "matrix_exp: input 0 [2, 3] is not square");
}
