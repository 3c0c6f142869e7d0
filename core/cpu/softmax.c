/* Kernels of softmax, log_softmax and their backwards. */
#include <math.h>

#include "core/base/vmath.h"
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/lanes_priv.h"

#define T       float
#define X(name) name##_f32
#define X_EXP   fbi_expf
#define X_LOG   fbi_logf
#include "core/cpu/softmax_body_priv.h"
#undef T
#undef X
#undef X_EXP
#undef X_LOG
#define T       double
#define X(name) name##_f64
#define X_EXP   exp
#define X_LOG   log
#include "core/cpu/softmax_body_priv.h"
#undef T
#undef X
#undef X_EXP
#undef X_LOG

static fb_status forward(const fbi_call *c, int64_t dim, bool logs)
{
    fbi_flat x;
    if (!fbi_flat_of(c, c->in[0], &x))
        return FB_E_NOMEM;
    if (c->in[0]->dtype == FB_F32)
        softmax_f32(c, fbi_line_of(c->in[0], dim), x.p, logs);
    else
        softmax_f64(c, fbi_line_of(c->in[0], dim), x.p, logs);
    fbi_flat_free(&x);
    return FB_OK;
}

static fb_status backward(const fbi_call *c, int64_t dim, bool logs)
{
    fbi_flat g = {NULL, NULL}, y = {NULL, NULL};
    fb_status st = FB_E_NOMEM;
    if (fbi_flat_of(c, c->in[0], &g) && fbi_flat_of(c, c->in[1], &y)) {
        st = FB_OK;
        if (c->in[0]->dtype == FB_F32)
            softmax_bwd_f32(c, fbi_line_of(c->in[0], dim), g.p, y.p, logs);
        else
            softmax_bwd_f64(c, fbi_line_of(c->in[0], dim), g.p, y.p, logs);
    }
    fbi_flat_free(&g);
    fbi_flat_free(&y);
    return st;
}

fb_status FBI_KERNEL(softmax)(const fbi_call *c)
{
    return forward(c, ((const fbi_attrs_softmax *)c->attrs)->dim, false);
}

fb_status FBI_KERNEL(log_softmax)(const fbi_call *c)
{
    return forward(c, ((const fbi_attrs_log_softmax *)c->attrs)->dim, true);
}

fb_status FBI_KERNEL(softmax_bwd)(const fbi_call *c)
{
    return backward(c, ((const fbi_attrs_softmax_bwd *)c->attrs)->dim, false);
}

fb_status FBI_KERNEL(log_softmax_bwd)(const fbi_call *c)
{
    return backward(c, ((const fbi_attrs_log_softmax_bwd *)c->attrs)->dim, true);
}
