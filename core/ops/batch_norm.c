/* batch_norm, and batch_norm_relu(x, weight, bias, residual) = ReLU of it (+ residual): shapes,
 * derivatives, samples. */
#include <flambeau/core/ops/norm.h>

#include "core/ops/call_priv.h"
#include "core/ops/norm_priv.h"

#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

fb_status fbi_infer_batch_norm(fbi_call *c)
{
    const fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (x->ndim != 2 && x->ndim != 4)
        return fbi_op_fail(c, FB_E_SHAPE, "input [N, C] or [N, C, H, W] wanted, not %s",
                           fbi_text(x));
    st = fbi_norm_params(c, FB_SHAPE(x->size[1]), "channels");
    if (st)
        return st;
    if (x->numel == 0)
        return fbi_op_fail(c, FB_E_SHAPE, "no elements to normalise in input %s", fbi_text(x));
    st = x->ndim == 4 ? fbi_out_nhwc(c, 0, (fb_dtype)x->dtype, fb_shape_of(x))
                      : fbi_out(c, 0, (fb_dtype)x->dtype, fb_shape_of(x));
    for (int i = 1; i < 3 && !st; i++)
        st = fbi_out(c, i, fbi_stat_dtype(x), FB_SHAPE(x->size[1]));
    return st;
}

/* g, x, weight, mean, var -> dx, dweight, dbias */
fb_status fbi_infer_batch_norm_bwd(fbi_call *c)
{
    const fb_tensor *x = c->in[1];
    fb_dtype dtype = (fb_dtype)(c->in[2] ? c->in[2] : x)->dtype;
    fb_status st = x->ndim == 4 ? fbi_out_nhwc(c, 0, (fb_dtype)x->dtype, fb_shape_of(x))
                                : fbi_out(c, 0, (fb_dtype)x->dtype, fb_shape_of(x));
    for (int i = 1; i < 3 && !st; i++)
        st = fbi_out(c, i, dtype, FB_SHAPE(x->size[1]));
    return st;
}

fb_status fbi_bwd_batch_norm(fbi_bw *bw)
{
    const fbi_attrs_batch_norm *a = bw->attrs;
    if (!bw->grad[0] || bw->grad[1] || bw->grad[2])
        return fbi_bwd_ops_batch_norm(bw); /* somebody differentiates the statistics: rare */
    fbi_attrs_batch_norm_bwd p = {.eps = a->eps};
    return fbi_norm_bwd(bw, FBI_OP_batch_norm_bwd, &p);
}

fb_tensor *fbi_per_channel(fb_tensor *t, int ndim)
{
    fb_shape s = {ndim, {0}};
    for (int i = 0; i < ndim; i++)
        s.d[i] = t && i == 1 ? fb_numel(t) : 1;
    return t ? fb_reshape(t, s) : NULL;
}

/* Of the gradients g of the norm's result, gm of its means and gv of its variances. */
static fb_status norm_ops(fbi_bw *bw, fb_tensor *grad, fb_tensor *gm, fb_tensor *gv, double eps)
{
    fb_tensor *saved = fbi_bw_in(bw, 0), *w = fbi_bw_in(bw, 1), *dx = NULL;
    fb_tensor *g = fbi_exact(grad), *x = fbi_exact(saved);
    fbi_norm_parts p;
    if (!x)
        return bw->ctx->status;
    fb_dtype narrow = (fb_dtype)saved->dtype, params = w ? (fb_dtype)w->dtype : narrow;
    fb_shape dims = x->ndim == 2 ? FB_SHAPE(0) : FB_SHAPE(0, 2, 3);
    double per = (double)x->numel / (double)x->size[1];
    if (!fbi_norm_parts_of(x, dims, eps, &p))
        return bw->ctx->status;
    fb_status st = FB_OK;
    if (g && fbi_bw_needs(bw, 0))
        dx = fbi_norm_dx(&p, w ? fb_mul(g, fbi_per_channel(w, x->ndim)) : g, dims);
    if (gm && fbi_bw_needs(bw, 0)) {
        fb_tensor *each = fb_mul_scalar(fbi_per_channel(gm, x->ndim), 1 / per);
        dx = fbi_sum_or(dx, fb_expand(each, fb_shape_of(x)));
    }
    if (gv && fbi_bw_needs(bw, 0)) {
        fb_tensor *each = fb_mul_scalar(fbi_per_channel(gv, x->ndim), 2 / per);
        dx = fbi_sum_or(dx, fb_mul(p.centred, each));
    }
    if (fbi_bw_needs(bw, 0) && (g || gm || gv))
        st = fbi_bw_give(bw, 0, fb_to(dx, narrow));
    if (!st && g && fbi_bw_needs(bw, 1))
        st = fbi_bw_give(bw, 1, fb_to(fb_sum(fb_mul(g, p.hat), dims, false), params));
    if (!st && g && fbi_bw_needs(bw, 2))
        st = fbi_bw_give(bw, 2, fb_to(fb_sum(g, dims, false), params));
    return st;
}

