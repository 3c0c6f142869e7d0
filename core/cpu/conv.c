/* Convolutions: Winograd's and oneDNN's for F32, else columns and a matrix product. */
#include <stdlib.h>
#include <string.h>

#include "core/cpu/kernels_isa.h"
#include "core/cpu/columns_priv.h"
#include "core/cpu/gemm_priv.h"
#include "core/cpu/nhwc_priv.h"
#include "core/cpu/winograd_priv.h"

#define T     float
#define FN(x) x##_f32
#include "core/cpu/conv_t.h"
#undef T
#undef FN
#define T     double
#define FN(x) x##_f64
#include "core/cpu/conv_t.h"
#undef T
#undef FN
#define T     uint64_t /* of I64, modulo 2^64 */
#define FN(x) x##_i64
#include "core/cpu/conv_t.h"
#undef T
#undef FN

/* The function for the element type of p. */
#define BY_TYPE(p, fn, from, g, to, threads)                              \
    ((p)->dtype == FB_F32   ? fn##_f32((p), (from), (g), (to), (threads)) \
     : (p)->dtype == FB_F64 ? fn##_f64((p), (from), (g), (to), (threads)) \
                            : fn##_i64((p), (from), (g), (to), (threads)))

/* One group of one image at a time. */
static fb_status columns(const fbi_call *c, fbi_conv_kind kind, const fbi_conv *p, char *src,
                         char *weight, const char *bias, char *dst, float beta)
{
    int64_t cg = p->c / p->groups, kg = p->k / p->groups, q = cg * p->kh * p->kw;
    int64_t places = p->oh * p->ow, size = (int64_t)fb_dtype_size(p->dtype);
    int threads = places * q > FBI_PAR_MIN ? c->threads : 1;
    char *col = fbi_cpu_scratch(c, (size_t)(places * q * size));
    if (!col)
        return c->ctx->status;
    if (kind == FBI_CONV_DATA)
        memset(src, 0, (size_t)(p->n * p->h * p->w * p->c * size));
    fb_status st = FB_OK;
    for (int64_t i = 0; i < p->n * p->groups && !st; i++) {
        int64_t n = i / p->groups, g = i % p->groups;
        char *x = src + n * p->h * p->w * p->c * size;
        char *y = dst + (n * places * p->k + g * kg) * size, *w = weight + g * kg * q * size;
        fbi_mm mm = {.dtype = p->dtype, .batch = 1};
        if (kind != FBI_CONV_DATA)
            BY_TYPE(p, im2col, (void *)x, g, (void *)col, threads);
        switch (kind) {
        case FBI_CONV_FWD: /* y[places, kg] = col[places, q] w[kg, q]^T */
            mm.m = places, mm.n = kg, mm.k = q;
            mm.a = col, mm.a_m = q, mm.a_k = 1;
            mm.b = w, mm.b_k = 1, mm.b_n = q;
            mm.c = y, mm.c_m = p->k;
            mm.bias = bias ? bias + g * kg * size : NULL;
            break;
        case FBI_CONV_DATA: /* col[places, q] = y[places, kg] w[kg, q] */
            mm.m = places, mm.n = q, mm.k = kg;
            mm.a = y, mm.a_m = p->k, mm.a_k = 1;
            mm.b = w, mm.b_k = q, mm.b_n = 1;
            mm.c = col, mm.c_m = q;
            break;
        case FBI_CONV_WEIGHT: /* w[kg, q] += y[places, kg]^T col[places, q] */
            mm.m = kg, mm.n = q, mm.k = places;
            mm.a = y, mm.a_m = 1, mm.a_k = p->k;
            mm.b = col, mm.b_k = q, mm.b_n = 1;
            mm.c = w, mm.c_m = q;
            mm.beta = n > 0 ? 1 : beta;
            break;
        }
        st = fbi_cpu_gemm(c, &mm);
        if (!st && kind == FBI_CONV_DATA)
            BY_TYPE(p, col2im, (void *)col, g, (void *)x, threads);
    }
    free(col);
    return st;
}

static fb_status relu_in_place(const fbi_call *c)
{
    fbi_call relu = *c;
    relu.in = c->out;
    relu.n_in = 1;
    relu.attrs = NULL;
    relu.inplace = true;
    return FBI_KERNEL(relu)(&relu);
}

static fb_status run(const fbi_call *c, fbi_conv_kind kind, const fbi_conv *p, void *src,
                     void *weight, const void *bias, void *dst)
{
    fb_status st = FB_E_UNSUPPORTED;
    if (p->n == 0) { /* an empty batch: only the weight's gradient has elements */
        if (kind == FBI_CONV_WEIGHT && c->beta == 0)
            memset(weight, 0, (size_t)c->out[0]->numel * fb_dtype_size(p->dtype));
        return FB_OK;
    }
    if (fbi_wino_takes(c, p))
        return kind == FBI_CONV_WEIGHT
                   ? fbi_wino_weight(c, p, src, dst, weight, c->beta != 0)
                   : fbi_wino_images(c, kind, p, kind == FBI_CONV_FWD ? src : dst, weight, bias,
                                     kind == FBI_CONV_FWD ? dst : src);
    if (p->dtype == FB_F32)
        st = fbi_dnn_conv(c, kind, p, src, weight, bias, dst, c->beta);
    if (st == FB_E_UNSUPPORTED)
        st = columns(c, kind, p, src, weight, bias, dst, c->beta);
    return st || !p->relu ? st : relu_in_place(c);
}

#define CONV(a, x, w, y)                                                                        \
    {                                                                                           \
        .dtype = (fb_dtype)(x)->dtype, .n = (x)->size[0], .c = (x)->size[1], .h = (x)->size[2], \
        .w = (x)->size[3], .k = (y)->size[1], .oh = (y)->size[2], .ow = (y)->size[3],           \
        .kh = (w)->size[2], .kw = (w)->size[3], .stride = {(a)->sh, (a)->sw},                   \
        .padding = {(a)->ph, (a)->pw}, .dilation = {(a)->dh, (a)->dw}, .groups = (a)->groups    \
    }

/* Memory of a weight or bias, row-major; *copy is freed by the caller. */
static void *plain(const fbi_call *c, const fb_tensor *t, void **copy)
{
    *copy = NULL;
    return fbi_contiguous(t) ? fbi_ptr(t) : (*copy = fbi_cpu_dense(c, t));
}

static fb_status forward(const fbi_call *c, bool relu)
{
    const fbi_attrs_conv2d *a = c->attrs;
    const fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2], *y = c->out[0];
    fbi_conv p = CONV(a, x, w, y);
    p.relu = relu;
    void *copy[3] = {NULL};
    void *src = fbi_cpu_nhwc(c, x, &copy[0]), *weight = plain(c, w, &copy[1]);
    void *bias = b ? plain(c, b, &copy[2]) : NULL;
    fb_status st = c->ctx->status;
    if (src && weight && (bias || !b))
        st = run(c, FBI_CONV_FWD, &p, src, weight, bias, fbi_ptr(y));
    for (int i = 0; i < 3; i++)
        free(copy[i]);
    return st;
}

