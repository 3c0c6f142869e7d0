/* See norm_priv.h. */
#include "core/ops/call_priv.h"
#include "core/ops/norm_priv.h"

#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>

bool fbi_norm_parts_of(fb_tensor *x, fb_shape dims, double eps, fbi_norm_parts *p)
{
    p->centred = fb_sub(x, fb_mean(x, dims, true));
    fb_tensor *var = fb_mean(fb_mul(p->centred, p->centred), dims, true);
    p->rstd = fb_pow_scalar(fb_add_scalar(var, eps), -0.5);
    p->hat = fb_mul(p->centred, p->rstd);
    return p->hat != NULL;
}

fb_tensor *fbi_norm_dx(const fbi_norm_parts *p, fb_tensor *ghat, fb_shape dims)
{
    fb_tensor *along = fb_mul(p->hat, fb_mean(fb_mul(ghat, p->hat), dims, true));
    fb_tensor *rest = fb_sub(fb_sub(ghat, fb_mean(ghat, dims, true)), along);
    return fb_mul(rest, p->rstd);
}

fb_tensor *fbi_sum_or(fb_tensor *a, fb_tensor *b)
{
    return a ? fb_add(a, b) : b;
}

fb_status fbi_norm_params(const fbi_call *c, fb_shape want, const char *what)
{
    for (int i = 1; i < 3; i++) {
        const fb_tensor *p = c->in[i];
        fb_status st = p ? fbi_need_fitting(c, i) : FB_OK;
        if (st)
            return st;
        if (p && !fb_shape_equal(fb_shape_of(p), want))
            return fbi_op_fail(c, FB_E_SHAPE, "%s %s does not fit the %s of input %s",
                               i == 1 ? "weight" : "bias", fbi_text(p), what, fbi_text(c->in[0]));
    }
    return FB_OK;
}

fb_status fbi_norm_bwd(fbi_bw *bw, fbi_op op, const void *attrs)
{
    fb_tensor *in[5] = {bw->grad[0], fbi_bw_in(bw, 0), fbi_bw_in(bw, 1), fbi_bw_out(bw, 1),
                        fbi_bw_out(bw, 2)};
    if (!in[1] || !in[3] || !in[4])
        return bw->ctx->status;
    bool host = bw->ctx->backend->host_memory; /* its kernels write dx last */
    fb_tensor *out[3] = {host ? fbi_bw_spare(bw) : NULL};
    fbi_call c = {.ctx = bw->ctx,
                  .op = &fbi_opdefs[op],
                  .attrs = attrs,
                  .in = in,
                  .out = out,
                  .n_in = 5,
                  .n_out = 3,
                  .threads = bw->ctx->threads};
    fb_status st = c.op->infer(&c);
    st = st ? st : fbi_launch(&c);
    for (int i = 0; i < 3 && !st; i++)
        if (fbi_bw_needs(bw, i))
            st = fbi_bw_give(bw, i, out[i]);
    return st;
}
