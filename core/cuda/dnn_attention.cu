/* attention and its backward by cuDNN, for F16 and BF16: as the tensors lie, without copies; a mask
 * becomes a bias without infinities. Dropout is left to our own kernels: cuDNN's has other bits
 * than the CPU's. */
#include "core/cuda/dnn_call_priv.h"
#include "core/cuda/mask_priv.h"

/* Strides of (b, h, t) of a tensor [.., h, t, d]; false: cuDNN cannot read it. */
static bool lies(const fb_tensor *t, int64_t stride[3])
{
    int n = t->ndim;
    if (n > 4 || (t->stride[n - 1] != 1 && t->size[n - 1] != 1) ||
        !fbi_cuda_dnn_aligned(fbi_cuda_data(t)))
        return false;
    int64_t all = t->size[n - 1];
    for (int i = 0; i < 3; i++) { /* t, h, b; those that are not there have size 1 */
        int d = n - 2 - i;
        stride[2 - i] = d >= 0 && t->size[d] > 1 ? t->stride[d] : all;
        all = d >= 0 ? all * t->size[d] : all;
        if (stride[2 - i] <= 0 || stride[2 - i] % 8)
            return false; /* a broadcast, or rows that do not begin at 16 bytes */
    }
    return true;
}

/* Both rows begin with q, k, v, mask, and have the same attributes. */
static fbi_dnn_problem problem_of(const fbi_call *c, fbi_dnn_kind kind)
{
    const fb_tensor *q = c->in[0], *k = c->in[1], *v = c->in[2], *mask = c->in[3];
    int n = q->ndim;
    fbi_dnn_problem p;
    memset(&p, 0, sizeof p); /* compared as bytes */
    p.kind = kind;
    p.dtype = q->dtype;
    fbi_dnn_attention &a = p.u.attention;
    a.b = n > 3 ? q->size[n - 4] : 1;
    a.h = n > 2 ? q->size[n - 3] : 1;
    a.h_k = n > 2 ? k->size[n - 3] : 1;
    a.t = q->size[n - 2], a.s = k->size[n - 2];
    a.d = q->size[n - 1], a.e = v->size[n - 1];
    a.scale = FBI_ATTRS(attention).scale;
    a.causal = FBI_ATTRS(attention).causal != 0;
    if (mask) {
        a.bias_b = n > 3 && mask->stride[n - 4] ? a.b : 1;
        a.bias_h = n > 2 && mask->stride[n - 3] ? a.h : 1;
        a.bias_row = (a.s + 7) / 8 * 8;
    }
    return p;
}

/* NULL: our own kernels do it. tensors: in the order of fbi_dnn_attention's strides. */
static fbi_dnn_plan *plan_of(const fbi_call *c, fbi_dnn_problem *p, const fb_tensor *const *tensors,
                             int n)
{
    const fb_tensor *mask = c->in[3];
    if ((p->dtype != FB_F16 && p->dtype != FB_BF16) || FBI_ATTRS(attention).dropout != 0)
        return NULL;
    if (mask && (p->u.attention.causal || (mask->dtype != FB_BOOL && mask->dtype != p->dtype)))
        return NULL; /* an F32 mask would be rounded */
    for (int i = 0; i < n; i++)
        if (!lies(tensors[i], p->u.attention.stride[i]))
            return NULL;
    return fbi_cuda_dnn_plan(c->ctx, p);
}

/* --- masks --- */

/* A row of the mask as what is added to the scores. Where nothing takes part there is `lowest`, as
 * cuDNN may subtract one from the other. dead: whether nothing of a row takes part. */
__global__ void mask_to_bias(fbi_mask m, const void *mask, int64_t s, int64_t bias_row, int dtype,
                             float lowest, void *bias, uint8_t *dead)
{
    int64_t row = blockIdx.x, from = fbi_mask_row(m, row), step = fbi_mask_step(m);
    float top = -INFINITY;
    for (int64_t j = threadIdx.x; j < bias_row; j += blockDim.x) {
        float v = j < s ? fbi_score(0.0f, 1.0f, m, mask, from + j * step) : 0.0f;
        fbi_store<float>(bias, dtype, row * bias_row + j, v < lowest ? lowest : v);
        top = j < s ? fbi_larger<float>::join(top, v) : top;
    }
    top = fbi_join_block<fbi_larger<float>>(top);
    if (threadIdx.x == 0)
        dead[row] = top == -INFINITY;
}

/* Rows [b, h, t] of y and lse of which nothing takes part; the mask's rows are [bias_b, bias_h, t].
 */
__global__ void clear_dead(fbi_dnn_attention a, const uint8_t *dead, uint16_t *y, float *lse)
{
    FBI_EACH(i, a.b * a.h * a.t)
    {
        int64_t t = i % a.t, h = i / a.t % a.h, b = i / a.t / a.h;
        if (!dead[((a.bias_b > 1 ? b : 0) * a.bias_h + (a.bias_h > 1 ? h : 0)) * a.t + t])
            continue;
        uint16_t *row = y + b * a.stride[3][0] + h * a.stride[3][1] + t * a.stride[3][2];
        for (int64_t j = 0; j < a.e; j++)
            row[j] = 0;
        lse[i] = INFINITY; /* so that backward finds zeros */
    }
}

