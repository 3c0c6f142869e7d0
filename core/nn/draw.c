/* First values: element i of a parameter depends on (seed, root number, full name, i) only, so that
 * neither construction order nor threads nor a later sharding changes them. */
#include <math.h>
#include <stdlib.h>

#include "core/base/half.h"
#include "core/base/normal_priv.h"
#include "core/base/philox_priv.h"
#include "core/nn/nn_priv.h"
#include "core/tensor/device_priv.h"

typedef struct law {
    enum { LAW_CONSTANT, LAW_UNIFORM, LAW_NORMAL, LAW_TRUNC } kind;
    double a, b;   /* value; low and width; mean and std */
    double lo, hi; /* of LAW_TRUNC, in std from the mean */
} law;

/* As PyTorch counts: dimension 1 is the input's, 0 the output's, the rest a receptive field. */
static void fans(const fb_tensor *t, double *in, double *out)
{
    double field = 1;
    for (int i = 2; i < t->ndim; i++)
        field *= (double)t->size[i];
    *in = t->ndim > 1 ? (double)t->size[1] * field : t->ndim ? (double)t->size[0] : 1;
    *out = t->ndim > 1 ? (double)t->size[0] * field : *in;
}

static law law_of(const fb_tensor *t, fb_init init)
{
    double in, out, bound, fan, gain = sqrt(2 / (1 + init.a * init.a));
    fans(t, &in, &out);
    switch ((fbi_init_kind)init.kind) {
    case FBI_INIT_ZEROS:
        return (law){LAW_CONSTANT, 0, 0, 0, 0};
    case FBI_INIT_CONSTANT:
        return (law){LAW_CONSTANT, init.a, 0, 0, 0};
    case FBI_INIT_NORMAL:
        return (law){LAW_NORMAL, init.a, init.b, 0, 0};
    case FBI_INIT_UNIFORM:
        return (law){LAW_UNIFORM, init.a, init.b - init.a, 0, 0};
    case FBI_INIT_TRUNC_NORMAL:
        return (law){LAW_TRUNC, init.a, init.b, -2, 2};
    case FBI_INIT_TRUNC_WITHIN:
        return (law){LAW_TRUNC, init.a, init.b, (init.c - init.a) / init.b,
                     (init.d - init.a) / init.b};
    case FBI_INIT_XAVIER_NORMAL:
        return (law){LAW_NORMAL, 0, init.a * sqrt(2 / (in + out)), 0, 0};
    case FBI_INIT_FAN_NORMAL:
    case FBI_INIT_FAN_UNIFORM:
        fan = init.b == FB_FAN_OUT ? out : in;
        bound = init.a * sqrt(3 / fan);
        if (init.kind == FBI_INIT_FAN_NORMAL)
            return (law){LAW_NORMAL, 0, init.a / sqrt(fan), 0, 0};
        return (law){LAW_UNIFORM, -bound, 2 * bound, 0, 0};
    case FBI_INIT_EYE:
    case FBI_INIT_DIRAC:
    case FBI_INIT_ORTHOGONAL:
    case FBI_INIT_SPARSE:
    case FBI_INIT_NORMAL_PADDED: /* fbi_nn_draw_whole */
        break;
    case FBI_INIT_XAVIER_UNIFORM:
        bound = init.a * sqrt(6 / (in + out));
        return (law){LAW_UNIFORM, -bound, 2 * bound, 0, 0};
    case FBI_INIT_KAIMING_NORMAL:
        return (law){LAW_NORMAL, 0, gain / sqrt(in), 0, 0};
    case FBI_INIT_KAIMING_UNIFORM:
        bound = gain * sqrt(3 / in);
        return (law){LAW_UNIFORM, -bound, 2 * bound, 0, 0};
    }
    return (law){LAW_CONSTANT, 0, 0, 0, 0};
}

static double uniform(uint32_t hi, uint32_t lo)
{
    return fbi_u64_to_f64((uint64_t)hi << 32 | lo);
}

static double normal(const uint32_t w[4])
{
    return fbi_normal_of(1 - uniform(w[0], w[1]), uniform(w[2], w[3]));
}

double fbi_nn_draw_normal(uint64_t key, int64_t i)
{
    uint32_t w[4];
    fbi_philox(key, 0, (uint64_t)i, w);
    return normal(w);
}

/* The z in lo .. hi that has a share u of the distribution there below it, from the side on which
 * its function is exact. */
static double between(double lo, double hi, double u)
{
    double side = lo > 0 ? 1 : -1, r = side / sqrt(2);
    double at_lo = erfc(r * lo), at_hi = erfc(r * hi), want = at_lo + u * (at_hi - at_lo);
    lo = lo < -40 ? -40 : lo;
    hi = hi > 40 ? 40 : hi;
    for (int i = 0; i < 64; i++) {
        double z = lo + (hi - lo) / 2;
        bool right = side * erfc(r * z) > side * want;
        lo = right ? z : lo;
        hi = right ? hi : z;
    }
    return lo;
}

