/* batch_norm and layer_norm: statistics in double, in an order that only the sizes decide. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu/kernels_isa.h"
#include "core/cpu/columns_priv.h"
#include "core/cpu/nhwc_priv.h"

/* Most rows whose sums are made side by side, so that none waits for its own, and their elements,
 * which stay in the first cache. */
enum { LANES = 16, GROUP = 8, NEAR = 4096 };

/* Backward of a layer norm over dense rows [rows, cols]; w and more may be NULL. */
typedef struct layer_grads {
    const void *g, *x, *w, *mean, *rstd, *more;
    void *dx;
    int64_t cols;
} layer_grads;

#define T     float
#define FN(x) x##_f32
#include "core/cpu/norm_t.h"
#undef T
#undef FN
#define T     double
#define FN(x) x##_f64
#include "core/cpu/norm_t.h"
#undef T
#undef FN

/* [N, C] or [N, C, H, W] as dense rows of channels. */
static void *channel_rows(const fbi_call *c, const fb_tensor *t, void **copy)
{
    if (t->ndim == 4)
        return fbi_cpu_nhwc(c, t, copy);
    *copy = NULL;
    return fbi_contiguous(t) ? fbi_ptr(t) : (*copy = fbi_cpu_dense(c, t));
}

static void *row_major(const fbi_call *c, const fb_tensor *t, void **copy)
{
    *copy = NULL;
    return fbi_contiguous(t) ? fbi_ptr(t) : (*copy = fbi_cpu_dense(c, t));
}

/* Element j of a vector. */
static double get(const fb_tensor *t, int64_t j)
{
    int64_t at = j * t->stride[0];
    return t->dtype == FB_F32 ? (double)((const float *)fbi_ptr(t))[at]
                              : ((const double *)fbi_ptr(t))[at];
}

static void put(fb_tensor *t, int64_t j, double v)
{
    if (t->dtype == FB_F32)
        ((float *)fbi_ptr(t))[j] = (float)v;
    else
        ((double *)fbi_ptr(t))[j] = v;
}

static int threads_for(const fbi_call *c, const fb_tensor *x)
{
    return x->numel > FBI_PAR_MIN ? c->threads : 1;
}

/* Of column j: one value of the data, so that the sum of the squares of the distances from it is
 * not much larger than that from the mean. */
static double first_value(int dtype, const void *data, int64_t j)
{
    double v = dtype == FB_F32 ? (double)((const float *)data)[j] : ((const double *)data)[j];
    return isfinite(v) ? v : 0;
}

fb_status FBI_KERNEL(batch_norm)(const fbi_call *c)
{
    const fbi_attrs_batch_norm *a = c->attrs;
    const fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    int64_t n = x->size[1], rows = x->numel / n;
    fb_status st = FB_OK;
    void *copy, *data = channel_rows(c, x, &copy);
    double *mean = data ? fbi_cpu_scratch(c, (size_t)n * 4 * sizeof(double)) : NULL;
    if (!mean) {
        free(copy);
        return c->ctx->status;
    }
    double *squares = mean + n, *scale = mean + 2 * n, *shift = mean + 3 * n;
    for (int64_t j = 0; j < n; j++)
        shift[j] = first_value(x->dtype, data, j);
    fbi_columns p = {
        .dtype = (fb_dtype)x->dtype, .rows = rows, .cols = n, .a = data, .shift = shift};
    st = fbi_cpu_columns(c, FBI_COL_MOMENTS, &p, mean, squares);
    for (int64_t j = 0; j < n && !st; j++) {
        double off = mean[j] / (double)rows, var = squares[j] / (double)rows - off * off;
        var = var < 0 ? 0 : var;
        mean[j] = shift[j] + off;
        put(c->out[1], j, mean[j]);
        put(c->out[2], j, var);
        scale[j] = (w ? get(w, j) : 1) / sqrt(var + a->eps);
        shift[j] = (b ? get(b, j) : 0) - mean[j] * scale[j];
    }
    if (!st && x->dtype == FB_F32)
        affine_f32(data, rows, n, scale, shift, fbi_ptr(c->out[0]), threads_for(c, x));
    else if (!st)
        affine_f64(data, rows, n, scale, shift, fbi_ptr(c->out[0]), threads_for(c, x));
    free(mean);
    free(copy);
    return st;
}

/* With h = (x - mean) rstd and sums over the batch of M elements:
 * dx = w rstd (g - sum g / M - h sum (g h) / M), dw = sum g h, db = sum g. */