/* The mask of the call as a bias in `temps`, if it has one. */
static fb_status make_bias(const fbi_call *c, const fbi_dnn_problem &p, fbi_temps &temps,
                           void **bias, uint8_t **dead)
{
    const fbi_dnn_attention &a = p.u.attention;
    fbi_mask m = fbi_mask_of(c->in[3]);
    int64_t rows = a.bias_b * a.bias_h * a.t;
    *bias = NULL;
    *dead = NULL;
    if (!m.ndim)
        return FB_OK;
    for (int i = 0; i < m.ndim - 2; i++)
        m.size[i] = m.stride[i] ? m.size[i] : 1;
    *bias = temps.get(rows * a.bias_row * fbi_cuda_bytes(p.dtype));
    *dead = *bias ? temps.array<uint8_t>(rows) : NULL;
    if (!*dead)
        return c->ctx->status;
    FBI_LAUNCH(c, mask_to_bias, rows, fbi_row_threads(a.bias_row), m,
               (const void *)fbi_cuda_data(c->in[3]), a.s, a.bias_row, p.dtype,
               p.dtype == FB_F16 ? -60000.0f : -1e30f, *bias, *dead);
    return FB_OK;
}

/* --- the rows --- */

fb_status fbi_cuda_dnn_attention(const fbi_call *c, bool *done)
{
    const fb_tensor *tensors[] = {c->in[0], c->in[1], c->in[2], c->out[0]};
    fbi_dnn_problem p = problem_of(c, FBI_DNN_ATTENTION);
    fbi_dnn_plan *plan = plan_of(c, &p, tensors, 4);
    if (!plan)
        return FB_OK;
    fbi_temps temps(c);
    void *operands[FBI_DNN_OPERANDS] = {};
    uint8_t *dead;
    float *lse = (float *)fbi_cuda_data(c->out[1]);
    for (int i = 0; i < 4; i++)
        operands[i] = fbi_cuda_data(tensors[i]);
    operands[4] = lse;
    fb_status st = make_bias(c, p, temps, &operands[5], &dead);
    *done = true;
    if (!st)
        st = fbi_cuda_dnn_run(c, plan, operands);
    if (st || !dead)
        return st;
    const fbi_dnn_attention &a = p.u.attention;
    FBI_LAUNCH(c, clear_dead, fbi_blocks(c->ctx, a.b * a.h * a.t), FBI_BLOCK, a,
               (const uint8_t *)dead, (uint16_t *)operands[3], lse);
    return FB_OK;
}

/* g as cuDNN can read it: a gradient may be a broadcast, as that of a sum is. */
static bool readable(fb_tensor *g, fbi_temps &temps)
{
    int64_t unused[3], step = 1;
    const fb_tensor given = *g;
    if ((g->dtype != FB_F16 && g->dtype != FB_BF16) || lies(g, unused))
        return true;
    for (int i = g->ndim - 1; i >= 0; i--) {
        g->stride[i] = step;
        step *= g->size[i];
    }
    if (!temps.dense(&given))
        return false;
    if (temps.n) {
        g->storage = temps.s[0];
        g->offset = 0;
    }
    return true;
}

fb_status fbi_cuda_dnn_attention_bwd(const fbi_call *c, bool *done)
{
    fb_tensor *const *in = c->in, g = *in[6]; /* q, k, v, mask, y, lse, g */
    const fb_tensor *tensors[] = {in[0], in[1], in[2], in[4], &g, c->out[0], c->out[1], c->out[2]};
    fbi_dnn_problem p = problem_of(c, FBI_DNN_ATTENTION_BWD);
    const fbi_dnn_attention &a = p.u.attention;
    fbi_temps temps(c);
    if (!readable(&g, temps))
        return c->ctx->status;
    fbi_dnn_plan *plan = plan_of(c, &p, tensors, 8);
    float *dots = plan ? temps.array<float>(in[5]->numel) : NULL;
    bool shared = a.h != a.h_k;
    int64_t row = a.b * a.h * a.s * fbi_cuda_bytes(p.dtype);
    void *dk = dots && shared ? temps.get(row * a.d) : NULL;
    void *dv = dk ? temps.get(row * a.e) : NULL;
    if (!dots || (shared && !dv))
        return c->ctx->status; /* FB_OK if there is no plan */
    void *operands[FBI_DNN_OPERANDS] = {fbi_cuda_data(in[0]),
                                        fbi_cuda_data(in[1]),
                                        fbi_cuda_data(in[2]),
                                        fbi_cuda_data(in[4]),
                                        fbi_cuda_data(in[5]),
                                        NULL,
                                        fbi_cuda_data(&g),
                                        fbi_cuda_data(c->out[0]),
                                        fbi_cuda_data(c->out[1]),
                                        fbi_cuda_data(c->out[2]),
                                        dots,
                                        dk,
                                        dv};
    uint8_t *dead;
    fb_status st = make_bias(c, p, temps, &operands[5], &dead);
    *done = true;
    return st ? st : fbi_cuda_dnn_run(c, plan, operands);
}
