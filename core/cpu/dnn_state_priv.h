/* The cache of primitives inside the oneDNN adapter (dnn.c), for dnn_conv.c. */
#ifndef FLAMBEAU_CORE_CPU_DNN_STATE_PRIV_H
#define FLAMBEAU_CORE_CPU_DNN_STATE_PRIV_H

#include "core/cpu/dnn_api_priv.h"

enum { FBI_DNN_KEY = 24, FBI_DNN_ARGS = 8 };

/* Everything that a primitive depends on, the thread count included: it is part of the numerics. */
typedef struct fbi_dnn_key {
    int64_t kind, threads;
    int64_t v[FBI_DNN_KEY];
} fbi_dnn_key;

/* A reorder between the caller's plain weights and the layout that a primitive wants. */
typedef struct fbi_dnn_reorder {
    dnnl_primitive_t primitive; /* NULL: none needed */
    dnnl_memory_t from, to;
    size_t bytes; /* of the primitive's layout */
} fbi_dnn_reorder;

typedef struct fbi_dnn_entry {
    fbi_dnn_key key;
    dnnl_primitive_t primitive; /* NULL: oneDNN has no code for this, do not ask again */
    dnnl_exec_arg_t args[FBI_DNN_ARGS];
    int n_args;
    dnnl_memory_t scratchpad;
    size_t scratchpad_bytes;
    fbi_dnn_reorder reorder, add; /* add: the same with the result added */
} fbi_dnn_entry;

struct fbi_dnn {
    fb_context *ctx;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    fbi_dnn_entry **table; /* open addressing */
    int n;
    char *arena; /* scratch memory of one call */
    size_t arena_bytes;
};

/* The entry of a key; fresh (made by nobody yet) if *found is false. NULL: error is set. */
fbi_dnn_entry *fbi_dnn_find(fbi_dnn *d, const fbi_dnn_key *key, bool *found);
/* Add an argument with memory to be set at each call; takes a copy of md. */
dnnl_status_t fbi_dnn_arg(fbi_dnn *d, fbi_dnn_entry *e, int what, fbi_cmd md);
/* Make the primitive of a descriptor, with its scratchpad. */
dnnl_status_t fbi_dnn_make(fbi_dnn *d, fbi_dnn_entry *e, dnnl_primitive_desc_t pd);
dnnl_status_t fbi_dnn_reorder_make(fbi_dnn *d, fbi_dnn_reorder *r, fbi_cmd from, fbi_cmd to,
                                   bool add);
/* At least `bytes` of scratch memory. NULL: error is set. */
char *fbi_dnn_arena(fbi_dnn *d, size_t bytes);
/* An attribute with the scratchpad given by us, and a sum post-op if `sum`. NULL: out of memory. */
dnnl_primitive_attr_t fbi_dnn_attr(bool sum);
/* Set the handles of args[0 .. n_args) and run. `scratch` holds scratchpad_bytes. */
dnnl_status_t fbi_dnn_run(fbi_dnn *d, fbi_dnn_entry *e, void *const *data, void *scratch);
dnnl_status_t fbi_dnn_reorder_run(fbi_dnn *d, fbi_dnn_reorder *r, void *from, void *to);

/* OpenMP's team size set to `threads` from here to the end; returns what it was. */
int fbi_dnn_threads_begin(int threads);
void fbi_dnn_threads_end(int before);

static inline size_t fbi_dnn_round(size_t bytes)
{
    return (bytes + 4095) & ~(size_t)4095;
}

#endif
