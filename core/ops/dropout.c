/* dropout: shapes, derivative, samples. */
#include <flambeau/core/ops/dropout.h>

#include "core/ops/op_priv.h"

fb_status fbi_infer_dropout(fbi_call *c)
{
    const fbi_attrs_dropout *a = c->attrs;
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (!(a->p >= 0 && a->p <= 1))
        return fbi_op_fail(c, FB_E_ARG, "p = %g is not within 0 .. 1", a->p);
    return fbi_out_like(c, 0, (fb_dtype)c->in[0]->dtype, c->in[0]);
}

/* Linear in x: the gradient goes through the same mask, drawn again from the same key and stream.
 */
fb_status fbi_bwd_ops_dropout(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, FBI_RUN(dropout, bw->attrs, bw->grad[0]));
}

void fbi_sample_dropout(fbi_samples *s)
{
    const fbi_attrs_dropout ok[] = {{0.5, 1, 2}, {0.1, 3, 4}, {1, 5, 6}};
    fbi_sample_in in = {.shape = FB_SHAPE(3, 5), .lo = -1, .hi = 1};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++)
        fbi_sample_add(s, &ok[i], 1, &in);
    const fbi_attrs_dropout bad = {1.5, 1, 2};
    fbi_sample_bad(s, &bad, 1, &in, FB_E_ARG, "dropout: p = 1.5 is not within 0 .. 1");
}

fb_tensor *fb_dropout(fb_tensor *x, double p)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, x, "dropout", "x"))
        return NULL;
    if (p == 0)
        return x;
    fbi_rng_stream r = fbi_next_stream(ctx);
    return FBI_RUN(dropout, (&(fbi_attrs_dropout){p, r.key, r.stream}), x);
}
