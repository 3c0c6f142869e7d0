/* A loader: the plan of an epoch, the thread that reads ahead, and the state that checkpoints keep.
 */
#ifndef FLAMBEAU_IO_LOADER_PRIV_H
#define FLAMBEAU_IO_LOADER_PRIV_H

#include <pthread.h>

#include <flambeau/io/loader.h>

#include "core/tensor/tensor_priv.h"
#include "io/dataset_priv.h"
#include "io/sampler_priv.h"

/* Which samples a micro-batch holds: positions begin .. begin + n of the epoch's order. */
typedef struct fbi_unit {
    int64_t position; /* where its step begins */
    int64_t step_n;   /* samples of the step */
    int64_t begin, n; /* n = 0: an empty leaf, filled with a copy of one sample of share 0 */
    int64_t leaf;
    bool first, last; /* of this rank in the step */
} fbi_unit;

/* A micro-batch in host memory, pinned if there is a device, made by the thread. */
typedef struct fbi_slot {
    fbi_unit unit;
    int64_t *indices;
    void *fields[FB_MAX_FIELDS];     /* as stored */
    int64_t *lengths[FB_MAX_FIELDS]; /* rows of each sample, of fields that vary */
} fbi_slot;

/* A micro-batch that a device's copy queue reads from its slot. */
typedef struct fbi_upload {
    fbi_slot *slot; /* NULL: none */
    fbi_storage *fields[FB_MAX_FIELDS];
    void *arrived, *copied; /* events: for its reader, and for who fills the slot again */
} fbi_upload;

/* Walks over the units of this rank in an epoch. */
typedef struct fbi_plan {
    int64_t size, batch, micro; /* dataset, global batch, largest micro-batch (0: whole leaves) */
    int64_t leaves, first_leaf, n_leaves;
    bool drop_last;
    int64_t position, leaf, done; /* done: samples of the leaf already given */
} fbi_plan;

/* The next unit; false at the end of the epoch. */
bool fbi_plan_next(fbi_plan *plan, fbi_unit *unit);
/* Samples of the largest unit that the plan can give. */
int64_t fbi_plan_largest(const fbi_plan *plan);

struct fb_loader {
    fb_context *ctx;
    fb_group *group; /* or NULL */
    fb_dataset *ds;
    fbi_plan plan;               /* of the thread */
    fbi_sampler sampler;         /* of the thread */
    bool driving, inside;        /* inside: within an epoch that fb_loader_epoch began */
    int64_t rows[FB_MAX_FIELDS]; /* of each sample in a batch: 1, or as many as it may vary to */

    int64_t facts[FBI_SAMPLER_FACTS]; /* what decides the order, */
    int64_t kept[FBI_SAMPLER_FACTS];  /* and what a checkpoint says about it; else the same */
    int64_t epoch, position, step;    /* state: position of the next step, steps done in all */
    fb_tensor *tensors[FB_MAX_FIELDS], *lengths[FB_MAX_FIELDS]; /* of the current batch */
    int64_t *indices;
    int64_t n_indices;
    fbi_upload shown, ahead; /* on a device: the current batch, and the next on its way */

    /* between the threads; the lock guards what follows */
    pthread_t thread;
    bool started, quit, running,
        ended; /* running: the thread fills slots; ended: the plan is through */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t generation; /* a rewind makes what the thread holds worthless */
    fbi_slot *slots;
    int n_slots, head, full;
    fb_status status;
    char text[256];
};

/* Which samples the unit of a slot holds, one even if it is empty. */
void fbi_loader_choose(fb_loader *l, fbi_slot *slot);

/* Bytes of a sample of field f in a slot. */
size_t fbi_loader_sample_bytes(const fb_loader *l, int f);

/* The thread (io/prefetch.c). */
fb_status fbi_prefetch_open(fb_loader *l);
void fbi_prefetch_close(fb_loader *l);
/* Begin at a position of an epoch; what was read ahead is dropped. */
void fbi_prefetch_begin(fb_loader *l, int64_t epoch, int64_t position);
/* The oldest full slot, or the one so many behind it. `wait`: until the thread has filled it; NULL:
 * the epoch is through, or l->status is set. */
fbi_slot *fbi_prefetch_take(fb_loader *l, int behind, bool wait);
/* The oldest one may be filled again. */
void fbi_prefetch_give_back(fb_loader *l);

/* To a device (io/upload.c). */
/* The next micro-batch, which the compute queue may read; the one before is given back. NULL: as
 * fbi_prefetch_take, or an error is set. */
fbi_slot *fbi_upload_take(fb_loader *l);
/* Field f of that micro-batch, once, as the loader delivers it; in scope. */
fb_tensor *fbi_upload_tensor(fb_loader *l, int f, fb_shape shape);
/* Let the one behind it set out, if the thread has it. */
void fbi_upload_next(fb_loader *l);
/* Let go of both, before the slots are filled otherwise or freed. */
void fbi_upload_drop(fb_loader *l);

#endif
