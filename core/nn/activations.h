/* Layers that apply one function to each element, or along one dimension. See ops/pointwise.h,
 * ops/functions.h and ops/blend.h for the functions; F32 F64 F16 BF16 of any shape where nothing
 * else is said. Their numbers are positional: PyTorch's defaults are named. NULL on error. */
#ifndef FLAMBEAU_CORE_NN_ACTIVATIONS_H
#define FLAMBEAU_CORE_NN_ACTIVATIONS_H

#include <flambeau/core/nn/module.h>

FB_BEGIN

/** max(x, 0). */
FB_API FB_USE_RESULT fb_module *fb_nn_relu(fb_context *ctx);
/** x, limited to [0, 6]. */
FB_API FB_USE_RESULT fb_module *fb_nn_relu6(fb_context *ctx);
/** x above 0, slope * x below; PyTorch: 0.01. */
FB_API FB_USE_RESULT fb_module *fb_nn_leaky_relu(fb_context *ctx, double slope);
/** x above 0, else x times a slope that is drawn for each element in [lower, upper] in training
 * and (lower + upper) / 2 in eval; PyTorch: 1/8, 1/3. Xu et al.: arXiv:1505.00853. */
FB_API FB_USE_RESULT fb_module *fb_nn_rrelu(fb_context *ctx, double lower, double upper);
/** x above 0, weight * x below. weight [n]: one for all, or one for each of the n channels, which
 * are dimension 1; `slope` at first, PyTorch: 0.25. He et al.: arXiv:1502.01852. */
FB_API FB_USE_RESULT fb_module *fb_nn_prelu(fb_context *ctx, int64_t n, double slope);
/** x above 0, alpha * (exp(x) - 1) below; PyTorch: 1. */
FB_API FB_USE_RESULT fb_module *fb_nn_elu(fb_context *ctx, double alpha);
/** x above 0, alpha * (exp(x / alpha) - 1) below; PyTorch: 1. */
FB_API FB_USE_RESULT fb_module *fb_nn_celu(fb_context *ctx, double alpha);
/** fb_selu. */
FB_API FB_USE_RESULT fb_module *fb_nn_selu(fb_context *ctx);
/** The exact one, by erf. */
FB_API FB_USE_RESULT fb_module *fb_nn_gelu(fb_context *ctx);
/** fb_gelu_tanh. */
FB_API FB_USE_RESULT fb_module *fb_nn_gelu_tanh(fb_context *ctx);
/** x * sigmoid(x). */
FB_API FB_USE_RESULT fb_module *fb_nn_silu(fb_context *ctx);
/** x * tanh(softplus(x)). */
FB_API FB_USE_RESULT fb_module *fb_nn_mish(fb_context *ctx);
/** x * relu6(x + 3) / 6. */
FB_API FB_USE_RESULT fb_module *fb_nn_hardswish(fb_context *ctx);
/** relu6(x + 3) / 6. */
FB_API FB_USE_RESULT fb_module *fb_nn_hardsigmoid(fb_context *ctx);
/** x, limited to [lo, hi]; PyTorch: -1, 1. */
FB_API FB_USE_RESULT fb_module *fb_nn_hardtanh(fb_context *ctx, double lo, double hi);
/** Hyperbolic tangent. */
FB_API FB_USE_RESULT fb_module *fb_nn_tanh(fb_context *ctx);
/** x - tanh(x). */
FB_API FB_USE_RESULT fb_module *fb_nn_tanhshrink(fb_context *ctx);
/** 1 / (1 + exp(-x)). */
FB_API FB_USE_RESULT fb_module *fb_nn_sigmoid(fb_context *ctx);
/** log(sigmoid(x)). */
FB_API FB_USE_RESULT fb_module *fb_nn_logsigmoid(fb_context *ctx);
/** log(1 + exp(beta x)) / beta, and x where beta x is above the threshold; PyTorch: 1, 20. */
FB_API FB_USE_RESULT fb_module *fb_nn_softplus(fb_context *ctx, double beta, double threshold);
/** x / (1 + |x|). */
FB_API FB_USE_RESULT fb_module *fb_nn_softsign(fb_context *ctx);
/** x, but 0 within [-lambda, lambda]; PyTorch: 0.5. */
FB_API FB_USE_RESULT fb_module *fb_nn_hardshrink(fb_context *ctx, double lambda);
/** x moved towards 0 by lambda, 0 within [-lambda, lambda]; PyTorch: 0.5. */
FB_API FB_USE_RESULT fb_module *fb_nn_softshrink(fb_context *ctx, double lambda);
/** x above the limit, elsewhere the value. */
FB_API FB_USE_RESULT fb_module *fb_nn_threshold(fb_context *ctx, double limit, double value);

/* Along `dim`, which may be negative. */
/** exp(x) / sum of exp(x). */
FB_API FB_USE_RESULT fb_module *fb_nn_softmax(fb_context *ctx, int dim);
/** log of that. */
FB_API FB_USE_RESULT fb_module *fb_nn_log_softmax(fb_context *ctx, int dim);
/** fb_nn_softmax of -x. */
FB_API FB_USE_RESULT fb_module *fb_nn_softmin(fb_context *ctx, int dim);
/** fb_nn_softmax over the channels of images [N, C, H, W] or [C, H, W]. */
FB_API FB_USE_RESULT fb_module *fb_nn_softmax2d(fb_context *ctx);
/** The first half times the sigmoid of the second; PyTorch: -1. arXiv:1612.08083. */
FB_API FB_USE_RESULT fb_module *fb_nn_glu(fb_context *ctx, int dim);

FB_END
#endif