fb_status fbi_bwd_ops_batch_norm(fbi_bw *bw)
{
    const fbi_attrs_batch_norm *a = bw->attrs;
    return norm_ops(bw, bw->grad[0], bw->grad[1], bw->grad[2], a->eps);
}

/* --- batch_norm_relu --- */

fb_status fbi_infer_batch_norm_relu(fbi_call *c)
{
    const fb_tensor *x = c->in[0], *r = c->in[3];
    fb_status st = fbi_need_float(c, 0);
    if (!st && r)
        st = fbi_need_dtype(c, 3, (fb_dtype)x->dtype);
    if (!st && r && !fbi_same_shape(x, r))
        st =
            fbi_op_fail(c, FB_E_SHAPE, "input %s and residual %s differ", fbi_text(x), fbi_text(r));
    return st ? st : fbi_infer_batch_norm(c);
}

/* g, x, weight, mean, var, y -> dx, dweight, dbias and, of 4 outputs, the residual's gradient */
fb_status fbi_infer_batch_norm_relu_bwd(fbi_call *c)
{
    const fb_tensor *x = c->in[1];
    fb_status st = fbi_infer_batch_norm_bwd(c);
    if (st || c->n_out < 4)
        return st;
    return x->ndim == 4 ? fbi_out_nhwc(c, 3, (fb_dtype)x->dtype, fb_shape_of(x))
                        : fbi_out(c, 3, (fb_dtype)x->dtype, fb_shape_of(x));
}

fb_status fbi_bwd_batch_norm_relu(fbi_bw *bw)
{
    const fbi_attrs_batch_norm_relu *a = bw->attrs;
    if (!bw->grad[0] || bw->grad[1] || bw->grad[2])
        return fbi_bwd_ops_batch_norm_relu(bw);
    const fbi_attrs_batch_norm_relu_bwd p = {.eps = a->eps};
    fb_tensor *in[6] = {bw->grad[0],       fbi_bw_in(bw, 0),  fbi_bw_in(bw, 1),
                        fbi_bw_out(bw, 1), fbi_bw_out(bw, 2), fbi_bw_out(bw, 0)};
    if (!in[1] || !in[3] || !in[4] || !in[5])
        return bw->ctx->status;
    bool both = fbi_bw_needs(bw, 3);
    fb_tensor *out[4] = {NULL}, *spare = bw->ctx->backend->host_memory ? fbi_bw_spare(bw) : NULL;
    out[both ? 3 : 0] = spare; /* the first that the kernels on the host write, or the last */
    fbi_call c = {.ctx = bw->ctx,
                  .op = &fbi_opdefs[FBI_OP_batch_norm_relu_bwd],
                  .attrs = &p,
                  .in = in,
                  .out = out,
                  .n_in = 6,
                  .n_out = both ? 4 : 3,
                  .threads = bw->ctx->threads};
    fb_status st = c.op->infer(&c);
    st = st ? st : fbi_launch(&c);
    for (int i = 0; i < c.n_out && !st; i++)
        if (fbi_bw_needs(bw, i))
            st = fbi_bw_give(bw, i, out[i]);
    return st;
}

