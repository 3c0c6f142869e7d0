/* What DDP and checkpoints need of optimizers. */
#ifndef FLAMBEAU_CORE_OPTIM_OPTIM_PRIV_H
#define FLAMBEAU_CORE_OPTIM_OPTIM_PRIV_H

#include <flambeau/core/optim/ema.h>
#include <flambeau/core/optim/meter.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/core/optim/scaler.h>
#include <flambeau/core/optim/schedule.h>

#include "core/nn/module_priv.h"
#include "core/ops/backend.h"

/* Elements in a row in a block of memory. */
typedef struct fbi_named_view {
    const char *name;
    fbi_storage *block;
    fb_dtype dtype;
    int64_t begin, n;
} fbi_named_view;

/* Decides with all ranks whether and how a step is applied. DDP hangs one on the context for each
 * attached root; without one the optimizer uses its own gradients. */
typedef struct fbi_commit {
    bool want_norm; /* in: clipping is on */
    double norm2;   /* out: squared norm of the summed gradients */
    double scale;   /* out: multiply gradients by this before use (1 / count) */
    bool apply;     /* out: false: not finite, or nothing was counted: skip the update */
    bool finite;    /* out: they are */
    /* Out, on a device, where nobody has looked at anything: the optimizer has it looked at there.
     * NULL: what is above holds. */
    const fbi_named_view *views; /* the summed gradients */
    int64_t n_views;
    fbi_named_view also; /* must be finite too; n 0: nothing */
    const double *count; /* device memory; NULL: `scale` is known */
} fbi_commit;

typedef struct fbi_reducer {
    void *self;
    fb_module *root;
    /* Gradients of root are summed over all leaves and ranks on return. Collective. */
    fb_status (*commit)(void *self, fbi_commit *c);
    /* Some gradients of root were zeroed (state FBI_GRAD_NONE). May be NULL. */
    void (*zeroed)(void *self);
    /* With views: do what depends on *fine (device memory), in the order of the device. */
    fb_status (*judged)(void *self, const int64_t *fine);
    /* With views, later: this view was not finite, in the step `at` (NULL: outside of steps). */
    void (*learned)(void *self, const fb_batch_info *at, const char *name);
    struct fbi_reducer *next;
} fbi_reducer;

/* Wait for what the device found in steps so far: counts of steps and of skipped ones are right. */
fb_status fbi_optim_settle(fb_optimizer *opt);
/* The same of all optimizers. */
fb_status fbi_optim_settle_all(fb_context *ctx);

/* Registry by root: set by DDP, asked by the optimizer. */
fb_status fbi_reducer_set(fb_module *root, fbi_reducer *reducer);
fbi_reducer *fbi_reducer_of(fb_module *root);

/* State by name, for checkpoints. Tensors ("<param>.exp_avg", "<param>.momentum", ...), then
 * scalars. Tensors are borrowed views; writing them restores the state. */
typedef fb_status (*fbi_tensor_visit)(const char *name, fb_tensor *t, void *user);
fb_status fbi_optim_each_state(fb_optimizer *opt, fbi_tensor_visit fn, void *user);
fb_status fbi_ema_each_state(fb_ema *ema, fbi_tensor_visit fn, void *user);
typedef struct fbi_scalar {
    const char *name; /* "step", "lr" */
    int64_t *i;       /* one of the two is set */
    double *f;
} fbi_scalar;
/* Fills at most n, returns how many there are. */
int fbi_optim_scalars(fb_optimizer *opt, fbi_scalar *out, int n);
int fbi_schedule_scalars(fb_schedule *s, fbi_scalar *out, int n);
int fbi_ema_scalars(fb_ema *ema, fbi_scalar *out, int n);
int fbi_scaler_scalars(fb_scaler *scaler, fbi_scalar *out, int n);
int fbi_meter_scalars(fb_meter *meter, fbi_scalar *out, int n);
/* [leaves of a step or more][FBI_METER_PAIR]: sum and count. A rank has those of its own leaves;
 * NULL: error set. */
double *fbi_meter_values(fb_meter *meter);
enum { FBI_METER_PAIR = 2 };

/* Where the host has the memory: sums of squares of n runs of floats, each in blocks of 4096
 * elements, added pairwise: the same bits for any number of threads. NaN if memory is short. */
void fbi_sums_of_squares(const fb_context *ctx, const fbi_flat_view *v, int64_t n, double *sums);
/* The same of one contiguous tensor. */
double fbi_sum_squares(const fb_tensor *t);

/* Where the host has the memory: whether all elements of n runs, of any float dtype, are finite. */
bool fbi_all_finite(const fb_context *ctx, const fbi_flat_view *v, int64_t n);
/* Say that the step `at` (NULL: none) is skipped, the n-th: the 1st, 2nd, 4th, 8th, ... are told.
 */
void fbi_skipped(const fb_batch_info *at, int64_t n, const char *why, ...) FB_PRINTF(3, 4);
/* The step that the context works on; NULL: none. */
const fb_batch_info *fbi_step_of(const fb_context *ctx);

#endif
