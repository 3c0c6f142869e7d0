/* Recurrent layers against numbers of PyTorch 2.15, against themselves and finite differences. */
#include "tests/core/nn/wave_priv.h"

#include <flambeau/core/nn/layers.h>
#include <flambeau/core/nn/recurrent.h>
#include <flambeau/core/ops/autocast.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/view.h>
#include <flambeau/core/optim/optim.h>

enum { T = 4, N = 3, IN = 3, HIDDEN = 4 };
typedef fb_module *(*maker)(fb_context *, int64_t, int64_t, const fb_rnn_options *);

/* y, h and c of x; lengths may be NULL. */
static void run(fb_module *m, fb_tensor *x, fb_tensor *h0, fb_tensor *c0, const int64_t *lengths,
                bool lstm, fb_tensor *out[3])
{
    fb_context *ctx = fb_context_of(x);
    fb_tensor *l = lengths ? fb_from(ctx, FB_I64, FB_SHAPE(N), lengths) : NULL;
    out[2] = NULL;
    fb_status st =
        lstm ? fb_nn_forward_n(m, FB_TENSORS(x, h0, c0, l), FB_OUTS(&out[0], &out[1], &out[2]))
             : fb_nn_forward_n(m, FB_TENSORS(x, h0, l), FB_OUTS(&out[0], &out[1]));
    check_ok(ctx);
    assert_int_equal(st, FB_OK);
}

static const struct {
    maker make;
    fb_rnn_options o;
    int64_t lengths[N]; /* 0: none */
    double want[6];     /* digests of y, h, c; gradients of x, h0 and the parameters */
} cases[] = {
    {fb_nn_rnn,
     {.layers = 0},
     {0},
     {-6.3570842988, -1.67364718656, 0, 4.49425119015, 1.09088785523, 10.6050775791}},
    {fb_nn_rnn,
     {.relu = true, .layers = 2},
     {2, 4, 1},
     {3.9294348564, -6.7146618937, 0, 1.41506009765, 2.40573341468, 23.2954434797}},
    {fb_nn_rnn,
     {.bidirectional = true, .no_bias = true},
     {4, 1, 3},
     {-2.13177741508, 1.6051303436, 0, 2.35358672998, 0.548456307725, 7.78309542915}},
    {fb_nn_lstm,
     {.layers = 1},
     {0},
     {1.2366487706, 1.05421102283, 2.05383965063, -0.320965940873, 0.0919013790917,
      0.928061990283}},
    {fb_nn_lstm,
     {.layers = 2, .bidirectional = true},
     {3, 1, 4},
     {0.394457939151, 3.28170350164, 7.14882825905, 2.43173537534, -1.73156096452, -4.63961180788}},
    {fb_nn_lstm,
     {.layers = 2, .proj_size = 2, .batch_first = true},
     {2, 2, 3},
     {-0.217035629225, 0.249580591206, 0.643987822131, 0.703139907601, -0.00815598383876,
      -0.0048509797348}},
    {fb_nn_gru,
     {.layers = 0},
     {0},
     {1.84174481868, 0.927045304994, 0, -0.127420906245, 2.36433562956, -1.06454332662}},
    {fb_nn_gru,
     {.layers = 2, .bidirectional = true, .batch_first = true},
     {1, 4, 2},
     {-1.84566705585, 2.84968838492, 0, 0.7922278015, 0.562391403978, -4.71968849404}},
    {fb_nn_gru,
     {.no_bias = true},
     {0},
     {0.434941874165, -0.0335451427047, 0, -0.585871398797, 2.45885963677, 0.704107116734}},
};

