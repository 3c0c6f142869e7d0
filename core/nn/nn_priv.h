/* The module as this room sees it, and the walks over a tree of modules. */
#ifndef FLAMBEAU_CORE_NN_NN_PRIV_H
#define FLAMBEAU_CORE_NN_NN_PRIV_H

#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/linalg.h>

#include "core/nn/module_priv.h"

enum { FBI_PATH_BYTES = 512 };

typedef struct fbi_adopted {
    void *object;
    void (*close)(void *);
    struct fbi_adopted *next;
} fbi_adopted;

struct fbi_reducer;

/* A type that was made for a module and its clones: what it is called depends on its options. */
typedef struct fbi_own_type {
    int refs;
    fb_module_type type;
    fb_field fields[]; /* and behind them their names */
} fbi_own_type;

/* Told of each call below a root: its input (NULL if it is not the only one) and its
 * first output. */
typedef struct fbi_call_note {
    void *self;
    void (*called)(void *self, fb_module *m, const fb_tensor *x, const fb_tensor *y);
} fbi_call_note;

/* What few modules have. */
typedef struct fbi_nn_extra {
    struct fb_nn_hook *hooks;
    int running;     /* calls and backwards that walk over the hooks */
    bool checkpoint; /* fb_nn_checkpoint */
} fbi_nn_extra;

struct fb_module {
    fb_context *ctx;
    const fb_module_type *type;
    fbi_own_type *own; /* NULL: the type is a constant */
    void *self;
    fb_module *parent;
    int refs;                  /* one for the user or the parent, one for each optimizer or EMA */
    bool training, frozen;     /* frozen: a norm layer that stays in eval */
    const fbi_stat_sink *sink; /* of batch norm; not owned */
    fbi_nn_extra *extra;       /* NULL: nothing */

    /* of roots only */
    bool ready;     /* parameters are made */
    int64_t number; /* -1 before it is materialised; part of the key of its initial values */
    fbi_flat *flat;
    fbi_adopted *adopted;
    struct fbi_reducer *reducer; /* core/optim's, set by DDP */
    const fbi_call_note *note;   /* summary.c's, while it looks on; NULL: nobody does */
};

void fbi_nn_ref(fb_module *m);
void fbi_nn_unref(fb_module *m);
fb_module *fbi_nn_root(fb_module *m);
/* False unless m is a module of a context without error. */
bool fbi_nn_enter(const fb_module *m);
/* fb_nn_new with a type of its own: `base`, whose struct has no fields, and behind the struct n
 * parameters of these names. */
fb_module *fbi_nn_new_named(fb_context *ctx, const fb_module_type *base, const void *self, int n,
                            const char *const *names, fb_tensor *const *params);
/* Release tensors that were declared for a module that there will not be. */
void fbi_nn_drop_declared(fb_tensor *const *t, int n);
/* Parameter i of such a module. */
static inline fb_tensor *fbi_nn_named_param(const fb_module *m, int64_t i)
{
    return *(fb_tensor **)(void *)((char *)m->self + m->type->fields[i].offset);
}
/* Make `child` a child of `parent`. */
fb_status fbi_nn_adopt_child(fb_module *parent, fb_module *child, const char *name);

/* fb_nn_call for several outputs: fn fills them, a NULL one is the failure. */
fb_status fbi_nn_call_n(fb_module *m, void (*fn)(fb_module *m, void *args, fb_outs out), void *args,
                        fb_outs out);

/* --- trees (names.c) --- */

/* Children of a list are no fields: every container keeps this struct and these fields. */
typedef struct fbi_list {
    fb_module **m;
    int64_t n;
    char **names; /* NULL: they are called "0", "1", ... */
} fbi_list;
extern const fb_field fbi_list_fields[];
/* "Sequential.3.conv": the type of its root, then the names on the way to it. */
void fbi_nn_path(const void *module, char *text, size_t size);
static inline bool fbi_nn_is_list(const fb_module *m)
{
    return m->type->fields == fbi_list_fields;
}

/* Child i and its name, in field order; false after the last. Absent children are skipped. */
typedef struct fbi_children {
    fb_module *parent, *child;
    const char *name;
    int64_t at;
    char digits[24];
} fbi_children;
bool fbi_nn_next_child(fbi_children *it);

static inline fb_tensor **fbi_nn_slot(const fb_module *m, const fb_field *f)
{
    return (fb_tensor **)(void *)((char *)m->self + f->offset);
}

/* A field that holds a tensor, under its full name. */
typedef struct fbi_named {
    char *name;
    fb_tensor *t;
    fb_tensor **slot;
    fb_module *owner;
} fbi_named;

typedef struct fbi_named_list {
    fbi_named *v;
    int64_t n, cap;
} fbi_named_list;

/* All fields of a kind below m, depth first in field order; `once`: tied ones under the first name
 * only. Free with fbi_named_free. */
fb_status fbi_nn_collect(fb_module *m, fb_field_kind kind, bool once, fbi_named_list *out);
void fbi_named_free(fbi_named_list *list);
/* fn(path, module) for m and everything below it, parents first. */
typedef fb_status (*fbi_module_visit)(const char *path, fb_module *m, void *user);
fb_status fbi_nn_each_module(fb_module *m, fbi_module_visit fn, void *user);

/* --- calls (call.c, hooks.c, checkpoint.c) --- */

