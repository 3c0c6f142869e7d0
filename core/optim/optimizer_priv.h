/* The optimizer, as this room sees it. */
#ifndef FLAMBEAU_CORE_OPTIM_OPTIMIZER_PRIV_H
#define FLAMBEAU_CORE_OPTIM_OPTIMIZER_PRIV_H

#include "core/nn/nn_priv.h"
#include "core/ops/backend.h"
#include "core/optim/optim_priv.h"
#include "core/optim/plan_priv.h"

enum { FBI_NORM_BLOCK = 4096 };
enum { FBI_MASTER = FBI_MAX_STATES, FBI_STATES }; /* FBI_MASTER: the F32 copy of a half */

struct fbi_entry {
    char *name;
    fb_tensor *t;                 /* the parameter, held */
    fb_module *of;                /* the module it came with; NULL: a tensor by itself */
    fb_tensor *state[FBI_STATES]; /* like t, owned; F32 of a half; made at the first update */
    int64_t step;                 /* updates of this parameter */
    fb_tensor *step_view;         /* `step` as a tensor, for checkpoints */
    double lr_scale, weight_decay;
    bool frozen, composed; /* composed: of operators, see fbi_composed */
    double scale;          /* of its gradient in this step */
};

typedef struct fbi_source {
    fb_module *m; /* held */
    char *prefix;
    bool expanded; /* its parameters are entries */
} fbi_source;

typedef struct fbi_rule {
    char *glob;
    fb_group_options o;
} fbi_rule;

/* Neighbouring parameters with equal numbers, updated in one pass. */
typedef struct fbi_run {
    fb_dtype dtype; /* of parameters and gradients */
    int threads;
    int64_t n, step; /* step: this update's number, from 1 */
    void *p, *g, *s[FBI_MAX_STATES];
    uint16_t *half; /* see fbi_update */
    double lr_scale, weight_decay, scale;
} fbi_run;

/* A method, or its part, that is no loop over elements: made of operators, a parameter at a time.
 */
typedef struct fbi_composed {
    const char *state_names[FBI_MAX_STATES];
    /* Whether it is for this parameter; NULL: for all. */
    bool (*takes)(const fbi_entry *);
    /* Shape of state k of a parameter; false: there is none. NULL: like the parameter. */
    bool (*shape)(const fbi_entry *, int k, fb_shape *shape);
    /* New value of w by the gradient g, both F32 or F64; the states are changed in place.
     * NULL: error is set. */
    fb_tensor *(*next)(fb_optimizer *, fbi_entry *, fb_tensor *w, fb_tensor *g);
} fbi_composed;

typedef struct fbi_method {
    const char *name;
    const char *state_names[FBI_MAX_STATES];
    int (*n_states)(const fb_optimizer *);
    bool safe; /* 0 is never divided by 0, whatever eps is */
    const fbi_composed *composed;
} fbi_method;

extern const fbi_method fbi_lbfgs;

/* Numbers of composed methods. */
typedef struct fbi_composed_numbers {
    double a, b, c, eps, momentum; /* Muon; eps: Adafactor's first, too */
    double beta2_decay, eps2, d;   /* Adafactor */
    int64_t ns_steps;
    fb_muon_rate rate;
    bool nesterov;
} fbi_composed_numbers;

typedef struct fbi_lbfgs_state fbi_lbfgs_state;

struct fb_optimizer {
    fb_context *ctx;
    const fbi_method *method;
    fbi_method_numbers numbers; /* but for the rate, see fbi_numbers_now */
    fbi_composed_numbers more;
    fbi_lbfgs_state *lbfgs; /* NULL: another method */
    double lr, weight_decay, max_norm, grad_norm;
    double lr_ratio;              /* of the loops' rate to lr */
    double base_lr, scheduled_lr; /* before the first schedule; what the last one has set */
    double *momentum;       /* of the numbers, where schedules may change it; NULL: there is none */
    bool cycles_momentum;   /* a schedule does */
    int64_t steps, skipped; /* skipped: because the norm was not finite */
    bool keep_grad, rules_changed;
    fbi_source *sources;
    int n_sources;
    fbi_rule *rules;
    int n_rules;
    fbi_tally *loose;    /* of entries without a module; NULL: there are none */
    fbi_entry **entries; /* of a module in the order of its flat blocks; addresses stay */
    int64_t n_entries, cap_entries;
    fbi_plan plan; /* of a step on a device */
};

