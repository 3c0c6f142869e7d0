/* What the operators that make tensors share. */
#ifndef FLAMBEAU_CORE_OPS_CREATE_PRIV_H
#define FLAMBEAU_CORE_OPS_CREATE_PRIV_H

#include "core/ops/op_priv.h"

/* For infer of a row without inputs: output 0 of the attributes' dtype (0: F32) and size; `floats`:
 * of a floating dtype. */
fb_status fbi_out_made(fbi_call *c, int64_t dtype, fb_shape size, bool floats);
/* A call of such a row. NULL: the error is set. */
fb_tensor *fbi_run_made(const void *site, fb_context *ctx, fbi_op op, const void *attrs);

/* The next random numbers of the context of t; false: the error is set where one can be. */
bool fbi_draws(fb_tensor *t, const char *op, fbi_rng_stream *r);

#endif
