/* Elementwise reductions of several arrays along a program (comm/tree_priv.h), block by block. */
#ifndef FLAMBEAU_COMM_REDUCE_PRIV_H
#define FLAMBEAU_COMM_REDUCE_PRIV_H

#include <flambeau/comm/collective.h>

/* out[i] = src[0][i] op src[1][i] op ... in the order of `program`; zeros if it is empty.
 *
 * F16 and BF16 are added in F32 and rounded once. `out_dtype` is that of the sources, or one of the
 * two is F32 and the other F16 or BF16. `out` may be one of the sources. */
void fbi_reduce(fb_reduce_op op, fb_dtype dtype, fb_dtype out_dtype, const int16_t *program,
                int length, const void *const *src, void *out, int64_t n);

/* The same on the memory of a context's device, which may be the host's, in the order of the
 * compute queue. */
fb_status fbi_combine(fb_context *ctx, fb_reduce_op op, fb_dtype dtype, fb_dtype out_dtype,
                      const int16_t *program, int length, const void *const *src, void *out,
                      int64_t n);

/* What a part of such a sum is on its way to the rest: F32 where 16 bits would be rounded. */
fb_dtype fbi_reduce_between(fb_dtype dtype, fb_dtype out_dtype);

/* Whether `op` is defined on `dtype`. */
bool fbi_reduce_supports(fb_reduce_op op, fb_dtype dtype);

#endif
