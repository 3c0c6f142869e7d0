/* Pools of one and two dimensions are those of three with sizes of 1; the public functions. */
#include "core/ops/pool_shape_priv.h"

#include "core/ops/conv_priv.h"
#include "core/ops/half_priv.h"

#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/view.h>

/* [n, c] and nd dimensions, or (no batch) c and nd: with five. NULL: error. */
static fb_tensor *lifted(fb_tensor *t, int nd)
{
    if (t && t->ndim == nd + 1)
        t = fb_unsqueeze(t, 0);
    for (int d = nd; d < 3 && t; d++)
        t = fb_unsqueeze(t, 2);
    return t;
}

/* Back to the dimensions that `like` has. */
static fb_tensor *lowered(fb_tensor *y, const fb_tensor *like, int nd)
{
    for (int d = nd; d < 3 && y; d++)
        y = fb_squeeze(y, 2);
    return y && like->ndim == nd + 1 ? fb_squeeze(y, 0) : y;
}

static fb_status need_rank(const fbi_call *c, int nd)
{
    const fb_tensor *x = c->in[0];
    return x->ndim == nd + 1 ? FB_OK : fbi_need_images(c, nd);
}

/* s with numbers in front for the dimensions that are not there. */
static fb_shape padded(fb_shape s, int64_t front)
{
    fb_shape to = {3, {front, front, front}};
    for (int d = 0; d < s.n; d++)
        to.d[3 - s.n + d] = s.d[d];
    return to;
}

/* Run a row of five dimensions; fill the call's outputs. */
static fb_status run_lifted(fbi_call *c, int nd, fbi_op op, const void *attrs, fb_tensor *second)
{
    fb_tensor *out[2] = {NULL}, *in[2] = {lifted(c->in[0], nd), second};
    int n_out = fbi_opdefs[op].n_out;
    if (!in[0])
        return c->ctx->status;
    fb_status st = fbi_run(c->ctx, op, attrs, in, fbi_opdefs[op].n_in, out);
    for (int i = 0; i < n_out && !st; i++) {
        c->out[i] = lowered(out[i], c->in[0], nd);
        st = c->out[i] ? FB_OK : c->ctx->status;
    }
    return st;
}

/* --- max --- */

/* Attributes of the rows with windows begin like this. */
static fb_status max_pool(fbi_call *c, int nd)
{
    const fbi_attrs_max_pool1d *a = c->attrs;
    fbi_windows w = {a->kernel, a->stride, a->padding, a->dilation, a->ceil_mode};
    int64_t out[3];
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = need_rank(c, nd);
    if (!st)
        st = fbi_pool_windows(c, nd, &w, out);
    if (st)
        return st;
    fbi_attrs_max_pool3d p = {padded(w.kernel, 1),   padded(w.stride, 1), padded(w.padding, 0),
                              padded(w.dilation, 1), w.ceil_mode,         {0}};
    return run_lifted(c, nd, FBI_OP_max_pool3d, &p, NULL);
}

fb_status fbi_compose_max_pool1d(fbi_call *c)
{
    return max_pool(c, 1);
}
fb_status fbi_compose_max_pool2d(fbi_call *c)
{
    return max_pool(c, 2);
}

static fb_status adaptive(fbi_call *c, int nd, fbi_op op)
{
    fb_shape output = ((const fbi_attrs_adaptive_max_pool1d *)c->attrs)->output;
    bool mean = op == FBI_OP_adaptive_avg_pool3d;
    fb_status st = mean ? fbi_need_float(c, 0) : fbi_need_numbers(c, 0);
    if (!st)
        st = need_rank(c, nd);
    if (!st)
        st = fbi_pool_grid(c, nd, &output);
    if (st)
        return st;
    fbi_attrs_adaptive_max_pool3d p = {padded(output, 1), {0}}; /* those of a mean are the same */
    return run_lifted(c, nd, op, &p, NULL);
}

fb_status fbi_compose_adaptive_max_pool1d(fbi_call *c)
{
    return adaptive(c, 1, FBI_OP_adaptive_max_pool3d);
}
fb_status fbi_compose_adaptive_max_pool2d(fbi_call *c)
{
    return adaptive(c, 2, FBI_OP_adaptive_max_pool3d);
}
fb_status fbi_compose_adaptive_avg_pool1d(fbi_call *c)
{
    return adaptive(c, 1, FBI_OP_adaptive_avg_pool3d);
}
fb_status fbi_compose_adaptive_avg_pool2d(fbi_call *c)
{
    return adaptive(c, 2, FBI_OP_adaptive_avg_pool3d);
}

