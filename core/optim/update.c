/* The loops of the optimizers: one pass over parameter, gradient and state. Element by element, so
 * the bits do not depend on how the work is split. */
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/stream_priv.h"
#include "core/optim/optimizer_priv.h"
#include "core/tensor/device_priv.h"

enum {
    MIN_PARALLEL = 32768, /* elements below which one thread is faster */
    BLOCK = 1024          /* elements that are computed before they are written */
};

#define T         float
#define NAME(n)   n##_f32
#define SQRT      sqrtf
#define MAX(a, b) fmaxf(a, b)
#include "core/optim/update_body_priv.h"
#define T         double
#define NAME(n)   n##_f64
#define SQRT      sqrt
#define MAX(a, b) fmax(a, b)
#include "core/optim/update_body_priv.h"

fbi_update fbi_update_of(const fbi_run *r, fbi_update_kind kind)
{
    fbi_update u = {.kind = kind,
                    .dtype = r->dtype,
                    .threads = r->threads,
                    .n = r->n,
                    .p = r->p,
                    .half = r->half,
                    .g = r->g,
                    .scale = r->scale};
    for (int k = 0; k < FBI_MAX_STATES; k++)
        u.s[k] = r->s[k];
    return u;
}

static void (*const loops[][2])(const fbi_update *) = {
    [FBI_UPDATE_SGD] = {sgd_f32, sgd_f64},
    [FBI_UPDATE_ADAM] = {adam_f32, adam_f64},
    [FBI_UPDATE_AVERAGE] = {average_f32, average_f64}};

static float widened(fb_dtype dtype, uint16_t x)
{
    return dtype == FB_F16 ? fbi_f16_to_f32(x) : fbi_bf16_to_f32(x);
}

static uint16_t narrowed(fb_dtype dtype, float x)
{
    return dtype == FB_F16 ? fbi_f32_to_f16(x) : fbi_f32_to_bf16(x);
}

/* n halves from `at` on: the update is that of their master in F32, rounded. A half that is not the
 * master's rounding was changed by somebody, who is right. */
static void half_block(const fbi_update *u, int64_t at, int64_t n)
{
    float g[BLOCK], *p = (float *)u->p + at;
    uint16_t *half = u->half + at;
    const uint16_t *grad = (const uint16_t *)u->g + at;
    fbi_update part = *u;
    for (int64_t i = 0; i < n; i++) {
        g[i] = widened(u->dtype, grad[i]);
        if (narrowed(u->dtype, p[i]) != half[i])
            p[i] = widened(u->dtype, half[i]);
    }
    part.threads = 1;
    part.n = n;
    part.p = p;
    part.g = g;
    for (int k = 0; k < FBI_MAX_STATES; k++)
        part.s[k] = u->s[k] ? (float *)u->s[k] + at : NULL;
    loops[u->kind][0](&part);
    for (int64_t i = 0; i < n; i++)
        half[i] = narrowed(u->dtype, p[i]);
}

static void halves(const fbi_update *u)
{
    bool parallel = u->n > MIN_PARALLEL && u->threads > 1;
#pragma omp parallel for num_threads(u->threads) schedule(static) if (parallel)
    for (int64_t at = 0; at < u->n; at += BLOCK)
        half_block(u, at, u->n - at < BLOCK ? u->n - at : BLOCK);
}

fb_status fbi_update_flat(fb_context *ctx, const fbi_update *u)
{
    if (!ctx->backend->host_memory)
        return ctx->backend->average(ctx, u);
    if (u->half)
        halves(u);
    else
        loops[u->kind][u->dtype == FB_F64](u);
    return FB_OK;
}
