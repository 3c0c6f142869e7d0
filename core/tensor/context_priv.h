/* The context as the engine sees it. One thread uses it; `poison` alone may be set from others. */
#ifndef FLAMBEAU_CORE_TENSOR_CONTEXT_PRIV_H
#define FLAMBEAU_CORE_TENSOR_CONTEXT_PRIV_H

#include <stdarg.h>
#ifdef __cplusplus /* kernels of a device */
#include <atomic>
using std::atomic_int;
#else
#include <stdatomic.h>
#endif

#include "core/tensor/tensor_priv.h"

typedef struct fbi_backend fbi_backend;
typedef struct fbi_alloc fbi_alloc;
typedef struct fbi_slabs fbi_slabs;
typedef struct fbi_saver fbi_saver;
struct fbi_call;
typedef struct fbi_trace fbi_trace;
typedef fb_status (*fbi_kernel)(const struct fbi_call *);

enum { FBI_MESSAGE_BYTES = 1024, FBI_TEXT_RING = 8, FBI_TEXT_BYTES = 160 };

/* A scope's mark: where its handles begin, and the modes to return to. */
typedef struct fbi_scope_mark {
    uint64_t serial;
    uint32_t begin; /* index in the arena */
    bool grad_on, anomaly;
    uint8_t autocast;
    const void *site; /* of fb_scope_begin */
    fbi_saver *saver;
} fbi_scope_mark;

/* An object that the context closes, newest first, and how. */
typedef struct fbi_closer {
    void *object;
    void (*close)(void *object);
} fbi_closer;

/* Keys of a stream of random numbers: Philox(key, counter = element / 4, stream). */
typedef struct fbi_rng_stream {
    uint64_t key, stream;
} fbi_rng_stream;

/* What higher rooms hang into the engine. Each may be NULL. */
typedef struct fbi_context_hooks {
    void *self;
    /* The first error was set: tell the other ranks at the next collective. */
    void (*error)(void *self, fb_context *ctx);
    /* Polled by long loops; a non-zero status stops them. */
    fb_status (*poll)(void *self);
    /* Until `ready`: a device may be waiting for other ranks. NULL: it cannot be. */
    fb_status (*wait)(void *self, bool (*ready)(void *arg), void *arg);
    /* Sum n doubles per leaf number over all ranks in fixed order: values[shards][n] -> total[n].
     * Collective. */
    fb_status (*leaf_sum)(void *self, const double *values, int n, double *total);
    int shards;               /* leaves of a step; 1 without a world */
    int first_leaf, n_leaves; /* those of this rank */
} fbi_context_hooks;

/* Who wants to know, before it changes, of memory that is being saved (flag FBI_S_GUARDED). */
typedef struct fbi_guard {
    void *self;
    void (*changing)(void *self, struct fbi_storage *s); /* on return it may be changed */
} fbi_guard;

/* What a span of time is spent on. */
typedef enum fbi_span_kind {
    FBI_SPAN_OP,
    FBI_SPAN_NODE,     /* a node's part of a backward; of: the node */
    FBI_SPAN_BACKWARD, /* a whole one */
    FBI_SPAN_STEP,     /* of an optimizer */
    FBI_SPAN_COLLECTIVE,
    FBI_SPAN_LOADER,
    FBI_SPAN_WAIT,  /* for the device */
    FBI_SPAN_MODULE /* a call; of: the module */
} fbi_span_kind;

typedef struct fbi_trace_span {
    fbi_span_kind kind;
    const char *name;
    const void *of;
    void (*path)(const void *of, char *text, size_t size); /* its whole name; NULL: `name` */
} fbi_trace_span;

/* A profiler's ear: spans lie within each other. Several may hang on a context. */
struct fbi_trace {
    void *self;
    void (*begin)(void *self, const fbi_trace_span *span);
    void (*end)(void *self);
    /* What follows may be NULL. */
    void (*call)(void *self, const struct fbi_call *call); /* a kernel starts */
    /* This rank has stood still until that one (of the world) came. */
    void (*waited)(void *self, int rank, double seconds);
    void (*gone)(void *self, const void *of); /* a module is freed */
    fbi_trace *next;
};

/* Called when a backward pass has delivered everything; list on the context. */
typedef struct fbi_backward_hook {
    void (*begin)(void *self);         /* before the first node; may be NULL */
    fb_status (*finished)(void *self); /* every gradient of this pass is in place */
    void *self;
    struct fbi_backward_hook *next;
} fbi_backward_hook;

