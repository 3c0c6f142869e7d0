/* matmul and linear: from tensors to matrix products of cuBLASLt. */
#include "core/cuda/columns_priv.h"
#include "core/cuda/rows_priv.h"

/* Integers, which cuBLASLt does not multiply: a thread an element. */
struct fbi_int_mm {
    int64_t n, m, k, a_m, a_k, b_k, b_n, c_m;
};

__global__ void int_product(fbi_int_mm p, const int64_t *a, const int64_t *b, const int64_t *bias,
                            int64_t *c, bool add)
{
    FBI_EACH(e, p.m * p.n)
    {
        int64_t i = e / p.n, j = e % p.n, sum = bias ? bias[j] : 0;
        for (int64_t k = 0; k < p.k; k++)
            sum += a[i * p.a_m + k * p.a_k] * b[k * p.b_k + j * p.b_n];
        c[i * p.c_m + j] = add ? c[i * p.c_m + j] + sum : sum;
    }
}

/* c[i, j] = bias[j], or 0; where cuBLASLt cannot: no inner size, or a bias that it does not add. */
template <class T> __global__ void fill_rows(int64_t m, int64_t n, const T *bias, T *c, int64_t c_m)
{
    FBI_EACH(e, m * n)
    c[e / n * c_m + e % n] = bias ? bias[e % n] : (T)0;
}

template <class T> static fb_status run_fill(const fbi_call *c, const fbi_cuda_mm *g)
{
    FBI_LAUNCH(c, fill_rows<T>, fbi_blocks(c->ctx, g->m * g->n), FBI_BLOCK, g->m, g->n,
               (const T *)g->bias, (T *)g->c, g->c_m);
    return FB_OK;
}

static fb_status fill_rows_of(const fbi_call *c, const fbi_cuda_mm *g)
{
    int64_t bytes = fbi_cuda_bytes((int)g->dtype);
    return bytes == 2   ? run_fill<uint16_t>(c, g)
           : bytes == 4 ? run_fill<uint32_t>(c, g)
                        : run_fill<uint64_t>(c, g);
}

extern "C" fb_status fbi_cuda_product(const fbi_call *c, const fbi_cuda_mm *given)
{
    fbi_cuda_mm g = *given;
    int64_t bytes = fbi_cuda_bytes((int)g.dtype);
    if (g.batch * g.m * g.n == 0)
        return FB_OK;
    if (g.dtype == FB_I64) {
        fbi_int_mm p = {g.n, g.m, g.k, g.a_m, g.a_k, g.b_k, g.b_n, g.c_m};
        for (int64_t i = 0; i < g.batch; i++)
            FBI_LAUNCH(c, int_product, fbi_blocks(c->ctx, g.m * g.n), FBI_BLOCK, p,
                       (const int64_t *)g.a + i * g.a_b, (const int64_t *)g.b + i * g.b_b,
                       (const int64_t *)g.bias, (int64_t *)g.c + i * g.c_b, g.beta != 0);
        return FB_OK;
    }
    fb_status st =
        g.k == 0 || (g.bias && g.dtype == FB_F64) ? FB_E_UNSUPPORTED : fbi_cuda_gemm(c, &g);
    if (st != FB_E_UNSUPPORTED)
        return st;
    st = FB_OK;
    for (int64_t i = 0; i < g.batch && !st && (g.beta == 0 || g.bias); i++) {
        fbi_cuda_mm one = g;
        one.c = (char *)g.c + i * g.c_b * bytes;
        st = fill_rows_of(c, &one);
    }
    if (st || g.k == 0)
        return st;
    g.bias = NULL;
    g.beta = 1;
    return fbi_cuda_gemm(c, &g);
}

/* The tensor itself, or a row-major copy in `copy` if cuBLASLt cannot read its last two dimensions.
 */
static const fb_tensor *readable(const fb_tensor *t, fb_tensor *copy, fbi_temps &temps)
{
    int r = t->ndim - 2, s = t->ndim - 1;
    if (t->dtype == FB_I64 ||
        fbi_cuda_mm_operand(t->size[r], t->size[s], t->stride[r], t->stride[s]))
        return t;
    *copy = *t;
    int64_t step = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        copy->stride[i] = step;
        step *= t->size[i];
    }
    copy->offset = 0;
    if (!temps.dense(t))
        return NULL;
    copy->storage = temps.s[temps.n - 1];
    return copy;
}