/* PyTorch's random numbers of two dimensions are those of columns, then of rows; of three in their
 * order. */
fb_status fbi_compose_fractional_max_pool2d(fbi_call *c)
{
    const fbi_attrs_fractional_max_pool2d *a = c->attrs;
    fb_tensor *x = c->in[0], *u = c->in[1];
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)x->dtype);
    if (!st)
        st = need_rank(c, 2);
    if (st)
        return st;
    int64_t n = x->ndim == 4 ? x->size[0] : 1, ch = x->size[x->ndim - 3];
    if (u->ndim != 3 || u->size[0] != n || u->size[1] != ch || u->size[2] != 2)
        return fbi_op_fail(c, FB_E_SHAPE, "random numbers %s do not fit input %s", fbi_text(u),
                           fbi_text(x));
    if (a->kernel.n != 2 || a->output.n != 2)
        return fbi_op_fail(c, FB_E_ARG, "a window %s or a grid %s has not 2 numbers",
                           fbi_shape_text(c->ctx, a->kernel), fbi_shape_text(c->ctx, a->output));
    for (int d = 0; d < 2; d++)
        if (a->kernel.d[d] < 1 || a->output.d[d] < 1 ||
            a->output.d[d] + a->kernel.d[d] - 1 > x->size[x->ndim - 2 + d])
            return fbi_op_fail(c, FB_E_SHAPE, "%lld windows of %lld elements in dimension %d of %s",
                               (long long)a->output.d[d], (long long)a->kernel.d[d],
                               x->ndim - 2 + d, fbi_text(x));
    fb_tensor *columns = fb_narrow(u, 2, 0, 1), *rows = fb_narrow(u, 2, 1, 1);
    fb_tensor *three = rows ? fb_cat(FB_TENSORS(rows, rows, columns), 2) : NULL;
    fbi_attrs_fractional_max_pool3d p = {padded(a->kernel, 1), padded(a->output, 1), {0}};
    return three ? run_lifted(c, 2, FBI_OP_fractional_max_pool3d, &p, three) : c->ctx->status;
}

/* Values at their places, zeros elsewhere; `output`: sizes of the result. */
static fb_status unpool(fbi_call *c, int nd)
{
    fb_shape output = ((const fbi_attrs_max_unpool1d *)c->attrs)->output;
    fb_tensor *x = c->in[0], *index = c->in[1];
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = need_rank(c, nd);
    if (st)
        return st;
    if (fb_dtype_is_float((fb_dtype)index->dtype) || index->dtype == FB_BOOL)
        return fbi_op_fail(c, FB_E_DTYPE, "indices are %s; need integers",
                           fb_dtype_name((fb_dtype)index->dtype));
    if (!fbi_same_shape(x, index))
        return fbi_op_fail(c, FB_E_SHAPE, "indices %s do not fit input %s", fbi_text(index),
                           fbi_text(x));
    for (int d = 0; d < nd; d++)
        if (output.n != nd || output.d[d] < 1)
            return fbi_op_fail(c, FB_E_ARG, "a result of sizes %s for %d dimensions",
                               fbi_shape_text(c->ctx, output), nd);
    fbi_attrs_max_pool3d_bwd p = {.size = padded(output, 1), .unpool = 1};
    if (fb_shape_numel(p.size) > INT32_MAX || fb_shape_numel(p.size) < 0)
        return fbi_op_fail(c, FB_E_SHAPE, "images of %s have more than 2^31 elements",
                           fbi_shape_text(c->ctx, output));
    fb_tensor *places = lifted(fb_to(index, FB_I32), nd);
    return places ? run_lifted(c, nd, FBI_OP_max_pool3d_bwd, &p, places) : c->ctx->status;
}

fb_status fbi_compose_max_unpool1d(fbi_call *c)
{
    return unpool(c, 1);
}
fb_status fbi_compose_max_unpool2d(fbi_call *c)
{
    return unpool(c, 2);
}
fb_status fbi_compose_max_unpool3d(fbi_call *c)
{
    return unpool(c, 3);
}

/* --- mean --- */

static fb_status avg_pool(fbi_call *c, int nd)
{
    const fbi_attrs_avg_pool1d *a = c->attrs;
    fbi_windows w = {a->kernel, a->stride, a->padding, {0}, a->ceil_mode};
    int64_t out[3];
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = need_rank(c, nd);
    if (!st)
        st = fbi_pool_windows(c, nd, &w, out);
    if (st)
        return st;
    fbi_attrs_avg_pool3d p = {padded(w.kernel, 1),
                              padded(w.stride, 1),
                              padded(w.padding, 0),
                              w.ceil_mode,
                              a->count_include_pad,
                              a->divisor_override,
                              {0}};
    return run_lifted(c, nd, FBI_OP_avg_pool3d, &p, NULL);
}

