/* What operators with a second output of indices share. */
#ifndef FLAMBEAU_CORE_OPS_PAIR_PRIV_H
#define FLAMBEAU_CORE_OPS_PAIR_PRIV_H

#include "core/ops/op_priv.h"

/* Run a row of one input and two outputs; either place may be NULL. */
fb_status fbi_run_pair(const void *site, fbi_op op, const void *attrs, fb_tensor *x,
                       fb_tensor **first, fb_tensor **second);
/* The gradient goes along `dim` where output 1 says that the value came from; `size` is the
 * input's. */
fb_status fbi_bwd_to_index(fbi_bw *bw, int64_t dim, fb_shape size);

#endif
