/* Attention and its gradients as cuDNN graphs: written out as operations, a form that every version
 * 9 knows, and that its engines recognise as flash attention. Without the F32 accumulator of dq
 * that other forms have, backward sums in a fixed order. */
#include "core/cuda/cudnn_priv.h"

#include <math.h>

/* Places of the strides in a problem, in the order of fbi_dnn_attention. */
enum { Q, K, V, Y, DY, DQ, DK, DV };

/* [b, heads, rows, cols] */
static fbi_cudnn_tensor *operand(fbi_cudnn_graph *g, const fbi_dnn_problem *p, int which,
                                 int64_t id, int64_t rows, int64_t cols, bool transposed)
{
    const fbi_dnn_attention *a = &p->u.attention;
    const int64_t *s = a->stride[which];
    bool shared = which == K || which == V || which == DK || which == DV;
    const int64_t dim[] = {a->b, shared ? a->h_k : a->h, transposed ? cols : rows,
                           transposed ? rows : cols};
    const int64_t stride[] = {s[0], s[1], transposed ? 1 : s[2], transposed ? s[2] : 1};
    return fbi_cudnn_tensor_new(g, fbi_cudnn_type(p->dtype), id, dim, stride);
}

/* q k^T scale + bias */
static fbi_cudnn_tensor *scores_of(fbi_cudnn_graph *g, const fbi_dnn_problem *p,
                                   fbi_cudnn_tensor *q, fbi_cudnn_tensor *kt,
                                   fbi_cudnn_tensor *scale)
{
    const fbi_dnn_attention *a = &p->u.attention;
    fbi_cudnn_tensor *x = fbi_cudnn_packed(g, CUDNN_DATA_FLOAT, 0, a->b, a->h, a->t, a->s);
    fbi_cudnn_matmul(g, q, kt, x);
    x = fbi_cudnn_pointwise(g, CUDNN_POINTWISE_MUL, x, scale, NULL);
    if (!a->bias_b)
        return x;
    const int64_t head = a->t * a->bias_row, dim[] = {a->bias_b, a->bias_h, a->t, a->s};
    const int64_t stride[] = {a->bias_h * head, head, a->bias_row, 1};
    fbi_cudnn_tensor *bias = fbi_cudnn_tensor_new(g, fbi_cudnn_type(p->dtype), 6, dim, stride);
    return fbi_cudnn_pointwise(g, CUDNN_POINTWISE_ADD, x, bias, NULL);
}

void fbi_cudnn_attention(fbi_cudnn_graph *g, const fbi_dnn_problem *p)
{
    const fbi_dnn_attention *a = &p->u.attention;
    fbi_cudnn_tensor *q = operand(g, p, Q, 1, a->t, a->d, false);
    fbi_cudnn_tensor *kt = operand(g, p, K, 2, a->s, a->d, true);
    fbi_cudnn_tensor *v = operand(g, p, V, 3, a->s, a->e, false);
    fbi_cudnn_tensor *y = operand(g, p, Y, 4, a->t, a->e, false);
    fbi_cudnn_tensor *lse = fbi_cudnn_packed(g, CUDNN_DATA_FLOAT, 5, a->b, a->h, a->t, 1);
    fbi_cudnn_tensor *x = scores_of(g, p, q, kt, fbi_cudnn_scalar(g, (float)a->scale));
    if (a->causal)
        x = fbi_cudnn_below(g, x, -INFINITY);
    fbi_cudnn_tensor *top = fbi_cudnn_reduce(g, CUDNN_REDUCE_TENSOR_MAX, x);
    x = fbi_cudnn_pointwise(g, CUDNN_POINTWISE_SUB, x, top, NULL);
    x = fbi_cudnn_pointwise(g, CUDNN_POINTWISE_EXP, x, NULL, NULL);
    fbi_cudnn_tensor *sum = fbi_cudnn_reduce(g, CUDNN_REDUCE_TENSOR_ADD, x);
    fbi_cudnn_tensor *log = fbi_cudnn_pointwise(g, CUDNN_POINTWISE_LOG, sum, NULL, NULL);
    fbi_cudnn_pointwise(g, CUDNN_POINTWISE_ADD, top, log, lse);
    fbi_cudnn_tensor *weights =
        fbi_cudnn_packed(g, fbi_cudnn_type(p->dtype), 0, a->b, a->h, a->t, a->s);
    fbi_cudnn_pointwise(g, CUDNN_POINTWISE_DIV, x, sum, weights);
    fbi_cudnn_matmul(g, weights, v, y);
}

