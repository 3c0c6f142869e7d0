/* Recurrent layers: a product for all steps of a layer at once, then the row recurrence, or small
 * operators step after step where there are projections or autocast. */
#include <flambeau/core/nn/recurrent.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/dropout.h>
#include <flambeau/core/ops/embedding.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/split.h>
#include <flambeau/core/ops/view.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/nn/recurrent_priv.h"
#include "core/ops/op_priv.h"

enum { MAX_LAYERS = 1024 };

/* Behind it lie the weights: of each layer and direction PER_NETWORK fields. */
typedef struct recurrent {
    const fbi_rnn_kind *kind;
    int64_t in, hidden, out; /* out: what h has, hidden or proj_size */
    int64_t layers, directions;
    double dropout;
    bool batch_first;
} recurrent;

enum { PER_NETWORK = 5 };

static fbi_rnn_weights weights_of(const fb_module *m, int64_t network)
{
    int64_t i = network * PER_NETWORK;
    return (fbi_rnn_weights){fbi_nn_named_param(m, i), fbi_nn_named_param(m, i + 1),
                             fbi_nn_named_param(m, i + 2), fbi_nn_named_param(m, i + 3),
                             fbi_nn_named_param(m, i + 4)};
}

/* A call: x is [T, N, in], a batch of one where the user's had none. */
typedef struct run {
    fb_module *m;
    const recurrent *r;
    fb_tensor *x, *h0, *c0, *lengths; /* all but x may be NULL */
    fb_tensor *table, *index;         /* instead of x: rows of a table, in the user's order */
    int64_t t, n, shortest;           /* shortest: steps that all sequences have */
    fb_tensor *inside;                /* BOOL [T, N, 1]: before the end; NULL: no lengths */
    fb_tensor *last, *turn; /* [N], [T, N]: which of T N rows is the last of each sequence,
                             * or that of its steps turned around; NULL: no lengths */
    fb_tensor **steps;      /* [3 T]: gates, results and `inside` of each step */
} run;

/* --- checks --- */

static bool fail(const run *c, fb_status st, const char *what, const fb_tensor *t, fb_shape want)
{
    fbi_fail(c->m->ctx, st, "%s: %s is %s, not %s", c->r->kind->name, what, fbi_text(t),
             fbi_shape_text(c->m->ctx, want));
    return false;
}

static bool state_fits(const run *c, fb_tensor *s, const char *what, int64_t features, bool single)
{
    int64_t networks = c->r->layers * c->r->directions;
    fb_shape want = single ? FB_SHAPE(networks, features) : FB_SHAPE(networks, c->n, features);
    if (!s)
        return true;
    if (!fbi_tensor_check(c->m->ctx, s, c->r->kind->name, what))
        return false;
    return fb_shape_equal(fb_shape_of(s), want) || fail(c, FB_E_SHAPE, what, s, want);
}

/* Reads the lengths; c->shortest. */
static bool lengths_fit(run *c)
{
    fb_context *ctx = c->m->ctx;
    fb_tensor *l = c->lengths;
    c->shortest = c->t;
    if (!l)
        return true;
    if (!fbi_tensor_check(ctx, l, c->r->kind->name, "lengths"))
        return false;
    if (l->ndim != 1 || l->size[0] != c->n)
        return fail(c, FB_E_SHAPE, "lengths", l, FB_SHAPE(c->n));
    if (fb_dtype_is_float((fb_dtype)l->dtype) || l->dtype == FB_BOOL) {
        fbi_fail(ctx, FB_E_DTYPE, "%s: lengths are %s, not integers", c->r->kind->name,
                 fb_dtype_name((fb_dtype)l->dtype));
        return false;
    }
    int64_t *v = calloc((size_t)c->n + 1, sizeof *v);
    fb_tensor *wide = fb_to(l, FB_I64);
    if (!v)
        fbi_fail(ctx, FB_E_NOMEM, "%s: no memory for lengths", c->r->kind->name);
    else if (wide && !fb_read(wide, v, (size_t)c->n * sizeof *v))
        for (int64_t i = 0; i < c->n; i++) {
            if (v[i] < 1 || v[i] > c->t) {
                fbi_fail(ctx, FB_E_ARG,
                         "%s: length %" PRId64 " of sequence %" PRId64
                         " is not within 1 .. %" PRId64 ", the steps of the input",
                         c->r->kind->name, v[i], i, c->t);
                break;
            }
            c->shortest = v[i] < c->shortest ? v[i] : c->shortest;
        }
    free(v);
    return fb_ok(ctx);
}