fb_status fbi_compose_avg_pool1d(fbi_call *c)
{
    return avg_pool(c, 1);
}
fb_status fbi_compose_avg_pool2d(fbi_call *c)
{
    return avg_pool(c, 2);
}

/* (sum of x^p)^(1/p), by a mean times what it counts. */
static fb_status lp_pool(fbi_call *c, int nd)
{
    const fbi_attrs_lp_pool1d *a = c->attrs;
    fbi_windows w = {a->kernel, a->stride, {0}, {0}, a->ceil_mode};
    int64_t out[3], count = 1;
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = need_rank(c, nd);
    if (!st && a->norm == 0)
        st = fbi_op_fail(c, FB_E_ARG, "the norm is 0");
    if (!st)
        st = fbi_pool_windows(c, nd, &w, out);
    if (st)
        return st;
    for (int d = 0; d < nd; d++)
        count *= w.kernel.d[d];
    fbi_attrs_avg_pool3d p = {.kernel = padded(w.kernel, 1),
                              .stride = padded(w.stride, 1),
                              .ceil_mode = w.ceil_mode,
                              .count_include_pad = 1};
    fb_tensor *x = fb_pow_scalar(lifted(fbi_exact(c->in[0]), nd), a->norm);
    fb_tensor *mean = x ? FBI_RUN(avg_pool3d, &p, x) : NULL;
    fb_tensor *sum = mean ? fb_mul_scalar(lowered(mean, c->in[0], nd), (double)count) : NULL;
    fb_tensor *y = sum ? fb_pow_scalar(sum, 1 / a->norm) : NULL;
    return fbi_composed(c, y ? fb_to(y, (fb_dtype)c->in[0]->dtype) : NULL);
}

fb_status fbi_compose_lp_pool1d(fbi_call *c)
{
    return lp_pool(c, 1);
}
fb_status fbi_compose_lp_pool2d(fbi_call *c)
{
    return lp_pool(c, 2);
}
fb_status fbi_compose_lp_pool3d(fbi_call *c)
{
    return lp_pool(c, 3);
}

/* --- public --- */

/* The options of a pool, nd numbers each. */
static fbi_windows windows_of(fb_shape kernel, const fb_conv_options *opts)
{
    static const fb_conv_options none;
    const fb_conv_options *o = opts ? opts : &none;
    int nd = kernel.n < 3 ? kernel.n : 3;
    fbi_windows w = {kernel, {.n = nd}, {.n = nd}, {.n = nd}, o->ceil_mode};
    for (int d = 0; d < nd; d++) {
        w.stride.d[d] = fbi_conv_opt(o->stride, d, kernel.d[d]);
        w.padding.d[d] = fbi_conv_opt(o->padding, d, 0);
        w.dilation.d[d] = fbi_conv_opt(o->dilation, d, 1);
    }
    return w;
}

/* The row of kernel.n dimensions; FBI_OP_none with the error set: there is none. */
static fbi_op row_of(fb_context *ctx, const char *name, int nd, fbi_op one, fbi_op two_,
                     fbi_op three)
{
    if (nd >= 1 && nd <= 3)
        return nd == 1 ? one : nd == 2 ? two_ : three;
    fbi_fail(ctx, FB_E_ARG, "%s: %d dimensions; 1, 2 or 3 are wanted", name, nd);
    return FBI_OP_none;
}

/* A row with values and places; one of three dimensions may want a batch. */
static fb_status with_places(fb_tensor *x, fbi_op op, const void *attrs, fb_tensor **values,
                             fb_tensor **indices)
{
    fb_context *ctx = x->ctx;
    fb_tensor *out[2] = {NULL};
    FB_SCOPE(ctx);
    bool alone = fbi_opdefs[op].infer && x->ndim == 4;
    fb_tensor *in = alone ? fb_unsqueeze(x, 0) : x;
    if (!in || fbi_run(ctx, op, attrs, &in, 1, out))
        return ctx->status;
    for (int i = 0; i < 2 && alone; i++)
        out[i] = fb_squeeze(out[i], 0);
    if (values)
        *values = fb_keep(out[0]);
    if (indices)
        *indices = fb_keep(fb_to(out[1], FB_I64));
    return ctx->status;
}

