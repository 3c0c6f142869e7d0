/* Files of other programs. */
#ifndef FLAMBEAU_IO_INTERCHANGE_H
#define FLAMBEAU_IO_INTERCHANGE_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/**
 * Read a NumPy array: float16 to 64, int8 to 64, uint8, uint16 and bool, little-endian, C or
 * Fortran order, versions 1 to 3.
 *
 * NEP 1. FB_E_NOT_FOUND, FB_E_IO for a file that is cut or no array, FB_E_DTYPE for other types.
 */
FB_API FB_USE_RESULT fb_tensor *fb_npy_load(fb_context *ctx, const char *path);
/** Write a NumPy array, version 1, C order; BF16 is written as F32. */
FB_API fb_status fb_npy_save(fb_tensor *t, const char *path);

FB_END
#endif
