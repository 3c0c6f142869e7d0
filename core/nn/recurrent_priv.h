/* One step of a recurrent network: what layers and cells share. */
#ifndef FLAMBEAU_CORE_NN_RECURRENT_PRIV_H
#define FLAMBEAU_CORE_NN_RECURRENT_PRIV_H

#include "core/nn/nn_priv.h"
#include "core/ops/recurrent_priv.h"

/* Of one layer in one direction. */
typedef struct fbi_rnn_weights {
    fb_tensor *ih, *hh, *b_ih, *b_hh, *hr;
} fbi_rnn_weights;

typedef struct fbi_rnn_state {
    fb_tensor *h, *c; /* c: of LSTM */
} fbi_rnn_state;

typedef struct fbi_rnn_kind {
    const char *name, *cell;
    int gates, states;
    /* The input's part of the gates in, the next state out; NULL in it: error is set. */
    fbi_rnn_state (*step)(const fbi_rnn_weights *w, fb_tensor *gates, fbi_rnn_state s);
    bool joins_biases; /* both are added to the input's product */
} fbi_rnn_kind;

extern const fbi_rnn_kind fbi_rnn_kinds[FBI_RNN_KINDS];

/* The input's part of the gates: [..., in] -> [..., gates * hidden]. */
fb_tensor *fbi_rnn_gates(const fbi_rnn_kind *k, const fbi_rnn_weights *w, fb_tensor *x);
/* A declared weight [rows, cols], or a bias [rows] if cols is 0. */
fb_tensor *fbi_rnn_declare(fb_context *ctx, int64_t hidden, int64_t rows, int64_t cols);

#endif
