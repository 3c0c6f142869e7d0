/* Kinds of recurrent networks, for their row, its kernels and core/nn. */
#ifndef FLAMBEAU_CORE_OPS_RECURRENT_PRIV_H
#define FLAMBEAU_CORE_OPS_RECURRENT_PRIV_H

#include <stdbool.h>

typedef enum fbi_rnn_index {
    FBI_RNN_TANH,
    FBI_RNN_RELU,
    FBI_LSTM,
    FBI_GRU,
    FBI_RNN_KINDS
} fbi_rnn_index;

/* How many gates there are, and how many numbers for each unit backward wants of a step: the gates,
 * for GRU also the state's part of the last one. Whether there is a memory beside h, and whether
 * the state's part has a bias of its own. */
typedef struct fbi_rnn_form {
    int gates, saved;
    bool memory, biased;
} fbi_rnn_form;

static const fbi_rnn_form fbi_rnn_forms[FBI_RNN_KINDS] = {
    {1, 0, false, false}, {1, 0, false, false}, {4, 4, true, false}, {3, 4, false, true}};

#endif
