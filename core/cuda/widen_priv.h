/* F16, BF16 and small integers under kernels that do not know them: wide copies, in one place. */
#ifndef FLAMBEAU_CORE_CUDA_WIDEN_PRIV_H
#define FLAMBEAU_CORE_CUDA_WIDEN_PRIV_H

#include "core/cuda/cuda_priv.h"

/* Whether an operand of the call needs a wide copy. */
bool fbi_cuda_wants_wide(const fbi_call *c);
/* `kernel` on wide copies of those operands; results are rounded once, to nearest. */
fb_status fbi_cuda_widened(const fbi_call *c, fbi_kernel kernel);

#endif