static void layers_compute_what_pytorch_does(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FB_SCOPE(ctx);
        fb_rnn_options o = cases[i].o;
        bool lstm = cases[i].make == fb_nn_lstm;
        fb_module *m = waved(cases[i].make(ctx, IN, HIDDEN, &o));
        int64_t networks = (o.layers ? o.layers : 1) * (o.bidirectional ? 2 : 1);
        int64_t out = o.proj_size ? o.proj_size : HIDDEN;
        fb_shape shape = o.batch_first ? FB_SHAPE(N, T, IN) : FB_SHAPE(T, N, IN);
        fb_tensor *x = fb_requires_grad(wave(ctx, shape, 1, 0.9, 0.2), true);
        fb_tensor *h0 = fb_requires_grad(wave(ctx, FB_SHAPE(networks, N, out), 1, 0.5, 2), true);
        fb_tensor *c0 = wave(ctx, FB_SHAPE(networks, N, HIDDEN), 1, 0.5, 3), *r[3];
        run(m, x, h0, c0, cases[i].lengths[0] ? cases[i].lengths : NULL, lstm, r);
        fb_tensor *loss = fb_add(digested(r[0]), digested(r[1]));
        if (lstm)
            loss = fb_add(loss, digested(r[2]));
        assert_int_equal(fb_backward(loss), FB_OK);
        const double *want = cases[i].want;
        close_to(digest(r[0]), want[0], "y", i);
        close_to(digest(r[1]), want[1], "h", i);
        close_to(digest(r[2]), want[2], "c", i);
        close_to(digest(fb_grad_of(x)), want[3], "the gradient of x", i);
        close_to(digest(fb_grad_of(h0)), want[4], "the gradient of h0", i);
        close_to(gradient_digest(m), want[5], "the parameters' gradient", i);
        fb_nn_close(m);
    }
    check_close(ctx);
}

static void cells_compute_what_pytorch_does(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *x = wave(ctx, FB_SHAPE(2, IN), 1, 0.9, 0.2);
    fb_tensor *h = wave(ctx, FB_SHAPE(2, HIDDEN), 1, 0.5, 2), *c = NULL, *y = NULL;
    fb_module *rnn = waved(fb_nn_rnn_cell(ctx, IN, HIDDEN, NULL));
    assert_int_equal(fb_nn_forward_n(rnn, FB_TENSORS(x, h), FB_OUTS(&y)), FB_OK);
    close_to(digest(y), 0.122771844926, "h", 0);
    fb_module *lstm = waved(fb_nn_lstm_cell(ctx, IN, HIDDEN, NULL));
    fb_tensor *c0 = wave(ctx, FB_SHAPE(2, HIDDEN), 1, 0.5, 3);
    assert_int_equal(fb_nn_forward_n(lstm, FB_TENSORS(x, h, c0), FB_OUTS(&y, &c)), FB_OK);
    close_to(digest(y), 0.964945215117, "h", 1);
    close_to(digest(c), 2.1489442043, "c", 1);
    fb_module *gru = waved(fb_nn_gru_cell(ctx, IN, HIDDEN, NULL));
    assert_int_equal(fb_nn_forward_n(gru, FB_TENSORS(x, h), FB_OUTS(&y)), FB_OK);
    close_to(digest(y), 1.48503838734, "h", 2);
    fb_tensor *one = fb_nn_forward(gru, fb_select(x, 0, 1)), *both = fb_nn_forward(gru, x);
    close_to(fb_item(fb_sum(fb_abs(fb_sub(one, fb_select(both, 0, 1))), FB_ALL, false)), 0,
             "a step without a batch", 3);
    check_close(ctx);
}