fb_status fb_max_pool_with_indices(fb_tensor *x, fb_shape kernel, const fb_conv_options *opts,
                                   fb_tensor **values, fb_tensor **indices)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, x, "max_pool", "x"))
        return FB_E_ARG;
    fbi_windows w = windows_of(kernel, opts);
    fbi_attrs_max_pool3d a = {w.kernel, w.stride, w.padding, w.dilation, w.ceil_mode, {0}};
    fbi_op op =
        row_of(ctx, "max_pool", kernel.n, FBI_OP_max_pool1d, FBI_OP_max_pool2d, FBI_OP_max_pool3d);
    return op ? with_places(x, op, &a, values, indices) : FB_E_ARG;
}

fb_status fb_adaptive_max_pool_with_indices(fb_tensor *x, fb_shape output, fb_tensor **values,
                                            fb_tensor **indices)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, x, "adaptive_max_pool", "x"))
        return FB_E_ARG;
    fbi_attrs_adaptive_max_pool3d a = {output, {0}};
    fbi_op op = row_of(ctx, "adaptive_max_pool", output.n, FBI_OP_adaptive_max_pool1d,
                       FBI_OP_adaptive_max_pool2d, FBI_OP_adaptive_max_pool3d);
    return op ? with_places(x, op, &a, values, indices) : FB_E_ARG;
}

static fb_tensor *largest(fb_tensor *x, fb_shape kernel, const fb_conv_options *opts)
{
    fb_tensor *y = NULL;
    return fb_max_pool_with_indices(x, kernel, opts, &y, NULL) ? NULL : y;
}

fb_tensor *fb_max_pool1d(fb_tensor *x, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return largest(x, FB_SHAPE(k), opts);
}
fb_tensor *fb_max_pool2d(fb_tensor *x, int64_t kh, int64_t kw, const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return largest(x, FB_SHAPE(kh, kw), opts);
}
fb_tensor *fb_max_pool3d(fb_tensor *x, int64_t kd, int64_t kh, int64_t kw,
                         const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return largest(x, FB_SHAPE(kd, kh, kw), opts);
}

fb_tensor *fb_adaptive_max_pool1d(fb_tensor *x, int64_t ow)
{
    fb_tensor *y = NULL;
    FBI_ENTRY(fb_context_of(x));
    return fb_adaptive_max_pool_with_indices(x, FB_SHAPE(ow), &y, NULL) ? NULL : y;
}
fb_tensor *fb_adaptive_max_pool2d(fb_tensor *x, int64_t oh, int64_t ow)
{
    fb_tensor *y = NULL;
    FBI_ENTRY(fb_context_of(x));
    return fb_adaptive_max_pool_with_indices(x, FB_SHAPE(oh, ow), &y, NULL) ? NULL : y;
}
fb_tensor *fb_adaptive_max_pool3d(fb_tensor *x, int64_t od, int64_t oh, int64_t ow)
{
    fb_tensor *y = NULL;
    FBI_ENTRY(fb_context_of(x));
    return fb_adaptive_max_pool_with_indices(x, FB_SHAPE(od, oh, ow), &y, NULL) ? NULL : y;
}

/* A row with one output; one of three dimensions wants a batch. */
static fb_tensor *one_output(fb_tensor *x, fbi_op op, const void *attrs)
{
    bool alone = fbi_opdefs[op].infer && x && x->ndim == 4;
    fb_tensor *in = alone ? fb_unsqueeze(x, 0) : x;
    fb_tensor *y = fbi_run1(FBI_SITE, op, attrs, 1, &in);
    return y && alone ? fb_squeeze(y, 0) : y;
}

static fb_tensor *mean(fb_tensor *x, fb_shape kernel, const fb_conv_options *opts, fbi_op op)
{
    fb_context *ctx = fb_context_of(x);
    fbi_windows w = windows_of(kernel, opts);
    for (int d = 0; d < kernel.n && ctx; d++)
        if (w.dilation.d[d] != 1) {
            fbi_fail(ctx, FB_E_ARG, "%s: dilation is not accepted", fbi_opdefs[op].name);
            return NULL;
        }
    fbi_attrs_avg_pool3d a = {.kernel = w.kernel,
                              .stride = w.stride,
                              .padding = w.padding,
                              .ceil_mode = w.ceil_mode,
                              .count_include_pad = !opts || !opts->exclude_pad,
                              .divisor_override = opts ? opts->divisor : 0};
    return one_output(x, op, &a);
}

