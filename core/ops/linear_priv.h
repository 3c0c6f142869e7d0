/* What linear and linear_act share. */
#ifndef FLAMBEAU_CORE_OPS_LINEAR_PRIV_H
#define FLAMBEAU_CORE_OPS_LINEAR_PRIV_H

#include "core/ops/op_priv.h"

/* Gradients of x and of w (inputs 0 and 1) from g, that of x w^T + b: fast. */
fb_status fbi_linear_bwd_x(fbi_bw *bw, fb_tensor *g);
fb_status fbi_linear_bwd_w(fbi_bw *bw, fb_tensor *g);
/* Those of x, w and b, of operators. */
fb_status fbi_linear_bwd_ops(fbi_bw *bw, fb_tensor *g);

#endif