/* Whatever lies behind the ends, each sequence gives what it gives alone. */
static void what_lies_behind_the_end_has_no_influence(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    const int64_t lengths[N] = {2, 4, 1};
    const maker makers[] = {fb_nn_rnn, fb_nn_lstm, fb_nn_gru};
    for (int k = 0; k < 3; k++) {
        FB_SCOPE(ctx);
        fb_rnn_options o = {.layers = 2, .bidirectional = true};
        fb_module *m = waved(makers[k](ctx, IN, HIDDEN, &o));
        double v[T * N * IN];
        memcpy(v, check_data(wave(ctx, FB_SHAPE(T, N, IN), 1, 0.9, 0.2)), sizeof v);
        for (int64_t t = 0; t < T; t++)
            for (int64_t i = 0; i < N * IN; i++)
                if (t >= lengths[i / IN])
                    v[t * N * IN + i] = NAN;
        fb_tensor *x = fb_requires_grad(fb_from(ctx, FB_F64, FB_SHAPE(T, N, IN), v), true), *r[3];
        run(m, x, NULL, NULL, lengths, k == 1, r);
        for (int n = 0; n < N; n++) {
            fb_tensor *own = fb_narrow(fb_narrow(x, 1, n, 1), 0, 0, lengths[n]), *a = NULL,
                      *h = NULL;
            assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(own), FB_OUTS(&a, &h)), FB_OK);
            fb_tensor *of = fb_narrow(r[0], 1, n, 1);
            fb_tensor *diff = fb_sub(a, fb_narrow(of, 0, 0, lengths[n]));
            assert_true(fb_item(fb_max(fb_abs(diff))) < 1e-12);
            assert_true(fb_item(fb_max(fb_abs(fb_sub(h, fb_narrow(r[1], 1, n, 1))))) < 1e-12);
            if (lengths[n] < T)
                assert_true(fb_item(fb_max(fb_abs(fb_narrow(of, 0, lengths[n], T - lengths[n])))) ==
                            0);
        }
        assert_int_equal(fb_backward(fb_add(digested(r[0]), digested(r[1]))), FB_OK);
        const double *g = check_data(fb_grad_of(x));
        for (int64_t i = 0; i < T * N * IN; i++)
            assert_true(i / (N * IN) < lengths[i / IN % N] ? isfinite(g[i]) : g[i] == 0);
        assert_true(isfinite(gradient_digest(m)));
        fb_nn_close(m);
    }
    check_close(ctx);
}

typedef struct checked {
    fb_module *m;
    const int64_t *lengths;
    bool lstm;
} checked;

static fb_status checked_run(void *user, fb_tensors in, fb_tensor **out)
{
    const checked *c = user;
    fb_tensor *r[3];
    run(c->m, in.t[0], in.t[1], c->lstm ? in.t[2] : NULL, c->lengths, c->lstm, r);
    out[0] = r[0];
    out[1] = r[1];
    if (c->lstm)
        out[2] = r[2];
    return FB_OK;
}

static void layers_have_first_and_second_derivatives(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    const int64_t lengths[N] = {1, 2, 2};
    const maker makers[] = {fb_nn_rnn, fb_nn_lstm, fb_nn_gru};
    for (int k = 0; k < 3; k++) {
        FB_SCOPE(ctx);
        fb_rnn_options o = {.bidirectional = true, .proj_size = k == 1};
        checked c = {waved(makers[k](ctx, 2, 2, &o)), lengths, k == 1};
        fb_tensor *x = wave(ctx, FB_SHAPE(2, N, 2), 0.8, 0.9, 0.2);
        fb_tensor *h0 = wave(ctx, FB_SHAPE(2, N, o.proj_size ? 1 : 2), 0.8, 0.5, 2);
        fb_tensor *c0 = wave(ctx, FB_SHAPE(2, N, 2), 0.8, 0.5, 3);
        fb_tensors in = {(fb_tensor *const[]){x, h0, c0}, c.lstm ? 3 : 2};
        (void)fb_gradcheck(checked_run, &c, in, c.lstm ? 3 : 2, NULL);
        check_ok(ctx);
        (void)fb_gradgradcheck(checked_run, &c, in, c.lstm ? 3 : 2, NULL);
        check_ok(ctx);
        fb_nn_close(c.m);
    }
    check_close(ctx);
}

typedef struct names {
    char text[600];
    double most;
} names;

static fb_status note(const char *name, fb_tensor *t, void *user)
{
    names *n = user;
    char shape[80];
    size_t at = strlen(n->text);
    snprintf(n->text + at, sizeof n->text - at, "%s%s ", name,
             fb_shape_text(fb_shape_of(t), shape, sizeof shape));
    double most = fb_item(fb_max(fb_abs(t)));
    n->most = most > n->most ? most : n->most;
    return FB_OK;
}

