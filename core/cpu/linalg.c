/* matmul and linear: from tensors to calls of the matrix product. */
#include <stdlib.h>
#include <string.h>

#include "core/cpu/kernels_isa.h"
#include "core/cpu/columns_priv.h"
#include "core/cpu/linear_priv.h"
#include "core/cpu/dense_priv.h"
#include "core/cpu/widen_priv.h"

/* Batch dimensions that lie one after the other in all three tensors become one; what is left over
 * is walked here. */
fb_status FBI_KERNEL(matmul)(const fbi_call *c)
{
    const fb_tensor *a = c->in[0], *b = c->in[1], *y = c->out[0];
    int n = a->ndim, d = n - 2; /* dims [d, n - 2) are the batch given to the product */
    fbi_mm g = {.dtype = (fb_dtype)y->dtype,
                .bf16 = a->dtype == FB_BF16,
                .batch = 1,
                .m = a->size[n - 2],
                .n = b->size[n - 1],
                .k = a->size[n - 1],
                .a_m = a->stride[n - 2],
                .a_k = a->stride[n - 1],
                .b_k = b->stride[n - 2],
                .b_n = b->stride[n - 1],
                .c_m = y->stride[n - 2],
                .beta = c->beta};
    while (d > 0) {
        int64_t size = a->size[d - 1];
        if (g.batch == 1) {
            g.a_b = a->stride[d - 1];
            g.b_b = b->stride[d - 1];
            g.c_b = y->stride[d - 1];
        } else if (size != 1 &&
                   (a->stride[d - 1] != g.a_b * g.batch || b->stride[d - 1] != g.b_b * g.batch ||
                    y->stride[d - 1] != g.c_b * g.batch)) {
            break;
        }
        g.batch *= size;
        d--;
    }
    int64_t outer = 1, bytes = (int64_t)fb_dtype_size((fb_dtype)a->dtype);
    int64_t y_bytes = (int64_t)fb_dtype_size(g.dtype);
    for (int i = 0; i < d; i++)
        outer *= a->size[i];
    for (int64_t o = 0; o < outer; o++) {
        int64_t rest = o, at = 0, bt = 0, ct = 0;
        for (int i = d - 1; i >= 0; i--) {
            int64_t q = rest % a->size[i];
            rest /= a->size[i];
            at += q * a->stride[i];
            bt += q * b->stride[i];
            ct += q * y->stride[i];
        }
        g.a = (const char *)fbi_ptr(a) + at * bytes;
        g.b = (const char *)fbi_ptr(b) + bt * bytes;
        g.c = (char *)fbi_ptr(y) + ct * y_bytes;
        fb_status st = fbi_cpu_gemm(c, &g);
        if (st)
            return st;
    }
    return FB_OK;
}

/* A tensor [..., n] as a matrix of rows; if its leading dimensions do not fold, a copy. */
typedef struct rows {
    const void *data;
    int64_t rows, cols, row_stride, col_stride;
    void *copy;
} rows;

static fb_status rows_of(const fbi_call *c, const fb_tensor *t, rows *r)
{
    int last = t->ndim - 1;
    *r = (rows){.data = fbi_ptr(t),
                .rows = 1,
                .cols = t->size[last],
                .row_stride = t->size[last],
                .col_stride = t->stride[last]};
    for (int i = last - 1; i >= 0; i--) {
        if (t->size[i] == 1)
            continue;
        if (r->rows == 1) {
            r->row_stride = t->stride[i];
        } else if (t->stride[i] != r->row_stride * r->rows) {
            r->copy = fbi_cpu_dense(c, t);
            if (!r->copy)
                return c->ctx->status;
            int64_t cols = t->size[last];
            *r = (rows){r->copy, cols ? t->numel / cols : 0, cols, cols, 1, r->copy};
            return FB_OK;
        }
        r->rows *= t->size[i];
    }
    return FB_OK;
}