fb_status FBI_KERNEL(conv2d)(const fbi_call *c)
{
    return forward(c, false);
}

fb_status FBI_KERNEL(conv2d_bwd_data)(const fbi_call *c)
{
    const fbi_attrs_conv2d_bwd_data *a = c->attrs;
    const fb_tensor *g = c->in[0], *w = c->in[1], *x = c->out[0];
    fbi_conv p = CONV(a, x, w, g);
    void *copy[2] = {NULL};
    void *dst = fbi_cpu_nhwc(c, g, &copy[0]), *weight = plain(c, w, &copy[1]);
    fb_status st = c->ctx->status;
    if (dst && weight)
        st = run(c, FBI_CONV_DATA, &p, fbi_ptr(x), weight, NULL, dst);
    free(copy[0]);
    free(copy[1]);
    return st;
}

fb_status FBI_KERNEL(conv2d_bwd_weight)(const fbi_call *c)
{
    const fbi_attrs_conv2d_bwd_weight *a = c->attrs;
    const fb_tensor *g = c->in[0], *x = c->in[1], *w = c->out[0];
    fbi_conv p = CONV(a, x, w, g);
    void *copy[2] = {NULL};
    void *dst = fbi_cpu_nhwc(c, g, &copy[0]), *src = fbi_cpu_nhwc(c, x, &copy[1]);
    fb_status st = c->ctx->status;
    if (dst && src)
        st = run(c, FBI_CONV_WEIGHT, &p, src, fbi_ptr(w), NULL, dst);
    free(copy[0]);
    free(copy[1]);
    return st;
}

