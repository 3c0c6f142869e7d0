/* layer_norm: shapes, derivatives, samples. */
#include <flambeau/core/ops/norm.h>

#include "core/ops/norm_priv.h"

#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

fb_shape fbi_tail(const fb_tensor *x, int64_t dims)
{
    fb_shape s = {(int)dims, {0}};
    for (int i = 0; i < s.n; i++)
        s.d[i] = x->size[x->ndim - s.n + i];
    return s;
}

bool fbi_ends_in(const fb_tensor *x, fb_shape shape)
{
    return shape.n >= 1 && shape.n <= x->ndim && fb_shape_equal(fbi_tail(x, shape.n), shape);
}

static fb_shape head(const fb_tensor *x, int64_t dims)
{
    fb_shape s = fb_shape_of(x);
    s.n -= (int)dims;
    return s;
}

fb_status fbi_infer_layer_norm(fbi_call *c)
{
    const fbi_attrs_layer_norm *a = c->attrs;
    const fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (a->dims < 1 || a->dims > x->ndim)
        return fbi_op_fail(c, FB_E_SHAPE, "%lld dimensions to normalise, input %s",
                           (long long)a->dims, fbi_text(x));
    st = fbi_norm_params(c, fbi_tail(x, a->dims), "end");
    if (st)
        return st;
    st = fbi_out(c, 0, (fb_dtype)x->dtype, fb_shape_of(x));
    for (int i = 1; i < 3 && !st; i++)
        st = fbi_out(c, i, fbi_stat_dtype(x), head(x, a->dims));
    return st;
}

/* g, x, weight, mean, rstd -> dx, dweight, dbias */
fb_status fbi_infer_layer_norm_bwd(fbi_call *c)
{
    const fbi_attrs_layer_norm_bwd *a = c->attrs;
    const fb_tensor *x = c->in[1];
    fb_dtype dtype = (fb_dtype)(c->in[2] ? c->in[2] : x)->dtype;
    fb_status st = fbi_out(c, 0, (fb_dtype)x->dtype, fb_shape_of(x));
    for (int i = 1; i < 3 && !st; i++)
        st = fbi_out(c, i, dtype, fbi_tail(x, a->dims));
    return st;
}

fb_status fbi_bwd_layer_norm(fbi_bw *bw)
{
    const fbi_attrs_layer_norm *a = bw->attrs;
    if (!bw->grad[0] || bw->grad[1] || bw->grad[2])
        return fbi_bwd_ops_layer_norm(bw); /* somebody differentiates the statistics: rare */
    fbi_attrs_layer_norm_bwd p = {.dims = a->dims};
    return fbi_norm_bwd(bw, FBI_OP_layer_norm_bwd, &p);
}

static fb_tensor *per_row(fb_tensor *t, const fb_tensor *x)
{
    fb_shape s = fb_shape_of(t);
    while (s.n < x->ndim)
        s.d[s.n++] = 1;
    return fb_reshape(t, s);
}

