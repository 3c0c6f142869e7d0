#include "core/base/half.h"
#include "io/dataset_priv.h"

/* Stored values as F32: x * scale + shift. One loop a dtype, so that each is vectorised. */
#define CONVERT(type, read)                             \
    do {                                                \
        const type *x = src;                            \
        for (int64_t i = 0; i < n; i++)                 \
            out[i] = (float)read(x[i]) * scale + shift; \
    } while (0)

void fbi_dataset_convert(const fb_dataset_field *f, const void *src, int64_t samples, float *out)
{
    int64_t n = samples * fb_shape_numel(f->shape);
    float scale = (float)f->scale, shift = (float)f->shift;
    switch (f->dtype) {
    case FB_F32:
        CONVERT(float, );
        break;
    case FB_F64:
        CONVERT(double, );
        break;
    case FB_F16:
        CONVERT(uint16_t, fbi_f16_to_f32);
        break;
    case FB_BF16:
        CONVERT(uint16_t, fbi_bf16_to_f32);
        break;
    case FB_I32:
        CONVERT(int32_t, );
        break;
    case FB_I64:
        CONVERT(int64_t, );
        break;
    case FB_U8:
    case FB_BOOL:
        CONVERT(uint8_t, );
        break;
    case FB_I8:
        CONVERT(int8_t, );
        break;
    case FB_I16:
        CONVERT(int16_t, );
        break;
    case FB_U16:
        CONVERT(uint16_t, );
        break;
    case FB_DTYPE_DEFAULT:
    case FB_DTYPE_COUNT:
        break;
    }
}

#define TAKE(type)                      \
    do {                                \
        const type *x = stored;         \
        for (int64_t i = 0; i < n; i++) \
            out[i] = (int64_t)x[i];     \
    } while (0)

void fbi_dataset_integers(fb_dtype dtype, const void *stored, int64_t n, int64_t *out)
{
    switch (dtype) {
    case FB_I64:
        TAKE(int64_t);
        break;
    case FB_I32:
        TAKE(int32_t);
        break;
    case FB_I16:
        TAKE(int16_t);
        break;
    case FB_U16:
        TAKE(uint16_t);
        break;
    case FB_I8:
        TAKE(int8_t);
        break;
    case FB_U8:
    case FB_BOOL:
        TAKE(uint8_t);
        break;
    case FB_F32:
    case FB_F64:
    case FB_F16:
    case FB_BF16:
    case FB_DTYPE_DEFAULT:
    case FB_DTYPE_COUNT:
        break;
    }
}
