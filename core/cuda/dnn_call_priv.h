/* How rows ask cuDNN: a plan for a problem, then its run. Rows that it may serve have a function
 * that is asked first (see kernels.c) and says whether it has done the call. */
#ifndef FLAMBEAU_CORE_CUDA_DNN_CALL_PRIV_H
#define FLAMBEAU_CORE_CUDA_DNN_CALL_PRIV_H

#include "core/cuda/cuda_priv.h"
#include "core/cuda/dnn_priv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* NULL: cuDNN does not do that, or there is no cuDNN. */
fbi_dnn_plan *fbi_cuda_dnn_plan(fb_context *ctx, const fbi_dnn_problem *p);
bool fbi_cuda_dnn_aligned(const void *p);
fb_status fbi_cuda_dnn_run(const fbi_call *c, fbi_dnn_plan *plan, void *const *operands);

fb_status fbi_cuda_dnn_conv2d(const fbi_call *c, bool *done);
fb_status fbi_cuda_dnn_conv2d_bwd_data(const fbi_call *c, bool *done);
fb_status fbi_cuda_dnn_conv2d_bwd_weight(const fbi_call *c, bool *done);
fb_status fbi_cuda_dnn_attention(const fbi_call *c, bool *done);
fb_status fbi_cuda_dnn_attention_bwd(const fbi_call *c, bool *done);

#ifdef __cplusplus
}
#endif
#endif