fb_status fbi_layer_norm_ops(fbi_bw *bw, fb_tensor *saved, fb_tensor *const grad[3], int64_t n,
                             double eps, fb_tensor **dx)
{
    fb_tensor *w = fbi_bw_in(bw, 1), *g = fbi_exact(grad[0]), *x = fbi_exact(saved);
    fbi_norm_parts p;
    if (!x)
        return bw->ctx->status;
    fb_dtype params = w ? (fb_dtype)w->dtype : (fb_dtype)saved->dtype;
    fb_shape dims = {(int)n, {0}}, t = fbi_tail(x, n);
    for (int i = 0; i < dims.n; i++)
        dims.d[i] = x->ndim - dims.n + i;
    if (!fbi_norm_parts_of(x, dims, eps, &p))
        return bw->ctx->status;
    double per = (double)fb_shape_numel(t);
    if (g && dx)
        *dx = fbi_norm_dx(&p, w ? fb_mul(g, w) : g, dims);
    if (grad[1] && dx) {
        fb_tensor *gm = fb_mul_scalar(per_row(grad[1], x), 1 / per);
        *dx = fbi_sum_or(*dx, fb_expand(gm, fb_shape_of(x)));
    }
    if (grad[2] && dx) { /* d rstd / d x = -rstd^3 (x - mean) / n */
        fb_tensor *gr = fb_mul_scalar(per_row(grad[2], x), -1 / per);
        fb_tensor *slope = fb_mul(p.centred, fb_pow_scalar(p.rstd, 3));
        *dx = fbi_sum_or(*dx, fb_mul(slope, gr));
    }
    fb_status st = FB_OK;
    if (g && fbi_bw_needs(bw, 1))
        st = fbi_bw_give(bw, 1, fb_to(fbi_sum_to(fb_mul(g, p.hat), t), params));
    if (!st && g && fbi_bw_needs(bw, 2))
        st = fbi_bw_give(bw, 2, fb_to(fbi_sum_to(g, t), params));
    return st;
}

fb_status fbi_bwd_ops_layer_norm(fbi_bw *bw)
{
    const fbi_attrs_layer_norm *a = bw->attrs;
    fb_tensor *x = fbi_bw_in(bw, 0), *dx = NULL;
    bool wanted = fbi_bw_needs(bw, 0) && (bw->grad[0] || bw->grad[1] || bw->grad[2]);
    fb_status st = fbi_layer_norm_ops(bw, x, bw->grad, a->dims, a->eps, wanted ? &dx : NULL);
    return st || !wanted ? st : fbi_bw_give(bw, 0, fb_to(dx, (fb_dtype)x->dtype));
}

void fbi_sample_layer_norm(fbi_samples *s)
{
    const struct {
        fb_shape x, t;
        bool affine;
    } ok[] = {{FB_SHAPE(4, 7), FB_SHAPE(7), true},
              {FB_SHAPE(2, 3, 5), FB_SHAPE(5), true},
              {FB_SHAPE(2, 3, 4), FB_SHAPE(3, 4), true},
              {FB_SHAPE(6), FB_SHAPE(6), false}};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        fbi_attrs_layer_norm a = {.dims = ok[i].t.n, .eps = 1e-5};
        fbi_sample_in in[3] = {{.shape = ok[i].x, .lo = -2, .hi = 2},
                               {.shape = ok[i].t, .lo = 0.5, .hi = 1.5, .absent = !ok[i].affine},
                               {.shape = ok[i].t, .lo = -1, .hi = 1, .absent = !ok[i].affine}};
        fbi_sample_add(s, &a, 3, in);
    }
    const fbi_attrs_layer_norm a = {.dims = 1, .eps = 1e-5};
    fbi_sample_in bad[3] = {{.shape = FB_SHAPE(4, 7), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(8), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(7), .lo = -1, .hi = 1}};
    fbi_sample_bad(s, &a, 3, bad, FB_E_SHAPE,
                   "layer_norm: weight [8] does not fit the end of input [4, 7]");
}

fb_tensor *fb_layer_norm(fb_tensor *x, fb_shape shape, fb_tensor *weight, fb_tensor *bias,
                         double eps)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, x, "layer_norm", "x"))
        return NULL;
    if (!fbi_ends_in(x, shape)) {
        fbi_fail(ctx, FB_E_SHAPE, "layer_norm: input %s does not end in %s", fbi_text(x),
                 fbi_shape_text(ctx, shape));
        return NULL;
    }
    fb_tensor *in[3] = {x, weight, bias}, *out[3];
    fbi_attrs_layer_norm a = {.dims = shape.n, .eps = eps};
    if (fbi_run(ctx, FBI_OP_layer_norm, &a, in, 3, out))
        return NULL;
    fb_drop(out[1]);
    fb_drop(out[2]);
    return out[0];
}
