/* What a call costs, by its shapes: floating-point operations and bytes. */
#include "core/ops/op_priv.h"
#include "core/ops/profile_priv.h"

static double last(const fb_tensor *t)
{
    return t->ndim ? (double)t->size[t->ndim - 1] : 1;
}

static double numel(const fb_tensor *t)
{
    return (double)t->numel;
}

/* a[.., m, k] b[.., k, n] */
static double of_matmul(const fbi_call *c)
{
    return 2 * numel(c->out[0]) * last(c->in[0]);
}

/* x[.., k] w[n, k] */
static double of_linear(const fbi_call *c)
{
    return 2 * numel(c->out[0]) * last(c->in[1]);
}

/* g[.., n] w[n, k] */
static double of_linear_dx(const fbi_call *c)
{
    return 2 * numel(c->in[0]) * last(c->in[1]);
}

/* g[.., n] x[.., k] */
static double of_linear_dw(const fbi_call *c)
{
    return 2 * numel(c->in[0]) * last(c->in[1]);
}

/* What an element of y, or of its gradient, meets: a filter, of which w has one in each row. */
static double filter(const fb_tensor *w)
{
    return w->size[0] ? numel(w) / (double)w->size[0] : 0;
}

static double of_conv2d(const fbi_call *c)
{
    return 2 * numel(c->out[0]) * filter(c->in[1]);
}

static double of_conv2d_bwd_data(const fbi_call *c)
{
    return 2 * numel(c->in[0]) * filter(c->in[1]);
}

static double of_conv2d_bwd_weight(const fbi_call *c)
{
    return 2 * numel(c->in[0]) * filter(c->out[0]);
}

/* For each row of q [.., T, D]: S products with k [.., S, D], and S with v [.., S, E]. */
static double attended(const fbi_call *c, double of_keys, double of_values)
{
    const fb_tensor *q = c->in[0], *k = c->in[1], *v = c->in[2];
    double rows = last(q) > 0 ? numel(q) / last(q) : 0, s = (double)k->size[k->ndim - 2];
    return 2 * rows * s * (of_keys * last(q) + of_values * last(v));
}

static double of_attention(const fbi_call *c)
{
    return attended(c, 1, 1);
}

/* The scores once more, and the gradients of scores, values, queries and keys. */
static double of_attention_bwd(const fbi_call *c)
{
    return attended(c, 3, 2);
}

/* x [T, N, gates H], the states' weight [gates H, H] */
static double of_recurrence(const fbi_call *c)
{
    return 2 * numel(c->in[0]) * last(c->in[4]);
}

static double of_recurrence_bwd(const fbi_call *c)
{
    return 2 * numel(c->out[0]) * last(c->in[4]);
}

static double (*const costs[FBI_OP_COUNT])(const fbi_call *c) = {
    [FBI_OP_matmul] = of_matmul,
    [FBI_OP_linear] = of_linear,
    [FBI_OP_linear_act] = of_linear,
    [FBI_OP_linear_dx] = of_linear_dx,
    [FBI_OP_linear_dact] = of_linear_dx,
    [FBI_OP_linear_dw] = of_linear_dw,
    [FBI_OP_linear_dwb] = of_linear_dw,
    [FBI_OP_conv2d] = of_conv2d,
    [FBI_OP_conv2d_relu] = of_conv2d,
    [FBI_OP_conv2d_bwd_data] = of_conv2d_bwd_data,
    [FBI_OP_conv2d_bwd_weight] = of_conv2d_bwd_weight,
    [FBI_OP_attention] = of_attention,
    [FBI_OP_attention_bwd] = of_attention_bwd,
    [FBI_OP_recurrence] = of_recurrence,
    [FBI_OP_recurrence_bwd] = of_recurrence_bwd,
};

double fbi_flops(const fbi_call *c)
{
    return costs[c->op->op] ? costs[c->op->op](c) : 0;
}

/* An expanded tensor is read over and over, but it is small. */
static double bytes_of(const fb_tensor *t)
{
    double n = t->numel ? (double)fb_dtype_size((fb_dtype)t->dtype) : 0;
    for (int i = 0; i < t->ndim && n > 0; i++)
        n *= t->stride[i] ? (double)t->size[i] : 1;
    return n;
}

double fbi_call_bytes(const fbi_call *c)
{
    double sum = 0;
    for (int i = 0; i < c->n_in; i++)
        sum += c->in[i] ? bytes_of(c->in[i]) : 0;
    for (int i = 0; i < c->n_out; i++)
        sum += c->out[i] ? bytes_of(c->out[i]) : 0;
    return sum;
}
