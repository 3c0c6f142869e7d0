/* Kernels of cross_entropy and mse_loss. */
#include <math.h>

#include "core/base/vmath.h"
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/lanes_priv.h"

#define T       float
#define X(name) name##_f32
#define X_EXP   fbi_expf
#define X_LOG   fbi_logf
#include "core/cpu/loss_body_priv.h"
#undef T
#undef X
#undef X_EXP
#undef X_LOG
#define T       double
#define X(name) name##_f64
#define X_EXP   exp
#define X_LOG   log
#include "core/cpu/loss_body_priv.h"
#undef T
#undef X
#undef X_EXP
#undef X_LOG

typedef enum { FORWARD, BACKWARD, COEF } pass;

/* Target as I64, every value checked. NULL: the error is set. */
static int64_t *checked_target(const fbi_call *c, const fb_tensor *t, int64_t classes,
                               int64_t ignore)
{
    fbi_flat f;
    int64_t *out = fbi_scratch(c, t->numel, sizeof *out);
    if (!out || !fbi_flat_of(c, t, &f)) {
        free(out);
        return NULL;
    }
    for (int64_t i = 0; i < t->numel; i++) {
        out[i] = fbi_index_at(f.p, t->dtype, i);
        if ((out[i] >= 0 && out[i] < classes) || out[i] == ignore)
            continue;
        fbi_op_fail(c, FB_E_ARG,
                    "target %lld at index %lld is not in 0 .. %lld and not ignore_index %lld",
                    (long long)out[i], (long long)i, (long long)classes - 1, (long long)ignore);
        free(out);
        out = NULL;
        break;
    }
    fbi_flat_free(&f);
    return out;
}

/* x: position of the logits; target and weight follow. */
static fb_status cross_entropy(const fbi_call *c, int x, pass p)
{
    const fbi_attrs_cross_entropy *a = c->attrs; /* the three rows have the same attributes */
    const fb_tensor *logits = c->in[x], *weight = c->in[x + 2];
    fbi_flat lf = {NULL, NULL}, wf = {NULL, NULL}, g = {NULL, NULL}, lse = {NULL, NULL};
    fbi_line l = fbi_line_of(logits, logits->ndim > 1 ? 1 : 0);
    int64_t *target = checked_target(c, c->in[x + 1], l.n, a->ignore_index);
    if (!target)
        return c->ctx->status ? c->ctx->status : FB_E_NOMEM;
    fb_status st = FB_E_NOMEM;
    if (!fbi_flat_of(c, logits, &lf) || (weight && !fbi_flat_of(c, weight, &wf)))
        goto done;
    if (p == BACKWARD && !(fbi_flat_of(c, c->in[0], &g) && fbi_flat_of(c, c->in[4], &lse)))
        goto done;
    if (logits->dtype == FB_F32) {
        ce_f32 e = {l.outer, l.n,    l.inner,         lf.p,
                    wf.p,    target, a->ignore_index, (float)a->label_smoothing,
                    0};
        st = p == FORWARD    ? ce_forward_f32(c, &e, a->reduction)
             : p == BACKWARD ? ce_backward_f32(c, &e, a->reduction, g.p, lse.p)
                             : ce_coef_f32(c, &e, a->reduction);
    } else {
        ce_f64 e = {l.outer, l.n, l.inner, lf.p, wf.p, target, a->ignore_index, a->label_smoothing,
                    0};
        st = p == FORWARD    ? ce_forward_f64(c, &e, a->reduction)
             : p == BACKWARD ? ce_backward_f64(c, &e, a->reduction, g.p, lse.p)
                             : ce_coef_f64(c, &e, a->reduction);
    }
done:
    free(target);
    fbi_flat_free(&lf);
    fbi_flat_free(&wf);
    fbi_flat_free(&g);
    fbi_flat_free(&lse);
    return st;
}

fb_status FBI_KERNEL(cross_entropy)(const fbi_call *c)
{
    return cross_entropy(c, 0, FORWARD);
}

fb_status FBI_KERNEL(cross_entropy_bwd)(const fbi_call *c)
{
    return cross_entropy(c, 1, BACKWARD);
}

fb_status FBI_KERNEL(cross_entropy_coef)(const fbi_call *c)
{
    return cross_entropy(c, 0, COEF);
}

/* first: position of the input; the gradient, if any, is before it. */
static fb_status mse(const fbi_call *c, int first, int64_t reduction)
{
    fbi_flat x = {NULL, NULL}, t = {NULL, NULL}, g = {NULL, NULL};
    const fb_tensor *in = c->in[first];
    fb_status st = FB_E_NOMEM;
    if (!fbi_flat_of(c, in, &x) || !fbi_flat_of(c, c->in[first + 1], &t) ||
        (first && !fbi_flat_of(c, c->in[0], &g)))
        goto done;
    st = FB_OK;
    if (first && in->dtype == FB_F32)
        mse_backward_f32(c, g.p, x.p, t.p, in->numel, reduction);
    else if (first)
        mse_backward_f64(c, g.p, x.p, t.p, in->numel, reduction);
    else if (in->dtype == FB_F32)
        st = mse_f32(c, x.p, t.p, in->numel, reduction);
    else
        st = mse_f64(c, x.p, t.p, in->numel, reduction);
done:
    fbi_flat_free(&x);
    fbi_flat_free(&t);
    fbi_flat_free(&g);
    return st;
}

fb_status FBI_KERNEL(mse_loss)(const fbi_call *c)
{
    return mse(c, 0, ((const fbi_attrs_mse_loss *)c->attrs)->reduction);
}

fb_status FBI_KERNEL(mse_loss_bwd)(const fbi_call *c)
{
    return mse(c, 1, ((const fbi_attrs_mse_loss_bwd *)c->attrs)->reduction);
}
