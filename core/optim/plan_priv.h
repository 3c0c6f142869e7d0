/* A step on a device: what is to be measured and updated there, as tables in its memory, and what
 * it found, which the host learns later. */
#ifndef FLAMBEAU_CORE_OPTIM_PLAN_PRIV_H
#define FLAMBEAU_CORE_OPTIM_PLAN_PRIV_H

#include "core/ops/backend.h"
#include "core/optim/optim_priv.h"

enum { FBI_VERDICTS = 8 }; /* steps whose verdict the host does not know yet */

typedef struct fbi_entry fbi_entry;

/* What tells one part from another. */
typedef struct fbi_part_key {
    fb_module *of;          /* a module of the root whose reducer sums them; NULL: nobody does */
    const fbi_tally *tally; /* what the sums counted that nobody reduces; NULL: nothing */
    int64_t look;           /* it is measured */
} fbi_part_key;

/* Gradients that are counted and judged together. */
typedef struct fbi_plan_part {
    fbi_part_key key;
    fbi_reducer *reducer;
    fbi_commit c;          /* of a reducer */
    int64_t chunk, chunks; /* to be measured */
} fbi_plan_part;

/* One launch that measures. */
typedef struct fbi_plan_look {
    fbi_storage *block;
    fb_dtype dtype;
    bool norm;
    int64_t chunk, chunks;
} fbi_plan_look;

/* One launch that updates: rows whose entries lie in the same blocks. */
typedef struct fbi_plan_run {
    const fbi_entry *like;
    int64_t row, n, chunks;
} fbi_plan_run;

/* A step whose verdict is on its way. */
typedef struct fbi_pending {
    void *event;
    fbi_verdict *found; /* pinned, and the parts behind it */
    bool apply, clip, in_step;
    fb_batch_info at;
} fbi_pending;

typedef struct fbi_plan {
    /* of this step */
    fbi_loss_scale *loss_scale; /* NULL: losses are not scaled */
    fbi_plan_part *parts;
    int n_parts;
    fbi_stretch *spans;
    const char **names; /* [n_spans]; NULL: batch statistics */
    fbi_plan_look *looks;
    int64_t n_spans, n_looks, cap_spans, chunks;
    fbi_row *rows;
    fbi_plan_run *runs;
    int64_t n_rows, n_runs, cap_rows;

    /* on the device */
    char *sent; /* copy of `table`: keys of the parts, spans, rows */
    size_t sent_bytes;
    int sent_parts;
    int64_t sent_spans;
    char **sent_names;
    fbi_storage *table;
    fbi_storage *board; /* the verdict, parts, factors, chunks */
    fbi_storage *steps; /* [n_steps] of each entry; NULL: the entries know better */
    int64_t n_steps;

    fbi_pending pending[FBI_VERDICTS]; /* a ring: n_pending from `first` on */
    int first, n_pending, room;        /* room: parts that fit into the pinned memory */
    char *pinned;
} fbi_plan;

/* Rows and parts of this step: commits with all ranks where there is a reducer. */
fb_status fbi_plan_make(fb_optimizer *opt, fbi_plan *plan, bool *apply, double *norm2);
/* The tables are on the device. */
fb_status fbi_plan_send(fb_optimizer *opt, fbi_plan *plan);
void fbi_plan_free(fb_optimizer *opt, fbi_plan *plan);

#endif