static double draw_one(law l, uint64_t key, int64_t i)
{
    uint32_t w[4];
    if (l.kind == LAW_CONSTANT)
        return l.a;
    fbi_philox(key, 0, (uint64_t)i, w);
    if (l.kind == LAW_UNIFORM)
        return l.a + l.b * uniform(w[0], w[1]);
    double z = normal(w);
    uint64_t attempt = 1;
    for (; l.kind == LAW_TRUNC && (z < l.lo || z > l.hi) && attempt < 32; attempt++) {
        fbi_philox(key, attempt, (uint64_t)i, w);
        z = normal(w);
    }
    if (attempt == 32) { /* far from the middle */
        fbi_philox(key, attempt, (uint64_t)i, w);
        z = between(l.lo, l.hi, uniform(w[0], w[1]));
    }
    return l.a + l.b * z;
}

enum { BLOCK = 256 };

/* Elements from .. from + n, BLOCK at most: what is done to all of them in turn vectorises. */
static void draw_block(law l, uint64_t key, int64_t from, int64_t n, double *out)
{
    if (l.kind != LAW_NORMAL) {
        for (int64_t i = 0; i < n; i++)
            out[i] = draw_one(l, key, from + i);
        return;
    }
    double u[BLOCK], v[BLOCK];
    for (int64_t i = 0; i < n; i++) {
        uint32_t w[4];
        fbi_philox(key, 0, (uint64_t)(from + i), w);
        u[i] = 1 - uniform(w[0], w[1]);
        v[i] = uniform(w[2], w[3]);
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = l.a + l.b * fbi_normal_of(u[i], v[i]);
}

static void store(fb_dtype dtype, void *to, int64_t i, double x)
{
    switch (dtype) {
    case FB_F32:
        ((float *)to)[i] = (float)x;
        break;
    case FB_F64:
        ((double *)to)[i] = x;
        break;
    case FB_F16:
        ((uint16_t *)to)[i] = fbi_f32_to_f16((float)x);
        break;
    case FB_BF16:
        ((uint16_t *)to)[i] = fbi_f32_to_bf16((float)x);
        break;
    case FB_I32:
        ((int32_t *)to)[i] = (int32_t)x;
        break;
    case FB_I64:
        ((int64_t *)to)[i] = (int64_t)x;
        break;
    default:
        ((uint8_t *)to)[i] = dtype == FB_BOOL ? x != 0 : (uint8_t)x;
    }
}

static uint64_t key_of(uint64_t seed, int64_t root_number, const char *name)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325); /* FNV-1a */
    for (const char *p = name; *p; p++)
        h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001B3);
    return fbi_mix64(fbi_mix64(fbi_mix64(seed) ^ (uint64_t)root_number) ^ h);
}

fb_status fbi_nn_draw(fb_tensor *t, fb_init init, int64_t root_number, const char *name)
{
    fb_context *ctx = t->ctx;
    size_t bytes = (size_t)t->numel * fb_dtype_size(t->dtype);
    law l = law_of(t, init);
    uint64_t key = key_of(ctx->seed, root_number, name);
    if (init.kind == FBI_INIT_TRUNC_WITHIN && !(l.b > 0 && l.lo <= l.hi))
        return fbi_fail(ctx, FB_E_ARG,
                        "first values of %s: a normal distribution of std %g in %g .. %g", name,
                        init.b, init.c, init.d);
    double *whole = NULL;
    if (init.kind >= FBI_INIT_EYE) {
        whole = malloc((size_t)t->numel * sizeof *whole + 1);
        fb_status st =
            whole ? fbi_nn_draw_whole(t, init, key, name, whole)
                  : fbi_fail(ctx, FB_E_NOMEM, "no memory for the first values of %s", name);
        if (st) {
            free(whole);
            return st;
        }
    }
    fbi_changing(t);
    bool direct = ctx->backend->host_memory;
    void *to = direct ? fbi_ptr(t) : malloc(bytes ? bytes : 1);
    if (!to) {
        free(whole);
        return fbi_fail(ctx, FB_E_NOMEM, "no memory for the first values of %s", name);
    }
    fb_dtype dtype = (fb_dtype)t->dtype;
    int64_t n = t->numel;
#pragma omp parallel for num_threads(ctx->threads) if (n > 16384)
    for (int64_t at = 0; at < n; at += BLOCK) {
        double block[BLOCK];
        int64_t count = n - at < BLOCK ? n - at : BLOCK;
        if (!whole)
            draw_block(l, key, at, count, block);
        for (int64_t i = 0; i < count; i++)
            store(dtype, to, at + i, whole ? whole[at + i] : block[i]);
    }
    free(whole);
    fb_status st = FB_OK;
    if (!direct) {
        st = bytes ? ctx->backend->copy_in(ctx, fbi_ptr(t), to, bytes) : FB_OK;
        free(to);
    }
    fbi_bump(t);
    return st;
}
