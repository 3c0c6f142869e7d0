/* One step of recurrent networks, and cells. */
#include <flambeau/core/nn/recurrent.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/view.h>
#include <inttypes.h>
#include <math.h>

#include "core/nn/recurrent_priv.h"

/* --- steps --- */

/* Gates [n, n + count) of [N, gates * H], H read off `like` [N, H]. */
static fb_tensor *gates_of(fb_tensor *gates, const fb_tensor *like, int64_t n, int64_t count)
{
    int64_t hidden = like->size[like->ndim - 1];
    return fb_narrow(gates, -1, n * hidden, count * hidden);
}

static fb_tensor *plain_sum(const fbi_rnn_weights *w, fb_tensor *gates, fbi_rnn_state s)
{
    return fb_add(gates, fb_linear(s.h, w->hh, NULL));
}

static fbi_rnn_state tanh_step(const fbi_rnn_weights *w, fb_tensor *gates, fbi_rnn_state s)
{
    return (fbi_rnn_state){.h = fb_tanh(plain_sum(w, gates, s))};
}

static fbi_rnn_state relu_step(const fbi_rnn_weights *w, fb_tensor *gates, fbi_rnn_state s)
{
    return (fbi_rnn_state){.h = fb_relu(plain_sum(w, gates, s))};
}

static fbi_rnn_state lstm_step(const fbi_rnn_weights *w, fb_tensor *gates, fbi_rnn_state s)
{
    fb_tensor *sum = plain_sum(w, gates, s);
    fb_tensor *in_forget = fb_sigmoid(gates_of(sum, s.c, 0, 2));
    fb_tensor *new = fb_tanh(gates_of(sum, s.c, 2, 1));
    fb_tensor *out = fb_sigmoid(gates_of(sum, s.c, 3, 1));
    fb_tensor *kept = fb_mul(gates_of(in_forget, s.c, 1, 1), s.c);
    fb_tensor *c = fb_add(kept, fb_mul(gates_of(in_forget, s.c, 0, 1), new));
    fb_tensor *h = fb_mul(out, fb_tanh(c));
    return (fbi_rnn_state){.h = w->hr ? fb_linear(h, w->hr, NULL) : h, .c = c};
}

static fbi_rnn_state gru_step(const fbi_rnn_weights *w, fb_tensor *gates, fbi_rnn_state s)
{
    fb_tensor *own = fb_linear(s.h, w->hh, w->b_hh);
    fb_tensor *both = fb_sigmoid(fb_add(gates_of(gates, s.h, 0, 2), gates_of(own, s.h, 0, 2)));
    fb_tensor *reset = gates_of(both, s.h, 0, 1), *update = gates_of(both, s.h, 1, 1);
    fb_tensor *new =
        fb_tanh(fb_add(gates_of(gates, s.h, 2, 1), fb_mul(reset, gates_of(own, s.h, 2, 1))));
    return (fbi_rnn_state){.h = fb_add(new, fb_mul(update, fb_sub(s.h, new)))};
}

const fbi_rnn_kind fbi_rnn_kinds[FBI_RNN_KINDS] = {
    [FBI_RNN_TANH] = {"RNN", "RNNCell", 1, 1, tanh_step, true},
    [FBI_RNN_RELU] = {"RNN", "RNNCell", 1, 1, relu_step, true},
    [FBI_LSTM] = {"LSTM", "LSTMCell", 4, 2, lstm_step, true},
    [FBI_GRU] = {"GRU", "GRUCell", 3, 1, gru_step, false},
};

fb_tensor *fbi_rnn_gates(const fbi_rnn_kind *k, const fbi_rnn_weights *w, fb_tensor *x)
{
    fb_tensor *bias = w->b_ih && k->joins_biases ? fb_add(w->b_ih, w->b_hh) : w->b_ih;
    return bias || !w->b_ih ? fb_linear(x, w->ih, bias) : NULL;
}

fb_tensor *fbi_rnn_declare(fb_context *ctx, int64_t hidden, int64_t rows, int64_t cols)
{
    double bound = 1 / sqrt((double)hidden);
    fb_shape shape = cols ? FB_SHAPE(rows, cols) : FB_SHAPE(rows);
    return fb_nn_declare_param(ctx, FB_F32, shape, fb_init_uniform(-bound, bound));
}

/* --- cells --- */

typedef struct cell {
    fb_tensor *weight_ih, *weight_hh, *bias_ih, *bias_hh;
    const fbi_rnn_kind *kind;
    int64_t in, hidden;
} cell;

static const fb_field cell_fields[] = {FB_PARAM(cell, weight_ih),
                                       FB_PARAM(cell, weight_hh),
                                       FB_PARAM(cell, bias_ih),
                                       FB_PARAM(cell, bias_hh),
                                       {0}};