static bool input_fits(run *c, bool *single)
{
    const recurrent *r = c->r;
    fb_tensor *x = c->x;
    if (!fbi_tensor_check(c->m->ctx, x, r->kind->name, "input"))
        return false;
    *single = x->ndim == 2;
    if ((x->ndim != 2 && x->ndim != 3) || x->size[x->ndim - 1] != r->in) {
        fbi_fail(c->m->ctx, FB_E_SHAPE,
                 "%s: input %s must be [%s, %" PRId64 "] or [T, %" PRId64 "]", r->kind->name,
                 fbi_text(x), r->batch_first ? "N, T" : "T, N", r->in, r->in);
        return false;
    }
    int time = *single || !r->batch_first ? 0 : 1;
    c->t = x->size[time];
    c->n = *single ? 1 : x->size[1 - time];
    if (c->t >= 1 && c->t <= INT_MAX)
        return true;
    fbi_fail(c->m->ctx, FB_E_SHAPE, "%s: input %s has %" PRId64 " steps", r->kind->name,
             fbi_text(x), c->t);
    return false;
}

/* --- steps --- */

/* `next` where sequences go on at step t, `before` where they have ended. */
static fb_tensor *goes_on(const run *c, int64_t t, fb_tensor *next, fb_tensor *before)
{
    return t < c->shortest || !next ? next : fb_where(c->steps[2 * c->t + t], next, before);
}

/* One step in a scope that keeps the states and the result only. False: the error is set. */
static bool one_step(const run *c, const fbi_rnn_weights *w, int64_t t, fb_tensor *zero,
                     fbi_rnn_state *s)
{
    FB_SCOPE(c->m->ctx);
    fbi_rnn_state next = c->r->kind->step(w, c->steps[t], *s);
    fb_tensor *y = goes_on(c, t, next.h, zero);
    next.h = goes_on(c, t, next.h, s->h);
    next.c = goes_on(c, t, next.c, s->c);
    if (!fb_ok(c->m->ctx) || !y || !next.h)
        return false;
    *s = (fbi_rnn_state){fb_keep(next.h), fb_keep(next.c)};
    c->steps[c->t + t] = fb_keep(y);
    return true;
}

static fbi_rnn_state first_state(const run *c, int64_t number)
{
    fb_dtype dtype = (fb_dtype)weights_of(c->m, 0).hh->dtype;
    fbi_rnn_state s = {0};
    s.h =
        c->h0 ? fb_select(c->h0, 0, number) : fb_zeros(c->m->ctx, dtype, FB_SHAPE(c->n, c->r->out));
    if (c->r->kind->states > 1)
        s.c = c->c0 ? fb_select(c->c0, 0, number)
                    : fb_zeros(c->m->ctx, dtype, FB_SHAPE(c->n, c->r->hidden));
    return s;
}

/* x [T, N, features] through one network, backwards if `reverse`: [T, N, out], and the last state.
 */
static fb_tensor *by_steps(const run *c, int64_t number, bool reverse, fb_tensor *x,
                           fbi_rnn_state *s)
{
    fbi_rnn_weights w = weights_of(c->m, number);
    *s = first_state(c, number);
    fb_tensor *gates = fbi_rnn_gates(c->r->kind, &w, x);
    fb_tensor *zero = gates ? fb_zeros(c->m->ctx, (fb_dtype)gates->dtype, FB_SHAPE(1)) : NULL;
    if (!zero || fb_unbind(gates, 0, (int)c->t, c->steps))
        return NULL;
    for (int64_t i = 0; i < c->t; i++)
        if (!one_step(c, &w, reverse ? c->t - 1 - i : i, zero, s))
            return NULL;
    return fb_stack((fb_tensors){c->steps + c->t, (int)c->t}, 0);
}

/* Autocast chooses the dtype of each step's product, and states may differ from the weights. */
static bool is_one_operator(const run *c)
{
    const fb_context *ctx = c->m->ctx;
    int dtype = weights_of(c->m, 0).hh->dtype;
    return fbi_has_kernel(ctx, FBI_OP_recurrence) && !ctx->autocast && c->r->out == c->r->hidden &&
           c->n > 0 && (!c->h0 || c->h0->dtype == dtype) && (!c->c0 || c->c0->dtype == dtype);
}

