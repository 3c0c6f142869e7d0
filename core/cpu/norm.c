/* batch_norm and layer_norm: statistics in double, in an order that only the sizes decide. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined __AVX__
#include <immintrin.h>
#endif

#include "core/base/stream_priv.h"
#include "core/cpu/columns_priv.h"
#include "core/cpu/doubles_priv.h"
#include "core/cpu/nhwc_priv.h"

/* Lanes of a sum; rows of a group, of whose sums none waits for its own, and the most elements of
 * one; rows whose gradients are made side by side; elements that backward sums in T; bytes that are
 * asked for ahead; of a line; elements of a batch norm that are made before they are streamed. */
enum {
    LANES = 16,
    GROUP = 4,
    NEAR = 4096,
    PAIR = 2,
    RUN = 64,
    AHEAD = 8 << 10,
    LINE = 64,
    PIECE = 256
};
enum { STEP = FBI_VECTOR_BYTES / sizeof(double), VECTORS = LANES / STEP };

/* A batch norm over dense rows of channels, whose statistics are known; with relu: before a ReLU.
 * r, what is added before that, may be NULL. */
typedef struct affine_args {
    const void *x, *r;
    const double *scale, *shift; /* [cols] */
    int64_t cols;
    bool relu;
} affine_args;

/* Its backward; y, the ReLU's result, may be NULL. */
typedef struct batch_grads {
    const void *g, *x, *y;
    const double *mean, *a, *b, *d; /* [cols] */
    int64_t cols;
} batch_grads;

/* A layer norm over dense rows of `cols`; r, with `sum` for x + r, w and b may be NULL. */
typedef struct layer_args {
    const void *x, *r, *w, *b;
    void *sum, *y, *mean, *rstd;
    int64_t cols;
    double eps;
    bool past; /* y goes past the caches */
} layer_args;

/* Its backward; w and more may be NULL. */
typedef struct layer_grads {
    const void *g, *x, *w, *mean, *rstd, *more;
    void *dx;
    int64_t cols;
    bool past;
} layer_grads;

/* Whether results go past the caches, which needs vectors and rows of whole lines. */
static bool goes_past(const void *to, int64_t rows, int64_t cols, size_t size)
{
    size_t row = (size_t)cols * size;
    return sizeof(fbi_v_f32) == LINE && row % LINE == 0 && (uintptr_t)to % LINE == 0 &&
           fbi_streams((size_t)rows * row);
}

/* One value of the data, so that the sum of the squares of the distances from it is not much larger
 * than that from the mean. */
static double first_value(double v)
{
    return isfinite(v) ? v : 0;
}

#define T     float
#define V     fbi_v_f32
#define FN(x) x##_f32
#include "core/cpu/norm_t.h"
#undef T
#undef V
#undef FN
#define T     double
#define V     fbi_v_f64
#define FN(x) x##_f64
#include "core/cpu/norm_t.h"
#undef T
#undef V
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

/* y, mean and variance of x; with relu: y is the ReLU of the norm (+ r). */
static fb_status batch(const fbi_call *c, const fb_tensor *r, double eps, bool relu)
{
    const fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    int64_t n = x->size[1], rows = x->numel / n;
    fb_status st = FB_OK;
    void *copy[2] = {NULL}, *data = channel_rows(c, x, &copy[0]);
    void *more = data && r ? channel_rows(c, r, &copy[1]) : NULL;
    double *mean = data && (!r || more) ? fbi_cpu_scratch(c, (size_t)n * 4 * sizeof(double)) : NULL;
    if (!mean) {
        st = c->ctx->status;
        goto done;
    }
    double *squares = mean + n, *scale = mean + 2 * n, *shift = mean + 3 * n;
    for (int64_t j = 0; j < n; j++)
        shift[j] = first_value(x->dtype == FB_F32 ? (double)((const float *)data)[j]
                                                  : ((const double *)data)[j]);
    fbi_columns p = {
        .dtype = (fb_dtype)x->dtype, .rows = rows, .cols = n, .a = data, .shift = shift};
    st = fbi_cpu_columns(c, FBI_COL_MOMENTS, &p, mean, squares);
    for (int64_t j = 0; j < n && !st; j++) {
        double off = mean[j] / (double)rows, var = squares[j] / (double)rows - off * off;
        var = var < 0 ? 0 : var;
        mean[j] = shift[j] + off;
        put(c->out[1], j, mean[j]);
        put(c->out[2], j, var);
        scale[j] = (w ? get(w, j) : 1) / sqrt(var + eps);
        shift[j] = (b ? get(b, j) : 0) - mean[j] * scale[j];
    }
    const affine_args a = {
        .x = data, .r = more, .scale = scale, .shift = shift, .cols = n, .relu = relu};
    if (!st && x->dtype == FB_F32)
        affine_f32(&a, rows, fbi_ptr(c->out[0]), threads_for(c, x));
    else if (!st)
        affine_f64(&a, rows, fbi_ptr(c->out[0]), threads_for(c, x));

done:
    free(mean);
    free(copy[0]);
    free(copy[1]);
    return st;
}

fb_status FBI_KERNEL(batch_norm)(const fbi_call *c)
{
    return batch(c, NULL, ((const fbi_attrs_batch_norm *)c->attrs)->eps, false);
}