/* False: the error is set. */
static bool cell_fits(fb_module *m, fb_tensor *x, fb_tensors states, fb_shape want)
{
    static const char *const what[] = {"h", "c"};
    const cell *c = m->self;
    int n = x->ndim;
    if ((n != 1 && n != 2) || x->size[n - 1] != c->in) {
        fbi_fail(m->ctx, FB_E_SHAPE, "%s: input %s must be [N, %" PRId64 "] or [%" PRId64 "]",
                 m->type->name, fbi_text(x), c->in, c->in);
        return false;
    }
    for (int i = 0; i < states.n; i++) {
        fb_tensor *s = states.t[i];
        if (!s)
            continue;
        if (!fbi_tensor_check(m->ctx, s, m->type->name, what[i]))
            return false;
        if (fb_shape_equal(fb_shape_of(s), want))
            continue;
        fbi_fail(m->ctx, FB_E_SHAPE, "%s: %s is %s, input %s needs %s", m->type->name, what[i],
                 fbi_text(s), fbi_text(x), fbi_shape_text(m->ctx, want));
        return false;
    }
    return true;
}

static void cell_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    const cell *c = m->self;
    const fbi_rnn_kind *k = c->kind;
    if (in.n < 1 || in.n > 1 + k->states || out.n < 1 || out.n > k->states) {
        fbi_fail(m->ctx, FB_E_ARG,
                 "%s: called with %d inputs and %d outputs: it takes (x%s) and gives (%s)",
                 m->type->name, in.n, out.n, k->states > 1 ? ", h, c" : ", h",
                 k->states > 1 ? "h, c" : "h");
        return;
    }
    fb_tensor *x = in.t[0];
    if (!fbi_tensor_check(m->ctx, x, m->type->name, "input"))
        return;
    fb_shape want = fb_shape_of(x);
    want.d[want.n ? want.n - 1 : 0] = c->hidden;
    if (!cell_fits(m, x, (fb_tensors){in.t + 1, in.n - 1}, want))
        return;
    fbi_rnn_weights w = {c->weight_ih, c->weight_hh, c->bias_ih, c->bias_hh, NULL};
    fb_tensor *zeros = fb_zeros(m->ctx, (fb_dtype)c->weight_hh->dtype, want);
    fbi_rnn_state s = {.h = in.n > 1 && in.t[1] ? in.t[1] : zeros,
                       .c = in.n > 2 && in.t[2] ? in.t[2] : zeros};
    fb_tensor *gates = fbi_rnn_gates(k, &w, x);
    if (!gates || !zeros)
        return;
    s = k->step(&w, gates, s);
    *out.t[0] = s.h;
    if (out.n > 1)
        *out.t[1] = s.c;
}

static const fb_module_type cell_types[] = {
    {.name = "RNNCell", .size = sizeof(cell), .fields = cell_fields, .forward_n = cell_forward_n},
    {.name = "LSTMCell", .size = sizeof(cell), .fields = cell_fields, .forward_n = cell_forward_n},
    {.name = "GRUCell", .size = sizeof(cell), .fields = cell_fields, .forward_n = cell_forward_n}};

static fb_module *cell_new(fb_context *ctx, const fb_module_type *type, fbi_rnn_index kind,
                           int64_t in, int64_t hidden, bool no_bias)
{
    if (!fbi_enter(ctx))
        return NULL;
    if (in < 1 || hidden < 1) {
        fbi_fail(ctx, FB_E_ARG, "%s: %" PRId64 " to %" PRId64 " features", type->name, in, hidden);
        return NULL;
    }
    int64_t rows = fbi_rnn_kinds[kind].gates * hidden;
    cell c = {.kind = &fbi_rnn_kinds[kind],
              .in = in,
              .hidden = hidden,
              .weight_ih = fbi_rnn_declare(ctx, hidden, rows, in),
              .weight_hh = fbi_rnn_declare(ctx, hidden, rows, hidden)};
    if (!no_bias) {
        c.bias_ih = fbi_rnn_declare(ctx, hidden, rows, 0);
        c.bias_hh = fbi_rnn_declare(ctx, hidden, rows, 0);
    }
    return fb_nn_new(ctx, type, &c);
}

fb_module *fb_nn_rnn_cell(fb_context *ctx, int64_t in, int64_t hidden,
                          const fb_rnn_cell_options *opts)
{
    FBI_ENTRY(ctx);
    return cell_new(ctx, &cell_types[0], opts && opts->relu ? FBI_RNN_RELU : FBI_RNN_TANH, in,
                    hidden, opts && opts->no_bias);
}
fb_module *fb_nn_lstm_cell(fb_context *ctx, int64_t in, int64_t hidden,
                           const fb_rnn_cell_options *opts)
{
    FBI_ENTRY(ctx);
    return cell_new(ctx, &cell_types[1], FBI_LSTM, in, hidden, opts && opts->no_bias);
}
fb_module *fb_nn_gru_cell(fb_context *ctx, int64_t in, int64_t hidden,
                          const fb_rnn_cell_options *opts)
{
    FBI_ENTRY(ctx);
    return cell_new(ctx, &cell_types[2], FBI_GRU, in, hidden, opts && opts->no_bias);
}
