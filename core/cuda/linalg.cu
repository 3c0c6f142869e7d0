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

/* dw[out, in] = g[m, out]^T x[m, in], into c->out[0]. False: the error is set. */
static bool weight_product(const fbi_call *c, fbi_temps &temps, fbi_rows *g, fbi_cuda_mm *p)
{
    fbi_rows x;
    if (!fbi_rows_of(c->in[0], g, temps) || !fbi_rows_of(c->in[1], &x, temps))
        return false;
    *p = fbi_cuda_mm{};
    p->dtype = (fb_dtype)c->in[0]->dtype;
    p->batch = 1;
    p->m = g->cols, p->n = x.cols, p->k = x.rows;
    p->a_m = g->col_stride, p->a_k = g->row_stride;
    p->b_k = x.row_stride, p->b_n = x.col_stride;
    p->c_m = x.cols;
    p->a = g->data, p->b = x.data;
    p->c = fbi_cuda_data(c->out[0]);
    p->beta = c->beta;
    return true;
}

FBI_CUDA_KERNEL(linear_dw)
{
    fbi_temps temps(c);
    fbi_rows g;
    fbi_cuda_mm p;
    return weight_product(c, temps, &g, &p) ? fbi_cuda_product(c, &p) : c->ctx->status;
}

/* --- the gradient of a bias --- */

template <class T> struct fbi_loaded_columns {
    const void *x;
    int dtype;
    int64_t row_stride, col_stride;
    template <int V> __device__ void at(int64_t i, int64_t j, T *v0, T *) const
    {
        *v0 = fbi_load<T>(x, dtype, i * row_stride + j * col_stride);
    }
};

template <class T>
__global__ void put_row(const void *v, int from, int64_t n, void *to, int dtype, bool add)
{
    FBI_EACH(i, n)
    {
        T sum = fbi_load<T>(v, from, i);
        fbi_store<T>(to, dtype, i, add ? fbi_load<T>(to, dtype, i) + sum : sum);
    }
}

/* db (+)= v, a row of dtype `from`. */
static fb_status put_bias(const fbi_call *c, const void *v, int from, fb_tensor *db)
{
    unsigned grid = fbi_blocks(c->ctx, db->numel);
    if (db->numel == 0)
        return FB_OK;
    if (db->dtype == FB_F64)
        FBI_LAUNCH(c, put_row<double>, grid, FBI_BLOCK, v, from, db->numel, fbi_cuda_data(db),
                   (int)db->dtype, c->beta != 0);
    else
        FBI_LAUNCH(c, put_row<float>, grid, FBI_BLOCK, v, from, db->numel, fbi_cuda_data(db),
                   (int)db->dtype, c->beta != 0);
    return FB_OK;
}

template <class T> static fb_status sum_bias(const fbi_call *c, const fbi_rows &g, fb_tensor *db)
{
    typedef fbi_loaded_columns<T> get;
    fbi_temps temps(c);
    T *sums = temps.array<T>(g.cols);
    if (!sums)
        return c->ctx->status;
    get columns = {g.data, c->in[0]->dtype, g.row_stride, g.col_stride};
    fb_status st =
        fbi_cuda_columns<get, T>(c, columns, g.data, NULL, 1, g.rows, g.cols, sums, (T *)NULL);
    return st ? st : put_bias(c, sums, fbi_dtype_of<T>::value, db);
}

static fb_status bias_gradient(const fbi_call *c, const fbi_rows &g, fb_tensor *db)
{
    return db->dtype == FB_F64 ? sum_bias<double>(c, g, db) : sum_bias<float>(c, g, db);
}

FBI_CUDA_KERNEL(linear_db)
{
    fbi_temps temps(c);
    fbi_rows g;
    return fbi_rows_of(c->in[0], &g, temps) ? bias_gradient(c, g, c->out[0]) : c->ctx->status;
}

/* Both in one product, if cuBLASLt has that: it sums its second operand, g, as it reads it. The sum
 * is not added to, so it may need memory of its own. */
static fb_status with_bias_gradient(const fbi_call *c, fbi_cuda_mm p, bool *served)
{
    fbi_temps temps(c);
    fb_tensor *db = c->out[1];
    if (p.m * p.n * p.k == 0 || p.dtype == FB_F64)
        return FB_OK;
    void *sums =
        c->beta != 0 ? temps.get(db->numel * fbi_cuda_bytes(db->dtype)) : fbi_cuda_data(db);
    if (!sums)
        return c->ctx->status;
    p.epilogue = CUBLASLT_EPILOGUE_BGRADB;
    p.bias = sums;
    fb_status st = fbi_cuda_gemm(c, &p);
    *served = st != FB_E_UNSUPPORTED;
    if (st || c->beta == 0)
        return *served ? st : FB_OK;
    return put_bias(c, sums, db->dtype, db);
}

FBI_CUDA_KERNEL(linear_dwb)
{
    fbi_temps temps(c);
    fbi_rows g;
    fbi_cuda_mm p;
    bool served = false;
    if (!weight_product(c, temps, &g, &p))
        return c->ctx->status;
    fb_status st = with_bias_gradient(c, p, &served);
    if (st || served)
        return st;
    st = fbi_cuda_product(c, &p);
    return st ? st : bias_gradient(c, g, c->out[1]);
}