/* [T, N, ...] from the user's layout, and back. */
static fb_tensor *turned(const run *c, fb_tensor *t)
{
    return t && c->r->batch_first ? fb_transpose(t, 0, 1) : t;
}

/* The input's part of the gates [T, N, ...]. Its product sees x as it lies in the user's memory, or
 * each row of a table once. */
static fb_tensor *input_part(const run *c, const fbi_rnn_weights *w, fb_tensor *x)
{
    fb_tensor *from = x ? turned(c, x) : c->table;
    fb_tensor *gates = from ? fbi_rnn_gates(c->r->kind, w, from) : NULL;
    return turned(c, gates && !x ? fb_embedding(gates, c->index) : gates);
}

/* Rows of t [T, N, F] by index, of c->last or c->turn. */
static fb_tensor *rows_of(fb_tensor *t, fb_tensor *index)
{
    t = t ? fb_reshape(t, FB_SHAPE(t->size[0] * t->size[1], t->size[2])) : NULL;
    return t ? fb_embedding(t, index) : NULL;
}

/* y and the last states from y and c of all steps; sequences of their own lengths were turned
 * around before if `reverse`. */
static fb_tensor *results_of(const run *c, fb_tensor *const all[2], bool reverse, fbi_rnn_state *s)
{
    int64_t last = reverse ? 0 : c->t - 1;
    fb_tensor *y = all[0], *end[2] = {NULL, NULL};
    for (int i = 0; i < c->r->kind->states; i++)
        end[i] = c->lengths ? rows_of(all[i], c->last) : fb_select(all[i], 0, last);
    *s = (fbi_rnn_state){end[0], end[1]};
    if (!c->lengths || !s->h)
        return s->h ? y : NULL;
    fb_tensor *zero = fb_zeros(c->m->ctx, (fb_dtype)y->dtype, FB_SHAPE(1));
    y = reverse ? rows_of(y, c->turn) : y;
    return y && zero ? fb_where(c->inside, y, zero) : NULL;
}

/* The same at once. */
static fb_tensor *at_once(const run *c, int64_t number, bool reverse, fb_tensor *x,
                          fbi_rnn_state *s)
{
    const fbi_rnn_kind *k = c->r->kind;
    fbi_rnn_weights w = weights_of(c->m, number);
    fb_tensor *part = input_part(c, &w, x), *out[3];
    fb_tensor *in[] = {reverse && c->lengths ? rows_of(part, c->turn) : part,
                       c->h0 ? fb_select(c->h0, 0, number) : NULL,
                       c->c0 ? fb_select(c->c0, 0, number) : NULL, k->joins_biases ? NULL : w.b_hh,
                       w.hh};
    const fbi_attrs_recurrence a = {.kind = k - fbi_rnn_kinds, .reverse = reverse && !c->lengths};
    if (!in[0] || !fb_ok(c->m->ctx) ||
        fbi_run(c->m->ctx, FBI_OP_recurrence, &a, in, sizeof in / sizeof *in, out))
        return NULL;
    return results_of(c, out, reverse, s);
}

/* x through all layers; the last states into h and c, of all networks. */
static fb_tensor *all_layers(const run *c, fb_tensor **h, fb_tensor **cell)
{
    const recurrent *r = c->r;
    fb_tensor *x = c->x, *side[2] = {NULL, NULL};
    bool whole = is_one_operator(c);
    for (int64_t layer = 0; layer < r->layers; layer++) {
        for (int64_t d = 0; d < r->directions; d++) {
            int64_t number = layer * r->directions + d;
            fbi_rnn_state s = {NULL, NULL};
            side[d] = (whole ? at_once : by_steps)(c, number, d == 1, x, &s);
            if (!side[d])
                return NULL;
            h[number] = s.h;
            cell[number] = s.c;
        }
        x = r->directions > 1 ? fb_cat((fb_tensors){side, 2}, -1) : side[0];
        if (c->m->training && r->dropout > 0 && layer + 1 < r->layers)
            x = fb_dropout(x, r->dropout);
    }
    return x;
}

