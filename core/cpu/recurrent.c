/* recurrence and its backward: rows of the batch are a thread's for all steps, so threads never
 * wait for each other and bits do not depend on their number. The weight is packed once into
 * panels of a few units; what a panel's product gives goes through the cell while it is in the
 * cache. */
#include "core/cpu/recurrent_priv.h"

#include "core/base/vmath.h"
#include "core/cpu/dense_priv.h"
#include "core/cpu/state_priv.h"
#include "core/ops/recurrent_priv.h"

#if defined __AVX512F__
enum { HAS_TILES = true };
#define FBI_TILES(call) call
#else
enum { HAS_TILES = false };
#define FBI_TILES(call) (void)0
#endif

enum {
    BATCH = 32, /* rows that go through all steps together */
    PAD = 16,   /* elements between rows, which would lie in the same lines of the cache */
    OPERANDS = 8
};

/* t steps of n rows with h units; `first` is the step that is done first, the next is `way` on. */
typedef struct sizes {
    int64_t t, n, h, gates, first, way, per; /* per: rows of a batch */
    int kind, threads;
    bool tiles; /* products are made on the tiles of AMX */
} sizes;

/* The sizes decide, not the threads. */
static bool takes_tiles(const fbi_call *c, const fb_tensor *y)
{
    enum { ROWS = 16, UNITS = 64, CHUNK = 32 };
    int64_t h = y->size[2];
    return HAS_TILES && fbi_cpu_state_of(c->ctx)->amx && y->dtype == FB_F32 && y->size[1] >= ROWS &&
           h >= UNITS && (h + CHUNK - 1) / CHUNK * CHUNK * 4 <= h * 5;
}

static sizes sizes_of(const fbi_call *c, const fb_tensor *y, int64_t kind, bool reverse)
{
    sizes z = {.t = y->size[0],
               .n = y->size[1],
               .h = y->size[2],
               .gates = fbi_rnn_forms[kind].gates,
               .first = reverse ? y->size[0] - 1 : 0,
               .way = reverse ? -1 : 1,
               .kind = (int)kind};
    z.threads = y->numel * z.gates * z.h > FBI_PAR_MIN ? c->threads : 1;
    z.per = (z.n + z.threads - 1) / z.threads;
    z.per = z.per < BATCH ? z.per : BATCH;
    z.tiles = takes_tiles(c, y);
    return z;
}

/* A tensor [T, N, ...] or [N, ...] with adjacent elements in its last dimension; p is NULL for one
 * that is not there. */
typedef struct operand {
    char *p;
    int64_t step, row; /* elements */
} operand;

typedef struct operands {
    operand v[OPERANDS];
    void *copy[OPERANDS];
} operands;

static void operands_end(operands *o)
{
    for (int i = 0; i < OPERANDS; i++)
        free(o->copy[i]);
}

/* A row-major copy of what has no adjacent elements. False: the error is set. */
static bool operand_of(const fbi_call *c, const fb_tensor *t, int i, operands *o)
{
    if (!t || t->numel == 0)
        return true;
    int last = t->ndim - 1;
    bool near = t->stride[last] == 1 || t->size[last] == 1;
    int64_t row = near ? t->stride[last - 1] : t->size[last];
    int64_t step = last < 2 ? 0 : near ? t->stride[0] : t->size[1] * row;
    if (!near && !(o->copy[i] = fbi_cpu_dense(c, t)))
        return false;
    o->v[i] = (operand){near ? fbi_ptr(t) : o->copy[i], step, row};
    return true;
}

static bool operands_of(const fbi_call *c, operands *o)
{
    for (int i = 0; i < c->n_in; i++)
        if (!operand_of(c, c->in[i], i, o))
            return false;
    return true;
}

/* Outputs lie as infer has asked for. */
static operand output_of(const fb_tensor *t)
{
    bool there = t->numel > 0;
    return (operand){there ? fbi_ptr(t) : NULL, t->ndim > 2 ? t->stride[0] : 0,
                     t->stride[t->ndim - 2]};
}

#define T       float
#define TANH    fbi_tanhf
#define SIGMOID fbi_sigmoidf
#define FN(x)   x##_f32
#include "core/cpu/recurrent_t.h"
#undef T
#undef TANH
#undef SIGMOID
#undef FN
#define T       double
#define TANH    fbi_tanh
#define SIGMOID fbi_sigmoid
#define FN(x)   x##_f64
#include "core/cpu/recurrent_t.h"

fb_status FBI_KERNEL(recurrence)(const fbi_call *c)
{
    const fbi_attrs_recurrence *a = c->attrs;
    sizes z = sizes_of(c, c->out[0], a->kind, a->reverse);
    if (c->out[0]->numel == 0)
        return FB_OK;
    return c->in[0]->dtype == FB_F64 ? forward_f64(c, &z) : forward_f32(c, &z);
}

fb_status FBI_KERNEL(recurrence_bwd)(const fbi_call *c)
{
    const fbi_attrs_recurrence_bwd *a = c->attrs;
    sizes z = sizes_of(c, c->in[6], a->kind, a->reverse);
    if (c->in[6]->numel == 0)
        return FB_OK;
    return c->in[6]->dtype == FB_F64 ? backward_f64(c, &z) : backward_f32(c, &z);
}
