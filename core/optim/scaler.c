/* The scale of losses: in the host's memory or, once a backward has used it there, in the card's,
 * where backwards and steps read and change it in the order of the compute queue. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/pointwise.h>

#include "core/ops/loss_scale_priv.h"
#include "core/optim/optimizer_priv.h"
#include "core/tensor/device_priv.h"

struct fb_scaler {
    fb_context *ctx;
    fbi_loss_scale here; /* unless it is on the device */
    fb_tensor *there;    /* one F64, the scale, with the rest behind it; NULL: not on the device */
};

static void forget_there(fb_scaler *s)
{
    fbi_tensor_unref(s->there);
    s->there = NULL;
}

static void scaler_free(void *object)
{
    fb_scaler *s = object;
    s->ctx->scaling = (fbi_scaling){0};
    forget_there(s);
    free(s);
}

static bool host(const fb_scaler *s)
{
    return s->ctx->backend->host_memory;
}

/* --- where it is --- */

static fb_status send(fb_scaler *s)
{
    fb_context *ctx = s->ctx;
    if (s->there)
        return FB_OK;
    fb_tensor *t = fbi_tensor_new_owned(ctx);
    if (!t)
        return ctx->status;
    fbi_set_shape(t, FB_F64, FB_SCALAR);
    t->storage = fbi_storage_new(ctx, sizeof s->here);
    if (!t->storage || ctx->backend->copy_in(ctx, t->storage->data, &s->here, sizeof s->here)) {
        fbi_tensor_unref(t);
        return ctx->status;
    }
    s->there = t;
    return FB_OK;
}

static fb_status fetch(fb_scaler *s)
{
    if (!s->there)
        return FB_OK;
    return s->ctx->backend->copy_out(s->ctx, &s->here, s->there->storage->data, sizeof s->here);
}

/* --- for backward --- */

static fb_tensor *scaled(fb_scaler *s, fb_tensor *grad)
{
    if (host(s)) {
        fbi_loss_scale_advance(&s->here);
        return fb_mul_scalar(grad, s->here.scale);
    }
    if (send(s) || s->ctx->backend->advance(s->ctx, s->there->storage->data))
        return NULL;
    return fb_to(fb_mul(grad, s->there), (fb_dtype)grad->dtype);
}

/* --- for steps --- */

double fbi_scaler_value(const fb_context *ctx)
{
    return ctx->scaling.scaler ? ctx->scaling.scaler->here.scale : 1;
}

void fbi_scaler_note(const fb_context *ctx, bool finite)
{
    fbi_loss_scale_note(&ctx->scaling.scaler->here, finite);
}

fbi_loss_scale *fbi_scaler_on_device(const fb_context *ctx)
{
    fb_scaler *s = ctx->scaling.scaler;
    return s && !send(s) ? s->there->storage->data : NULL;
}

/* --- for users --- */

static bool check(fb_context *ctx, const fb_scaler_options *o)
{
    bool fine = o->scale >= (double)FLT_MIN && o->scale <= (double)FLT_MAX && o->growth >= 1 &&
                o->growth <= (double)FLT_MAX && o->backoff > 0 && o->backoff <= 1 &&
                o->interval > 0;
    if (!fine)
        fbi_fail(ctx, FB_E_ARG,
                 "fb_optim_scaler: scale %g, growth %g, backoff %g, interval %lld: the scale must "
                 "be a positive F32, growth at least 1, backoff in (0, 1], the interval positive",
                 o->scale, o->growth, o->backoff, (long long)o->interval);
    return fine;
}

fb_scaler *fb_optim_scaler(fb_optimizer *opt, const fb_scaler_options *opts)
{
    fb_context *ctx = opt ? opt->ctx : NULL;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_scaler_options o = opts ? *opts : (fb_scaler_options){0};
    o.scale = o.scale == 0 ? 65536 : o.scale;
    o.growth = o.growth == 0 ? 2 : o.growth;
    o.backoff = o.backoff == 0 ? 0.5 : o.backoff;
    o.interval = o.interval == 0 ? 2000 : o.interval;
    if (!check(ctx, &o))
        return NULL;
    if (ctx->scaling.scaler) {
        fbi_fail(ctx, FB_E_STATE,
                 "fb_optim_scaler: the context has a scaler; all its optimizers "
                 "use that one");
        return NULL;
    }
    fb_scaler *s = calloc(1, sizeof *s);
    if (!s || fbi_context_adopt(ctx, s, scaler_free)) {
        free(s);
        fbi_fail(ctx, FB_E_NOMEM, "fb_optim_scaler: no memory");
        return NULL;
    }
    *s = (fb_scaler){
        .ctx = ctx,
        .here = {
            .scale = o.scale, .growth = o.growth, .backoff = o.backoff, .interval = o.interval}};
    ctx->scaling = (fbi_scaling){s, scaled};
    return s;
}

double fb_scaler_value(fb_scaler *s)
{
    if (!s || fetch(s))
        return NAN;
    fbi_loss_scale next = s->here;
    fbi_loss_scale_advance(&next);
    return next.scale;
}

int64_t fb_scaler_skipped(fb_scaler *s)
{
    return s && !fetch(s) ? s->here.skipped : 0;
}

void fb_scaler_close(fb_scaler *s)
{
    if (!s)
        return;
    fbi_context_forget(s->ctx, s);
    scaler_free(s);
}

/* --- for checkpoints: the numbers may be replaced, so they are here until the next use --- */

int fbi_scaler_scalars(fb_scaler *s, fbi_scalar *out, int n)
{
    fetch(s);
    forget_there(s);
    const fbi_scalar all[] = {{.name = "good", .i = &s->here.good},
                              {.name = "stepped", .i = &s->here.stepped},
                              {.name = "bad", .i = &s->here.bad},
                              {.name = "skipped", .i = &s->here.skipped},
                              {.name = "scale", .f = &s->here.scale}};
    for (int i = 0; i < n && i < 5; i++)
        out[i] = all[i];
    return 5;
}
