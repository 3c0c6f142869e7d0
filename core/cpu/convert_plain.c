/* Conversion between any two dtypes, with strides. */
#include <string.h>

#include "core/base/half.h"
#include "core/cpu/loop.h"

/* Value of an element, and element of a value, per dtype. */
#define LOAD_F32(v)   (v)
#define LOAD_F64(v)   (v)
#define LOAD_F16(v)   fbi_f16_to_f32(v)
#define LOAD_BF16(v)  fbi_bf16_to_f32(v)
#define LOAD_I32(v)   (v)
#define LOAD_I64(v)   (v)
#define LOAD_U8(v)    (v)
#define LOAD_BOOL(v)  ((v) != 0)
#define LOAD_I8(v)    (v)
#define LOAD_I16(v)   (v)
#define LOAD_U16(v)   (v)
#define STORE_F32(v)  ((float)(v))
#define STORE_F64(v)  ((double)(v))
#define STORE_F16(v)  fbi_f32_to_f16((float)(v))
#define STORE_BF16(v) fbi_f32_to_bf16((float)(v))
#define STORE_I32(v)  ((int32_t)(v))
#define STORE_I64(v)  ((int64_t)(v))
#define STORE_U8(v)   ((uint8_t)(v))
#define STORE_BOOL(v) ((uint8_t)((v) != 0))
#define STORE_I8(v)   ((int8_t)(v))
#define STORE_I16(v)  ((int16_t)(v))
#define STORE_U16(v)  ((uint16_t)(v))

#define PAIR(S, ST, D)                                      \
    case FB_##S: {                                          \
        const ST *s = src;                                  \
        if (ds == 1 && ss == 1)                             \
            for (int64_t i = 0; i < n; i++)                 \
                d[i] = STORE_##D(LOAD_##S(s[i]));           \
        else                                                \
            for (int64_t i = 0; i < n; i++)                 \
                d[i * ds] = STORE_##D(LOAD_##S(s[i * ss])); \
        break;                                              \
    }

#define CONVERT_TO(D, DT)                                                                 \
    static void fbi_to_##D(DT *d, int64_t ds, const void *src, fb_dtype from, int64_t ss, \
                           int64_t n)                                                     \
    {                                                                                     \
        switch (from) {                                                                   \
            PAIR(F32, float, D)                                                           \
            PAIR(F64, double, D)                                                          \
            PAIR(F16, uint16_t, D)                                                        \
            PAIR(BF16, uint16_t, D)                                                       \
            PAIR(I32, int32_t, D)                                                         \
            PAIR(I64, int64_t, D)                                                         \
            PAIR(U8, uint8_t, D)                                                          \
            PAIR(BOOL, uint8_t, D)                                                        \
            PAIR(I8, int8_t, D)                                                           \
            PAIR(I16, int16_t, D)                                                         \
            PAIR(U16, uint16_t, D)                                                        \
        default:                                                                          \
            break;                                                                        \
        }                                                                                 \
    }

CONVERT_TO(F32, float)
CONVERT_TO(F64, double)
CONVERT_TO(F16, uint16_t)
CONVERT_TO(BF16, uint16_t)
CONVERT_TO(I32, int32_t)
CONVERT_TO(I64, int64_t)
CONVERT_TO(U8, uint8_t)
CONVERT_TO(BOOL, uint8_t)
CONVERT_TO(I8, int8_t)
CONVERT_TO(I16, int16_t)
CONVERT_TO(U16, uint16_t)

/* Same dtype: elements are moved as they are. */
#define MOVE(T)                         \
    {                                   \
        T *d = dst;                     \
        const T *s = src;               \
        for (int64_t i = 0; i < n; i++) \
            d[i * ds] = s[i * ss];      \
        break;                          \
    }

static void fbi_move(void *dst, int64_t ds, const void *src, int64_t ss, int64_t n, size_t bytes)
{
    if (ds == 1 && ss == 1) {
        memcpy(dst, src, (size_t)n * bytes);
        return;
    }
    switch (bytes) {
    case 1:
        MOVE(uint8_t)
    case 2:
        MOVE(uint16_t)
    case 4:
        MOVE(uint32_t)
    default:
        MOVE(uint64_t)
    }
}

void fbi_convert(void *dst, fb_dtype to, int64_t ds, const void *src, fb_dtype from, int64_t ss,
                 int64_t n)
{
    if (to == from) {
        fbi_move(dst, ds, src, ss, n, fb_dtype_size(to));
        return;
    }
    switch (to) {
    case FB_F32:
        fbi_to_F32(dst, ds, src, from, ss, n);
        break;
    case FB_F64:
        fbi_to_F64(dst, ds, src, from, ss, n);
        break;
    case FB_F16:
        fbi_to_F16(dst, ds, src, from, ss, n);
        break;
    case FB_BF16:
        fbi_to_BF16(dst, ds, src, from, ss, n);
        break;
    case FB_I32:
        fbi_to_I32(dst, ds, src, from, ss, n);
        break;
    case FB_I64:
        fbi_to_I64(dst, ds, src, from, ss, n);
        break;
    case FB_U8:
        fbi_to_U8(dst, ds, src, from, ss, n);
        break;
    case FB_BOOL:
        fbi_to_BOOL(dst, ds, src, from, ss, n);
        break;
    case FB_I8:
        fbi_to_I8(dst, ds, src, from, ss, n);
        break;
    case FB_I16:
        fbi_to_I16(dst, ds, src, from, ss, n);
        break;
    case FB_U16:
        fbi_to_U16(dst, ds, src, from, ss, n);
        break;
    default:
        break;
    }
}
