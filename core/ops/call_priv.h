/* Steps of a call, shared by call.c, infer.c and backward. */
#ifndef FLAMBEAU_CORE_OPS_CALL_PRIV_H
#define FLAMBEAU_CORE_OPS_CALL_PRIV_H

#include "core/ops/op_priv.h"

fb_status fbi_check_inputs(fb_context *ctx, const fbi_opdef *d, fb_tensor *const *in, int n_in);
/* fbi_run, its inputs checked, whatever autocast says. */
fb_status fbi_run_as_is(fb_context *ctx, const fbi_opdef *d, const void *attrs,
                        fb_tensor *const *in, int n_in, fb_tensor **out);
/* The kernel of the call on the context's device. */
fb_status fbi_launch(fbi_call *c);
/* A node for the call; outputs point at it. */
fb_status fbi_record(fbi_call *c);
/* In anomaly mode, after the kernel: an error if a result is odd and no input was. `before`: what
 * in[0] had been, if the call has overwritten it; NULL: it has not. */
fb_status fbi_watch(const fbi_call *c, const fbi_oddity *before);
/* Recorded cast and broadcast; NULL: error is set. */
fb_tensor *fbi_cast_to(fb_tensor *t, fb_dtype dtype);
fb_tensor *fbi_expand_to(fb_tensor *t, fb_shape sizes, const char *op);

#endif
