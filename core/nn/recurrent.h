/* Recurrent layers: tanh and ReLU networks, LSTM, GRU, of several layers and both directions, and
 * their cells. Weights have PyTorch's names, shapes and first values: weight_ih_l0, weight_hh_l0,
 * bias_ih_l0, bias_hh_l0, weight_hr_l0 (of projections), then _reverse and the next layers; cells
 * leave out the suffix. Uniform within 1 / sqrt(hidden); F32, or what fb_nn_to says. */
#ifndef FLAMBEAU_CORE_NN_RECURRENT_H
#define FLAMBEAU_CORE_NN_RECURRENT_H

#include <flambeau/core/nn/module.h>

FB_BEGIN

/** Zero in every field is the default. */
typedef struct fb_rnn_options {
    int64_t layers;     /**< one on another; 0: 1 */
    double dropout;     /**< in training, of what every layer but the last gives: 0 <= p <= 1 */
    bool batch_first;   /**< x and y are [N, T, ...], not [T, N, ...]; states are not */
    bool bidirectional; /**< a second network from the end to the start; y has both, side by side */
    bool no_bias;
    int64_t proj_size; /**< LSTM: h is a product with weight_hr [proj_size, hidden], below hidden */
    bool relu;         /**< of fb_nn_rnn: max(x, 0) instead of tanh */
} fb_rnn_options;

/**
 * h' = tanh(W_ih x + b_ih + W_hh h + b_hh), step by step.
 *
 * With D = 1 or 2 directions, fb_nn_forward gives y of x. fb_nn_forward_n takes (x), (x, h0) or
 * (x, h0, lengths), NULL for what is not given, and fills (y) or (y, h).
 *
 * @param x       [T, N, in] of floats, or [T, in] without a batch; T >= 1
 * @param h0      [layers * D, N, hidden], the states before the first step; NULL: zeros
 * @param lengths [N] of integers within 1 .. T, in any order: sequence n has the first lengths[n]
 *                steps of x. What lies behind has no influence and no gradient, y is 0 there, h is
 *                that at each sequence's end, and the other direction begins there. PyTorch's
 *                packed sequences. Read by the host: waits for the device.
 * @return        y [T, N, D * hidden] of the last layer; h like h0. FB_E_ARG for sizes below 1 or
 *                a dropout outside of 0 .. 1; calls: FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG
 *
 * Elman: Finding Structure in Time, Cognitive Science 14 (1990).
 */
FB_API FB_USE_RESULT fb_module *fb_nn_rnn(fb_context *ctx, int64_t in, int64_t hidden,
                                          const fb_rnn_options *opts);
/**
 * The same with memory: i, f, o = sigmoid(...), g = tanh(...), c' = f c + i g, h' = o tanh(c').
 *
 * (x), (x, h0, c0) or (x, h0, c0, lengths) give (y), (y, h) or (y, h, c). With projections h has
 * proj_size elements, c has hidden ones. Gates lie in the weights in the order i, f, g, o.
 *
 * Hochreiter, Schmidhuber: Neural Computation 9 (1997); Sak et al.: arXiv:1402.1128.
 */
FB_API FB_USE_RESULT fb_module *fb_nn_lstm(fb_context *ctx, int64_t in, int64_t hidden,
                                           const fb_rnn_options *opts);
/**
 * r, z = sigmoid(...), n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h.
 * Otherwise as fb_nn_rnn; gates in the order r, z, n. Cho et al.: arXiv:1406.1078.
 */
FB_API FB_USE_RESULT fb_module *fb_nn_gru(fb_context *ctx, int64_t in, int64_t hidden,
                                          const fb_rnn_options *opts);

typedef struct fb_rnn_cell_options {
    bool no_bias;
    bool relu; /**< of fb_nn_rnn_cell: max(x, 0) instead of tanh */
} fb_rnn_cell_options;

/** One step: (x [N, in] or [in], h) gives h', of [N, hidden] or [hidden]; h may be left out. */
FB_API FB_USE_RESULT fb_module *fb_nn_rnn_cell(fb_context *ctx, int64_t in, int64_t hidden,
                                               const fb_rnn_cell_options *opts);
/** (x, h, c) gives (h', c'), or (h'). */
FB_API FB_USE_RESULT fb_module *fb_nn_lstm_cell(fb_context *ctx, int64_t in, int64_t hidden,
                                                const fb_rnn_cell_options *opts);
/** As fb_nn_rnn_cell. */
FB_API FB_USE_RESULT fb_module *fb_nn_gru_cell(fb_context *ctx, int64_t in, int64_t hidden,
                                               const fb_rnn_cell_options *opts);

/**
 * Sequences [L_i, ...] of one dtype in one tensor [T, N, ...] ([N, T, ...] if batch_first), T the
 * longest of them, with `value` behind their ends. NULL: FB_E_ARG, FB_E_SHAPE.
 */
FB_API FB_USE_RESULT fb_tensor *fb_pad_sequence(fb_tensors x, bool batch_first, double value);

FB_END
#endif