/* c->last and c->turn; at [T, 1, 1] counts the steps. */
static bool take_turns(run *c, fb_tensor *at)
{
    fb_tensor *n = fb_arange(c->m->ctx, FB_I64, 0, (double)c->n, 1);
    fb_tensor *end = fb_add_scalar(fb_to(c->lengths, FB_I64), -1);
    fb_tensor *t = fb_reshape(at, FB_SHAPE(c->t, 1)), *inside = fb_squeeze(c->inside, 2);
    t = inside && end && t ? fb_where(inside, fb_sub(end, t), t) : NULL;
    if (!t || !n)
        return false;
    c->last = fb_add(fb_mul_scalar(end, (double)c->n), n);
    c->turn = fb_add(fb_mul_scalar(t, (double)c->n), n);
    return c->last && c->turn;
}

/* Zeros behind the ends of x, so that not even a NaN there gets anywhere. */
static bool take_lengths(run *c)
{
    fb_context *ctx = c->m->ctx;
    if (!c->lengths)
        return true;
    fb_tensor *at = fb_arange(ctx, FB_I64, 0, (double)c->t, 1);
    at = fb_reshape(at, FB_SHAPE(c->t, 1, 1));
    c->inside = at ? fb_lt(at, fb_reshape(c->lengths, FB_SHAPE(1, c->n, 1))) : NULL;
    fb_tensor *zero = fb_zeros(ctx, (fb_dtype)c->x->dtype, FB_SHAPE(1));
    c->x = c->inside && zero ? fb_where(c->inside, c->x, zero) : NULL;
    if (is_one_operator(c))
        return c->x && take_turns(c, at);
    return c->x && !fb_unbind(c->inside, 0, (int)c->t, c->steps + 2 * c->t);
}

/* The user's layout, from [T, N, ...]. */
static fb_tensor *users(const run *c, fb_tensor *y, bool single)
{
    return single ? fb_squeeze(y, 1) : turned(c, y);
}

static fb_tensor *stacked(fb_tensor **states, int64_t n, bool single)
{
    fb_tensor *all = fb_stack((fb_tensors){states, (int)n}, 0);
    return all && single ? fb_squeeze(all, 1) : all;
}

static void run_it(run *c, bool single, fb_outs out)
{
    int64_t networks = c->r->layers * c->r->directions;
    fb_tensor **states = calloc((size_t)networks * 2, sizeof(fb_tensor *));
    c->steps = calloc((size_t)c->t * 3, sizeof(fb_tensor *));
    if (!states || !c->steps)
        fbi_fail(c->m->ctx, FB_E_NOMEM, "%s: no memory for %" PRId64 " steps", c->r->kind->name,
                 c->t);
    fb_tensor *y =
        states && c->steps && take_lengths(c) ? all_layers(c, states, states + networks) : NULL;
    if (y) {
        *out.t[0] = users(c, y, single);
        for (int i = 1; i < out.n; i++)
            *out.t[i] = stacked(states + (i - 1) * networks, networks, single);
    }
    free(states);
    free(c->steps);
}

/* (x), (x, h0), (x, h0, lengths), with c0 behind h0 for LSTM */
static void recurrent_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    const recurrent *r = m->self;
    int states = r->kind->states;
    if (in.n < 1 || in.n > 2 + states || out.n < 1 || out.n > 1 + states) {
        const char *s = states > 1 ? "h, c" : "h";
        fbi_fail(m->ctx, FB_E_ARG,
                 "%s: called with %d inputs and %d outputs: it takes (x, %s, lengths) and gives "
                 "(y, %s)",
                 r->kind->name, in.n, out.n, s, s);
        return;
    }
    bool single = false;
    run c = {.m = m,
             .r = r,
             .x = in.t[0],
             .h0 = in.n > 1 ? in.t[1] : NULL,
             .c0 = states > 1 && in.n > 2 ? in.t[2] : NULL,
             .lengths = in.n > 1 + states ? in.t[1 + states] : NULL};
    if (!input_fits(&c, &single) || !state_fits(&c, c.h0, "h0", r->out, single) ||
        !state_fits(&c, c.c0, "c0", r->hidden, single) || !lengths_fit(&c))
        return;
    if (single) {
        c.x = fb_unsqueeze(c.x, 1);
        c.h0 = c.h0 ? fb_unsqueeze(c.h0, 1) : NULL;
        c.c0 = c.c0 ? fb_unsqueeze(c.c0, 1) : NULL;
    } else if (r->batch_first) {
        c.x = fb_transpose(c.x, 0, 1);
    }
    if (fb_ok(m->ctx))
        run_it(&c, single, out);
}