/* What the gradients that a backward begins with are multiplied by (core/optim/scaler.c). */
typedef struct fbi_scaling {
    struct fb_scaler *scaler; /* NULL: nothing */
    fb_tensor *(*seed)(struct fb_scaler *scaler, fb_tensor *grad);
} fbi_scaling;

/* What autocast has made of leaves (core/ops/autocast.c) until the scope ends that turned it on. */
typedef struct fbi_casts {
    struct fbi_cast *v;
    int n, cap;
    uint32_t scope;                      /* number of that scope, from 1; 0: none */
    void (*forget)(struct fb_context *); /* all of them */
} fbi_casts;

/* What the backward that runs counts. */
typedef struct fbi_pass_count {
    uint32_t pass; /* number of the backward */
    bool counted;  /* its loss is a sum over `count` */
    bool absent;   /* of a micro-batch that contributes nothing */
    double count;
    fb_tensor *on_device; /* what `count` is read from, where that would be a wait; valid while the
                             backward runs */
} fbi_pass_count;

struct fb_context {
    /* hot: recording */
    fbi_slabs *slabs;
    fb_tensor **arena;
    uint32_t arena_n, arena_cap;
    bool grad_on, off;       /* off: an error is set, operators return NULL at once */
    uint8_t autocast, depth; /* depth of public calls: the outermost one's site is reported */
    int threads;             /* constant of the run, part of the numerics */
    bool anomaly;            /* fb_detect_anomaly: results and gradients are looked at */
    bool recomputing;        /* a checkpoint runs its function for the second time */
    const fbi_kernel
        *kernels; /* [FBI_OP_COUNT] of the device and ISA level; NULL: not on this device */
    const fbi_backend *backend;
    void *device;          /* the backend's own state */
    fbi_trace *trace;      /* NULL: nobody listens */
    const char *doing;     /* name of the operator that runs; NULL: none */
    const char *composing; /* the outermost row made of others that runs; NULL: none */
    fbi_alloc *alloc;
    uint64_t host_waits; /* how often this thread has waited for the device */
    uint64_t seq, hash; /* nodes so far; rolling hash of the program, for agreement between ranks */
    const void *site;   /* call site of the outermost public call */

    /* scopes */
    fbi_scope_mark *scopes;
    uint32_t scopes_n, scopes_cap;
    uint64_t scope_serial;

    /* errors */
    fb_status status;
    char message[FBI_MESSAGE_BYTES];
    const void *error_site;
    atomic_int poison;                      /* a status set by another thread */
    char poison_message[FBI_MESSAGE_BYTES]; /* written before `poison` is stored with release */
    char text[FBI_TEXT_RING][FBI_TEXT_BYTES];
    uint32_t text_at;
    char label[128];
    char error_label[128]; /* the label when the first error was set */
    unsigned long owner;   /* pthread_self of the thread that opened it */

    /* random numbers */
    uint64_t seed, counter; /* counter: draws outside steps */
    fb_batch_info batch;
    bool in_step;
    uint32_t op_number; /* draws within this leaf of the step */

    /* autograd */
    uint32_t mark; /* of the current graph walk */
    bool in_backward;
    fbi_backward_hook *backward_hooks;
    fbi_pass_count pass_count;
    fbi_scaling scaling;
    fbi_saver *saver; /* what keeps saved tensors; NULL: they stay where they are. Counted, but what
                         the mark of the innermost scope has is that mark's */

    /* everything else */
    fbi_closer *closers;
    uint32_t closers_n, closers_cap;
    fbi_context_hooks hooks;
    int64_t roots;  /* module roots numbered so far */
    bool is_worlds; /* closed by fb_world_close only */
    bool flush_denormals;
    bool exact_conv; /* no Winograd */
    bool allow_tf32; /* in F32 products and convolutions of a card */
    bool tune;       /* products are timed: at once, or in a job when `backend.tune` says so */
    int64_t live_handles, live_nodes;
    char device_name[16]; /* "cpu", "cuda:0" */
    fbi_casts casts;
    fbi_guard guard;
};

/* --- errors (core/tensor/error.c) --- */

