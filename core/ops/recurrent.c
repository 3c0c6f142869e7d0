/* recurrence(x, h0, c0, b, w): a recurrent network over all steps of a layer in one direction.
 * x [T, N, G H] is the input's part of the gates, w [G H, H] the state's. y [T, N, H], the memory
 * c of LSTM in the same shape, and what backward wants of each step (recurrent_priv.h). */
#include "core/ops/recurrent_priv.h"

#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include <stdlib.h>

#include "core/ops/compose_priv.h"
#include "core/ops/half_priv.h"

enum { X, H0, C0, B, W, INPUTS };

static fb_status need_shape(const fbi_call *c, int i, const char *what, fb_shape want)
{
    if (!c->in[i] || fb_shape_equal(fb_shape_of(c->in[i]), want))
        return FB_OK;
    return fbi_op_fail(c, FB_E_SHAPE, "%s is %s, not %s", what, fbi_text(c->in[i]),
                       fbi_shape_text(c->ctx, want));
}

static fb_status need_kind(const fbi_call *c)
{
    const fbi_attrs_recurrence *a = c->attrs;
    if (a->kind < 0 || a->kind >= FBI_RNN_KINDS)
        return fbi_op_fail(c, FB_E_ARG, "kind %lld is not 0 .. %d", (long long)a->kind,
                           FBI_RNN_KINDS - 1);
    if (c->in[C0] && !fbi_rnn_forms[a->kind].memory)
        return fbi_op_fail(c, FB_E_ARG, "only an LSTM has a memory");
    if (c->in[B] && !fbi_rnn_forms[a->kind].biased)
        return fbi_op_fail(c, FB_E_ARG, "only a GRU has a bias of the state's part");
    return FB_OK;
}

/* Results [T, N, ...] lie with N before T if x does; their last dimension is adjacent, whatever x
 * is: a transposed or expanded one says nothing about them. */
static fb_status result(fbi_call *c, int i, fb_dtype dtype, fb_shape shape)
{
    const fb_tensor *x = c->in[X];
    int64_t n = x->size[1] > 1 ? x->stride[1] : INT64_MAX, step = x->size[2];
    bool rows = x->stride[2] == 1 && x->stride[0] >= step && n >= step;
    return rows ? fbi_out_order(c, i, dtype, shape, x) : fbi_out(c, i, dtype, shape);
}

fb_status fbi_infer_recurrence(fbi_call *c)
{
    const fbi_attrs_recurrence *a = c->attrs;
    const fb_tensor *x = c->in[X], *w = c->in[W];
    fb_status st = fbi_need_float(c, X);
    for (int i = 1; i < INPUTS && !st; i++)
        st = c->in[i] ? fbi_need_dtype(c, i, (fb_dtype)x->dtype) : FB_OK;
    st = st ? st : need_kind(c);
    st = st ? st : fbi_need_ndim(c, X, 3);
    st = st ? st : fbi_need_ndim(c, W, 2);
    if (st)
        return st;
    const fbi_rnn_form *f = &fbi_rnn_forms[a->kind];
    int64_t t = x->size[0], n = x->size[1], h = w->size[1];
    if (t == 0)
        return fbi_op_fail(c, FB_E_SHAPE, "the input's part %s has no steps", fbi_text(x));
    st = need_shape(c, X, "the input's part", FB_SHAPE(t, n, f->gates * h));
    st = st ? st : need_shape(c, W, "the weight", FB_SHAPE(f->gates * h, h));
    st = st ? st : need_shape(c, H0, "h0", FB_SHAPE(n, h));
    st = st ? st : need_shape(c, C0, "c0", FB_SHAPE(n, h));
    st = st ? st : need_shape(c, B, "the bias", FB_SHAPE(f->gates * h));
    fb_shape y = FB_SHAPE(t, n, h), saved = FB_SHAPE(t, n, f->saved * h), none = FB_SHAPE(0, 0, 0);
    st = st ? st : result(c, 0, (fb_dtype)x->dtype, y);
    st = st ? st : result(c, 1, (fb_dtype)x->dtype, f->memory ? y : none);
    return st ? st : result(c, 2, fbi_stat_dtype(x), f->saved ? saved : none);
}

