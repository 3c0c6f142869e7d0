/* The loops of the optimizers: one pass over parameter, gradient and state. Element by element, so
 * the bits do not depend on how the work is split. */
#include <math.h>
#include <string.h>

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
                    .g = r->g,
                    .scale = r->scale};
    for (int k = 0; k < FBI_MAX_STATES; k++)
        u.s[k] = r->s[k];
    return u;
}

fb_status fbi_update_flat(fb_context *ctx, const fbi_update *u)
{
    static void (*const loops[][2])(const fbi_update *) = {
        [FBI_UPDATE_SGD] = {sgd_f32, sgd_f64},
        [FBI_UPDATE_ADAM] = {adam_f32, adam_f64},
        [FBI_UPDATE_AVERAGE] = {average_f32, average_f64}};
    if (!ctx->backend->host_memory)
        return ctx->backend->average(ctx, u);
    loops[u->kind][u->dtype == FB_F64](u);
    return FB_OK;
}
