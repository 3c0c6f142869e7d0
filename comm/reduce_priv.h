/* Elementwise reductions of several arrays along a program (comm/tree_priv.h), block by block. */
#ifndef FLAMBEAU_COMM_REDUCE_PRIV_H
#define FLAMBEAU_COMM_REDUCE_PRIV_H

#include <flambeau/comm/collective.h>

/* out[i] = src[0][i] op src[1][i] op ... in the order of `program`; zeros if it is empty.
 *
 * F16 and BF16 are added in F32 and rounded once; sources may be F32 while `out_dtype` is F16 or
 * BF16, otherwise both are the same. `out` may be one of the sources. */
void fbi_reduce(fb_reduce_op op, fb_dtype dtype, fb_dtype out_dtype, const int16_t *program,
                int length, const void *const *src, void *out, int64_t n);

/* Whether `op` is defined on `dtype`. */
bool fbi_reduce_supports(fb_reduce_op op, fb_dtype dtype);

#endif
