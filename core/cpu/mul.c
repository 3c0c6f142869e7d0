/* The gradients of a product of two tensors, in one pass: each array is read or written once. */
#include "core/base/stream_priv.h"
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/lanes_priv.h"

/* Bytes of a piece, which begins with a line, and of how far ahead operands are asked for. */
enum { LINE = 64, PIECE = 1024, AHEAD = 16 << 10 };

/* g b and g a of n elements; `past`: both go past the caches, and begin with a line. */
#define MUL_BWD(T, V, suffix)                                                                      \
    static void both##suffix(const T *restrict g, const T *restrict a, const T *restrict b,        \
                             T *restrict ga, T *restrict gb, int64_t n)                            \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                          \
            ga[i] = g[i] * b[i];                                                                   \
            gb[i] = g[i] * a[i];                                                                   \
        }                                                                                          \
    }                                                                                              \
    static void both_past##suffix(const T *g, const T *a, const T *b, T *ga, T *gb, int64_t n)     \
    {                                                                                              \
        enum { SOME = PIECE / sizeof(T), WIDTH = sizeof(V) / sizeof(T), FAR = AHEAD / sizeof(T) }; \
        int64_t i = 0;                                                                             \
        for (; i + SOME <= n; i += SOME) {                                                         \
            fbi_stream_ahead(ga + i, PIECE);                                                       \
            fbi_stream_ahead(gb + i, PIECE);                                                       \
            for (int64_t k = i; k < i + SOME; k += WIDTH) {                                        \
                V v, w[2];                                                                         \
                __builtin_prefetch(g + k + FAR);                                                   \
                __builtin_prefetch(a + k + FAR);                                                   \
                __builtin_prefetch(b + k + FAR);                                                   \
                memcpy(&v, g + k, sizeof v);                                                       \
                memcpy(&w[0], b + k, sizeof v);                                                    \
                memcpy(&w[1], a + k, sizeof v);                                                    \
                w[0] = v * w[0];                                                                   \
                w[1] = v * w[1];                                                                   \
                put_vector(ga + k, &w[0], true);                                                   \
                put_vector(gb + k, &w[1], true);                                                   \
            }                                                                                      \
        }                                                                                          \
        both##suffix(g + i, a + i, b + i, ga + i, gb + i, n - i);                                  \
        fbi_stream_end();                                                                          \
    }                                                                                              \
    static void mul_bwd##suffix(const fbi_call *c, bool past)                                      \
    {                                                                                              \
        const T *g = fbi_ptr(c->in[0]), *a = fbi_ptr(c->in[1]), *b = fbi_ptr(c->in[2]);            \
        T *ga = fbi_ptr(c->out[0]), *gb = fbi_ptr(c->out[1]);                                      \
        int64_t n = c->in[0]->numel;                                                               \
        int team = fbi_team(c, n);                                                                 \
        int64_t per = ((n + team - 1) / team + LINE - 1) / LINE * LINE;                            \
        _Pragma("omp parallel for num_threads(team) schedule(static, 1) if (team > 1)") for (      \
            int64_t i = 0; i < n; i += per)                                                        \
        {                                                                                          \
            int64_t m = n - i < per ? n - i : per;                                                 \
            (past ? both_past##suffix : both##suffix)(g + i, a + i, b + i, ga + i, gb + i, m);     \
        }                                                                                          \
    }

MUL_BWD(float, fbi_v_f32, _f32)
MUL_BWD(double, fbi_v_f64, _f64)

/* Whether both go past the caches, which needs vectors of whole lines. */
static bool go_past(const fbi_call *c)
{
    size_t bytes = (size_t)c->in[0]->numel * fb_dtype_size((fb_dtype)c->in[0]->dtype);
    uintptr_t at = (uintptr_t)fbi_ptr(c->out[0]) | (uintptr_t)fbi_ptr(c->out[1]);
    return sizeof(fbi_v_f32) == LINE && at % LINE == 0 && fbi_streams(bytes);
}

fb_status FBI_KERNEL(mul_bwd)(const fbi_call *c)
{
    if (c->in[0]->numel == 0)
        return FB_OK;
    if (c->in[0]->dtype == FB_F32)
        mul_bwd_f32(c, go_past(c));
    else
        mul_bwd_f64(c, go_past(c));
    return FB_OK;
}
