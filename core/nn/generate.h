/* Generation: keys and values of what was said so far, and the choice of the next token. Nothing
 * waits for the device. */
#ifndef FLAMBEAU_CORE_NN_GENERATE_H
#define FLAMBEAU_CORE_NN_GENERATE_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

typedef struct fb_kv_cache fb_kv_cache;

/**
 * Room for the keys and values of `layers` layers: [batch, heads, max_len, head_dim] each, for all
 * its life.
 *
 * @param heads those of keys and values; queries may have a multiple of them
 * @param dtype of what is stored; 0: F32. Attention is computed in it.
 * @return      NULL: FB_E_ARG for sizes below 1, FB_E_DTYPE, FB_E_NOMEM
 */
FB_API FB_USE_RESULT fb_kv_cache *fb_kv_cache_open(fb_context *ctx, int64_t layers, int64_t batch,
                                                   int64_t heads, int64_t max_len, int64_t head_dim,
                                                   fb_dtype dtype);
/**
 * Store k and v behind the tokens that are there, and let q attend to these and to those of its own
 * that are not later: causal attention.
 *
 * The tokens count once fb_kv_cache_advance is called, after the last layer. The sizes of what is
 * computed grow in steps of 64 tokens, so that there are few different ones.
 *
 * @param q [batch, H, T, head_dim] of floats; cache heads divide H
 * @param k [batch, heads, T, head_dim]; v the same
 * @return  like q. NULL: FB_E_SHAPE, FB_E_ARG (a layer that is not there), FB_E_STATE if the
 *          cache is full or a gradient is recorded: generation runs under fb_no_grad
 */
FB_API FB_USE_RESULT fb_tensor *fb_kv_cache_attend(fb_kv_cache *cache, int64_t layer, fb_tensor *q,
                                                   fb_tensor *k, fb_tensor *v);
/** n more tokens are there, in all layers; below 0: fewer, which gives up the last ones. */
FB_API fb_status fb_kv_cache_advance(fb_kv_cache *cache, int64_t n);
/** Tokens that are there. 0 for NULL. */
FB_API int64_t fb_kv_cache_length(const fb_kv_cache *cache);
/** Sequence i goes on as sequence index[i] has begun (I64 [batch]): for beams. */
FB_API fb_status fb_kv_cache_reorder(fb_kv_cache *cache, fb_tensor *index);
/** No tokens: for other sequences. */
FB_API void fb_kv_cache_reset(fb_kv_cache *cache);
/** Give it back; the context does it for what is left. NULL is allowed. */
FB_API void fb_kv_cache_close(fb_kv_cache *cache);

/** In this order; zero in every field: off. */
typedef struct fb_sample_options {
    double repetition_penalty; /**< logits of `previous` are divided by it where above 0, multiplied
                                    where below; above 0. Keskar et al.: arXiv:1909.05858 */
    fb_tensor *previous;       /**< integers [L], or [B, L]: tokens so far */
    int64_t top_k;             /**< only the k likeliest; of equal ones the first */
    double top_p; /**< only the likeliest that together have probability p, at least one: 0 < p
                     <= 1. Holtzman et al.: arXiv:1904.09751 */
    double min_p; /**< only those at least p times as likely as the likeliest. arXiv:2407.01082 */
} fb_sample_options;

/**
 * The next token: of softmax(logits / temperature), by the random numbers of the context; with
 * temperature 0 the likeliest. Computed in F64, so that devices agree.
 *
 * @param logits [V] or [B, V] of floats
 * @param opts   NULL: the whole distribution
 * @return       I64 [1] or [B, 1], on the device. NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG
 */
FB_API FB_USE_RESULT fb_tensor *fb_sample_token(fb_tensor *logits, double temperature,
                                                const fb_sample_options *opts);

FB_END
#endif
