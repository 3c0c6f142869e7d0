/* A character GPT: the model of GPT-2, small. */
#ifndef EXAMPLES_CHARGPT_MODEL_H
#define EXAMPLES_CHARGPT_MODEL_H

#include <flambeau/flambeau.h>

typedef struct gpt_config {
    int64_t layers, heads, width, context, vocab;
    double dropout;
    /* What makes linear layers; NULL: fb_nn_linear. Theirs is the fields "weight" and "bias". */
    fb_module *(*linear)(fb_context *ctx, int64_t in, int64_t out, const fb_linear_options *opts);
} gpt_config;

/**
 * tokens [batch, time] I64, time <= context -> logits [batch, time, vocab].
 *
 * Pre-norm blocks, GELU, learnt positions, tied input and output embedding, GPT-2's initialisation:
 * normal(0, 0.02), residual projections scaled by 1 / sqrt(2 * layers).
 * Radford et al.: Language Models are Unsupervised Multitask Learners.
 */
fb_module *gpt_open(fb_context *ctx, const gpt_config *config);

#endif
