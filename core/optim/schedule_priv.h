/* A schedule, as this room sees it. */
#ifndef FLAMBEAU_CORE_OPTIM_SCHEDULE_PRIV_H
#define FLAMBEAU_CORE_OPTIM_SCHEDULE_PRIV_H

#include "core/optim/optimizer_priv.h"

enum { FBI_SCHEDULE_SCALARS = 6, FBI_SCALAR_NAME = 32 };

typedef struct fbi_schedule_kind {
    const char *name;
    /* The rate at s->step as if it had been alone from the beginning; NULL: `next` of now. */
    double (*rate)(const fb_schedule *s);
    /* The rate at s->step, from that of the optimizer; NULL: `rate`. */
    double (*next)(fb_schedule *s, double lr);
    bool keeps_last; /* the last rate is state */
} fbi_schedule_kind;

struct fb_schedule {
    fb_context *ctx; /* the optimizer may be closed first */
    fb_optimizer *opt;
    const fbi_schedule_kind *kind;
    const fb_schedule *owner; /* of which it is a part; NULL: none */
    double base;              /* rate before there was a schedule */
    double last;              /* what it has set */
    int64_t step, total;
    double a, b; /* of the kind */
    fb_cosine_options cosine;
    fb_cyclic_options cyclic;
    fb_one_cycle_options cycle;
    fb_plateau_options plateau;
    double best;
    int64_t bad, cooldown;
    fb_schedule_fn fn;
    void *user;
    int64_t *at; /* owned: steps */
    int n_at;
    fb_schedule **of; /* owned, with what they point to: of a sequence, or a chain */
    int n_of;
    char (*names)[FBI_SCALAR_NAME]; /* owned: of their scalars */
};

/* A schedule like `init`, at step 0, whose rate is set; takes at, n_at, of and n_of over, also if
 * it fails. */
fb_schedule *fbi_schedule_new(fb_optimizer *opt, fb_schedule init);
/* One step, whatever the micro-batch is. */
fb_status fbi_schedule_advance(fb_schedule *s);
/* From step 0, as if the others before it had not been. */
fb_status fbi_schedule_restart(fb_schedule *s);
/* The rate becomes the optimizer's. */
fb_status fbi_schedule_set(fb_schedule *s, double lr);
/* Whether s may be used by itself; an error of `function` is set if not. */
bool fbi_schedule_free_to_use(const fb_schedule *s, const char *function);
/* s and all that it owns. */
void fbi_schedule_free(void *s);
/* The step function of a sequence, and of a chain; they have no rate of their own. */
extern const fbi_schedule_kind fbi_sequence, fbi_chain, fbi_plateau;
fb_status fbi_joined_advance(fb_schedule *s);
fb_status fbi_joined_restart(fb_schedule *s);

#endif