static void weights_have_pytorchs_names_shapes_and_bounds(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_rnn_options o = {.layers = 2, .bidirectional = true, .proj_size = 3};
    fb_module *m = fb_nn_lstm(ctx, 5, 16, &o);
    names n = {"", 0};
    assert_int_equal(fb_nn_each_param(m, note, &n), FB_OK);
    assert_string_equal(
        n.text,
        "weight_ih_l0[64, 5] weight_hh_l0[64, 3] bias_ih_l0[64] bias_hh_l0[64] weight_hr_l0[3, 16] "
        "weight_ih_l0_reverse[64, 5] weight_hh_l0_reverse[64, 3] bias_ih_l0_reverse[64] "
        "bias_hh_l0_reverse[64] weight_hr_l0_reverse[3, 16] "
        "weight_ih_l1[64, 6] weight_hh_l1[64, 3] bias_ih_l1[64] bias_hh_l1[64] weight_hr_l1[3, 16] "
        "weight_ih_l1_reverse[64, 6] weight_hh_l1_reverse[64, 3] bias_ih_l1_reverse[64] "
        "bias_hh_l1_reverse[64] weight_hr_l1_reverse[3, 16] ");
    assert_true(n.most <= 0.25 && n.most > 0.24);
    fb_module *g = fb_nn_gru(ctx, 2, 4, FB_OPTS(fb_rnn_options, .no_bias = true));
    n = (names){"", 0};
    assert_int_equal(fb_nn_each_param(g, note, &n), FB_OK);
    assert_string_equal(n.text, "weight_ih_l0[12, 2] weight_hh_l0[12, 4] ");
    fb_module *cell = fb_nn_lstm_cell(ctx, 2, 4, NULL);
    n = (names){"", 0};
    assert_int_equal(fb_nn_each_param(cell, note, &n), FB_OK);
    assert_string_equal(n.text, "weight_ih[16, 2] weight_hh[16, 4] bias_ih[16] bias_hh[16] ");
    check_close(ctx);
}

static void copies_own_their_weights(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = waved(fb_nn_gru(ctx, IN, HIDDEN, NULL));
    fb_tensor *x = wave(ctx, FB_SHAPE(T, N, IN), 1, 0.9, 0.2);
    double before = digest(fb_nn_forward(m, x));
    fb_module *copy = fb_nn_clone(m);
    assert_int_equal(fb_zero_(fb_detach(fb_nn_param(m, "weight_ih_l0"))), FB_OK);
    fb_nn_close(m);
    close_to(digest(fb_nn_forward(copy, x)), before, "the copy's y", 0);
    fb_nn_close(copy);
    check_close(ctx);
}

/* Without a batch; states by themselves are those of the last step. */
static void a_single_sequence_needs_no_batch(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = waved(fb_nn_lstm(ctx, IN, HIDDEN, FB_OPTS(fb_rnn_options, .layers = 2)));
    fb_tensor *x = wave(ctx, FB_SHAPE(T, IN), 1, 0.9, 0.2), *y = NULL, *h = NULL, *c = NULL;
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(x), FB_OUTS(&y, &h, &c)), FB_OK);
    assert_true(fb_shape_equal(fb_shape_of(y), FB_SHAPE(T, HIDDEN)));
    assert_true(fb_shape_equal(fb_shape_of(c), FB_SHAPE(2, HIDDEN)));
    close_to(digest(fb_select(h, 0, 1)), digest(fb_select(y, 0, T - 1)), "the last state", 0);
    fb_tensor *first = fb_narrow(x, 0, 0, 2), *rest = fb_narrow(x, 0, 2, T - 2), *y2 = NULL;
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(first), FB_OUTS(&y2, &h, &c)), FB_OK);
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(rest, h, c), FB_OUTS(&y2)), FB_OK);
    close_to(digest(fb_contiguous(y2)), digest(fb_contiguous(fb_narrow(y, 0, 2, T - 2))),
             "y of carried states", 0);
    check_close(ctx);
}

static void dropout_is_between_layers_in_training_only(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m =
        waved(fb_nn_rnn(ctx, IN, HIDDEN, FB_OPTS(fb_rnn_options, .layers = 2, .dropout = 1)));
    fb_tensor *a = wave(ctx, FB_SHAPE(T, N, IN), 1, 0.9, 0.2);
    fb_tensor *b = wave(ctx, FB_SHAPE(T, N, IN), 1, 0.9, 0.7);
    assert_true(digest(fb_nn_forward(m, a)) == digest(fb_nn_forward(m, b)));
    assert_true(digest(fb_nn_forward(m, a)) != 0);
    fb_nn_eval(m);
    assert_true(fabs(digest(fb_nn_forward(m, a)) - digest(fb_nn_forward(m, b))) > 1e-3);
    fb_module *one = waved(fb_nn_rnn(ctx, IN, HIDDEN, FB_OPTS(fb_rnn_options, .dropout = 1)));
    assert_true(fabs(digest(fb_nn_forward(one, a)) - digest(fb_nn_forward(one, b))) > 1e-3);
    check_close(ctx);
}