fb_status FBI_KERNEL(conv2d_bwd_bias)(const fbi_call *c)
{
    const fb_tensor *g = c->in[0];
    void *copy, *data = fbi_cpu_nhwc(c, g, &copy);
    fb_status st = c->ctx->status;
    if (data) {
        int64_t rows = g->size[0] * g->size[2] * g->size[3];
        st = fbi_cpu_column_sums(c, (fb_dtype)g->dtype, data, rows, g->size[1], g->size[1], 1,
                                 fbi_ptr(c->out[0]), c->beta != 0);
    }
    free(copy);
    return st;
}

fb_status FBI_KERNEL(conv2d_relu)(const fbi_call *c)
{
    return forward(c, true);
}

typedef struct relu_dz {
    bool wide; /* F64 */
    const void *g, *y;
    void *dz; /* may be g */
    int64_t cols;
} relu_dz;

static void relu_dz_block(const void *what, int64_t i0, int64_t i1, double *s0, double *s1)
{
    const relu_dz *p = what;
    (void)s1;
    for (int64_t i = i0; i < i1; i++)
        if (p->wide)
            relu_dz_row_f64(p->g, p->y, i, p->cols, p->dz, s0);
        else
            relu_dz_row_f32(p->g, p->y, i, p->cols, p->dz, s0);
}

/* dz and its sums in one pass, for images that all are channels-last. */
static fb_status relu_dz_dense(const fbi_call *c)
{
    const fb_tensor *g = c->in[0];
    fb_tensor *db = c->out[1];
    int64_t cols = g->size[1], rows = cols ? g->numel / cols : 0;
    relu_dz p = {g->dtype == FB_F64, fbi_ptr(g), fbi_ptr(c->in[1]), fbi_ptr(c->out[0]), cols};
    double *sums = fbi_cpu_scratch(c, (size_t)cols * 2 * sizeof(double));
    fb_status st = c->ctx->status;
    if (sums)
        st = fbi_cpu_row_blocks(c, rows, cols, relu_dz_block, &p, sums, NULL);
    for (int64_t j = 0; sums && !st && j < cols; j++) {
        if (p.wide)
            ((double *)fbi_ptr(db))[j] = sums[j];
        else
            ((float *)fbi_ptr(db))[j] = (float)sums[j];
    }
    free(sums);
    return st;
}

fb_status FBI_KERNEL(conv2d_relu_dz)(const fbi_call *c)
{
    if (fbi_cpu_is_nhwc(c->in[0]) && fbi_cpu_is_nhwc(c->in[1]) && fbi_cpu_is_nhwc(c->out[0]))
        return relu_dz_dense(c);
    fbi_call dz = *c, db = *c;
    db.n_in = 1;
    dz.n_out = db.n_out = 1;
    db.in = c->out;
    db.out = c->out + 1;
    fb_status st = FBI_KERNEL(relu_bwd)(&dz);
    return st ? st : FBI_KERNEL(conv2d_bwd_bias)(&db);
}
