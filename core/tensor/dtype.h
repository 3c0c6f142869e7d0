/* Element types. */
#ifndef FLAMBEAU_CORE_TENSOR_DTYPE_H
#define FLAMBEAU_CORE_TENSOR_DTYPE_H

#include <flambeau/core/base/status.h>

FB_BEGIN

/** Element type of a tensor; 0 means "the default here", which is F32 unless said otherwise. */
typedef enum fb_dtype {
    FB_DTYPE_DEFAULT = 0,
    FB_F32,
    FB_F64,
    FB_F16,  /**< IEEE half; stored as such, computed in F32 */
    FB_BF16, /**< bfloat16; stored as such, computed in F32 */
    FB_I32,
    FB_I64,
    FB_U8,
    FB_BOOL, /**< one byte, 0 or 1 */
    FB_I8,   /**< of data; which operators take it: flambeau ops */
    FB_I16,  /**< of data; which operators take it: flambeau ops */
    FB_U16,  /**< of data; which operators take it: flambeau ops */
    FB_DTYPE_COUNT
} fb_dtype;

/** Bytes of one element; 0 for an unknown dtype. */
FB_API size_t fb_dtype_size(fb_dtype dtype);
/** Name as in messages, e.g. "F32". Never NULL. */
FB_API const char *fb_dtype_name(fb_dtype dtype);
/** F32 F64 F16 BF16. */
FB_API bool fb_dtype_is_float(fb_dtype dtype);
/** Type of the result of an operator on `a` and `b`, as PyTorch promotes tensors with dimensions.
 */
FB_API fb_dtype fb_promote(fb_dtype a, fb_dtype b);

FB_END
#endif
