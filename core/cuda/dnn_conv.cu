/* conv2d, conv2d_relu and the gradients by cuDNN. Images are channels-last here anyway; a weight
 * [k, c, r, s] becomes [k, r, s, c] by a copy, and its gradient is copied back: less than a
 * hundredth of a step.
 */
#include "core/cuda/dnn_call_priv.h"
#include "core/cuda/kernel_priv.h"

/* dw [k, r, s, c] into w [k, c, r, s], which is added to. */
__global__ void add_weight(int64_t n, int64_t c, int64_t rs, int dtype, const void *dw, void *w)
{
    FBI_EACH(i, n)
    {
        int64_t place = i % rs, channel = i / rs % c, k = i / rs / c;
        float v = fbi_load<float>(dw, dtype, (k * rs + place) * c + channel);
        fbi_store<float>(w, dtype, i, fbi_load<float>(w, dtype, i) + v);
    }
}

/* The attributes of all these rows begin with those of conv2d. */
static fbi_dnn_problem problem_of(const fbi_call *c, fbi_dnn_kind kind, const fb_tensor *x,
                                  const fb_tensor *w, const fb_tensor *y)
{
    const fbi_attrs_conv2d &a = FBI_ATTRS(conv2d);
    fbi_dnn_problem p;
    memset(&p, 0, sizeof p); /* compared as bytes */
    p.kind = kind;
    p.dtype = x->dtype;
    p.exact_conv = c->ctx->exact_conv;
    fbi_dnn_conv &v = p.u.conv;
    v.n = x->size[0], v.c = x->size[1], v.h = x->size[2], v.w = x->size[3];
    v.k = y->size[1], v.oh = y->size[2], v.ow = y->size[3];
    v.r = w->size[2], v.s = w->size[3];
    v.groups = a.groups;
    v.stride[0] = a.sh, v.stride[1] = a.sw;
    v.pad[0] = a.ph, v.pad[1] = a.pw;
    v.dil[0] = a.dh, v.dil[1] = a.dw;
    return p;
}

/* NULL: our own kernels do it. */
static fbi_dnn_plan *plan_of(const fbi_call *c, const fbi_dnn_problem &p)
{
    bool serves = p.dtype == FB_F32 || p.dtype == FB_F16 || p.dtype == FB_BF16;
    for (int i = 0; i < c->n_in + c->n_out && serves; i++) {
        const fb_tensor *t = i < c->n_in ? c->in[i] : c->out[i - c->n_in];
        serves = !t || (t->numel > 0 && fbi_cuda_dnn_aligned(fbi_cuda_data(t)));
    }
    return serves ? fbi_cuda_dnn_plan(c->ctx, &p) : NULL;
}

fb_status fbi_cuda_dnn_conv2d(const fbi_call *c, bool *done)
{
    const fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2], *y = c->out[0];
    fbi_dnn_problem p = problem_of(c, FBI_DNN_CONV, x, w, y);
    p.u.conv.bias = b != NULL;
    p.u.conv.relu = c->op->op == FBI_OP_conv2d_relu;
    fbi_dnn_plan *plan = plan_of(c, p);
    if (!plan)
        return FB_OK;
    fbi_temps temps(c);
    void *in = (void *)temps.channels(x), *weight = in ? (void *)temps.channels(w) : NULL;
    void *bias = weight && b ? (void *)temps.dense(b) : NULL;
    if (!weight || (b && !bias))
        return c->ctx->status;
    void *operands[FBI_DNN_OPERANDS] = {in, weight, bias, fbi_cuda_data(y)};
    *done = true;
    return fbi_cuda_dnn_run(c, plan, operands);
}

fb_status fbi_cuda_dnn_conv2d_bwd_data(const fbi_call *c, bool *done)
{
    const fb_tensor *g = c->in[0], *w = c->in[1], *x = c->out[0];
    fbi_dnn_plan *plan = plan_of(c, problem_of(c, FBI_DNN_CONV_DATA, x, w, g));
    if (!plan)
        return FB_OK;
    fbi_temps temps(c);
    void *weight = (void *)temps.channels(w), *dy = weight ? (void *)temps.channels(g) : NULL;
    if (!dy)
        return c->ctx->status;
    void *operands[FBI_DNN_OPERANDS] = {weight, dy, fbi_cuda_data(x)};
    *done = true;
    return fbi_cuda_dnn_run(c, plan, operands);
}

/* What cuDNN wrote, in the order of the weight. */
static fb_status put_weight(const fbi_call *c, fbi_storage *dw)
{
    fb_tensor *w = c->out[0], from = *w;
    int64_t cg = w->size[1], rs = w->size[2] * w->size[3];
    if (c->beta != 0) {
        FBI_LAUNCH(c, add_weight, fbi_blocks(c->ctx, w->numel), FBI_BLOCK, w->numel, cg, rs,
                   (int)w->dtype, (const void *)dw->data, fbi_cuda_data(w));
        return FB_OK;
    }
    from.storage = dw;
    from.offset = 0;
    from.stride[0] = rs * cg;
    from.stride[1] = 1;
    from.stride[2] = w->size[3] * cg;
    from.stride[3] = cg;
    return fbi_cuda_copy_strided(c, w, &from);
}

fb_status fbi_cuda_dnn_conv2d_bwd_weight(const fbi_call *c, bool *done)
{
    const fb_tensor *g = c->in[0], *x = c->in[1], *w = c->out[0];
    fbi_dnn_plan *plan = plan_of(c, problem_of(c, FBI_DNN_CONV_WEIGHT, x, w, g));
    if (!plan)
        return FB_OK;
    fbi_temps temps(c);
    bool same = c->beta == 0 && w->size[2] * w->size[3] == 1; /* one order */
    void *in = (void *)temps.channels(x), *dy = in ? (void *)temps.channels(g) : NULL;
    void *dw = !dy    ? NULL
               : same ? fbi_cuda_data(w)
                      : temps.get(w->numel * fbi_cuda_bytes(w->dtype));
    if (!dw)
        return c->ctx->status;
    void *operands[FBI_DNN_OPERANDS] = {in, dy, dw};
    *done = true;
    fb_status st = fbi_cuda_dnn_run(c, plan, operands);
    return st || same ? st : put_weight(c, temps.s[temps.n - 1]);
}
