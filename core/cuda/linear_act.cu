/* linear_act, conv2d_relu and their backwards: by an epilogue of cuBLASLt where it has one, else a
 * kernel after the product. GELU is the tanh form in both; cuBLASLt's needs rows of a multiple
 * of 8. */
#include <flambeau/core/ops/linalg.h>

#include "core/cuda/columns_priv.h"
#include "core/cuda/rows_priv.h"

extern "C" fb_status fbi_cuda_row_relu(const fbi_call *c);
extern "C" fb_status fbi_cuda_row_gelu_tanh(const fbi_call *c);

/* The product with this epilogue, if cuBLASLt has it. */
static fb_status with_epilogue(const fbi_call *c, fbi_cuda_mm *g, int epilogue, void *aux,
                               bool *served)
{
    if (g->m * g->n * g->k == 0 || g->dtype == FB_F64 || (aux && g->n % 8))
        return FB_OK;
    g->epilogue = (cublasLtEpilogue_t)epilogue;
    g->aux = aux;
    fb_status st = fbi_cuda_gemm(c, g);
    *served = st != FB_E_UNSUPPORTED;
    return *served ? st : FB_OK;
}

extern "C" fb_status fbi_cuda_lt_linear_act(const fbi_call *c, bool *served)
{
    fbi_temps temps(c);
    fbi_cuda_mm g;
    bool relu = FBI_ATTRS(linear_act).act == FB_ACT_RELU;
    if (!fbi_linear_forward(c, temps, &g))
        return c->ctx->status;
    int plain = relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_GELU_AUX;
    return with_epilogue(c, &g, plain | (g.bias ? CUBLASLT_EPILOGUE_BIAS : 0),
                         relu ? NULL : fbi_cuda_data(c->out[1]), served);
}

FBI_CUDA_KERNEL(linear_act)
{
    fbi_temps temps(c);
    fbi_cuda_mm g;
    bool relu = FBI_ATTRS(linear_act).act == FB_ACT_RELU;
    if (!fbi_linear_forward(c, temps, &g))
        return c->ctx->status;
    fb_tensor *argument[1] = {c->out[relu ? 0 : 1]};
    fbi_call act = *c;
    act.in = argument;
    act.n_in = act.n_out = 1;
    act.attrs = NULL;
    act.inplace = relu;
    g.c = fbi_cuda_data(argument[0]);
    fb_status st = fbi_cuda_product(c, &g);
    return st ? st : relu ? fbi_cuda_row_relu(&act) : fbi_cuda_row_gelu_tanh(&act);
}

/* --- backward --- */

#define V_C(x)       ((T)(x))
#define V_SIGMOID(x) sigmoid((T)(x))

template <class T> static __device__ inline T sigmoid(T x)
{
    T e = fbi_e(x < 0 ? x : -x);
    return (x < 0 ? e : (T)1) / ((T)1 + e);
}

/* The gradient of the rows relu (s is y) and gelu_tanh (s is x). */
template <class T, bool RELU> static __device__ inline T through(T g, T x)
{
    if (RELU)
        return x <= 0 ? (T)0 : g;
    T v = V_TANH_ARG(x), s = V_SIGMOID(v);
    return g * (s + x * (s * V_SIGMOID(-v)) * V_TANH_ARG1(x));
}

/* dz = through(g, s), which may take the place of g, and its sums over blocks of rows. */
template <class T, bool RELU>
__global__ void argument_gradient(const void *g, const void *s, int dtype, int64_t rows,
                                  int64_t cols, int64_t blocks, void *dz, T *sums)
{
    FBI_EACH(k, blocks * cols)
    {
        int64_t j = k % cols, begin = k / cols * FBI_COLUMN_ROWS, end = begin + FBI_COLUMN_ROWS;
        T sum = 0;
        for (int64_t i = begin; i < end && i < rows; i++) {
            int64_t at = i * cols + j;
            T v = through<T, RELU>(fbi_load<T>(g, dtype, at), fbi_load<T>(s, dtype, at));
            fbi_store<T>(dz, dtype, at, v);
            sum += v;
        }
        sums[k] = sum;
    }
}