fb_status fbi_bwd_ops_batch_norm_relu(fbi_bw *bw)
{
    const fbi_attrs_batch_norm_relu *a = bw->attrs;
    fb_tensor *y = fbi_bw_out(bw, 0), *g = NULL;
    if (!y || (bw->grad[0] && !(g = FBI_RUN(relu_bwd, NULL, bw->grad[0], y))))
        return bw->ctx->status;
    fb_status st = fbi_bw_needs(bw, 3) ? fbi_bw_give(bw, 3, g) : FB_OK;
    return st ? st : norm_ops(bw, g, bw->grad[1], bw->grad[2], a->eps);
}

/* Biases and residuals that keep the sums away from 0, on both sides of it. */
void fbi_sample_batch_norm_relu(fbi_samples *s)
{
    const fbi_attrs_batch_norm_relu a = {.eps = 1e-5};
    const struct {
        fb_shape x;
        bool affine, residual;
    } ok[] = {{FB_SHAPE(4, 3, 2, 3), true, true},
              {FB_SHAPE(4, 3, 2, 3), true, false},
              {FB_SHAPE(6, 3), true, true},
              {FB_SHAPE(6, 3), false, false},
              {FB_SHAPE(3, 3, 1, 2), false, true}};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        fbi_sample_in in[4] = {
            {.shape = ok[i].x, .lo = -2, .hi = 2},
            {.shape = FB_SHAPE(3), .lo = 0.5, .hi = 1.5, .absent = !ok[i].affine},
            {.shape = FB_SHAPE(3), .lo = -1, .hi = 1, .absent = !ok[i].affine},
            {.shape = ok[i].x, .lo = -2, .hi = 2, .absent = !ok[i].residual}};
        fbi_sample_add(s, &a, 4, in);
    }
    fbi_sample_in bad[4] = {{.shape = FB_SHAPE(4, 3, 2, 3), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(4), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(3), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(4, 3, 2, 3), .lo = -1, .hi = 1}};
    fbi_sample_bad(s, &a, 4, bad, FB_E_SHAPE,
                   "batch_norm_relu: weight [4] does not fit the channels of input [4, 3, 2, 3]");
    bad[3].shape = FB_SHAPE(4, 3, 2, 1);
    fbi_sample_bad(s, &a, 4, bad, FB_E_SHAPE,
                   "batch_norm_relu: input [4, 3, 2, 3] and residual [4, 3, 2, 1] differ");
}

/* --- batch_norm's samples, and the public functions --- */

void fbi_sample_batch_norm(fbi_samples *s)
{
    const fbi_attrs_batch_norm a = {.eps = 1e-5};
    const fb_shape xs[] = {FB_SHAPE(4, 3, 2, 3), FB_SHAPE(6, 3), FB_SHAPE(3, 3, 1, 2)};
    for (size_t i = 0; i < sizeof xs / sizeof xs[0]; i++) {
        fbi_sample_in in[3] = {{.shape = xs[i], .lo = -2, .hi = 2},
                               {.shape = FB_SHAPE(3), .lo = 0.5, .hi = 1.5, .absent = i == 2},
                               {.shape = FB_SHAPE(3), .lo = -1, .hi = 1, .absent = i == 2}};
        fbi_sample_add(s, &a, 3, in);
    }
    fbi_sample_in bad[3] = {{.shape = FB_SHAPE(4, 3, 2, 3), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(4), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(3), .lo = -1, .hi = 1}};
    fbi_sample_bad(s, &a, 3, bad, FB_E_SHAPE,
                   "batch_norm: weight [4] does not fit the channels of input [4, 3, 2, 3]");
}

/* Lines and volumes as images: [N, C, L, 1], [N, C, D H, W]. */
static fb_tensor *as_image(fb_tensor *x)
{
    fb_shape s = x ? fb_shape_of(x) : FB_SCALAR;
    if (s.n == 3)
        return fb_unsqueeze(x, 3);
    return s.n == 5 ? fb_reshape(x, FB_SHAPE(s.d[0], s.d[1], s.d[2] * s.d[3], s.d[4])) : x;
}