/* gy, gc, h0, c0, w, saved, y, c -> the gradient of x, that of the state's part of the gates where
 * it is another one (GRU), the states before each step, the gradients of h0 and c0 */
fb_status fbi_infer_recurrence_bwd(fbi_call *c)
{
    const fbi_attrs_recurrence_bwd *a = c->attrs;
    const fb_tensor *y = c->in[6];
    const fbi_rnn_form *f = &fbi_rnn_forms[a->kind];
    fb_dtype dtype = (fb_dtype)y->dtype;
    fb_shape h = fb_shape_of(y), gates = h, state = FB_SHAPE(h.d[1], h.d[2]), none = FB_SHAPE(0, 0);
    gates.d[2] *= f->gates;
    fb_status st = fbi_out_order(c, 0, dtype, gates, y);
    st = st ? st : fbi_out_order(c, 1, dtype, f->biased ? gates : FB_SHAPE(0, 0, 0), y);
    st = st ? st : fbi_out_order(c, 2, dtype, h, y);
    st = st ? st : fbi_out(c, 3, dtype, state);
    return st ? st : fbi_out(c, 4, dtype, f->memory ? state : none);
}

/* [T, N, ...] as it lies in memory, which the flattening product need not copy then. */
static fb_tensor *as_it_lies(fb_tensor *t)
{
    return t->stride[0] < t->stride[1] ? fb_transpose(t, 0, 1) : t;
}

fb_status fbi_bwd_recurrence(fbi_bw *bw)
{
    const fbi_attrs_recurrence *a = bw->attrs;
    const fbi_attrs_recurrence_bwd attrs = {.kind = a->kind, .reverse = a->reverse};
    fb_tensor *y = fbi_bw_out(bw, 0), *out[5];
    fb_tensor *in[8] = {
        bw->grad[0],       bw->grad[1], fbi_bw_in(bw, H0), fbi_bw_in(bw, C0), fbi_bw_in(bw, W),
        fbi_bw_out(bw, 2), y,           fbi_bw_out(bw, 1)};
    if (y && !in[0])
        in[0] = fb_zeros(bw->ctx, (fb_dtype)y->dtype, fb_shape_of(y));
    if (bw->ctx->status || fbi_run(bw->ctx, FBI_OP_recurrence_bwd, &attrs, in, 8, out))
        return bw->ctx->status;
    fb_tensor *own = as_it_lies(fbi_rnn_forms[a->kind].biased ? out[1] : out[0]);
    fb_status st = fbi_bw_give(bw, X, out[0]);
    st = st ? st : fbi_bw_give(bw, H0, out[3]);
    st = st ? st : fbi_bw_give(bw, C0, out[4]);
    st = st ? st : FBI_BW_RUN(bw, B, linear_db, NULL, own);
    return st ? st : FBI_BW_RUN(bw, W, linear_dw, NULL, own, as_it_lies(out[2]));
}

/* --- of operators --- */

/* What backward reads, wide: step by step, with the states before each step. */
typedef struct unrolled {
    fb_tensor *in[INPUTS], *y, *c, *before, *c_before;
    int64_t steps, hidden;
    const fbi_attrs_recurrence *a;
} unrolled;

static int64_t step_of(const unrolled *u, int64_t i)
{
    return u->a->reverse ? u->steps - 1 - i : i;
}

