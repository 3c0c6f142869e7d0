/* attention and its backward by cuDNN, for F16 and BF16: as the tensors lie, without copies. The
 * row has no mask and no dropout; fb_scaled_dot_product_attention composes those of other
 * operators, whose dropout has the CPU's bits. */
#include "core/cuda/dnn_call_priv.h"
#include "core/cuda/kernel_priv.h"

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

static fbi_dnn_problem problem_of(const fb_tensor *q, const fb_tensor *k, const fb_tensor *v)
{
    int n = q->ndim;
    fbi_dnn_problem p;
    memset(&p, 0, sizeof p); /* compared as bytes */
    p.kind = FBI_DNN_ATTENTION;
    p.dtype = q->dtype;
    fbi_dnn_attention &a = p.u.attention;
    a.b = n > 3 ? q->size[n - 4] : 1;
    a.h = n > 2 ? q->size[n - 3] : 1;
    a.t = q->size[n - 2], a.s = k->size[n - 2];
    a.d = q->size[n - 1], a.e = v->size[n - 1];
    return p;
}

/* NULL: our own kernels do it. tensors: in the order of fbi_dnn_attention's strides. */
static fbi_dnn_plan *plan_of(const fbi_call *c, fbi_dnn_problem *p, const fb_tensor *const *tensors,
                             int n)
{
    if (p->dtype != FB_F16 && p->dtype != FB_BF16)
        return NULL;
    for (int i = 0; i < n; i++)
        if (!lies(tensors[i], p->u.attention.stride[i]))
            return NULL;
    return fbi_cuda_dnn_plan(c->ctx, p);
}

/* Neither a mask, nor dropout (its generator has other bits), nor heads that share keys. */
static bool serves(const fbi_call *c)
{
    return !c->in[3] && FBI_ATTRS(attention).dropout == 0 &&
           c->in[0]->numel / c->in[0]->size[c->in[0]->ndim - 2] ==
               c->in[1]->numel / c->in[1]->size[c->in[1]->ndim - 2];
}

fb_status fbi_cuda_dnn_attention(const fbi_call *c, bool *done)
{
    const fbi_attrs_attention &a = FBI_ATTRS(attention);
    if (!serves(c))
        return FB_OK;
    const fb_tensor *tensors[] = {c->in[0], c->in[1], c->in[2], c->out[0]};
    fbi_dnn_problem p = problem_of(c->in[0], c->in[1], c->in[2]);
    p.u.attention.scale = a.scale;
    p.u.attention.causal = a.causal != 0;
    fbi_dnn_plan *plan = plan_of(c, &p, tensors, 4);
    if (!plan)
        return FB_OK;
    void *operands[FBI_DNN_OPERANDS] = {};
    for (int i = 0; i < 4; i++)
        operands[i] = fbi_cuda_data(tensors[i]);
    operands[4] = fbi_cuda_data(c->out[1]);
    *done = true;
    return fbi_cuda_dnn_run(c, plan, operands);
}

fb_status fbi_cuda_dnn_attention_bwd(const fbi_call *c, bool *done)
{
    const fbi_attrs_attention &a = FBI_ATTRS(attention); /* the same ones */
    fb_tensor *const *in = c->in;                        /* q, k, v, mask, y, lse, g */
    if (!serves(c))
        return FB_OK;
    const fb_tensor *tensors[] = {in[0], in[1],     in[2],     in[4],
                                  in[6], c->out[0], c->out[1], c->out[2]};
    fbi_dnn_problem p = problem_of(in[0], in[1], in[2]);
    fb_tensor g = *in[6];
    p.kind = FBI_DNN_ATTENTION_BWD;
    p.u.attention.scale = a.scale;
    p.u.attention.causal = a.causal != 0;
    int64_t unused[3];
    fbi_temps temps(c);
    if ((p.dtype == FB_F16 || p.dtype == FB_BF16) && !lies(&g, unused)) {
        /* A gradient may be a broadcast, as that of a sum is. */
        int64_t step = 1;
        for (int i = g.ndim - 1; i >= 0; i--) {
            g.stride[i] = step;
            step *= g.size[i];
        }
        if (!temps.dense(in[6]))
            return c->ctx->status;
        if (temps.n) {
            g.storage = temps.s[0];
            g.offset = 0;
        }
    }
    tensors[4] = &g;
    fbi_dnn_plan *plan = plan_of(c, &p, tensors, 8);
    float *dots = plan ? temps.array<float>(in[5]->numel) : NULL;
    if (!dots)
        return c->ctx->status; /* FB_OK if there is no plan */
    void *operands[FBI_DNN_OPERANDS] = {fbi_cuda_data(in[0]),     fbi_cuda_data(in[1]),
                                        fbi_cuda_data(in[2]),     fbi_cuda_data(in[4]),
                                        fbi_cuda_data(in[5]),     fbi_cuda_data(&g),
                                        fbi_cuda_data(c->out[0]), fbi_cuda_data(c->out[1]),
                                        fbi_cuda_data(c->out[2]), dots};
    *done = true;
    return fbi_cuda_dnn_run(c, plan, operands);
}