fb_status FBI_KERNEL(batch_norm_bwd)(const fbi_call *c)
{
    const fbi_attrs_batch_norm_bwd *a = c->attrs;
    const fb_tensor *g = c->in[0], *x = c->in[1], *w = c->in[2];
    int64_t n = x->size[1], rows = x->numel / n;
    fb_status st = FB_OK;
    void *copy[2] = {NULL};
    void *gd = channel_rows(c, g, &copy[0]), *xd = gd ? channel_rows(c, x, &copy[1]) : NULL;
    double *mean = xd ? fbi_cpu_scratch(c, (size_t)n * 6 * sizeof(double)) : NULL;
    if (!mean) {
        st = c->ctx->status;
        goto done;
    }
    double *sg = mean + n, *sgx = mean + 2 * n, *f = mean + 3 * n;
    for (int64_t j = 0; j < n; j++)
        mean[j] = get(c->in[3], j);
    fbi_columns p = {
        .dtype = (fb_dtype)x->dtype, .rows = rows, .cols = n, .a = gd, .b = xd, .shift = mean};
    st = fbi_cpu_columns(c, FBI_COL_DOT, &p, sg, sgx);
    if (st)
        goto done;
    for (int64_t j = 0; j < n; j++) {
        double rstd = 1 / sqrt(get(c->in[4], j) + a->eps), m = (double)rows;
        double scale = (w ? get(w, j) : 1) * rstd;
        f[j] = scale;
        f[n + j] = -scale * rstd * rstd * sgx[j] / m;
        f[2 * n + j] = -scale * sg[j] / m;
        put(c->out[1], j, sgx[j] * rstd);
        put(c->out[2], j, sg[j]);
    }
    if (x->dtype == FB_F32)
        batch_dx_f32(gd, xd, rows, n, mean, f, f + n, f + 2 * n, fbi_ptr(c->out[0]),
                     threads_for(c, x));
    else
        batch_dx_f64(gd, xd, rows, n, mean, f, f + n, f + 2 * n, fbi_ptr(c->out[0]),
                     threads_for(c, x));

done:
    free(mean);
    free(copy[0]);
    free(copy[1]);
    return st;
}

/* y, mean and rstd of x, or of x + r, which goes to `sum`. */
static fb_status layer(const fbi_call *c, const fb_tensor *r, fb_tensor *sum, double eps,
                       fb_tensor *const y[3])
{
    const fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    const fb_tensor *const from[4] = {x, w, b, r};
    void *copy[4] = {NULL}, *p[4] = {NULL}, *to = sum ? fbi_ptr(sum) : NULL;
    fb_status st = FB_OK;
    int64_t rows = y[1]->numel, cols = rows ? x->numel / rows : 0;
    for (int i = 0; i < 4 && !st; i++)
        if (from[i] && !(p[i] = row_major(c, from[i], &copy[i])))
            st = c->ctx->status;
    if (!st && x->dtype == FB_F32)
        layer_f32(p[0], p[3], to, rows, cols, p[1], p[2], eps, fbi_ptr(y[0]), fbi_ptr(y[1]),
                  fbi_ptr(y[2]), threads_for(c, x));
    else if (!st)
        layer_f64(p[0], p[3], to, rows, cols, p[1], p[2], eps, fbi_ptr(y[0]), fbi_ptr(y[1]),
                  fbi_ptr(y[2]), threads_for(c, x));
    for (int i = 0; i < 4; i++)
        free(copy[i]);
    return st;
}

fb_status FBI_KERNEL(layer_norm)(const fbi_call *c)
{
    return layer(c, NULL, NULL, ((const fbi_attrs_layer_norm *)c->attrs)->eps, c->out);
}

fb_status FBI_KERNEL(add_layer_norm)(const fbi_call *c)
{
    const fbi_attrs_add_layer_norm *a = c->attrs;
    return layer(c, c->in[3], c->out[1], a->eps,
                 (fb_tensor *const[]){c->out[0], c->out[2], c->out[3]});
}

/* in: g, x, w, mean, rstd, and what is added to dx or NULL. One pass makes dx,
 * dw = sum over rows of g h and db = sum over rows of g. */
static fb_status layer_backward(const fbi_call *c, fb_tensor *const in[6])
{
    void *copy[6] = {NULL}, *p[6] = {NULL};
    fb_status st = FB_OK;
    for (int i = 0; i < 6 && !st; i++)
        if (in[i] && !(p[i] = row_major(c, in[i], &copy[i])))
            st = c->ctx->status;
    int64_t rows = in[3]->numel, cols = rows ? in[1]->numel / rows : c->out[1]->numel;
    double *sums = st ? NULL : fbi_cpu_scratch(c, (size_t)cols * 2 * sizeof(double));
    if (sums) {
        const layer_grads l = {.g = p[0],
                               .x = p[1],
                               .w = p[2],
                               .mean = p[3],
                               .rstd = p[4],
                               .more = p[5],
                               .dx = fbi_ptr(c->out[0]),
                               .cols = cols};
        st = fbi_cpu_row_blocks(c, rows, cols,
                                in[1]->dtype == FB_F32 ? layer_back_f32 : layer_back_f64, &l, sums,
                                sums + cols);
        for (int64_t j = 0; j < cols && !st; j++) {
            put(c->out[1], j, sums[cols + j]);
            put(c->out[2], j, sums[j]);
        }
    }
    free(sums);
    for (int i = 0; i < 6; i++)
        free(copy[i]);
    return sums ? st : c->ctx->status;
}

fb_status FBI_KERNEL(layer_norm_bwd)(const fbi_call *c)
{
    fb_tensor *const in[6] = {c->in[0], c->in[1], c->in[2], c->in[3], c->in[4], NULL};
    return layer_backward(c, in);
}

fb_status FBI_KERNEL(add_layer_norm_bwd)(const fbi_call *c)
{
    fb_tensor *const in[6] = {c->in[0], c->in[1], c->in[2], c->in[4], c->in[5], c->in[3]};
    return layer_backward(c, in);
}