fb_status FBI_KERNEL(batch_norm_relu)(const fbi_call *c)
{
    return batch(c, c->in[3], ((const fbi_attrs_batch_norm_relu *)c->attrs)->eps, true);
}

/* With h = (x - mean) rstd and sums over the batch of M elements:
 * dx = w rstd (g - sum g / M - h sum (g h) / M), dw = sum g h, db = sum g. With y, a ReLU's result:
 * of the g that it lets through, which goes to `open` if that is given. */
static fb_status batch_backward(const fbi_call *c, const fb_tensor *y, double eps, fb_tensor *open)
{
    const fb_tensor *const from[3] = {c->in[0], c->in[1], y}, *x = c->in[1], *w = c->in[2];
    int64_t n = x->size[1], rows = x->numel / n;
    void *copy[3] = {NULL}, *data[3] = {NULL};
    double *mean = NULL;
    fb_status st = FB_OK;
    for (int i = 0; i < 3 && !st; i++)
        if (from[i] && !(data[i] = channel_rows(c, from[i], &copy[i])))
            st = c->ctx->status;
    if (st || !(mean = fbi_cpu_scratch(c, (size_t)n * 6 * sizeof(double)))) {
        st = c->ctx->status;
        goto done;
    }
    double *sg = mean + n, *sgx = mean + 2 * n, *f = mean + 3 * n;
    for (int64_t j = 0; j < n; j++)
        mean[j] = get(c->in[3], j);
    const fbi_columns p = {.dtype = (fb_dtype)x->dtype,
                           .rows = rows,
                           .cols = n,
                           .a = data[0],
                           .b = data[1],
                           .y = data[2],
                           .open = open ? fbi_ptr(open) : NULL,
                           .shift = mean};
    st = fbi_cpu_columns(c, y ? FBI_COL_OPEN_DOT : FBI_COL_DOT, &p, sg, sgx);
    if (st)
        goto done;
    for (int64_t j = 0; j < n; j++) {
        double rstd = 1 / sqrt(get(c->in[4], j) + eps), m = (double)rows;
        double scale = (w ? get(w, j) : 1) * rstd;
        f[j] = scale;
        f[n + j] = -scale * rstd * rstd * sgx[j] / m;
        f[2 * n + j] = -scale * sg[j] / m;
        put(c->out[1], j, sgx[j] * rstd);
        put(c->out[2], j, sg[j]);
    }
    const batch_grads b = {.g = p.open ? p.open : data[0],
                           .x = data[1],
                           .y = p.open ? NULL : data[2],
                           .mean = mean,
                           .a = f,
                           .b = f + n,
                           .d = f + 2 * n,
                           .cols = n};
    if (x->dtype == FB_F32)
        batch_dx_f32(&b, rows, fbi_ptr(c->out[0]), threads_for(c, x));
    else
        batch_dx_f64(&b, rows, fbi_ptr(c->out[0]), threads_for(c, x));

done:
    free(mean);
    for (int i = 0; i < 3; i++)
        free(copy[i]);
    return st;
}

fb_status FBI_KERNEL(batch_norm_bwd)(const fbi_call *c)
{
    return batch_backward(c, NULL, ((const fbi_attrs_batch_norm_bwd *)c->attrs)->eps, NULL);
}

fb_status FBI_KERNEL(batch_norm_relu_bwd)(const fbi_call *c)
{
    const fbi_attrs_batch_norm_relu_bwd *a = c->attrs;
    return batch_backward(c, c->in[5], a->eps, c->n_out > 3 ? c->out[3] : NULL);
}

/* y, mean and rstd of x, or of x + r, which goes to `sum`. */
static fb_status layer(const fbi_call *c, const fb_tensor *r, fb_tensor *sum, double eps,
                       fb_tensor *const y[3])
{
    const fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    const fb_tensor *const from[4] = {x, w, b, r};
    void *copy[4] = {NULL}, *p[4] = {NULL};
    fb_status st = FB_OK;
    int64_t rows = y[1]->numel, cols = rows ? x->numel / rows : 0;
    for (int i = 0; i < 4 && !st; i++)
        if (from[i] && !(p[i] = row_major(c, from[i], &copy[i])))
            st = c->ctx->status;
    const layer_args a = {
        .x = p[0],
        .r = p[3],
        .w = p[1],
        .b = p[2],
        .sum = sum ? fbi_ptr(sum) : NULL,
        .y = fbi_ptr(y[0]),
        .mean = fbi_ptr(y[1]),
        .rstd = fbi_ptr(y[2]),
        .cols = cols,
        .eps = eps,
        .past = goes_past(fbi_ptr(y[0]), rows, cols, fb_dtype_size((fb_dtype)x->dtype))};
    if (!st && x->dtype == FB_F32)
        layer_f32(&a, rows, threads_for(c, x));
    else if (!st)
        layer_f64(&a, rows, threads_for(c, x));
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
        void *dx = fbi_ptr(c->out[0]);
        size_t size = fb_dtype_size((fb_dtype)in[1]->dtype);
        const layer_grads l = {.g = p[0],
                               .x = p[1],
                               .w = p[2],
                               .mean = p[3],
                               .rstd = p[4],
                               .more = p[5],
                               .dx = dx,
                               .cols = cols,
                               .past = dx != p[0] && goes_past(dx, rows, cols, size)};
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