/* v [T, N, H] a step later, behind `first` or zeros. */
static fb_tensor *states_before(const unrolled *u, fb_tensor *v, fb_tensor *first)
{
    fb_shape s = fb_shape_of(v);
    s.d[0] = 1;
    first = first ? fb_unsqueeze(first, 0) : fb_zeros(v->ctx, (fb_dtype)v->dtype, s);
    fb_tensor *rest = fb_narrow(v, 0, u->a->reverse ? 1 : 0, u->steps - 1);
    if (!first || !rest)
        return NULL;
    return fb_cat(u->a->reverse ? FB_TENSORS(rest, first) : FB_TENSORS(first, rest), 0);
}

static bool unroll(fbi_bw *bw, unrolled *u)
{
    const fbi_rnn_form *f = &fbi_rnn_forms[((const fbi_attrs_recurrence *)bw->attrs)->kind];
    *u = (unrolled){.a = bw->attrs};
    for (int i = 0; i < INPUTS; i++)
        u->in[i] = fbi_exact(fbi_bw_in(bw, i));
    u->y = fbi_exact(fbi_bw_out(bw, 0));
    u->c = f->memory ? fbi_exact(fbi_bw_out(bw, 1)) : NULL;
    if (!u->y || bw->ctx->status)
        return false;
    u->steps = u->y->size[0];
    u->hidden = u->y->size[2];
    u->before = states_before(u, u->y, u->in[H0]);
    u->c_before = u->c ? states_before(u, u->c, u->in[C0]) : NULL;
    return u->before && !bw->ctx->status;
}

static fb_tensor *gate(const unrolled *u, fb_tensor *gates, int i)
{
    return fb_narrow(gates, -1, i * u->hidden, u->hidden);
}

/* 1 - x^2 */
static fb_tensor *tanh_slope(fb_tensor *y)
{
    return fb_add_scalar(fb_neg(fb_mul(y, y)), 1);
}

static fb_tensor *one_minus(fb_tensor *y)
{
    return fb_add_scalar(fb_neg(y), 1);
}

static fb_tensor *sigmoid_slope(fb_tensor *y)
{
    return fb_mul(y, one_minus(y));
}

/* Factors of a step's gradients: gates get `gates` times that of h or, in LSTM, all but the last
 * one that of c; c gets to_c times that of h. What came before gets `kept` times that of h (GRU) or
 * c. The state's part of the gates is `own` times that of h (GRU). */
typedef struct factors {
    fb_tensor *gates, *own, *kept, *to_c;
} factors;

static factors lstm_factors(const unrolled *u)
{
    fb_tensor *sum = fb_add(u->in[X], fb_linear(u->before, u->in[W], NULL));
    fb_tensor *i = fb_sigmoid(gate(u, sum, 0)), *f = fb_sigmoid(gate(u, sum, 1));
    fb_tensor *g = fb_tanh(gate(u, sum, 2)), *o = fb_sigmoid(gate(u, sum, 3));
    fb_tensor *th = fb_tanh(u->c);
    fb_tensor *gates =
        fb_cat(FB_TENSORS(fb_mul(g, sigmoid_slope(i)), fb_mul(u->c_before, sigmoid_slope(f)),
                          fb_mul(i, tanh_slope(g)), fb_mul(th, sigmoid_slope(o))),
               -1);
    return (factors){.gates = gates, .own = gates, .kept = f, .to_c = fb_mul(o, tanh_slope(th))};
}

static factors gru_factors(const unrolled *u)
{
    fb_tensor *x = u->in[X], *own = fb_linear(u->before, u->in[W], u->in[B]);
    fb_tensor *r = fb_sigmoid(fb_add(gate(u, x, 0), gate(u, own, 0)));
    fb_tensor *z = fb_sigmoid(fb_add(gate(u, x, 1), gate(u, own, 1)));
    fb_tensor *hn = gate(u, own, 2), *n = fb_tanh(fb_add(gate(u, x, 2), fb_mul(r, hn)));
    fb_tensor *new = fb_mul(one_minus(z), tanh_slope(n));
    fb_tensor *reset = fb_mul(fb_mul(new, hn), sigmoid_slope(r));
    fb_tensor *update = fb_mul(fb_sub(u->before, n), sigmoid_slope(z));
    return (factors){.gates = fb_cat(FB_TENSORS(reset, update, new), -1),
                     .own = fb_cat(FB_TENSORS(reset, update, fb_mul(new, r)), -1),
                     .kept = z};
}