/* --- making --- */

static const fb_module_type types[] = {
    {.name = "RNN", .size = sizeof(recurrent), .forward_n = recurrent_forward_n},
    {.name = "LSTM", .size = sizeof(recurrent), .forward_n = recurrent_forward_n},
    {.name = "GRU", .size = sizeof(recurrent), .forward_n = recurrent_forward_n}};

bool fbi_nn_reads_table(const fb_module *m, const fb_tensor *table, const fb_tensor *x)
{
    if (m->type->forward_n != recurrent_forward_n)
        return false;
    const recurrent *r = m->self;
    run c = {.m = (fb_module *)(uintptr_t)m, .r = r, .n = 1};
    return x->ndim == 2 && x->numel > 0 && table->size[1] == r->in && is_one_operator(&c);
}

typedef struct table_call {
    fb_tensor *table, *index;
} table_call;

static fb_tensor *forward_of_table(fb_module *m, void *args)
{
    const table_call *a = args;
    const recurrent *r = m->self;
    int time = r->batch_first ? 1 : 0;
    run c = {.m = m,
             .r = r,
             .table = a->table,
             .index = a->index,
             .t = a->index->size[time],
             .n = a->index->size[1 - time]};
    fb_tensor *y = NULL;
    run_it(&c, false, FB_OUTS(&y));
    return y;
}

fb_tensor *fbi_nn_recurrent_of(fb_module *m, fb_tensor *table, fb_tensor *x)
{
    return fb_nn_call(m, forward_of_table, &(table_call){table, x});
}

typedef struct named_weights {
    fb_tensor **t;
    const char **name;
    char (*text)[48];
} named_weights;

static void declare_network(fb_context *ctx, const recurrent *r, bool bias, int64_t number,
                            named_weights *w)
{
    static const char *const stem[PER_NETWORK] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh",
                                                  "weight_hr"};
    int64_t layer = number / r->directions, rows = r->kind->gates * r->hidden;
    const struct {
        bool there;
        int64_t rows, cols;
    } of[PER_NETWORK] = {{true, rows, layer ? r->out * r->directions : r->in},
                         {true, rows, r->out},
                         {bias, rows, 0},
                         {bias, rows, 0},
                         {r->out != r->hidden, r->out, r->hidden}};
    for (int j = 0; j < PER_NETWORK; j++) {
        int64_t i = number * PER_NETWORK + j;
        snprintf(w->text[i], sizeof w->text[i], "%s_l%" PRId64 "%s", stem[j], layer,
                 number % r->directions ? "_reverse" : "");
        w->name[i] = w->text[i];
        if (of[j].there)
            w->t[i] = fbi_rnn_declare(ctx, r->hidden, of[j].rows, of[j].cols);
    }
}

static fb_module *with_weights(fb_context *ctx, const fb_module_type *type, const recurrent *r,
                               bool bias)
{
    int64_t networks = r->layers * r->directions;
    size_t n = (size_t)(networks * PER_NETWORK);
    named_weights w = {calloc(n, sizeof *w.t), calloc(n, sizeof *w.name),
                       calloc(n, sizeof *w.text)};
    fb_module *m = NULL;
    if (w.t && w.name && w.text) {
        for (int64_t i = 0; i < networks; i++)
            declare_network(ctx, r, bias, i, &w);
        m = fbi_nn_new_named(ctx, type, r, (int)n, w.name, w.t);
    } else {
        fbi_fail(ctx, FB_E_NOMEM, "%s: no memory for the module", type->name);
    }
    free(w.t);
    free(w.name);
    free(w.text);
    return m;
}

