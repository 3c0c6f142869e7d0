/* Tensors [..., n] as matrices of rows, and the products of a linear layer. */
#ifndef FLAMBEAU_CORE_CUDA_ROWS_PRIV_H
#define FLAMBEAU_CORE_CUDA_ROWS_PRIV_H

#include "core/cuda/kernel_priv.h"

/* A copy if the leading dimensions do not fold, or if cuBLASLt could not read it. */
struct fbi_rows {
    const void *data;
    int64_t rows, cols, row_stride, col_stride;
};

static inline bool fbi_rows_of(const fb_tensor *t, fbi_rows *r, fbi_temps &temps)
{
    int last = t->ndim - 1;
    bool folds = true;
    *r = fbi_rows{fbi_cuda_data(t), 1, t->size[last], t->size[last], t->stride[last]};
    for (int i = last - 1; i >= 0; i--) {
        if (t->size[i] == 1)
            continue;
        if (r->rows == 1)
            r->row_stride = t->stride[i];
        else if (t->stride[i] != r->row_stride * r->rows)
            folds = false;
        r->rows *= t->size[i];
    }
    if (folds &&
        (t->dtype == FB_I64 || fbi_cuda_mm_operand(r->rows, r->cols, r->row_stride, r->col_stride)))
        return true;
    *r = fbi_rows{temps.dense(t), r->rows, r->cols, r->cols, 1};
    return r->data != NULL;
}

/* y[m, out] = x[m, in] w[out, in]^T (+ b), into c->out[0]. False: the error is set. */
static inline bool fbi_linear_forward(const fbi_call *c, fbi_temps &temps, fbi_cuda_mm *g)
{
    fbi_rows x, w;
    const fb_tensor *b = c->in[2];
    if (!fbi_rows_of(c->in[0], &x, temps) || !fbi_rows_of(c->in[1], &w, temps))
        return false;
    *g = fbi_cuda_mm{};
    g->dtype = (fb_dtype)c->in[1]->dtype;
    g->batch = 1;
    g->m = x.rows, g->n = w.rows, g->k = w.cols;
    g->a_m = x.row_stride, g->a_k = x.col_stride;
    g->b_k = w.col_stride, g->b_n = w.row_stride;
    g->c_m = w.rows;
    g->a = x.data, g->b = w.data;
    g->c = fbi_cuda_data(c->out[0]);
    g->bias = b ? temps.dense(b) : NULL;
    return !b || g->bias;
}

/* dx[m, in] = g[m, out] w[out, in], into c->out[0]. False: the error is set. */
static inline bool fbi_linear_input(const fbi_call *c, fbi_temps &temps, fbi_cuda_mm *p)
{
    fbi_rows g, w;
    if (!fbi_rows_of(c->in[0], &g, temps) || !fbi_rows_of(c->in[1], &w, temps))
        return false;
    *p = fbi_cuda_mm{};
    p->dtype = (fb_dtype)c->in[1]->dtype;
    p->batch = 1;
    p->m = g.rows, p->n = w.cols, p->k = w.rows;
    p->a_m = g.row_stride, p->a_k = g.col_stride;
    p->b_k = w.row_stride, p->b_n = w.col_stride;
    p->c_m = w.cols;
    p->a = g.data, p->b = w.data;
    p->c = fbi_cuda_data(c->out[0]);
    p->beta = c->beta;
    return true;
}

#endif