/* y, h, c and the gradients of x, h0 and all parameters, summed with those of earlier calls. */
static void digests(fb_module *m, fb_tensor *x, fb_tensor *h0, fb_tensor *c0, fb_tensor *lengths,
                    double out[6])
{
    fb_tensor *r[3] = {NULL};
    fb_status st =
        c0 ? fb_nn_forward_n(m, FB_TENSORS(x, h0, c0, lengths), FB_OUTS(&r[0], &r[1], &r[2]))
           : fb_nn_forward_n(m, FB_TENSORS(x, h0, lengths), FB_OUTS(&r[0], &r[1]));
    check_ok(fb_context_of(x));
    assert_int_equal(st, FB_OK);
    fb_tensor *loss = fb_add(digested(r[0]), digested(r[1]));
    assert_int_equal(fb_backward(c0 ? fb_add(loss, digested(r[2])) : loss), FB_OK);
    for (int i = 0; i < 3; i++)
        out[i] = digest(r[i]);
    out[3] = digest(fb_grad_of(x));
    out[4] = digest(fb_grad_of(h0));
    out[5] = gradient_digest(m);
}

/* Autocast, which leaves F64 alone, makes a layer go step by step, and it does what it does as one
 * operator; with lengths and without, sizes below, at and beyond those of panels and batches. */
static void steps_and_the_whole_agree(void **state)
{
    (void)state;
    static const struct {
        int64_t t, n, h;
        bool batch_first;
    } sizes[] = {{1, 1, 1, false}, {3, 5, 7, true},   {2, 3, 32, false}, {4, 13, 33, true},
                 {7, 2, 64, true}, {3, 70, 17, true}, {5, 35, 8, false}};
    static const maker makers[] = {fb_nn_rnn, fb_nn_rnn, fb_nn_lstm, fb_nn_gru};
    fb_context *ctx = check_open_device(2);
    for (size_t i = 0; i < 4 * sizeof sizes / sizeof sizes[0]; i++) {
        FB_SCOPE(ctx);
        int64_t k = i % 4, t = sizes[i / 4].t, n = sizes[i / 4].n, h = sizes[i / 4].h, all[70];
        fb_rnn_options o = {.layers = 2,
                            .bidirectional = i % 3 == 0,
                            .batch_first = sizes[i / 4].batch_first,
                            .relu = k == 1};
        fb_module *m = waved(makers[k](ctx, 3, h, &o));
        for (int64_t j = 0; j < n; j++)
            all[j] = 1 + (3 * j + 1) % t;
        fb_tensor *lengths = i % 5 < 3 ? fb_from(ctx, FB_I64, FB_SHAPE(n), all) : NULL;
        fb_shape states = FB_SHAPE(o.bidirectional ? 4 : 2, n, h);
        fb_shape shape = o.batch_first ? FB_SHAPE(n, t, 3) : FB_SHAPE(t, n, 3);
        fb_tensor *x = fb_requires_grad(wave(ctx, shape, 1, 0.9, 0.2), true);
        fb_tensor *h0 = fb_requires_grad(wave(ctx, states, 1, 0.5, 2), true);
        fb_tensor *c0 = k == 2 ? wave(ctx, states, 1, 0.5, 3) : NULL;
        double whole[6], steps[6];
        digests(m, x, h0, c0, lengths, whole);
        fb_autocast(ctx, FB_BF16);
        digests(m, x, h0, c0, lengths, steps);
        for (int j = 0; j < 6; j++)
            close_to(steps[j], j < 3 ? whole[j] : 2 * whole[j], "a digest", i * 6 + (size_t)j);
        fb_nn_close(m);
    }
    check_close(ctx);
}

/* In a sequence each row of a small table meets the weights once; layer by layer it is looked up
 * first. */
