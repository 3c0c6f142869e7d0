/* Networks that are only measured. */
#ifndef TESTS_BENCH_MODELS_H
#define TESTS_BENCH_MODELS_H

#include <flambeau/flambeau.h>

/**
 * fb_nn_linear as PyTorch's autocast runs it: parameters and gradients are F32, the product takes
 * BF16 copies of input, weight and bias, made in each step, and gives BF16.
 */
fb_module *linear16_open(fb_context *ctx, int64_t in, int64_t out, const fb_linear_options *opts);
/** The same for a convolution without bias, with padding k / 2. */
fb_module *conv16_open(fb_context *ctx, int64_t in, int64_t out, int64_t k, int64_t stride);

/** ResNet-18 with a 3 x 3 stem for images of 32 x 32, ten classes. */
fb_module *resnet18_open(fb_context *ctx);
/** ResNet-50 with the stride in its 3 x 3 convolutions, as PyTorch's; the first layer has `width`
 * channels (64). Products and convolutions in BF16. */
fb_module *resnet50_open(fb_context *ctx, int64_t width, int64_t classes);

#endif