/* The row `op` of images, its result in the shape of in[0]. */
static fb_tensor *normalised(fb_context *ctx, fbi_op op, const void *attrs, int n, fb_tensor **in,
                             fb_tensor **mean, fb_tensor **var)
{
    fb_shape shape = fb_shape_of(in[0]);
    fb_tensor *out[3], **const wanted[2] = {mean, var};
    in[0] = as_image(in[0]);
    if (n > 3)
        in[3] = as_image(in[3]);
    if (fbi_run(ctx, op, attrs, in, n, out))
        return NULL;
    for (int i = 0; i < 2; i++)
        if (wanted[i])
            *wanted[i] = out[i + 1];
        else
            fb_drop(out[i + 1]);
    return shape.n == out[0]->ndim ? out[0] : fb_reshape(out[0], shape);
}

fb_tensor *fb_batch_norm(fb_tensor *x, fb_tensor *weight, fb_tensor *bias, double eps,
                         fb_tensor **mean, fb_tensor **var)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (mean)
        *mean = NULL;
    if (var)
        *var = NULL;
    if (!fbi_tensor_check(ctx, x, "batch_norm", "x"))
        return NULL;
    fb_tensor *in[3] = {x, weight, bias};
    return normalised(ctx, FBI_OP_batch_norm, &(fbi_attrs_batch_norm){.eps = eps}, 3, in, mean,
                      var);
}

fb_tensor *fb_batch_norm_relu(fb_tensor *x, fb_tensor *weight, fb_tensor *bias, fb_tensor *residual,
                              double eps, fb_tensor **mean, fb_tensor **var)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (mean)
        *mean = NULL;
    if (var)
        *var = NULL;
    if (!fbi_tensor_check(ctx, x, "batch_norm_relu", "x") ||
        (residual && !fbi_tensor_check(ctx, residual, "batch_norm_relu", "residual")))
        return NULL;
    if (residual && !fbi_same_shape(x, residual)) { /* before volumes become images */
        fbi_fail(ctx, FB_E_SHAPE, "batch_norm_relu: input %s and residual %s differ", fbi_text(x),
                 fbi_text(residual));
        return NULL;
    }
    if (residual) {
        fb_dtype wide = fb_promote(fb_dtype_of(x), fb_dtype_of(residual));
        x = fb_to(x, wide);
        residual = fb_to(residual, wide);
    }
    if (!x)
        return NULL;
    fb_tensor *in[4] = {x, weight, bias, residual};
    const fbi_attrs_batch_norm_relu a = {.eps = eps};
    return normalised(ctx, FBI_OP_batch_norm_relu, &a, 4, in, mean, var);
}

fb_tensor *fb_batch_norm_eval(fb_tensor *x, fb_tensor *weight, fb_tensor *bias, fb_tensor *mean,
                              fb_tensor *var, double eps)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, x, "batch_norm_eval", "x") ||
        !fbi_tensor_check(ctx, mean, "batch_norm_eval", "mean") ||
        !fbi_tensor_check(ctx, var, "batch_norm_eval", "var"))
        return NULL;
    if (x->ndim < 2 || mean->numel != x->size[1] || var->numel != x->size[1]) {
        fbi_fail(ctx, FB_E_SHAPE,
                 "batch_norm_eval: statistics do not fit the channels: input %s, mean %s, var %s",
                 fbi_text(x), fbi_text(mean), fbi_text(var));
        return NULL;
    }
    /* One scale and one shift per channel: the image is read once. */
    fb_tensor *scale = fb_pow_scalar(fb_add_scalar(fbi_exact(var), eps), -0.5);
    if (weight)
        scale = fb_mul(scale, weight);
    fb_tensor *shift = fb_neg(fb_mul(mean, scale));
    if (bias)
        shift = fb_add(shift, bias);
    int n = x->ndim;
    fb_tensor *y = fb_add(fb_mul(x, fbi_per_channel(scale, n)), fbi_per_channel(shift, n));
    return fb_to(y, (fb_dtype)x->dtype);
}
