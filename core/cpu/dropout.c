/* dropout: element i survives if word i of the stream is large enough. */
#include "core/base/rng_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/ops/dropout_priv.h"

enum { CHUNK = 1024 }; /* elements whose words are drawn together; a multiple of 4 */

/* Logical index -> place, in elements. */
static int64_t place(const fb_tensor *t, int64_t i)
{
    int64_t at = 0;
    for (int d = t->ndim - 1; d >= 0; d--) {
        at += i % t->size[d] * t->stride[d];
        i /= t->size[d];
    }
    return at;
}

#define DROP(T)                                                                              \
    static void drop_##T(const fbi_attrs_dropout *a, const fb_tensor *x, const fb_tensor *y, \
                         bool dense, int64_t first, int64_t n)                               \
    {                                                                                        \
        float u[CHUNK];                                                                      \
        const T *from = fbi_ptr(x);                                                          \
        T *to = fbi_ptr(y), scale = a->p < 1 ? (T)(1 / (1 - a->p)) : 0;                      \
        float p = (float)a->p;                                                               \
        fbi_rng_uniform_f32(a->key, a->stream, (uint64_t)first, u, (size_t)n);               \
        for (int64_t i = 0; dense && i < n; i++)                                             \
            to[first + i] = u[i] < p ? 0 : from[first + i] * scale;                          \
        for (int64_t i = 0; !dense && i < n; i++)                                            \
            to[place(y, first + i)] = u[i] < p ? 0 : from[place(x, first + i)] * scale;      \
    }
DROP(float)
DROP(double)

fb_status FBI_KERNEL(dropout)(const fbi_call *c)
{
    const fbi_attrs_dropout *a = c->attrs;
    const fb_tensor *x = c->in[0], *y = c->out[0];
    bool dense = fbi_contiguous(x) && fbi_contiguous(y), wide = x->dtype == FB_F64;
    int threads = x->numel > FBI_PAR_MIN ? c->threads : 1;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t first = 0; first < x->numel; first += CHUNK) {
        int64_t n = x->numel - first < CHUNK ? x->numel - first : CHUNK;
        if (wide)
            drop_double(a, x, y, dense, first, n);
        else
            drop_float(a, x, y, dense, first, n);
    }
    return FB_OK;
}

#define ALPHA(T)                                                                                 \
    static void alpha_##T(const fbi_attrs_alpha_dropout *a, const fb_tensor *x, T *to,           \
                          int64_t first, int64_t n)                                              \
    {                                                                                            \
        float u[CHUNK], p = (float)a->p;                                                         \
        fbi_alpha_numbers k = fbi_alpha_numbers_of(a->p);                                        \
        const T *from = fbi_ptr(x), scale = (T)k.scale, shift = (T)k.shift;                      \
        fbi_rng_uniform_f32(a->key, a->stream, (uint64_t)first, u, (size_t)n);                   \
        for (int64_t i = 0; i < n; i++)                                                          \
            to[first + i] = u[i] < p ? (T)k.dropped : from[place(x, first + i)] * scale + shift; \
    }
ALPHA(float)
ALPHA(double)

fb_status FBI_KERNEL(alpha_dropout)(const fbi_call *c)
{
    const fbi_attrs_alpha_dropout *a = c->attrs;
    const fb_tensor *x = c->in[0];
    bool wide = x->dtype == FB_F64;
    int threads = x->numel > FBI_PAR_MIN ? c->threads : 1;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t first = 0; first < x->numel; first += CHUNK) {
        int64_t n = x->numel - first < CHUNK ? x->numel - first : CHUNK;
        if (wide)
            alpha_double(a, x, fbi_ptr(c->out[0]), first, n);
        else
            alpha_float(a, x, fbi_ptr(c->out[0]), first, n);
    }
    return FB_OK;
}