/* Set the first error (later ones are dropped), switch the context off. @return status */
fb_status fbi_fail(fb_context *ctx, fb_status status, const char *fmt, ...) FB_PRINTF(3, 4);
fb_status fbi_vfail(fb_context *ctx, fb_status status, const char *fmt, va_list args);
/* Set an error from any thread; the context's thread finds it at its next call. */
void fbi_context_poison(fb_context *ctx, fb_status status, const char *message);
/* False if the context is NULL, off, poisoned (then the error is set), or used by a second thread.
 */
bool fbi_enter(fb_context *ctx);

/* Every public entry point that may fail notes who called; nested calls keep the outermost. */
#define FBI_SITE (__builtin_extract_return_addr(__builtin_return_address(0)))
typedef struct fbi_site_guard {
    fb_context *ctx;
} fbi_site_guard;
static inline fbi_site_guard fbi_site_begin(fb_context *ctx, const void *site)
{
    if (ctx && ctx->depth++ == 0)
        ctx->site = site;
    return (fbi_site_guard){ctx};
}
static inline void fbi_site_end(fbi_site_guard *g)
{
    if (g->ctx)
        g->ctx->depth--;
}
/* First statement of a public function: FBI_ENTRY(ctx); */
#define FBI_ENTRY(ctx)                                                         \
    fbi_site_guard fbi_guard_ __attribute__((cleanup(fbi_site_end), unused)) = \
        fbi_site_begin((ctx), FBI_SITE)
/* "train.c:88", "main+0x1f" or an address, resolved only when printed. */
const char *fbi_site_text(const void *site, char *buf, size_t size);

/* Tell all listeners; for those who have seen that there are some. In a header, since a plug-in
 * links nothing of ours. */
__attribute__((cold, noinline, unused)) static void fbi_trace_begin(fb_context *ctx,
                                                                    fbi_trace_span span)
{
    for (const fbi_trace *t = ctx->trace; t; t = t->next)
        t->begin(t->self, &span);
}
__attribute__((cold, noinline, unused)) static void fbi_trace_end(fb_context *ctx)
{
    for (const fbi_trace *t = ctx->trace; t; t = t->next)
        t->end(t->self);
}

/* What the context is at, for messages and profilers. @return what it was at before, for the end */
static inline const char *fbi_doing_begin_of(fb_context *ctx, fbi_span_kind kind, const char *name,
                                             const void *of)
{
    const char *before = ctx->doing;
    ctx->doing = name;
    if (__builtin_expect(ctx->trace != NULL, 0))
        fbi_trace_begin(ctx, (fbi_trace_span){kind, name, of, NULL});
    return before;
}
static inline const char *fbi_doing_begin(fb_context *ctx, fbi_span_kind kind, const char *name)
{
    return fbi_doing_begin_of(ctx, kind, name, NULL);
}
static inline void fbi_doing_end(fb_context *ctx, const char *before)
{
    ctx->doing = before;
    if (__builtin_expect(ctx->trace != NULL, 0))
        fbi_trace_end(ctx);
}

/* An option that the environment may turn on: NAME=1. */
bool fbi_option_wanted(bool option, const char *name);

/* --- registry (core/tensor/context.c) --- */
fb_status fbi_context_adopt(fb_context *ctx, void *object, void (*close)(void *));
/* Forget an object that was closed early. */
void fbi_context_forget(fb_context *ctx, void *object);

/* --- random numbers (core/tensor/random.c) --- */

/* The stream of the next random operator: keyed by (seed, step, leaf, op number) in a step, by
 * (seed, counter) outside. Advances op_number or counter. */
fbi_rng_stream fbi_next_stream(fb_context *ctx);
/* Position of the random numbers, for recomputation. */
typedef struct fbi_rng_state {
    uint64_t counter;
    uint32_t op_number;
    fb_batch_info batch;
    bool in_step;
} fbi_rng_state;
fbi_rng_state fbi_rng_save(const fb_context *ctx);
void fbi_rng_restore(fb_context *ctx, fbi_rng_state state);

/* --- slabs (core/tensor/slab.c) --- */
fb_tensor *fbi_slab_handle(fb_context *ctx);
void fbi_slab_handle_free(fb_context *ctx, fb_tensor *t);
/* Nodes by size class (128, 192, 256, 384, then powers of two); zeroed header. NULL: error is set.
 */
void *fbi_slab_node(fb_context *ctx, size_t bytes);
void fbi_slab_node_free(fb_context *ctx, void *node, size_t bytes);

#endif