static void a_small_table_is_multiplied_before_it_is_looked_up(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    static const maker makers[] = {fb_nn_rnn, fb_nn_lstm, fb_nn_gru};
    const int64_t index[3 * 4] = {0, 1, 1, 2, 2, 2, 0, 1, 0, 2, 1, 1};
    for (size_t i = 0; i < 6; i++) {
        FB_SCOPE(ctx);
        fb_rnn_options o = {
            .layers = 2, .bidirectional = i % 3 == 1, .batch_first = i > 2, .no_bias = i == 5};
        fb_module *m = waved(
            fb_nn_sequential(ctx, fb_nn_embedding(ctx, 3, 5, NULL), makers[i % 3](ctx, 5, 6, &o)));
        fb_tensor *x = fb_from(ctx, FB_I64, FB_SHAPE(3, 4), index), *y = fb_nn_forward(m, x);
        assert_int_equal(fb_backward(digested(y)), FB_OK);
        double whole = gradient_digest(m);
        fb_tensor *z = fb_nn_forward(fb_nn_list_at(m, 1), fb_nn_forward(fb_nn_list_at(m, 0), x));
        assert_int_equal(fb_backward(digested(z)), FB_OK);
        close_to(digest(y), digest(z), "y", i);
        close_to(gradient_digest(m), 2 * whole, "the gradients", i);
        fb_nn_close(m);
    }
    check_close(ctx);
}

/* In BF16, by autocast or by parameters that are, up to its 8 bits. */
static void halves_do_as_well(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    const int64_t lengths[N] = {2, 4, 1};
    const maker makers[] = {fb_nn_rnn, fb_nn_lstm, fb_nn_gru};
    for (int k = 0; k < 3; k++) {
        FB_SCOPE(ctx);
        fb_rnn_options o = {.layers = 2, .bidirectional = true};
        fb_module *m = makers[k](ctx, IN, HIDDEN, &o), *half = makers[k](ctx, IN, HIDDEN, &o);
        fb_tensor *x = fb_to(wave(ctx, FB_SHAPE(T, N, IN), 1, 0.9, 0.2), FB_F32), *r[3], *s[3];
        run(m, x, NULL, NULL, lengths, k == 1, r);
        assert_int_equal(fb_nn_to(half, FB_BF16), FB_OK);
        run(half, fb_to(x, FB_BF16), NULL, NULL, lengths, k == 1, s);
        assert_int_equal(fb_dtype_of(s[0]), FB_BF16);
        assert_int_equal(fb_backward(fb_sum(s[0], FB_ALL, false)), FB_OK);
        fb_autocast(ctx, FB_BF16);
        run(m, x, NULL, NULL, lengths, k == 1, s);
        fb_tensor *diff = fb_abs(fb_sub(fb_to(s[0], FB_F32), r[0]));
        assert_true(fb_item(fb_max(diff)) < 0.03);
        assert_int_equal(fb_backward(fb_sum(fb_to(s[0], FB_F32), FB_ALL, false)), FB_OK);
    }
    check_close(ctx);
}

/* Which of two marks came first, five steps ago. */
static void an_lstm_learns_to_remember(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    fb_module *m = fb_nn_lstm(ctx, 1, 6, FB_OPTS(fb_rnn_options, .batch_first = true));
    fb_optimizer *opt = fb_optim_adam(ctx, m, FB_OPTS(fb_adam_options, .lr = 0.05));
    float x[2 * 5] = {1, 0, 0, 0, 0, -1, 0, 0, 0, 0};
    double loss = 1;
    for (int step = 0; step < 60; step++) {
        FB_SCOPE(ctx);
        fb_tensor *y = fb_nn_forward(m, fb_from(ctx, FB_F32, FB_SHAPE(2, 5, 1), x));
        fb_tensor *last = fb_select(fb_select(y, 1, 4), 1, 0);
        fb_tensor *want = fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){0.5f, -0.5f});
        fb_tensor *l = fb_sum(fb_square(fb_sub(last, want)), FB_ALL, false);
        fb_backward(l);
        fb_optim_step(opt);
        loss = fb_item(l);
    }
    check_ok(ctx);
    assert_true(loss < 0.01);
    check_close(ctx);
}

