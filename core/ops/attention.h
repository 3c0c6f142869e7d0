/* Attention. */
#ifndef FLAMBEAU_CORE_OPS_ATTENTION_H
#define FLAMBEAU_CORE_OPS_ATTENTION_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** Zero in every field is the default. */
typedef struct fb_sdpa_options {
    fb_tensor *mask; /**< broadcasts to [..., T, S]; BOOL: true takes part; of q's dtype, or F32
                        with F16 and BF16: added to the scores, and has a gradient */
    bool causal;     /**< position t sees the first t + 1 keys only; not together with a mask */
    double dropout;  /**< probability with which a weight is zeroed; give it in training only */
    double scale;    /**< of the scores; 0: 1 / sqrt(D) */
    bool enable_gqa; /**< k and v may have fewer heads, which q's heads share in groups: head h of q
                        uses head h / (H / their number) */
} fb_sdpa_options;

/**
 * softmax(q k^T scale + mask) v.
 *
 * A row of which nothing takes part gives zeros. No [T, S] tensor is kept (one is made for the
 * gradient of a mask, and where leading dimensions broadcast).
 *
 * @param q [..., T, D] of floats, usually [B, H, T, D]
 * @param k [..., S, D], with enable_gqa of H_k heads where H_k divides H
 * @param v [..., S, E]
 * @return  [..., T, E], or NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG, FB_E_NOMEM
 *
 * Vaswani et al.: Attention Is All You Need, arXiv:1706.03762; Dao et al.: FlashAttention,
 * arXiv:2205.14135; Ainslie et al.: GQA, arXiv:2305.13245.
 */
FB_API FB_USE_RESULT fb_tensor *fb_scaled_dot_product_attention(fb_tensor *q, fb_tensor *k,
                                                                fb_tensor *v,
                                                                const fb_sdpa_options *opts);

FB_END
#endif
