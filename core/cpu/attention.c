/* masked_softmax: scale, mask and softmax of attention scores in one pass over each row. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/vmath.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/dense_priv.h"
#include "core/cpu/mask_priv.h"

enum { LANES = 16 };

/* The sum of fixed lanes: the same bits on every instruction set. */
static double fold(const double s[LANES])
{
    double t[LANES];
    memcpy(t, s, sizeof t);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            t[j] += t[j + half];
    return t[0];
}

#define T     float
#define EXP   fbi_expf
#define FN(x) x##_f32
#include "core/cpu/attention_t.h"
#undef T
#undef EXP
#undef FN
#define T     double
#define EXP   fbi_exp
#define FN(x) x##_f64
#include "core/cpu/attention_t.h"
#undef T
#undef EXP
#undef FN

fb_status FBI_KERNEL(masked_softmax)(const fbi_call *c)
{
    const fbi_attrs_masked_softmax *a = c->attrs;
    const fb_tensor *x = c->in[0], *m = c->in[1];
    if (x->numel == 0)
        return FB_OK;
    void *copy = fbi_contiguous(x) ? NULL : fbi_cpu_dense(c, x);
    const void *data = copy ? copy : fbi_ptr(x);
    if (!copy && !fbi_contiguous(x))
        return c->ctx->status;
    int64_t cols = x->size[x->ndim - 1], rows = x->numel / cols, t = x->size[x->ndim - 2];
    void *out = fbi_ptr(c->out[0]);
    int threads = x->numel > FBI_PAR_MIN ? c->threads : 1;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        int64_t seen = i % t + 1, n = a->causal && seen < cols ? seen : cols;
        fbi_mask_row mask = fbi_mask_row_of(m, i);
        if (x->dtype == FB_F32)
            softmax_row_f32((const float *)data + i * cols, cols, n, (float)a->scale, &mask,
                            (float *)out + i * cols);
        else
            softmax_row_f64((const double *)data + i * cols, cols, n, a->scale, &mask,
                            (double *)out + i * cols);
    }
    free(copy);
    return FB_OK;
}

fb_status FBI_KERNEL(masked_softmax_bwd)(const fbi_call *c)
{
    const fbi_attrs_masked_softmax_bwd *a = c->attrs;
    const fb_tensor *x = c->in[0];
    void *copy[2] = {NULL}, *data[2];
    fb_status st = FB_OK;
    if (x->numel == 0)
        return st;
    for (int i = 0; i < 2 && !st; i++) {
        bool dense = fbi_contiguous(c->in[i]);
        data[i] = dense ? fbi_ptr(c->in[i]) : (copy[i] = fbi_cpu_dense(c, c->in[i]));
        st = data[i] ? FB_OK : c->ctx->status;
    }
    if (!st) {
        int64_t cols = x->size[x->ndim - 1], rows = x->numel / cols;
        void *out = fbi_ptr(c->out[0]), *g = data[0], *y = data[1];
        int threads = x->numel > FBI_PAR_MIN ? c->threads : 1;
        bool wide = x->dtype == FB_F64;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            int64_t at = i * cols;
            if (wide)
                softmax_row_bwd_f64((double *)g + at, (double *)y + at, cols, a->scale,
                                    (double *)out + at);
            else
                softmax_row_bwd_f32((float *)g + at, (float *)y + at, cols, (float)a->scale,
                                    (float *)out + at);
        }
    }
    free(copy[0]);
    free(copy[1]);
    return st;
}