static void padded_sequences_have_the_value_behind_their_ends(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *a = fb_from(ctx, FB_F32, FB_SHAPE(3, 1), ((float[]){1, 2, 3}));
    fb_tensor *b = fb_from(ctx, FB_F32, FB_SHAPE(1, 1), ((float[]){4}));
    fb_tensor *y = fb_pad_sequence(FB_TENSORS(a, b), false, -1);
    assert_true(fb_shape_equal(fb_shape_of(y), FB_SHAPE(3, 2, 1)));
    assert_memory_equal(check_data(y), ((float[]){1, 4, 2, -1, 3, -1}), 6 * sizeof(float));
    y = fb_pad_sequence(FB_TENSORS(a, b), true, 0);
    assert_memory_equal(check_data(y), ((float[]){1, 2, 3, 4, 0, 0}), 6 * sizeof(float));
    assert_null(fb_pad_sequence(FB_TENSORS(a, fb_zeros(ctx, FB_F32, FB_SCALAR)), true, 0));
    check_error(ctx, FB_E_SHAPE, "pad_sequence: sequence 1 is []");
    assert_null(fb_pad_sequence(FB_TENSORS(a, NULL), true, 0));
    check_error(ctx, FB_E_ARG, "pad_sequence: a sequence is NULL");
    assert_null(fb_pad_sequence(FB_TENSORS(a, fb_zeros(ctx, FB_F32, FB_SHAPE(2, 2))), true, 0));
    check_error(ctx, FB_E_SHAPE, "stack");
    check_close(ctx);
}

static void makers_name_what_makes_no_sense(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    assert_null(fb_nn_rnn(ctx, 0, 3, NULL));
    check_error(ctx, FB_E_ARG, "RNN: 0 to 3 features");
    assert_null(fb_nn_gru(ctx, 3, 3, FB_OPTS(fb_rnn_options, .layers = -2)));
    check_error(ctx, FB_E_ARG, "GRU: -2 layers, not 1 .. 1024");
    assert_null(fb_nn_gru(ctx, 3, 3, FB_OPTS(fb_rnn_options, .dropout = 1.5)));
    check_error(ctx, FB_E_ARG, "GRU: dropout is 1.5, not within 0 .. 1");
    assert_null(fb_nn_gru(ctx, 3, 3, FB_OPTS(fb_rnn_options, .proj_size = 2)));
    check_error(ctx, FB_E_ARG, "GRU: proj_size is 2: only an LSTM has projections");
    assert_null(fb_nn_lstm(ctx, 3, 3, FB_OPTS(fb_rnn_options, .proj_size = 3)));
    check_error(ctx, FB_E_ARG, "LSTM: proj_size is 3, not below the 3 of hidden");
    assert_null(fb_nn_lstm_cell(ctx, 3, 0, NULL));
    check_error(ctx, FB_E_ARG, "LSTMCell: 3 to 0 features");
    fb_module *m = fb_nn_lstm(ctx, 2, 2, NULL);
    assert_int_equal(fb_nn_to(m, FB_I64), FB_E_DTYPE);
    check_error(ctx, FB_E_DTYPE, "fb_nn_to: I64 cannot be trained; F32 F64 F16 BF16 can");
    assert_int_equal(fb_nn_materialize(m), FB_OK);
    assert_int_equal(fb_nn_to(m, FB_F64), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "fb_nn_to: weight_ih_l0 of LSTM has values already");
    check_close(ctx);
}

static void refuses(fb_module *m, fb_tensors in, fb_status st, const char *text)
{
    fb_tensor *y = NULL;
    assert_int_not_equal(fb_nn_forward_n(m, in, FB_OUTS(&y)), FB_OK);
    assert_null(y);
    check_error(fb_nn_context(m), st, text);
}

