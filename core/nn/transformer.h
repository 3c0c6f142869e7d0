/* Attention of several heads, and the layers of transformers. Weights have PyTorch's names, shapes
 * and first values. As there, sequences are [T, N, dim] unless batch_first, or [T, dim] without a
 * batch. F32, or what fb_nn_to says. */
#ifndef FLAMBEAU_CORE_NN_TRANSFORMER_H
#define FLAMBEAU_CORE_NN_TRANSFORMER_H

#include <flambeau/core/nn/module.h>

FB_BEGIN

/** Zero in every field is the default. */
typedef struct fb_mha_options {
    int64_t kdim, vdim; /**< features of keys and values; 0: dim */
    double dropout;     /**< in training, of the weights: 0 <= p <= 1 */
    bool no_bias;
    bool add_bias_kv;   /**< a learned key and value behind the others: bias_k, bias_v */
    bool add_zero_attn; /**< a key and value of zeros behind the others */
    bool batch_first;   /**< q, k, v and the result are [N, T, ...] */
} fb_mha_options;

/**
 * Attention of `heads` heads of dim / heads features each: out_proj(heads side by side).
 *
 * in_proj_weight [3 dim, dim] (of other widths q_proj_weight [dim, dim], k_proj_weight [dim, kdim],
 * v_proj_weight [dim, vdim]), in_proj_bias [3 dim], out_proj.weight, out_proj.bias. Called by
 * fb_nn_attend, or by fb_nn_forward_n with (q, k, v), (q, k, v, padding) or (q, k, v, padding,
 * mask), NULL for what is not given, for (y) or (y, weights). FB_E_ARG if heads do not divide dim.
 *
 * Vaswani et al.: Attention Is All You Need, arXiv:1706.03762.
 */
FB_API FB_USE_RESULT fb_module *
fb_nn_multihead_attention(fb_context *ctx, int64_t dim, int64_t heads, const fb_mha_options *opts);

/** What may look at what. In BOOL masks true must not be looked at, as in torch.nn (and unlike
 * fb_sdpa_options); floats are added to the scores. What nothing may look at gets zeros. */
typedef struct fb_attend_options {
    fb_tensor *mask;    /**< [T, S] or [N * heads, T, S]: attn_mask */
    fb_tensor *padding; /**< [N, S], without a batch [S]: key_padding_mask */
    bool causal;        /**< position t sees keys 0 .. t only */
    bool per_head;      /**< weights of each head, [N, heads, T, S], not their mean [N, T, S] */
} fb_attend_options;

/**
 * Call of fb_nn_multihead_attention.
 *
 * @param q       [T, N, dim], see batch_first
 * @param k       [S, N, kdim]
 * @param v       [S, N, vdim]
 * @param opts    NULL: everything looks at everything
 * @param weights receives the weights, dropped out in training, as they multiply v; NULL: they are
 *                not stored, which is faster
 * @return        like q, or NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG
 */
FB_API FB_USE_RESULT fb_tensor *fb_nn_attend(fb_module *m, fb_tensor *q, fb_tensor *k, fb_tensor *v,
                                             const fb_attend_options *opts, fb_tensor **weights);

/** Zero in every field is the default. */
typedef struct fb_transformer_options {
    int64_t ff;     /**< features between linear1 and linear2; 0: 2048 */
    double dropout; /**< 0 <= p <= 1; 0: none, where PyTorch's default is 0.1 */
    bool gelu;      /**< fb_gelu instead of fb_relu */
    double eps;     /**< of the norms; 0: 1e-5 */
    bool batch_first;
    bool norm_first; /**< each part normalises its input, not its output */
    bool no_bias;    /**< in linear layers, attention and norms */
    bool final_norm; /**< of a stack: "norm" behind the last layer; fb_nn_transformer has them */
} fb_transformer_options;

/** self_attn, then linear2(relu(linear1(x))), each added to its input; norm1 and norm2. Called by
 * fb_nn_transformer_encode, fb_nn_forward, or fb_nn_forward_n with (x, padding, mask). */
FB_API FB_USE_RESULT fb_module *fb_nn_transformer_encoder_layer(fb_context *ctx, int64_t dim,
                                                                int64_t heads,
                                                                const fb_transformer_options *opts);
/** self_attn, multihead_attn to the encoder's result, linear1 and linear2; norm1 .. norm3. Called
 * by fb_nn_transformer_decode, or fb_nn_forward_n with (x, memory). */
FB_API FB_USE_RESULT fb_module *fb_nn_transformer_decoder_layer(fb_context *ctx, int64_t dim,
                                                                int64_t heads,
                                                                const fb_transformer_options *opts);
/** `n` encoder layers: layers.0, layers.1, ... Each has first values of its own. */
FB_API FB_USE_RESULT fb_module *fb_nn_transformer_encoder(fb_context *ctx, int64_t dim,
                                                          int64_t heads, int64_t n,
                                                          const fb_transformer_options *opts);
/** The same of decoder layers. */
FB_API FB_USE_RESULT fb_module *fb_nn_transformer_decoder(fb_context *ctx, int64_t dim,
                                                          int64_t heads, int64_t n,
                                                          const fb_transformer_options *opts);
/** Both, with final norms: encoder.layers.0..., decoder.layers.0...; matrices are drawn by
 * fb_init_xavier_uniform. fb_nn_transformer_apply, or fb_nn_forward_n with (source, target). */
FB_API FB_USE_RESULT fb_module *fb_nn_transformer(fb_context *ctx, int64_t dim, int64_t heads,
                                                  int64_t encoder_layers, int64_t decoder_layers,
                                                  const fb_transformer_options *opts);

/** Call of an encoder, or of one of its layers; opts: of the attention, or NULL. */
FB_API FB_USE_RESULT fb_tensor *fb_nn_transformer_encode(fb_module *m, fb_tensor *x,
                                                         const fb_attend_options *opts);
/** Call of a decoder, or of one of its layers: what x may see of itself and what of memory; either
 * may be NULL. */
FB_API FB_USE_RESULT fb_tensor *fb_nn_transformer_decode(fb_module *m, fb_tensor *x,
                                                         fb_tensor *memory,
                                                         const fb_attend_options *self,
                                                         const fb_attend_options *cross);
/** Call of fb_nn_transformer: `source` is encoded, `target` decoded. Options as above. */
FB_API FB_USE_RESULT fb_tensor *fb_nn_transformer_apply(fb_module *m, fb_tensor *source,
                                                        fb_tensor *target,
                                                        const fb_attend_options *encode,
                                                        const fb_attend_options *self,
                                                        const fb_attend_options *cross);

FB_END
#endif