fb_tensor *fb_avg_pool1d(fb_tensor *x, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return mean(x, FB_SHAPE(k), opts, FBI_OP_avg_pool1d);
}
fb_tensor *fb_avg_pool2d(fb_tensor *x, int64_t kh, int64_t kw, const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return mean(x, FB_SHAPE(kh, kw), opts, FBI_OP_avg_pool2d);
}
fb_tensor *fb_avg_pool3d(fb_tensor *x, int64_t kd, int64_t kh, int64_t kw,
                         const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return mean(x, FB_SHAPE(kd, kh, kw), opts, FBI_OP_avg_pool3d);
}

fb_tensor *fb_adaptive_avg_pool1d(fb_tensor *x, int64_t ow)
{
    FBI_ENTRY(fb_context_of(x));
    return one_output(x, FBI_OP_adaptive_avg_pool1d,
                      &(fbi_attrs_adaptive_avg_pool1d){.output = FB_SHAPE(ow)});
}
fb_tensor *fb_adaptive_avg_pool2d(fb_tensor *x, int64_t oh, int64_t ow)
{
    FBI_ENTRY(fb_context_of(x));
    return one_output(x, FBI_OP_adaptive_avg_pool2d,
                      &(fbi_attrs_adaptive_avg_pool2d){.output = FB_SHAPE(oh, ow)});
}
fb_tensor *fb_adaptive_avg_pool3d(fb_tensor *x, int64_t od, int64_t oh, int64_t ow)
{
    FBI_ENTRY(fb_context_of(x));
    return one_output(x, FBI_OP_adaptive_avg_pool3d,
                      &(fbi_attrs_adaptive_avg_pool3d){.output = FB_SHAPE(od, oh, ow)});
}

fb_tensor *fb_lp_pool(fb_tensor *x, double norm, fb_shape kernel, const fb_conv_options *opts)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, x, "lp_pool", "x"))
        return NULL;
    fbi_windows w = windows_of(kernel, opts);
    fbi_attrs_lp_pool1d a = {norm, w.kernel, w.stride, w.ceil_mode};
    fbi_op op =
        row_of(ctx, "lp_pool", kernel.n, FBI_OP_lp_pool1d, FBI_OP_lp_pool2d, FBI_OP_lp_pool3d);
    return op ? fbi_run1(FBI_SITE, op, &a, 1, &x) : NULL;
}

fb_tensor *fb_max_unpool(fb_tensor *x, fb_tensor *indices, fb_shape output)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, x, "max_unpool", "x"))
        return NULL;
    fbi_attrs_max_unpool1d a = {output};
    fbi_op op = row_of(ctx, "max_unpool", output.n, FBI_OP_max_unpool1d, FBI_OP_max_unpool2d,
                       FBI_OP_max_unpool3d);
    return op ? fbi_run1(FBI_SITE, op, &a, 2, (fb_tensor *const[]){x, indices}) : NULL;
}

fb_status fb_fractional_max_pool(fb_tensor *x, fb_shape kernel, fb_shape output, fb_tensor *samples,
                                 fb_tensor **values, fb_tensor **indices)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, x, "fractional_max_pool", "x"))
        return FB_E_ARG;
    fbi_op op = row_of(ctx, "fractional_max_pool", kernel.n, FBI_OP_none,
                       FBI_OP_fractional_max_pool2d, FBI_OP_fractional_max_pool3d);
    if (!op)
        return ctx->status ? ctx->status
                           : fbi_fail(ctx, FB_E_ARG,
                                      "fractional_max_pool: 1 dimension; 2 or 3 are "
                                      "wanted");
    FB_SCOPE(ctx);
    bool alone = x->ndim == kernel.n + 1;
    fb_tensor *out[2], *in[2] = {alone ? fb_unsqueeze(x, 0) : x, samples};
    if (in[0] && !samples && in[0]->ndim >= 2)
        in[1] =
            fb_rand(ctx, (fb_dtype)x->dtype, FB_SHAPE(in[0]->size[0], in[0]->size[1], kernel.n));
    fbi_attrs_fractional_max_pool3d a = {kernel, output, {0}};
    if (ctx->status || fbi_run(ctx, op, &a, in, 2, out))
        return ctx->status;
    for (int i = 0; i < 2 && alone; i++)
        out[i] = fb_squeeze(out[i], 0);
    if (values)
        *values = fb_keep(out[0]);
    if (indices)
        *indices = fb_keep(fb_to(out[1], FB_I64));
    return ctx->status;
}
