/* Operators that choose the dtypes they compute in. */
#ifndef FLAMBEAU_CORE_OPS_AUTOCAST_H
#define FLAMBEAU_CORE_OPS_AUTOCAST_H

#include <flambeau/core/tensor/context.h>
#include <flambeau/core/tensor/dtype.h>

FB_BEGIN

/**
 * Mixed precision until the innermost scope ends, as torch.autocast.
 *
 * Products and convolutions get their F32 inputs (and those in the other half) in `dtype`, FB_BF16
 * or FB_F16; what needs the range or the digits of F32 (losses and decompositions, on cards
 * exponentials, sums and norms, too) gets halves in F32; joins take the widest dtype. The lists are
 * PyTorch's, for the CPU and for cards (core/ops/autocast.c). F64 and integers stay as they are,
 * and so do operators in place. Parameters and gradients keep their dtype: casts are recorded; that
 * of a parameter is made once, until the scope ends, a backward is done or the parameter changes.
 * Backward uses the dtypes of forward. With FB_F16, scale the losses (fb_optim_scaler).
 *
 * FB_F32 turns it off within. FB_E_DTYPE for others. On a CPU a half is a way to store: products
 * are computed in F32 and rounded, which saves memory and not time.
 */
FB_API void fb_autocast(fb_context *ctx, fb_dtype dtype);
/** The dtype that it has now; FB_F32 if it is off. */
FB_API fb_dtype fb_autocast_dtype(const fb_context *ctx);

FB_END
#endif