/* Batch dimensions that lie one after the other in all three tensors become one; what is left over
 * is walked here. */
FBI_CUDA_KERNEL(matmul)
{
    fbi_temps temps(c);
    fb_tensor copy[2];
    const fb_tensor *a = readable(c->in[0], &copy[0], temps);
    const fb_tensor *b = a ? readable(c->in[1], &copy[1], temps) : NULL, *y = c->out[0];
    if (!b)
        return c->ctx->status;
    int n = a->ndim, d = n - 2; /* dims [d, n - 2) are the batch given to the product */
    fbi_cuda_mm g = {};
    g.dtype = (fb_dtype)a->dtype;
    g.batch = 1;
    g.m = a->size[n - 2], g.n = b->size[n - 1], g.k = a->size[n - 1];
    g.a_m = a->stride[n - 2], g.a_k = a->stride[n - 1];
    g.b_k = b->stride[n - 2], g.b_n = b->stride[n - 1];
    g.c_m = y->stride[n - 2];
    g.beta = c->beta;
    while (d > 0) {
        int64_t size = a->size[d - 1];
        if (g.batch == 1) {
            g.a_b = a->stride[d - 1], g.b_b = b->stride[d - 1], g.c_b = y->stride[d - 1];
        } else if (size != 1 &&
                   (a->stride[d - 1] != g.a_b * g.batch || b->stride[d - 1] != g.b_b * g.batch ||
                    y->stride[d - 1] != g.c_b * g.batch)) {
            break;
        }
        g.batch *= size;
        d--;
    }
    int64_t outer = 1, bytes = fbi_cuda_bytes((int)g.dtype);
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
        g.a = (const char *)fbi_cuda_data(a) + at * bytes;
        g.b = (const char *)fbi_cuda_data(b) + bt * bytes;
        g.c = (char *)fbi_cuda_data(y) + ct * bytes;
        fb_status st = fbi_cuda_product(c, &g);
        if (st)
            return st;
    }
    return FB_OK;
}

FBI_CUDA_KERNEL(linear)
{
    fbi_temps temps(c);
    fbi_cuda_mm g;
    return fbi_linear_forward(c, temps, &g) ? fbi_cuda_product(c, &g) : c->ctx->status;
}

FBI_CUDA_KERNEL(linear_dx)
{
    fbi_temps temps(c);
    fbi_cuda_mm p;
    return fbi_linear_input(c, temps, &p) ? fbi_cuda_product(c, &p) : c->ctx->status;
}

/* dw[out, in] = g[m, out]^T x[m, in] */
FBI_CUDA_KERNEL(linear_dw)
{
    fbi_temps temps(c);
    fbi_rows g, x;
    if (!fbi_rows_of(c->in[0], &g, temps) || !fbi_rows_of(c->in[1], &x, temps))
        return c->ctx->status;
    fbi_cuda_mm p = {};
    p.dtype = (fb_dtype)c->in[0]->dtype;
    p.batch = 1;
    p.m = g.cols, p.n = x.cols, p.k = x.rows;
    p.a_m = g.col_stride, p.a_k = g.row_stride;
    p.b_k = x.row_stride, p.b_n = x.col_stride;
    p.c_m = x.cols;
    p.a = g.data, p.b = x.data;
    p.c = fbi_cuda_data(c->out[0]);
    p.beta = c->beta;
    return fbi_cuda_product(c, &p);
}

FBI_CUDA_KERNEL(linear_db)
{
    const fb_tensor *g = c->in[0];
    fbi_temps temps(c);
    fbi_rows r;
    if (!fbi_rows_of(g, &r, temps))
        return c->ctx->status;
    return g->dtype == FB_F64 ? fbi_cuda_column_sums<double>(c, (const double *)r.data, r.rows,
                                                             r.cols, r.row_stride, r.col_stride)
                              : fbi_cuda_column_sums<float>(c, (const float *)r.data, r.rows,
                                                            r.cols, r.row_stride, r.col_stride);
}
