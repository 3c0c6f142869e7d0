#include "comm/reduce_priv.h"

#include <string.h>

#include "comm/tree_priv.h"
#include "core/base/half.h"
#include "core/ops/backend.h"

static_assert((int)FB_SUM == FBI_COMBINE_SUM && (int)FB_PROD == FBI_COMBINE_PROD &&
                  (int)FB_MIN == FBI_COMBINE_MIN && (int)FB_MAX == FBI_COMBINE_MAX &&
                  (int)FBI_ADD == FBI_COMBINE_JOIN,
              "a device joins as the host does");

enum { BLOCK = 1024 }; /* elements: operands of a block stay in the first-level cache */

/* NaN wins in MIN and MAX; integers wrap around. */
#define SUM_OF(a, b)  ((a) + (b))
#define PROD_OF(a, b) ((a) * (b))
#define MIN_OF(a, b)  ((a) < (b) || (a) != (a) ? (a) : (b))
#define MAX_OF(a, b)  ((a) > (b) || (a) != (a) ? (a) : (b))

#define COMBINE(name, type, wide, expression)                                   \
    static void name(void *out, const void *left, const void *right, int64_t n) \
    {                                                                           \
        type *o = out;                                                          \
        const type *l = left, *r = right;                                       \
        for (int64_t i = 0; i < n; i++)                                         \
            o[i] = (type)expression((wide)l[i], (wide)r[i]);                    \
    }
#define COMBINE_ALL(suffix, type, wide)         \
    COMBINE(sum_##suffix, type, wide, SUM_OF)   \
    COMBINE(prod_##suffix, type, wide, PROD_OF) \
    COMBINE(min_##suffix, type, type, MIN_OF)   \
    COMBINE(max_##suffix, type, type, MAX_OF)

COMBINE_ALL(f32, float, float)
COMBINE_ALL(f64, double, double)
COMBINE_ALL(i32, int32_t, uint32_t)
COMBINE_ALL(i64, int64_t, uint64_t)
COMBINE_ALL(u8, uint8_t, uint32_t)

typedef void (*combine_fn)(void *out, const void *left, const void *right, int64_t n);

static const combine_fn combine[FB_DTYPE_COUNT][FB_MAX + 1] = {
#define ROW(suffix)                                                                  \
    {                                                                                \
        [FB_SUM] = sum_##suffix, [FB_PROD] = prod_##suffix, [FB_MIN] = min_##suffix, \
        [FB_MAX] = max_##suffix                                                      \
    }
    [FB_F32] = ROW(f32), [FB_F64] = ROW(f64),
    [FB_F16] = ROW(f32), [FB_BF16] = ROW(f32),
    [FB_I32] = ROW(i32), [FB_I64] = ROW(i64),
    [FB_U8] = ROW(u8),   [FB_BOOL] = {[FB_MIN] = min_u8, [FB_MAX] = max_u8},
};

bool fbi_reduce_supports(fb_reduce_op op, fb_dtype dtype)
{
    return op >= FB_SUM && op <= FB_MAX && dtype < FB_DTYPE_COUNT && combine[dtype][op] != NULL;
}

static bool is_half(fb_dtype dtype)
{
    return dtype == FB_F16 || dtype == FB_BF16;
}

fb_dtype fbi_reduce_between(fb_dtype dtype, fb_dtype out_dtype)
{
    return is_half(dtype) || is_half(out_dtype) ? FB_F32 : dtype;
}

static void widen(fb_dtype dtype, const void *from, float *to, int64_t n)
{
    const uint16_t *h = from;
    if (dtype == FB_F16)
        for (int64_t i = 0; i < n; i++)
            to[i] = fbi_f16_to_f32(h[i]);
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = fbi_bf16_to_f32(h[i]);
}

static void narrow(fb_dtype dtype, const float *from, void *to, int64_t n)
{
    uint16_t *h = to;
    if (dtype == FB_F16)
        for (int64_t i = 0; i < n; i++)
            h[i] = fbi_f32_to_f16(from[i]);
    else
        for (int64_t i = 0; i < n; i++)
            h[i] = fbi_f32_to_bf16(from[i]);
}

/* One block. Operands are pointers into the sources or into `room`; the last addition writes `out`,
 * unless it has to be rounded first. */
static void reduce_block(combine_fn fn, fb_dtype dtype, fb_dtype out_dtype, const int16_t *program,
                         int length, const void *const *src, int64_t at, void *out, int64_t n)
{
    _Alignas(64) char room[FBI_MAX_DEPTH][BLOCK * sizeof(double)];
    const void *stack[FBI_MAX_DEPTH];
    size_t size = fb_dtype_size(dtype);
    bool round = is_half(out_dtype);
    int top = 0;
    for (int i = 0; i < length; i++) {
        if (program[i] == FBI_ADD) {
            top--;
            void *to = i == length - 1 && !round ? out : room[top - 1];
            fn(to, stack[top - 1], stack[top], n);
            stack[top - 1] = to;
            continue;
        }
        const void *from = (const char *)src[program[i]] + (size_t)at * size;
        if (is_half(dtype)) {
            widen(dtype, from, (float *)(void *)room[top], n);
            from = room[top];
        }
        stack[top++] = from;
    }
    if (round)
        narrow(out_dtype, stack[0], out, n);
    else if (stack[0] != out)
        memcpy(out, stack[0], (size_t)n * fb_dtype_size(out_dtype));
}

void fbi_reduce(fb_reduce_op op, fb_dtype dtype, fb_dtype out_dtype, const int16_t *program,
                int length, const void *const *src, void *out, int64_t n)
{
    combine_fn fn = combine[dtype][op];
    size_t size = fb_dtype_size(out_dtype);
    if (n == 0)
        return; /* `out` may be NULL */
    if (length == 0) {
        memset(out, 0, (size_t)n * size);
        return;
    }
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t block = n - at < BLOCK ? n - at : BLOCK;
        reduce_block(fn, dtype, out_dtype, program, length, src, at,
                     (char *)out + (size_t)at * size, block);
    }
}

fb_status fbi_combine(fb_context *ctx, fb_reduce_op op, fb_dtype dtype, fb_dtype out_dtype,
                      const int16_t *program, int length, const void *const *src, void *out,
                      int64_t n)
{
    if (!ctx->backend->host_memory)
        return ctx->backend->combine(ctx, (int)op, dtype, out_dtype, program, length, src, out, n);
    fbi_reduce(op, dtype, out_dtype, program, length, src, out, n);
    return FB_OK;
}
