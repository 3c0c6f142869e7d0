/* The loops of the optimizers: one pass over parameter, gradient and state. Element by element, so
 * the bits depend neither on how the work is split nor on the instruction set. */
#include "core/cpu/kernels_isa.h"
#include "core/ops/update_priv.h"

enum { BLOCK = 512 }; /* elements: what is worked on together */

/* All threads have read all parameters in forward. A store to a line that another core holds waits
 * for it, up to 25 ns, so the lines are asked for a block ahead; a store past the caches would
 * make the next forward wait for memory. */
static void claim(const void *p, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 64)
        __builtin_prefetch((const char *)p + at, 1);
}

#define T       float
#define NAME(n) n##_f32
#include "core/cpu/update_body_priv.h"
#define T       double
#define NAME(n) n##_f64
#include "core/cpu/update_body_priv.h"

static void sweep(const fbi_update *u)
{
    if (u->dtype == FB_F64)
        sweep_f64(u);
    else
        sweep_f32(u);
}

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
    part.dtype = FB_F32;
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
    sweep(&part);
    for (int64_t i = 0; i < n; i++)
        half[i] = narrowed(u->dtype, p[i]);
}

static void halves(const fbi_update *u)
{
    bool parallel = u->n > FBI_PAR_MIN && u->threads > 1;
#pragma omp parallel for num_threads(u->threads) schedule(static) if (parallel)
    for (int64_t at = 0; at < u->n; at += BLOCK)
        half_block(u, at, u->n - at < BLOCK ? u->n - at : BLOCK);
}

void FBI_K(fbi_cpu_update)(const fbi_update *u)
{
    if (u->half)
        halves(u);
    else
        sweep(u);
}

void FBI_K(fbi_cpu_average)(const fbi_average *a)
{
    if (a->dtype == FB_F64)
        average_f64(a);
    else
        average_f32(a);
}
