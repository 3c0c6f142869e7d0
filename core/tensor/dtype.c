#include <flambeau/core/tensor/dtype.h>

#include "core/tensor/tensor_priv.h"

const uint8_t fbi_dtype_bytes[FB_DTYPE_COUNT] = {
    [FB_F32] = 4, [FB_F64] = 8,  [FB_F16] = 2, [FB_BF16] = 2, [FB_I32] = 4, [FB_I64] = 8,
    [FB_U8] = 1,  [FB_BOOL] = 1, [FB_I8] = 1,  [FB_I16] = 2,  [FB_U16] = 2,
};

static const char *const names[FB_DTYPE_COUNT] = {
    "DEFAULT", "F32", "F64", "F16", "BF16", "I32", "I64", "U8", "BOOL", "I8", "I16", "U16",
};

static bool known(fb_dtype dtype)
{
    return dtype > FB_DTYPE_DEFAULT && dtype < FB_DTYPE_COUNT;
}

FB_API size_t fb_dtype_size(fb_dtype dtype)
{
    return known(dtype) ? fbi_dtype_bytes[dtype] : 0;
}

FB_API const char *fb_dtype_name(fb_dtype dtype)
{
    return known(dtype) || dtype == FB_DTYPE_DEFAULT ? names[dtype] : "unknown dtype";
}

FB_API bool fb_dtype_is_float(fb_dtype dtype)
{
    return dtype == FB_F32 || dtype == FB_F64 || dtype == FB_F16 || dtype == FB_BF16;
}

/* Place in the order of promotion; the two halves share one, as do types of equal width. */
static int rank_of(fb_dtype dtype)
{
    static const uint8_t ranks[FB_DTYPE_COUNT] = {
        [FB_BOOL] = 1, [FB_U8] = 2,  [FB_I8] = 2,   [FB_U16] = 3, [FB_I16] = 3, [FB_I32] = 4,
        [FB_I64] = 5,  [FB_F16] = 6, [FB_BF16] = 6, [FB_F32] = 7, [FB_F64] = 8,
    };
    return ranks[dtype];
}

/* What holds both signed and unsigned, or both halves. */
static fb_dtype wider(fb_dtype a)
{
    switch (rank_of(a)) {
    case 2:
        return FB_I16;
    case 3:
        return FB_I32;
    default:
        return FB_F32;
    }
}

FB_API fb_dtype fb_promote(fb_dtype a, fb_dtype b)
{
    a = known(a) ? a : FB_F32;
    b = known(b) ? b : FB_F32;
    if (a == b)
        return a;
    int ra = rank_of(a), rb = rank_of(b);
    if (ra == rb)
        return wider(a);
    fb_dtype high = ra > rb ? a : b, low = ra > rb ? b : a;
    return high == FB_U16 && low == FB_I8 ? FB_I32 : high; /* U16 has no sign */
}
