/* A loader: the plan of an epoch, the threads that read ahead, and the state that checkpoints keep.
 */
#ifndef FLAMBEAU_IO_LOADER_PRIV_H
#define FLAMBEAU_IO_LOADER_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

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

/* A field as micro-batches have it: the dataset's, or what a stage makes. */
typedef struct fbi_batch_field {
    fb_dataset_field form;
    char name[FBI_NAME_BYTES];
    size_t bytes; /* of a sample, or of a row if it varies */
    int64_t rows; /* of each sample: 1, or as many as it may vary to */
} fbi_batch_field;

/* A sample on its way from the dataset into a micro-batch. Its random numbers are a function of
 * seed, epoch, index and draw, whatever rank, thread and micro-batch it is in. */
typedef struct fbi_sample {
    uint64_t seed;
    int64_t epoch, index;   /* index: in the dataset */
    int64_t draw;           /* its place in an epoch that may have it more than once; else -1 */
    const void *const *in;  /* by field of the dataset, as stored */
    const int64_t *in_rows; /* rows that `in` has, of fields that vary: all that are stored */
    void *const *out;       /* by field of the stage: room in the micro-batch */
    int64_t *rows;          /* of fields of the stage that vary: rows there is room for; set it to
                               those written. The rest is filled with zeros */
    void *scratch;          /* the thread's own, stage->scratch_bytes, aligned like malloc's */
} fbi_sample;

/* All samples of a micro-batch, once they are there. */
typedef struct fbi_made {
    uint64_t seed;
    int64_t epoch, n;
    const int64_t *indices;
    void *const *fields; /* by field of the stage: [n] samples, one behind the other */
    void *scratch;
} fbi_made;

/* What makes a micro-batch's samples of the dataset's, on the loader's threads: no context. NULL in
 * the loader: samples go into the micro-batch as they are stored. */
typedef struct fbi_stage fbi_stage;
struct fbi_stage {
    int n_fields;
    fb_dataset_field fields[FB_MAX_FIELDS]; /* names are the stage's own; `longest` of those that
                                               vary is how long they may become */
    size_t scratch_bytes;
    uint64_t hash; /* of all that decides what it makes: the same on every rank */
    /* 0, or a status with a message in `text`, which names the sample. */
    fb_status (*sample)(const fbi_stage *stage, const fbi_sample *s, char *text, size_t size);
    /* NULL: nothing is done with whole micro-batches. */
    fb_status (*batch)(const fbi_stage *stage, const fbi_made *b, char *text, size_t size);
    void (*free)(fbi_stage *stage);
};

enum { FBI_LOADER_TEXT = 512 };

/* A micro-batch in host memory, pinned if there is a device, made by the threads. */
typedef struct fbi_slot {
    fbi_unit unit;
    int64_t *indices;
    void *fields[FB_MAX_FIELDS];     /* by field of the loader */
    int64_t *lengths[FB_MAX_FIELDS]; /* rows that each sample has, of fields that vary, */
    int64_t rows[FB_MAX_FIELDS];     /* and those that it takes, with padding */
    /* the lock guards what follows */
    int64_t n, next, left;      /* samples; the first that no thread has; those not there yet */
    bool done;                  /* complete, or failed */
    fb_status status;           /* of its first sample that failed, */
    int64_t failed;             /* which is this one, */
    char text[FBI_LOADER_TEXT]; /* and why */
} fbi_slot;

/* A thread that makes samples. */
typedef struct fbi_worker {
    struct fb_loader *loader;
    pthread_t thread;
    void *raw[FB_MAX_FIELDS]; /* with a stage: a sample as it is stored */
    void *scratch;
} fbi_worker;

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
    /* Samples of the ranks' own (io/ring.c); else NULL: all ranks' are the same. Positions are then
     * as if all steps were full. */
    const int64_t *have, *parts; /* [ranks]: in the epoch, in a full step */
    int ranks, rank;
} fbi_plan;