static void calls_name_what_does_not_fit(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_lstm(ctx, 3, 4, FB_OPTS(fb_rnn_options, .layers = 2));
    fb_tensor *x = fb_zeros(ctx, FB_F32, FB_SHAPE(5, 2, 3)),
              *s = fb_zeros(ctx, FB_F32, FB_SHAPE(2, 2, 4));
    fb_tensor *bad = fb_zeros(ctx, FB_F32, FB_SHAPE(1, 2, 4)), *y = NULL;
    fb_tensor *zero = fb_from(ctx, FB_I64, FB_SHAPE(2), ((int64_t[]){3, 0}));
    fb_tensor *six = fb_from(ctx, FB_I32, FB_SHAPE(2), ((int32_t[]){6, 1}));
    refuses(m, FB_TENSORS(NULL), FB_E_ARG, "LSTM: input is NULL");
    refuses(m, FB_TENSORS(fb_zeros(ctx, FB_F32, FB_SHAPE(3))), FB_E_SHAPE,
            "LSTM: input [3] must be [T, N, 3] or [T, 3]");
    refuses(m, FB_TENSORS(fb_zeros(ctx, FB_F32, FB_SHAPE(5, 2, 4))), FB_E_SHAPE,
            "LSTM: input [5, 2, 4] must be [T, N, 3] or [T, 3]");
    refuses(m, FB_TENSORS(fb_zeros(ctx, FB_F32, FB_SHAPE(0, 2, 3))), FB_E_SHAPE,
            "LSTM: input [0, 2, 3] has 0 steps");
    refuses(m, FB_TENSORS(x, bad), FB_E_SHAPE, "LSTM: h0 is [1, 2, 4], not [2, 2, 4]");
    refuses(m, FB_TENSORS(x, s, bad), FB_E_SHAPE, "LSTM: c0 is [1, 2, 4], not [2, 2, 4]");
    refuses(m, FB_TENSORS(x, s, s, s), FB_E_SHAPE, "LSTM: lengths is [2, 2, 4], not [2]");
    refuses(m, FB_TENSORS(x, NULL, NULL, fb_zeros(ctx, FB_F32, FB_SHAPE(2))), FB_E_DTYPE,
            "LSTM: lengths are F32, not integers");
    refuses(m, FB_TENSORS(x, NULL, NULL, zero), FB_E_ARG,
            "LSTM: length 0 of sequence 1 is not within 1 .. 5, the steps of the input");
    refuses(m, FB_TENSORS(x, NULL, NULL, six), FB_E_ARG,
            "LSTM: length 6 of sequence 0 is not within 1 .. 5");
    refuses(m, FB_TENSORS(fb_zeros(ctx, FB_F64, FB_SHAPE(5, 2, 3))), FB_E_DTYPE, "linear");
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(x, s, s, zero, s), FB_OUTS(&y)), FB_E_ARG);
    check_error(ctx, FB_E_ARG,
                "LSTM: called with 5 inputs and 1 outputs: it takes (x, h, c, lengths) and gives "
                "(y, h, c)");
    fb_module *cell = fb_nn_gru_cell(ctx, 3, 4, NULL);
    refuses(cell, FB_TENSORS(x), FB_E_SHAPE, "GRUCell: input [5, 2, 3] must be [N, 3] or [3]");
    refuses(cell, FB_TENSORS(fb_select(x, 0, 0), s), FB_E_SHAPE,
            "GRUCell: h is [2, 2, 4], input [2, 3] needs [2, 4]");
    refuses(cell, FB_TENSORS(x, s, s), FB_E_ARG,
            "GRUCell: called with 3 inputs and 1 outputs: it takes (x, h) and gives (h)");
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_compute_what_pytorch_does),
        cmocka_unit_test(cells_compute_what_pytorch_does),
        cmocka_unit_test(what_lies_behind_the_end_has_no_influence),
        cmocka_unit_test(layers_have_first_and_second_derivatives),
        cmocka_unit_test(weights_have_pytorchs_names_shapes_and_bounds),
        cmocka_unit_test(copies_own_their_weights),
        cmocka_unit_test(a_single_sequence_needs_no_batch),
        cmocka_unit_test(dropout_is_between_layers_in_training_only),
        cmocka_unit_test(steps_and_the_whole_agree),
        cmocka_unit_test(a_small_table_is_multiplied_before_it_is_looked_up),
        cmocka_unit_test(halves_do_as_well),
        cmocka_unit_test(an_lstm_learns_to_remember),
        cmocka_unit_test(padded_sequences_have_the_value_behind_their_ends),
        cmocka_unit_test(makers_name_what_makes_no_sense),
        cmocka_unit_test(calls_name_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