fb_status fbi_linear_then(const fbi_call *c, fbi_mm_finish finish, void *with)
{
    const fb_tensor *w = c->in[1], *b = c->in[2];
    rows x;
    void *bias_copy = NULL;
    fb_status st = rows_of(c, c->in[0], &x);
    if (st)
        return st;
    const void *bias = b ? fbi_ptr(b) : NULL;
    if (b && b->stride[0] != 1 && b->size[0] > 1) {
        bias = bias_copy = fbi_cpu_dense(c, b);
        if (!bias)
            st = c->ctx->status;
    }
    fbi_mm g = {.dtype = (fb_dtype)c->out[0]->dtype,
                .bf16 = w->dtype == FB_BF16,
                .batch = 1,
                .m = x.rows,
                .n = w->size[0],
                .k = w->size[1],
                .a_m = x.row_stride,
                .a_k = x.col_stride,
                .b_k = w->stride[1],
                .b_n = w->stride[0],
                .c_m = w->size[0],
                .a = x.data,
                .b = fbi_ptr(w),
                .bias = bias,
                .c = fbi_ptr(c->out[0]),
                .finish = finish,
                .with = with};
    if (!st)
        st = fbi_cpu_gemm(c, &g);
    free(bias_copy);
    free(x.copy);
    return st;
}

fb_status FBI_KERNEL(linear)(const fbi_call *c)
{
    return fbi_linear_then(c, NULL, NULL);
}

/* dx[m, in] = g[m, out] w[out, in] */
fb_status fbi_linear_dx_then(const fbi_call *c, fbi_mm_finish finish, void *with)
{
    const fb_tensor *w = c->in[1];
    rows g;
    fb_status st = rows_of(c, c->in[0], &g);
    if (st)
        return st;
    fbi_mm p = {.dtype = (fb_dtype)c->out[0]->dtype,
                .bf16 = w->dtype == FB_BF16,
                .batch = 1,
                .m = g.rows,
                .n = w->size[1],
                .k = w->size[0],
                .a_m = g.row_stride,
                .a_k = g.col_stride,
                .b_k = w->stride[0],
                .b_n = w->stride[1],
                .c_m = w->size[1],
                .a = g.data,
                .b = fbi_ptr(w),
                .c = fbi_ptr(c->out[0]),
                .beta = c->beta,
                .finish = finish,
                .with = with};
    st = fbi_cpu_gemm(c, &p);
    free(g.copy);
    return st;
}

fb_status FBI_KERNEL(linear_dx)(const fbi_call *c)
{
    return fbi_linear_dx_then(c, NULL, NULL);
}

/* dw[out, in] = g[m, out]^T x[m, in] */
fb_status FBI_KERNEL(linear_dw)(const fbi_call *c)
{
    rows g, x;
    fb_status st = rows_of(c, c->in[0], &g);
    if (st)
        return st;
    st = rows_of(c, c->in[1], &x);
    if (st) {
        free(g.copy);
        return st;
    }
    fbi_mm p = {.dtype = (fb_dtype)c->out[0]->dtype,
                .bf16 = c->in[0]->dtype == FB_BF16,
                .batch = 1,
                .m = g.cols,
                .n = x.cols,
                .k = x.rows,
                .a_m = g.col_stride,
                .a_k = g.row_stride,
                .b_k = x.row_stride,
                .b_n = x.col_stride,
                .c_m = x.cols,
                .a = g.data,
                .b = x.data,
                .c = fbi_ptr(c->out[0]),
                .beta = c->beta};
    st = fbi_cpu_gemm(c, &p);
    free(g.copy);
    free(x.copy);
    return st;
}

fb_status FBI_KERNEL(linear_dwb)(const fbi_call *c)
{
    fbi_call dw = *c, db = *c;
    db.n_in = 1;
    dw.n_out = db.n_out = 1;
    db.out = c->out + 1;
    fb_status st = FBI_KERNEL(linear_dw)(&dw);
    if (st)
        return st;
    return fbi_wants_wide(&db) ? fbi_cpu_widened(&db, FBI_KERNEL(linear_db))
                               : FBI_KERNEL(linear_db)(&db);
}

fb_status FBI_KERNEL(linear_db)(const fbi_call *c)
{
    rows g;
    fb_status st = rows_of(c, c->in[0], &g);
    if (st)
        return st;
    st = fbi_cpu_column_sums(c, (fb_dtype)c->in[0]->dtype, g.data, g.rows, g.cols, g.row_stride,
                             g.col_stride, fbi_ptr(c->out[0]), c->beta != 0);
    free(g.copy);
    return st;
}