static factors plain_factors(const unrolled *u)
{
    fb_tensor *slope = u->a->kind == FBI_RNN_TANH
                           ? tanh_slope(u->y)
                           : fb_to(fb_gt(u->y, fbi_scalar(u->y, 0)), (fb_dtype)u->y->dtype);
    return (factors){.gates = slope, .own = slope};
}

/* Gradients on their way back: of h and c after the step that is done next. */
typedef struct carried {
    fb_tensor *h, *c;
} carried;

static fb_tensor *sum_of(fb_tensor *a, fb_tensor *b)
{
    return a && b ? fb_add(a, b) : a ? a : b;
}

/* One step back: the gradients of the gates' two parts into dx and own. */
static carried step_back(const unrolled *u, const factors *f, fb_tensor *gy, fb_tensor *gc,
                         carried g, int64_t t, fb_tensor **dx, fb_tensor **own)
{
    fb_tensor *dh = sum_of(gy ? fb_select(gy, 0, t) : NULL, g.h);
    fb_tensor *dc = sum_of(gc ? fb_select(gc, 0, t) : NULL, g.c), *all = dh;
    if (f->to_c) {
        dc = sum_of(dc, fb_mul(dh, fb_select(f->to_c, 0, t)));
        all = fb_cat(FB_TENSORS(dc, dc, dc, dh), -1);
    } else if (f->kept) {
        all = fb_cat(FB_TENSORS(dh, dh, dh), -1);
    }
    *dx = fb_mul(all, fb_select(f->gates, 0, t));
    *own = f->own == f->gates ? *dx : fb_mul(all, fb_select(f->own, 0, t));
    fb_tensor *kept = f->kept ? fb_mul(f->to_c ? dc : dh, fb_select(f->kept, 0, t)) : NULL;
    fb_tensor *back = fb_matmul(*own, u->in[W]);
    return f->to_c ? (carried){back, kept} : (carried){sum_of(back, kept), NULL};
}

static fb_status give_all(fbi_bw *bw, const unrolled *u, fb_tensors dx, fb_tensors own, carried g)
{
    fb_tensor *all = fb_stack(own, 0), *flat = fb_flatten(all, 0, 1), *d[INPUTS] = {NULL};
    d[X] = fb_stack(dx, 0);
    d[H0] = g.h;
    d[C0] = g.c;
    d[B] = u->in[B] ? fb_sum(flat, FB_SHAPE(0), false) : NULL;
    d[W] = fb_matmul(fb_t(flat), fb_flatten(u->before, 0, 1));
    fb_status st = bw->ctx->status;
    for (int i = 0; i < INPUTS && !st; i++)
        if (d[i] && fbi_bw_needs(bw, i))
            st = fbi_bw_give(bw, i, fb_to(d[i], (fb_dtype)fbi_bw_in(bw, i)->dtype));
    return st;
}