/* Whether a call of m is a call of its function and nothing else. */
static inline bool fbi_nn_is_plain(const fb_module *m)
{
    return !m->extra || (!m->extra->hooks && !m->extra->checkpoint);
}
/* NULL: error is set. */
fbi_nn_extra *fbi_nn_extra_of(fb_module *m);
void fbi_nn_extra_free(fb_module *m);

typedef fb_status (*fbi_nn_inner)(fb_module *m, void *args, fb_tensors in, fb_outs out);
/* inner(m, args, in, out) between the hooks of m. */
fb_status fbi_nn_hooked(fb_module *m, fbi_nn_inner inner, void *args, fb_tensors in, fb_outs out);
/* A call whose tensors are all known: hooks see them, and if m is marked and trained it runs under
 * fb_checkpoint_call. inner gets `in` and args, of which a copy may be kept. */
fb_status fbi_nn_call_with(fb_module *m, fbi_nn_inner inner, const void *args, size_t bytes,
                           fb_tensors in, fb_outs out);
/* inner, under a checkpoint if m asks for one. */
fb_status fbi_nn_kept(fb_module *m, fbi_nn_inner inner, void *args, size_t bytes, fb_tensors in,
                      fb_outs out);

/* --- values --- */

/* Draw the first values of t, which lies in memory already. */
fb_status fbi_nn_draw(fb_tensor *t, fb_init init, int64_t root_number, const char *name);
fb_init fbi_nn_draw_of(const fbi_leaf *leaf);
void fbi_nn_set_draw(fbi_leaf *leaf, fb_init init);
/* Lay the parameters of a root out in flat blocks; those that have values keep them. */
fb_status fbi_nn_flat_make(fb_module *root, const fbi_named_list *params);
/* Forget the blocks; parameters keep their storage. */
void fbi_nn_flat_drop(fb_module *root);
/* t's own fresh storage; values are undefined. */
fb_status fbi_nn_allocate(fb_tensor *t);
/* A handle in no scope with a copy of t's values. */
fb_tensor *fbi_nn_copy_of(fb_tensor *t);

/* --- layers that end with an activation (linear.c, conv.c, activations.c) --- */

bool fbi_nn_is_linear(const fb_module *m);
bool fbi_nn_is_conv2d(const fb_module *m);
bool fbi_nn_is_batch_norm(const fb_module *m); /* of any dimensions */
/* False: the option relu is set, which no other norm has; the error is set. */
bool fbi_nn_norm_has_no_relu(fb_context *ctx, const char *maker, const fb_norm_options *opts);
/* What a layer in front of m may do for it; 0: nothing. */
fb_activation fbi_nn_activation_of(const fb_module *m);
/* Call of a layer, and the activation after it. */
fb_tensor *fbi_nn_linear_act(fb_module *m, fb_tensor *x, fb_activation act);
fb_tensor *fbi_nn_conv2d_relu(fb_module *m, fb_tensor *x);
fb_tensor *fbi_nn_batch_norm_relu(fb_module *m, fb_tensor *x);

/* The table of an Embedding, if it has fewer rows than half of what x asks for: then a product of
 * its rows is less work than one of what is looked up. Else NULL. */
fb_tensor *fbi_nn_small_table(fb_module *m, const fb_tensor *x);
/* Whether m is a recurrent layer that takes rows of `table` by index x [T, N] or [N, T]. */
bool fbi_nn_reads_table(const fb_module *m, const fb_tensor *table, const fb_tensor *x);
fb_tensor *fbi_nn_recurrent_of(fb_module *m, fb_tensor *table, fb_tensor *x);

/* The "weight" of another layer, as the field of a new one takes it. NULL: error is set. */
fb_tensor *fbi_nn_tied_weight(fb_context *ctx, const char *what, fb_module *of, fb_shape shape);

/* --- norm layers (norm.c) --- */
bool fbi_nn_is_norm(const fb_module *m);
/* Whether a sample's result depends on the others of its batch. */
bool fbi_nn_mixes_samples(const fb_module *m);

typedef enum fbi_init_kind {
    FBI_INIT_ZEROS = 0,
    FBI_INIT_CONSTANT,
    FBI_INIT_NORMAL,
    FBI_INIT_UNIFORM,
    FBI_INIT_TRUNC_NORMAL,
    FBI_INIT_XAVIER_UNIFORM,
    FBI_INIT_KAIMING_NORMAL,
    FBI_INIT_KAIMING_UNIFORM,
    FBI_INIT_TRUNC_WITHIN,
    FBI_INIT_XAVIER_NORMAL,
    FBI_INIT_FAN_NORMAL, /* a: gain, b: fb_fan */
    FBI_INIT_FAN_UNIFORM,
    /* of a tensor as a whole */
    FBI_INIT_EYE,
    FBI_INIT_DIRAC,
    FBI_INIT_ORTHOGONAL,
    FBI_INIT_SPARSE,
    FBI_INIT_NORMAL_PADDED /* a: the row of zeros */
} fbi_init_kind;

/* The standard normal distribution, but for a row of zeros. */
fb_init fbi_init_normal_padded(int64_t row);

/* Kinds from FBI_INIT_EYE on: all elements of t, in order, into v. */
fb_status fbi_nn_draw_whole(const fb_tensor *t, fb_init init, uint64_t key, const char *name,
                            double *v);
/* A normal number of element i, by its key. */
double fbi_nn_draw_normal(uint64_t key, int64_t i);

#endif