/* x^T m, the gradient of k or v; where heads share it, of every head first (operand `id`), then
 * their sum. */
static void shared_gradient(fbi_cudnn_graph *g, const fbi_dnn_problem *p, fbi_cudnn_tensor *x,
                            fbi_cudnn_tensor *m, fbi_cudnn_tensor *out, int64_t id)
{
    const fbi_dnn_attention *a = &p->u.attention;
    cudnnDataType_t type = fbi_cudnn_type(p->dtype);
    fbi_cudnn_tensor *xt = fbi_cudnn_transposed(g, x, type), *all = out;
    if (a->h != a->h_k)
        all = fbi_cudnn_packed(g, type, id, a->b, a->h, out->dim[2], out->dim[3]);
    fbi_cudnn_matmul(g, xt, m, all);
    if (all != out)
        fbi_cudnn_reduce_to(g, CUDNN_REDUCE_TENSOR_ADD, all, out);
}

void fbi_cudnn_attention_bwd(fbi_cudnn_graph *g, const fbi_dnn_problem *p)
{
    const fbi_dnn_attention *a = &p->u.attention;
    cudnnDataType_t type = fbi_cudnn_type(p->dtype);
    fbi_cudnn_tensor *q = operand(g, p, Q, 1, a->t, a->d, false);
    fbi_cudnn_tensor *kt = operand(g, p, K, 2, a->s, a->d, true);
    fbi_cudnn_tensor *vt = operand(g, p, V, 3, a->s, a->e, true);
    fbi_cudnn_tensor *y = operand(g, p, Y, 4, a->t, a->e, false);
    fbi_cudnn_tensor *lse = fbi_cudnn_packed(g, CUDNN_DATA_FLOAT, 5, a->b, a->h, a->t, 1);
    fbi_cudnn_tensor *dy = operand(g, p, DY, 7, a->t, a->e, false);
    fbi_cudnn_tensor *dq = operand(g, p, DQ, 8, a->t, a->d, false);
    fbi_cudnn_tensor *dk = operand(g, p, DK, 9, a->s, a->d, false);
    fbi_cudnn_tensor *dv = operand(g, p, DV, 10, a->s, a->e, false);
    fbi_cudnn_tensor *dots = fbi_cudnn_packed(g, CUDNN_DATA_FLOAT, 11, a->b, a->h, a->t, 1);
    fbi_cudnn_tensor *scale = fbi_cudnn_scalar(g, (float)a->scale), *one = fbi_cudnn_scalar(g, 1);
    /* dots = sum(dy y), which the engines want in memory */
    fbi_cudnn_tensor *x = fbi_cudnn_packed(g, CUDNN_DATA_FLOAT, 0, a->b, a->h, a->t, a->e);
    fbi_cudnn_pointwise(g, CUDNN_POINTWISE_MUL, dy, y, x);
    x = fbi_cudnn_reduce(g, CUDNN_REDUCE_TENSOR_ADD, x);
    fbi_cudnn_pointwise(g, CUDNN_POINTWISE_MUL, x, one, dots);
    /* weights = exp(scores - lse) */
    x = scores_of(g, p, q, kt, scale);
    x = fbi_cudnn_pointwise(g, CUDNN_POINTWISE_SUB, x, lse, NULL);
    if (a->causal)
        x = fbi_cudnn_below(g, x, -INFINITY);
    fbi_cudnn_tensor *weights = fbi_cudnn_pointwise(g, CUDNN_POINTWISE_EXP, x, NULL, NULL);
    shared_gradient(g, p, weights, dy, dv, 13);
    /* the scores' gradient = weights (dy v^T - dots) scale */
    x = fbi_cudnn_packed(g, CUDNN_DATA_FLOAT, 0, a->b, a->h, a->t, a->s);
    fbi_cudnn_matmul(g, dy, vt, x);
    x = fbi_cudnn_pointwise(g, CUDNN_POINTWISE_SUB, x, dots, NULL);
    x = fbi_cudnn_pointwise(g, CUDNN_POINTWISE_MUL, x, weights, NULL);
    x = fbi_cudnn_pointwise(g, CUDNN_POINTWISE_MUL, x, scale, NULL);
    shared_gradient(g, p, x, q, dk, 12);
    fbi_cudnn_matmul(g, x, fbi_cudnn_transposed(g, kt, type), dq);
}
