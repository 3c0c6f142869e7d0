/* What parallel, io and optim need of modules. */
#ifndef FLAMBEAU_CORE_NN_MODULE_PRIV_H
#define FLAMBEAU_CORE_NN_MODULE_PRIV_H

#include <flambeau/core/nn/module.h>

#include "core/autograd/node_priv.h"

/* Parameters of one root in two flat blocks, F32 and each of the other dtypes by itself: values and
 * gradients, in reverse registration order (the order in which backward finishes), each parameter
 * aligned to 256 bytes. Handles never change; their storage points in here. Made when the root is
 * materialised. Optimizers and DDP share it. */
typedef struct fbi_flat_param {
    fb_tensor *t;     /* the parameter */
    const char *name; /* full name, owned by its leaf */
    int64_t begin, n; /* elements in the block */
} fbi_flat_param;

typedef struct fbi_flat {
    fb_context *ctx;
    fb_dtype dtype;
    int64_t n;                 /* elements of the block, padding (zeros) included */
    fb_tensor *values, *grads; /* 1-D, owned */
    fbi_flat_param *params;    /* by `begin`, ascending */
    int n_params;
    struct fbi_flat *next; /* the block of another dtype */
} fbi_flat;

/* The flat blocks of a root, made (materialising the root) if need be. NULL: error is set. */
fbi_flat *fbi_nn_flat(fb_module *root);

/* Batch statistics. A batch-norm layer in training mode gives (batch mean, unbiased variance) of
 * this micro-batch to its sink instead of updating its running buffers; DDP averages them over the
 * leaves by share and updates once per step. NULL sink: the layer updates at once, as PyTorch. */
typedef struct fbi_stat_sink {
    void *self;
    fb_status (*give)(void *self, fb_module *layer, fb_tensor *mean, fb_tensor *var);
} fbi_stat_sink;
/* Running statistics of one layer. */
typedef struct fbi_running {
    fb_tensor *mean, *var,
        *count; /* buffers running_mean, running_var, num_batches_tracked (I64) */
    double momentum;
} fbi_running;
/* Every batch-norm layer of root, depth first. */
typedef fb_status (*fbi_norm_visit)(fb_module *layer, fbi_running running, void *user);
fb_status fbi_nn_each_norm(fb_module *root, fbi_norm_visit fn, void *user);
void fbi_nn_set_stat_sink(fb_module *layer, const fbi_stat_sink *sink);

/* What hangs on a root and is told of its life (DDP): closed before the module is freed. */
fb_status fbi_nn_adopt(fb_module *root, void *object, void (*close)(void *));
bool fbi_glob_match(const char *glob, const char *name);

#endif