fb_status fbi_bwd_ops_recurrence(fbi_bw *bw)
{
    static factors (*const of[])(const unrolled *) = {plain_factors, plain_factors, lstm_factors,
                                                      gru_factors};
    unrolled u;
    if (!unroll(bw, &u))
        return bw->ctx->status;
    factors f = of[u.a->kind](&u);
    fb_tensor *gy = fbi_exact(bw->grad[0]), *gc = u.c ? fbi_exact(bw->grad[1]) : NULL;
    if (!gy)
        gy = fb_zeros(bw->ctx, (fb_dtype)u.y->dtype, fb_shape_of(u.y));
    fb_tensor **dx = calloc((size_t)u.steps * 2 + 1, sizeof(fb_tensor *)), **own = dx + u.steps;
    if (!dx)
        return fbi_fail(bw->ctx, FB_E_NOMEM, "recurrence: no memory for %lld steps",
                        (long long)u.steps);
    carried g = {NULL, NULL};
    for (int64_t i = u.steps - 1; i >= 0 && !bw->ctx->status; i--) {
        int64_t t = step_of(&u, i);
        g = step_back(&u, &f, gy, gc, g, t, dx + t, own + t);
    }
    fb_status st = bw->ctx->status;
    if (!st)
        st = give_all(bw, &u, (fb_tensors){dx, (int)u.steps}, (fb_tensors){own, (int)u.steps}, g);
    free(dx);
    return st;
}

/* --- samples --- */

void fbi_sample_recurrence(fbi_samples *s)
{
    const struct {
        int64_t t, n, h;
        bool state, bias;
    } ok[] = {{3, 2, 2, true, true}, {2, 1, 3, false, false}, {1, 5, 1, true, false}};
    fbi_sample_in in[INPUTS];
    for (int i = 0; i < INPUTS; i++)
        in[i] = (fbi_sample_in){.lo = -1, .hi = 1};
    for (int64_t kind = 0; kind < FBI_RNN_KINDS; kind++)
        for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
            const fbi_rnn_form *f = &fbi_rnn_forms[kind];
            fbi_attrs_recurrence a = {.kind = kind, .reverse = i % 2};
            int64_t rows = f->gates * ok[i].h;
            in[X].shape = FB_SHAPE(ok[i].t, ok[i].n, rows);
            in[H0].shape = in[C0].shape = FB_SHAPE(ok[i].n, ok[i].h);
            in[B].shape = FB_SHAPE(rows);
            in[W].shape = FB_SHAPE(rows, ok[i].h);
            in[H0].absent = !ok[i].state;
            in[C0].absent = !ok[i].state || !f->memory;
            in[B].absent = !ok[i].bias || !f->biased;
            if (kind == FBI_RNN_RELU) /* away from the kink */
                in[X].lo = 3, in[X].hi = 4;
            fbi_sample_add(s, &a, INPUTS, in);
            in[X].lo = -1, in[X].hi = 1;
        }
    fbi_attrs_recurrence a = {.kind = FBI_LSTM};
    in[X].shape = FB_SHAPE(0, 3, 8);
    fbi_sample_bad(s, &a, INPUTS, in, FB_E_SHAPE,
                   "recurrence: the input's part [0, 3, 8] has no steps");
    in[X].shape = FB_SHAPE(2, 3, 8);
    in[W].shape = FB_SHAPE(8, 3);
    in[B].absent = true;
    fbi_sample_bad(s, &a, INPUTS, in, FB_E_SHAPE,
                   "recurrence: the input's part is [2, 3, 8], not [2, 3, 12]");
    in[W].shape = FB_SHAPE(7, 2);
    fbi_sample_bad(s, &a, INPUTS, in, FB_E_SHAPE, "recurrence: the weight is [7, 2], not [8, 2]");
    in[W].shape = FB_SHAPE(8, 2);
    fbi_sample_bad(s, &a, INPUTS, in, FB_E_SHAPE, "recurrence: h0 is [5, 1], not [3, 2]");
    in[B].absent = false;
    fbi_sample_bad(s, &a, INPUTS, in, FB_E_ARG,
                   "recurrence: only a GRU has a bias of the state's part");
    a.kind = FBI_RNN_TANH;
    in[C0].absent = false;
    fbi_sample_bad(s, &a, INPUTS, in, FB_E_ARG, "recurrence: only an LSTM has a memory");
    a.kind = FBI_RNN_KINDS;
    fbi_sample_bad(s, &a, INPUTS, in, FB_E_ARG, "recurrence: kind 4 is not 0 .. 3");
}