/* c->out[0] and [1] from dense g and s. */
template <class T>
static fb_status run_gradient(const fbi_call *c, const void *g, const void *s, bool relu)
{
    fbi_temps temps(c);
    const fb_tensor *dz = c->out[0], *db = c->out[1];
    int64_t cols = db->numel, rows = cols ? dz->numel / cols : 0;
    int64_t blocks = rows ? (rows + FBI_COLUMN_ROWS - 1) / FBI_COLUMN_ROWS : 1;
    T *part = temps.array<T>(blocks * cols), *sum = part ? temps.array<T>(cols) : NULL;
    if (!sum || cols == 0)
        return c->ctx->status;
    unsigned grid = fbi_blocks(c->ctx, blocks * cols);
    if (relu)
        FBI_LAUNCH(c, (argument_gradient<T, true>), grid, FBI_BLOCK, g, s, (int)dz->dtype, rows,
                   cols, blocks, fbi_cuda_data(dz), part);
    else
        FBI_LAUNCH(c, (argument_gradient<T, false>), grid, FBI_BLOCK, g, s, (int)dz->dtype, rows,
                   cols, blocks, fbi_cuda_data(dz), part);
    fbi_partial_columns<T> parts = {part, NULL, cols};
    fb_status st = fbi_cuda_columns<fbi_partial_columns<T>, T>(c, parts, part, NULL, 1, blocks,
                                                               cols, sum, (T *)NULL);
    return st ? st : fbi_cuda_store_row(c, (const T *)sum, c->out[1]);
}

static fb_status gradient(const fbi_call *c, const void *g, const fb_tensor *s, bool relu)
{
    fbi_temps temps(c);
    const void *dense = temps.dense(s);
    if (!dense)
        return c->ctx->status;
    return c->out[0]->dtype == FB_F64 ? run_gradient<double>(c, g, dense, relu)
                                      : run_gradient<float>(c, g, dense, relu);
}

FBI_CUDA_KERNEL(linear_act_dz)
{
    fbi_temps temps(c);
    const void *g = temps.dense(c->in[0]);
    bool relu = FBI_ATTRS(linear_act_dz).act == FB_ACT_RELU;
    return g ? gradient(c, g, c->in[1], relu) : c->ctx->status;
}

extern "C" fb_status fbi_cuda_lt_linear_dact(const fbi_call *c, bool *served)
{
    fbi_temps temps(c);
    fbi_cuda_mm p;
    if (FBI_ATTRS(linear_dact).act == FB_ACT_RELU) /* its epilogue reads a mask that we have not */
        return FB_OK;
    const void *argument = temps.dense(c->in[2]);
    if (!argument || !fbi_linear_input(c, temps, &p))
        return c->ctx->status;
    p.bias = fbi_cuda_data(c->out[1]);
    return with_epilogue(c, &p, CUBLASLT_EPILOGUE_DGELU_BGRAD, (void *)(uintptr_t)argument, served);
}

FBI_CUDA_KERNEL(linear_dact)
{
    fbi_temps temps(c);
    fbi_cuda_mm p;
    bool relu = FBI_ATTRS(linear_dact).act == FB_ACT_RELU;
    if (!fbi_linear_input(c, temps, &p))
        return c->ctx->status;
    fb_status st = fbi_cuda_product(c, &p);
    return st ? st : gradient(c, fbi_cuda_data(c->out[0]), c->in[2], relu);
}

/* --- convolutions; cuDNN is asked first (dnn_conv.cu) --- */

extern "C" fb_status fbi_cuda_row_conv2d(const fbi_call *c);

FBI_CUDA_KERNEL(conv2d_relu)
{
    fbi_call relu = *c;
    relu.in = c->out;
    relu.n_in = 1;
    relu.attrs = NULL;
    relu.inplace = true;
    fb_status st = fbi_cuda_row_conv2d(c);
    return st ? st : fbi_cuda_row_relu(&relu);
}

/* Images are rows of channels. */
FBI_CUDA_KERNEL(conv2d_relu_dz)
{
    fbi_temps temps(c);
    const void *g = temps.channels(c->in[0]), *y = g ? temps.channels(c->in[1]) : NULL;
    if (!y)
        return c->ctx->status;
    return c->out[0]->dtype == FB_F64 ? run_gradient<double>(c, g, y, true)
                                      : run_gradient<float>(c, g, y, true);
}