/* What a number may be: low <= v, and v < below unless that is 0. */
typedef struct fbi_bound {
    const char *name;
    double v, low, below;
} fbi_bound;

static inline double fbi_given(double v, double by_default)
{
    return v == 0 ? by_default : v;
}
/* The first number that its bound forbids is an error of fb_optim_METHOD; a bound without a name
 * ends the list. */
bool fbi_bounds_hold(fb_context *ctx, const fbi_method *method, const fbi_bound *b);
/* An optimizer with these numbers, their rate, and weight decay. */
fb_optimizer *fbi_optim_new(fb_context *ctx, const fbi_method *method, fb_module *model,
                            const fbi_method_numbers *numbers, double weight_decay);
/* The numbers, as they are in the next step. */
fbi_method_numbers fbi_numbers_now(const fb_optimizer *opt);
/* Name of state k, FBI_MASTER included, and its shape; false: the parameter has none. */
const char *fbi_state_name(const fb_optimizer *opt, const fbi_entry *e, int k);
bool fbi_state_shape(const fb_optimizer *opt, const fbi_entry *e, int k, fb_shape *shape);
/* `grow` elements more, zeroed. False: no memory, nothing changed. */
bool fbi_grow(void **v, int n, size_t size);
/* Parameters of the modules become entries; rules are applied. */
fb_status fbi_optim_expand(fb_optimizer *opt);
fb_status fbi_optim_add_entry(fb_optimizer *opt, const char *prefix, const char *name, fb_tensor *t,
                              fb_module *of);
/* The reducer of source s; NULL: there is none, or an earlier source has the same root. */
fbi_reducer *fbi_optim_reducer(const fb_optimizer *opt, int s);
/* Room for the state of every entry that has none and is `wanted`. */
fb_status fbi_optim_allocate(fb_optimizer *opt, bool (*wanted)(const fbi_entry *));
void fbi_entry_free(fbi_entry *e);

/* The gradient is there and to be used. */
static inline bool fbi_entry_live(const fbi_entry *e)
{
    const fbi_leaf *leaf = e->t->leaf;
    return !e->frozen && leaf && leaf->required && leaf->grad && leaf->state == FBI_GRAD_LIVE;
}

/* A reducer sums its gradients over ranks. */
static inline bool fbi_entry_reduced(const fbi_entry *e)
{
    return e->of && fbi_reducer_of(e->of);
}

static inline bool fbi_is_half(int dtype)
{
    return dtype == FB_F16 || dtype == FB_BF16;
}

/* --- scaler.c --- */
/* What gradients are divided by; 1: the context scales no losses. Host memory only. */
double fbi_scaler_value(const fb_context *ctx);
/* A step has found gradients that are finite, or not. Host memory only. */
void fbi_scaler_note(const fb_context *ctx, bool finite);
/* The scale in device memory; NULL: none, or (an error is set) no memory. */
fbi_loss_scale *fbi_scaler_on_device(const fb_context *ctx);

/* --- step.c --- */
/* What the live gradient of e, which nobody reduces, is divided by; NULL: nothing. */
fb_status fbi_entry_tally(const fbi_entry *e, const fbi_tally **tally);
/* Gradients fit their parameters, which have state. */
fb_status fbi_optim_ready(fb_optimizer *opt);

/* --- judge.c --- */
/* All of a step on a device but that gradients are spent. */
fb_status fbi_judge_step(fb_optimizer *opt);
/* Entries and tensors of state know the numbers of steps, and may be given others. */
fb_status fbi_judge_fetch(fb_optimizer *opt);

/* --- norm.c --- */
/* Sum of v[0 .. n) pairwise. */
double fbi_pairwise(const double *v, int64_t n);

/* --- compose.c --- */
/* One parameter by a composed method; its step counts already, its gradient is not scaled yet. */
fb_status fbi_compose(fb_optimizer *opt, fbi_entry *e);

/* --- lbfgs.c --- */
void fbi_lbfgs_free(fb_optimizer *opt);
fb_status fbi_lbfgs_each_state(fb_optimizer *opt, fbi_tensor_visit fn, void *user);
/* Fills out from place `at` of n on; returns how many there are. */
int fbi_lbfgs_scalars(fb_optimizer *opt, fbi_scalar *out, int at, int n);
fb_tensor *fbi_lbfgs_step(fb_optimizer *opt, fb_closure closure, void *user);

/* --- step.c --- */
/* The gradients are used; they stay readable until the next ones. */
void fbi_optim_spend(fb_optimizer *opt);

#endif
