/* A second copy of a module that follows the first slowly. */
#include <stdlib.h>

#include "core/optim/optimizer_priv.h"
#include "core/tensor/device_priv.h"

struct fb_ema {
    fb_context *ctx;
    fb_module *from, *avg; /* both held */
    double decay;          /* unless there is a function */
    double (*decay_of)(int64_t n, void *user);
    void *user;
    int64_t updates;
};

static void ema_free(void *object)
{
    fb_ema *ema = object;
    fbi_nn_unref(ema->avg);
    fbi_nn_unref(ema->from);
    free(ema);
}

static fb_ema *open_average(fb_module *m, const char *name, fb_ema init)
{
    fb_ema *ema = calloc(1, sizeof *ema);
    if (!ema) {
        fbi_fail(m->ctx, FB_E_NOMEM, "%s: no memory", name);
        return NULL;
    }
    *ema = init;
    ema->ctx = m->ctx;
    ema->from = m;
    ema->avg = fb_nn_clone(m);
    if (!ema->avg) {
        free(ema);
        return NULL;
    }
    fbi_nn_ref(m);
    /* The EMA holds its copy itself: the context closes one of them, not both. */
    fbi_context_forget(m->ctx, ema->avg);
    if (fbi_context_adopt(m->ctx, ema, ema_free)) {
        ema_free(ema);
        return NULL;
    }
    fb_status st = fb_nn_param_count(ema->avg) ? fb_nn_requires_grad(ema->avg, "*", false) : FB_OK;
    return st ? NULL : ema;
}

fb_ema *fb_ema_open(fb_module *m, double decay)
{
    if (!fbi_nn_enter(m))
        return NULL;
    FBI_ENTRY(m->ctx);
    if (!(decay >= 0 && decay <= 1)) {
        fbi_fail(m->ctx, FB_E_ARG, "fb_ema_open: decay %g is not in [0, 1]", decay);
        return NULL;
    }
    return open_average(m, "fb_ema_open", (fb_ema){.decay = decay});
}

static double equal(int64_t n, void *user)
{
    (void)user;
    return (double)n / (double)(n + 1);
}

fb_ema *fb_swa_open(fb_module *m)
{
    if (!fbi_nn_enter(m))
        return NULL;
    FBI_ENTRY(m->ctx);
    return open_average(m, "fb_swa_open", (fb_ema){.decay_of = equal});
}

fb_ema *fb_average_open(fb_module *m, double (*decay)(int64_t n, void *user), void *user)
{
    if (!fbi_nn_enter(m))
        return NULL;
    FBI_ENTRY(m->ctx);
    if (!decay) {
        fbi_fail(m->ctx, FB_E_ARG, "fb_average_open: the function is NULL");
        return NULL;
    }
    return open_average(m, "fb_average_open", (fb_ema){.decay_of = decay, .user = user});
}

int64_t fb_ema_updates(const fb_ema *ema)
{
    return ema ? ema->updates : 0;
}

static fb_status follow(fb_ema *ema, fb_field_kind kind, fb_tensor *a, fb_tensor *x)
{
    fb_context *ctx = ema->ctx;
    fbi_changing(a);
    fbi_bump(a);
    if (kind == FB_FIELD_BUFFER)
        return x->numel ? ctx->backend->copy(ctx, fbi_ptr(a), fbi_ptr(x),
                                             (size_t)x->numel * fb_dtype_size(x->dtype))
                        : FB_OK;
    if (x->dtype != FB_F32 && x->dtype != FB_F64)
        return fbi_fail(ctx, FB_E_DTYPE, "fb_ema_update: %s is %s; F32 and F64 are averaged",
                        x->leaf->name, fb_dtype_name(x->dtype));
    return ctx->backend->average(ctx, &(fbi_average){.dtype = (fb_dtype)x->dtype,
                                                     .threads = ctx->threads,
                                                     .n = x->numel,
                                                     .a = fbi_ptr(a),
                                                     .x = fbi_ptr(x),
                                                     .decay = ema->decay});
}

static fb_status follow_all(fb_ema *ema, fb_field_kind kind)
{
    fbi_named_list a, x = {0};
    fb_status st = fbi_nn_collect(ema->avg, kind, true, &a);
    if (!st)
        st = fbi_nn_collect(ema->from, kind, true, &x);
    if (!st && a.n != x.n)
        st = fbi_fail(ema->ctx, FB_E_STATE,
                      "fb_ema_update: the module has changed since fb_ema_open");
    for (int64_t i = 0; i < a.n && !st; i++)
        st = follow(ema, kind, a.v[i].t, x.v[i].t);
    fbi_named_free(&a);
    fbi_named_free(&x);
    return st;
}

fb_status fb_ema_update(fb_ema *ema)
{
    if (!ema)
        return FB_E_ARG;
    fb_context *ctx = ema->ctx;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return ctx->status;
    if (ctx->in_step && !ctx->batch.last)
        return FB_OK;
    fb_status st = fb_nn_materialize(ema->from);
    if (ema->decay_of)
        ema->decay = ema->decay_of(ema->updates, ema->user);
    if (!st && !(ema->decay >= 0 && ema->decay <= 1))
        st = fbi_fail(ctx, FB_E_USER, "fb_ema_update: decay %g is not in [0, 1]", ema->decay);
    if (!st)
        st = follow_all(ema, FB_FIELD_PARAM);
    if (!st)
        st = follow_all(ema, FB_FIELD_BUFFER);
    ema->updates += !st;
    return st;
}

fb_module *fb_ema_module(fb_ema *ema)
{
    return ema ? ema->avg : NULL;
}

void fb_ema_close(fb_ema *ema)
{
    if (!ema)
        return;
    fbi_context_forget(ema->ctx, ema);
    ema_free(ema);
}

fb_status fbi_ema_each_state(fb_ema *ema, fbi_tensor_visit fn, void *user)
{
    fb_status st = fb_nn_each_param(ema->avg, fn, user);
    return st ? st : fb_nn_each_buffer(ema->avg, fn, user);
}

int fbi_ema_scalars(fb_ema *ema, fbi_scalar *out, int n)
{
    if (n > 0)
        out[0] = (fbi_scalar){.name = "updates", .i = &ema->updates};
    return 1;
}