static fb_module *recurrent_new(fb_context *ctx, const fb_module_type *type, fbi_rnn_index kind,
                                int64_t in, int64_t hidden, const fb_rnn_options *opts)
{
    if (!fbi_enter(ctx))
        return NULL;
    fb_rnn_options o = opts ? *opts : (fb_rnn_options){0};
    recurrent r = {.kind = &fbi_rnn_kinds[kind],
                   .in = in,
                   .hidden = hidden,
                   .out = o.proj_size ? o.proj_size : hidden,
                   .layers = o.layers ? o.layers : 1,
                   .directions = o.bidirectional ? 2 : 1,
                   .dropout = o.dropout,
                   .batch_first = o.batch_first};
    if (in < 1 || hidden < 1)
        fbi_fail(ctx, FB_E_ARG, "%s: %" PRId64 " to %" PRId64 " features", type->name, in, hidden);
    else if (r.layers < 1 || r.layers > MAX_LAYERS)
        fbi_fail(ctx, FB_E_ARG, "%s: %" PRId64 " layers, not 1 .. %d", type->name, r.layers,
                 MAX_LAYERS);
    else if (!(o.dropout >= 0 && o.dropout <= 1))
        fbi_fail(ctx, FB_E_ARG, "%s: dropout is %g, not within 0 .. 1", type->name, o.dropout);
    else if (o.proj_size && kind != FBI_LSTM)
        fbi_fail(ctx, FB_E_ARG, "%s: proj_size is %" PRId64 ": only an LSTM has projections",
                 type->name, o.proj_size);
    else if (o.proj_size < 0 || (o.proj_size && o.proj_size >= hidden))
        fbi_fail(ctx, FB_E_ARG, "%s: proj_size is %" PRId64 ", not below the %" PRId64 " of hidden",
                 type->name, o.proj_size, hidden);
    return fb_ok(ctx) ? with_weights(ctx, type, &r, !o.no_bias) : NULL;
}

fb_module *fb_nn_rnn(fb_context *ctx, int64_t in, int64_t hidden, const fb_rnn_options *opts)
{
    FBI_ENTRY(ctx);
    return recurrent_new(ctx, &types[0], opts && opts->relu ? FBI_RNN_RELU : FBI_RNN_TANH, in,
                         hidden, opts);
}
fb_module *fb_nn_lstm(fb_context *ctx, int64_t in, int64_t hidden, const fb_rnn_options *opts)
{
    FBI_ENTRY(ctx);
    return recurrent_new(ctx, &types[1], FBI_LSTM, in, hidden, opts);
}
fb_module *fb_nn_gru(fb_context *ctx, int64_t in, int64_t hidden, const fb_rnn_options *opts)
{
    FBI_ENTRY(ctx);
    return recurrent_new(ctx, &types[2], FBI_GRU, in, hidden, opts);
}

/* --- sequences --- */

/* The longest; -1: the error is set. */
static int64_t longest(fb_context *ctx, fb_tensors x)
{
    int64_t t = 0;
    for (int i = 0; i < x.n; i++) {
        if (!fbi_tensor_check(ctx, x.t[i], "pad_sequence", "a sequence"))
            return -1;
        if (x.t[i]->ndim < 1 || x.t[i]->ndim >= FB_MAX_DIMS) {
            fbi_fail(ctx, FB_E_SHAPE, "pad_sequence: sequence %d is %s", i, fbi_text(x.t[i]));
            return -1;
        }
        t = x.t[i]->size[0] > t ? x.t[i]->size[0] : t;
    }
    return t;
}

static fb_tensor *padded_to(fb_tensor *x, int64_t t, double value)
{
    fb_shape rest = fb_shape_of(x);
    rest.d[0] = t - x->size[0];
    if (rest.d[0] == 0)
        return x;
    fb_tensor *pad = fb_full(x->ctx, (fb_dtype)x->dtype, rest, value);
    return pad ? fb_cat(FB_TENSORS(x, pad), 0) : NULL;
}

fb_tensor *fb_pad_sequence(fb_tensors x, bool batch_first, double value)
{
    fb_context *ctx = x.n > 0 ? fb_context_of(x.t[0]) : NULL;
    FBI_ENTRY(ctx);
    if (!ctx || !fbi_enter(ctx))
        return NULL;
    int64_t t = longest(ctx, x);
    fb_tensor **all = t < 0 ? NULL : calloc((size_t)x.n, sizeof *all), *y = NULL;
    if (t >= 0 && !all)
        fbi_fail(ctx, FB_E_NOMEM, "pad_sequence: no memory for %d sequences", x.n);
    for (int i = 0; all && i < x.n; i++)
        all[i] = padded_to(x.t[i], t, value);
    if (all && fb_ok(ctx))
        y = fb_stack((fb_tensors){all, x.n}, batch_first ? 0 : 1);
    free(all);
    return y;
}
