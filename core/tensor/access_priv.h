/* Elements on the host. */
#ifndef FLAMBEAU_CORE_TENSOR_ACCESS_PRIV_H
#define FLAMBEAU_CORE_TENSOR_ACCESS_PRIV_H

#include "core/tensor/context_priv.h"

extern const uint8_t fbi_dtype_bytes[FB_DTYPE_COUNT];

/* All elements, row-major, of a live tensor. Sets no error. */
fb_status fbi_copy_to_host(fb_tensor *t, void *dst);
/* Element i of a host array. */
double fbi_element_f64(fb_dtype dtype, const void *at, int64_t i);
int64_t fbi_element_i64(fb_dtype dtype, const void *at, int64_t i);

#endif