/* The next unit; false at the end of the epoch. */
bool fbi_plan_next(fbi_plan *plan, fbi_unit *unit);
/* Steps of the epoch. */
int64_t fbi_plan_steps(const fbi_plan *plan);
/* Samples of the largest unit that the plan can give. */
int64_t fbi_plan_largest(const fbi_plan *plan);

struct fb_loader {
    fb_context *ctx;
    fb_group *group; /* or NULL */
    fb_dataset *ds;
    fbi_stage *stage; /* or NULL; the loader's own */
    fbi_batch_field fields[FB_MAX_FIELDS];
    int n_fields;
    bool pad_to_batch;                                   /* fields that vary are as long as the
                                                            longest sample needs, */
    int64_t pad_multiple;                                /* in multiples of this */
    double delivered[FB_MAX_FIELDS], had[FB_MAX_FIELDS]; /* rows, with padding and without */
    fbi_plan plan;                                       /* of the threads */
    fbi_sampler sampler;                                 /* of the threads, one at a time */
    bool repeats;         /* an epoch may have a sample more than once */
    bool driving, inside; /* inside: within an epoch that fb_loader_epoch began */

    int64_t facts[FBI_SAMPLER_FACTS]; /* what decides the order, */
    int64_t kept[FBI_SAMPLER_FACTS];  /* and what a checkpoint says about it; else the same */
    int64_t epoch, position, step;    /* state: position of the next step, steps done in all */
    fb_tensor *tensors[FB_MAX_FIELDS], *lengths[FB_MAX_FIELDS]; /* of the current batch */
    int64_t *indices;
    int64_t n_indices, first_index; /* first: of the samples that there are, of a ring; else 0 */
    fbi_upload shown, ahead;        /* on a device: the current batch, and the next on its way */

    /* between the threads; the lock guards what follows */
    fbi_worker *workers; /* and one more, for the context's thread while it waits */
    int n_workers, started;
    int64_t chunk;      /* samples that a thread takes at once */
    bool locks;         /* there are a lock and conditions */
    bool quit, running; /* running: the plan goes on */
    bool choosing;      /* a thread asks for the next unit and its samples */
    atomic_bool drop;   /* what is being made is not wanted any more */
    int busy;           /* threads that make samples */
    pthread_mutex_t lock;
    pthread_cond_t work, ready; /* for the threads; for the context's */
    fbi_slot *slots;
    int n_slots, head, planned; /* slots that have a unit, from `head` on */
    fb_status status;
    char text[FBI_LOADER_TEXT];
};

/* Which samples the unit of a slot holds, one even if it is empty. */
void fbi_loader_choose(fb_loader *l, fbi_slot *slot);

/* fb_loader_open with a stage, which is the loader's from now on, or freed if it fails. */
fb_loader *fbi_loader_open_staged(fb_group *group, fb_dataset *ds, const fb_loader_options *opts,
                                  fbi_stage *stage);
/* A list of transforms as a stage (io/stage.c), on a dataset of which the first `limit` samples are
 * used (0: all). NULL: error is set. */
fbi_stage *fbi_stage_of_transforms(fb_dataset *ds, fb_transforms list, int64_t limit);
/* Bytes of a sample of field f in a slot. */
size_t fbi_loader_sample_bytes(const fb_loader *l, int f);

/* The threads (io/prefetch.c): any number of them give the same micro-batches in the same order. */
fb_status fbi_prefetch_open(fb_loader *l);
void fbi_prefetch_close(fb_loader *l);
/* What was read ahead is dropped, and the threads stand still. */
void fbi_prefetch_stop(fb_loader *l);
/* After that: begin at a position of an epoch. */
void fbi_prefetch_begin(fb_loader *l, int64_t epoch, int64_t position);
/* The oldest slot, or the one so many behind it. `wait`: until it is complete; NULL: it is not, or
 * the epoch is through, or it failed (then the oldest one sets l->status). */
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
