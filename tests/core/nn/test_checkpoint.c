/* fb_nn_checkpoint: the same bits with less memory, and which modules a rule means. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/autograd/saved.h>
#include <flambeau/core/nn/hooks.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/nn/transformer.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <math.h>

#include "core/nn/nn_priv.h"

static int open_context(void **state)
{
    *state = check_open_device(2);
    return 0;
}

static int close_context(void **state)
{
    return fb_context_close(*state) == FB_OK ? 0 : -1;
}

static fb_tensor *total(fb_tensor *x)
{
    return fb_sum(x, FB_ALL, false);
}

/* --- a residual net with everything that remembers or draws --- */

enum { CHANNELS = 8, BLOCKS = 6 };

typedef struct block {
    fb_module *norm, *conv, *drop;
    fb_tensor *gain;
} block;
static const fb_field block_fields[] = {FB_CHILD(block, norm),
                                        FB_CHILD(block, conv),
                                        FB_CHILD(block, drop),
                                        FB_PARAM(block, gain),
                                        {0}};

static fb_tensor *block_forward(fb_module *m, fb_tensor *x)
{
    const block *b = fb_nn_self(m);
    fb_tensor *h = fb_nn_forward(b->norm, x);
    h = fb_nn_forward(b->conv, fb_relu(h));
    h = fb_nn_forward(b->drop, fb_sigmoid(h));
    return h ? fb_add(x, fb_mul(h, b->gain)) : NULL;
}

static const fb_module_type block_type = {
    .name = "Block", .size = sizeof(block), .fields = block_fields, .forward = block_forward};

static fb_module *block_new(fb_context *ctx)
{
    fb_conv_options same = {.padding = {1}};
    block b = {.norm = fb_nn_batch_norm2d(ctx, CHANNELS, NULL),
               .conv = fb_nn_conv2d(ctx, CHANNELS, CHANNELS, 3, &same),
               .drop = fb_nn_dropout(ctx, 0.3),
               .gain = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(1), fb_init_constant(0.5))};
    return fb_nn_new(ctx, &block_type, &b);
}

typedef struct net {
    fb_module *blocks, *head;
} net;
static const fb_field net_fields[] = {FB_CHILD(net, blocks), FB_CHILD(net, head), {0}};

static fb_tensor *net_forward(fb_module *m, fb_tensor *x)
{
    const net *n = fb_nn_self(m);
    for (int i = 0; i < BLOCKS && x; i++)
        x = fb_nn_forward(fb_nn_list_at(n->blocks, i), x);
    return fb_nn_forward(n->head, x);
}

static const fb_module_type net_type = {
    .name = "Net", .size = sizeof(net), .fields = net_fields, .forward = net_forward};

static fb_module *net_new(fb_context *ctx)
{
    net n = {.blocks = fb_nn_list(ctx, BLOCKS), .head = fb_nn_relu(ctx)};
    for (int i = 0; i < BLOCKS; i++)
        assert_int_equal(fb_nn_list_set(n.blocks, i, block_new(ctx)), FB_OK);
    return fb_nn_new(ctx, &net_type, &n);
}

/* --- bits and memory --- */

typedef struct bits {
    float v[8192];
    int n;
} bits;

static fb_status add_values(const char *name, fb_tensor *t, void *user)
{
    (void)name;
    bits *b = user;
    if (fb_dtype_of(t) != FB_F32)
        return FB_OK;
    assert_true(b->n + fb_numel(t) <= 8192);
    fb_status st = fb_read(t, b->v + b->n, (size_t)fb_numel(t) * sizeof(float));
    b->n += (int)fb_numel(t);
    return st;
}

static fb_status add_gradient(const char *name, fb_tensor *t, void *user)
{
    return add_values(name, fb_grad_of(t), user);
}

static fb_status add_count(const char *name, fb_tensor *t, void *user)
{
    if (strstr(name, "num_batches"))
        ((bits *)user)->v[((bits *)user)->n++] = (float)fb_item_int(t);
    return FB_OK;
}

/* What is set around a run. */
typedef enum mode { PLAIN, ANOMALY, ON_HOST } mode;

/* Two steps: gradients, running statistics, random numbers afterwards. @return the peak of memory
 */
static size_t train(fb_context *ctx, const char *glob, mode how, bits *b)
{
    FB_SCOPE(ctx);
    if (how == ANOMALY)
        fb_detect_anomaly(ctx);
    if (how == ON_HOST)
        assert_int_equal(fb_save_on_cpu(ctx), FB_OK);
    fb_module *m = net_new(ctx);
    if (glob)
        assert_int_equal(fb_nn_checkpoint(m, glob, true), FB_OK);
    fb_tensor *x = fb_requires_grad(fb_randn(ctx, FB_F32, FB_SHAPE(4, CHANNELS, 16, 16)), true);
    fb_memory_stats stats = {0};
    for (int k = 0; k < 2; k++) {
        FB_SCOPE(ctx);
        fb_memory_reset_peak(ctx);
        fb_tensor *y = fb_nn_forward(m, x);
        check_ok(ctx);
        assert_int_equal(fb_backward(total(fb_mul(y, y))), FB_OK);
        fb_memory_stats_of(ctx, &stats);
    }
    b->n = 0;
    assert_int_equal(fb_nn_each_param(m, add_gradient, b), FB_OK);
    assert_int_equal(fb_nn_each_buffer(m, add_values, b), FB_OK);
    assert_int_equal(fb_nn_each_buffer(m, add_count, b), FB_OK);
    add_values("", fb_sum(fb_grad_of(x), FB_SHAPE(2, 3), false), b);
    add_values("", fb_rand(ctx, FB_F32, FB_SHAPE(4)), b);
    return stats.peak;
}

/* In a context of its own: first values depend on how many models there were. */
static size_t run(const char *glob, mode how, bits *b)
{
    fb_context *ctx = check_open_device(2);
    size_t peak = train(ctx, glob, how, b);
    check_close(ctx);
    return peak;
}

static void the_bits_are_those_of_a_plain_run_and_the_peak_is_lower(void **state)
{
    (void)state;
    static bits plain, kept;
    size_t all = run(NULL, PLAIN, &plain), some = run("blocks.?", PLAIN, &kept);
    assert_int_equal(plain.n, kept.n);
    assert_memory_equal(plain.v, kept.v, (size_t)plain.n * sizeof(float));
    /* a block saves at least four tensors like x, of which one is its input; those of one block are
     * there at once */
    size_t one = 4 * CHANNELS * 256 * sizeof(float);
    assert_true(all > some + (BLOCKS - 1) / 2 * 4 * one);
}

static void of_modules_within_each_other_the_outermost_counts(void **state)
{
    fb_context *ctx = *state;
    static bits plain, kept;
    run(NULL, PLAIN, &plain);
    run("*", PLAIN, &kept); /* blocks, which are no module to call, and all below */
    assert_memory_equal(plain.v, kept.v, (size_t)plain.n * sizeof(float));
    FB_SCOPE(ctx);
    fb_module *m = net_new(ctx);
    static const struct {
        const char *glob;
        bool on;
        const char *marked;
    } rules[] = {
        {"*", true, "blocks.0 blocks.1 blocks.2 head "},
        {"head", false, "blocks.0 blocks.1 blocks.2 "},
        {"*.conv", true, "blocks.0 blocks.1 blocks.2 "}, /* within a marked one */
        {"blocks.1", false, "blocks.0 blocks.2 "},
        {"blocks.*.conv", true, "blocks.0 blocks.1.conv blocks.2 "},
        {"blocks.?", true, "blocks.0 blocks.1 blocks.2 "},
        {"", true, " "},
        {"*", true, " "},
        {"", false, ""},
    };
    for (size_t k = 0; k < sizeof rules / sizeof *rules; k++) {
        assert_int_equal(fb_nn_checkpoint(m, rules[k].glob, rules[k].on), FB_OK);
        static const char *const paths[] = {
            "",         "blocks",        "blocks.0", "blocks.0.conv",
            "blocks.1", "blocks.1.conv", "blocks.2", "head"};
        char marked[128] = "";
        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
            const fb_module *c = fb_nn_find(m, paths[i]);
            if (!fbi_nn_is_plain(c))
                strcat(strcat(marked, paths[i]), " ");
        }
        assert_string_equal(marked, rules[k].marked);
    }
    assert_int_equal(fb_nn_checkpoint(m, "layer*", true), FB_E_NOT_FOUND);
    check_error(ctx, FB_E_NOT_FOUND,
                "no module of Net that has a forward function matches \"layer*\"");
    assert_int_equal(fb_nn_checkpoint(m, "blocks", true), FB_E_NOT_FOUND);
    check_error(ctx, FB_E_NOT_FOUND, "matches \"blocks\"");
    assert_int_equal(fb_nn_checkpoint(m, NULL, true), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_nn_checkpoint: the glob is NULL");
    assert_int_equal(fb_nn_checkpoint(NULL, "*", true), FB_E_ARG);
}

static fb_status count_call(fb_module *m, fb_tensors in, fb_tensor **out, int n_out, void *user)
{
    (void)m;
    (void)in;
    (void)out;
    (void)n_out;
    ++*(int *)user;
    return FB_OK;
}

static void only_training_runs_twice(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    int outer = 0, inner = 0;
    fb_module *m = net_new(ctx);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(2, CHANNELS, 4, 4)), *y;
    assert_int_equal(fb_nn_checkpoint(m, "blocks.0", true), FB_OK);
    fb_nn_hook_forward(fb_nn_find(m, "blocks.0"), count_call, &outer);
    fb_nn_hook_forward(fb_nn_find(m, "blocks.0.conv"), count_call, &inner);
    assert_int_equal(fb_backward(total(fb_nn_forward(m, x))), FB_OK);
    assert_int_equal(outer, 1);
    assert_int_equal(inner, 2);
    {
        FB_SCOPE(ctx);
        fb_no_grad(ctx);
        assert_false(fb_needs_grad(fb_nn_forward(m, x)));
    }
    fb_nn_eval(m);
    assert_int_equal(fb_backward(total(fb_nn_forward(m, x))), FB_OK);
    assert_int_equal(outer, 3);
    assert_int_equal(inner, 4);
    fb_nn_train(m);
    y = total(fb_nn_forward(m, x));
    fb_nn_eval(m);
    assert_int_equal(fb_backward(y), FB_E_STATE);
    check_error(ctx, FB_E_STATE,
                "Block was put into eval mode between its forward and its backward");
}

typedef struct arrivals {
    int prepared, ready;
} arrivals;

static void on_prepare(void *self, fbi_leaf *leaf)
{
    (void)leaf;
    ((arrivals *)self)->prepared++;
}

static void on_ready(void *self, fbi_leaf *leaf)
{
    (void)leaf;
    ((arrivals *)self)->ready++;
}

static fb_tensor *count_gradient(fb_tensor *grad, void *user)
{
    (void)grad;
    ++*(int *)user;
    return NULL;
}

/* What DDP hangs on leaves, and hooks of the user, are called once a backward. */
static void sinks_and_hooks_of_parameters_are_called_once(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    arrivals a = {0};
    int hooked = 0;
    fbi_grad_sink sink = {&a, on_prepare, on_ready};
    fb_module *m = net_new(ctx);
    assert_int_equal(fb_nn_checkpoint(m, "blocks.*", true), FB_OK);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(2, CHANNELS, 4, 4));
    fb_tensor *w = fb_nn_param(m, "blocks.1.conv.weight"), *v = fb_nn_param(m, "blocks.2.gain");
    w->leaf->sink = &sink;
    assert_non_null(fb_hook_grad(v, count_gradient, &hooked));
    for (int k = 1; k <= 2; k++) {
        assert_int_equal(fb_backward(total(fb_nn_forward(m, x))), FB_OK);
        assert_int_equal(a.prepared, k);
        assert_int_equal(a.ready, k);
        assert_int_equal(hooked, k);
    }
    w->leaf->sink = NULL;
}

static void a_clone_is_checkpointed_too_and_a_closed_module_is_held(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *m = net_new(ctx);
    assert_int_equal(fb_nn_checkpoint(m, "blocks.*", true), FB_OK);
    fb_module *c = fb_nn_clone(m);
    assert_false(fbi_nn_is_plain(fb_nn_find(c, "blocks.2")));
    assert_true(fbi_nn_is_plain(fb_nn_find(c, "head")));
    fb_tensor *x = fb_requires_grad(fb_randn(ctx, FB_F32, FB_SHAPE(2, CHANNELS, 4, 4)), true);
    fb_tensor *y = total(fb_nn_forward(c, x)), *g;
    fb_gradient_options o = {.create_graph = true};
    assert_int_equal(fb_gradients(FB_TENSORS(y), FB_TENSORS(x), &o, &g), FB_E_UNSUPPORTED);
    check_error(ctx, FB_E_UNSUPPORTED, "checkpoint: create_graph through it");
    fb_nn_close(c);
    assert_int_equal(fb_backward(y), FB_OK);
    assert_non_null(fb_grad_of(x));
    check_ok(ctx);
}

/* With fb_save_on_cpu, the inputs of the segments are all that is kept, and not on the device. */
static void segments_may_keep_their_inputs_on_the_host(void **state)
{
    (void)state;
    static bits plain, kept;
    size_t device = run("blocks.*", PLAIN, &plain), host = run("blocks.*", ON_HOST, &kept);
    assert_memory_equal(plain.v, kept.v, (size_t)plain.n * sizeof(float));
    assert_true(host < device);
}

static void anomalies_are_looked_for_in_both_runs(void **state)
{
    (void)state;
    static bits plain, kept;
    run(NULL, PLAIN, &plain);
    run("blocks.*", ANOMALY, &kept);
    assert_int_equal(plain.n, kept.n);
    for (int i = 0; i < plain.n; i++)
        if (!(fabs(plain.v[i] - kept.v[i]) <= 1e-4 * (1 + fabs(plain.v[i]))))
            fail_msg("value %d: %g and %g", i, plain.v[i], kept.v[i]);
}

/* Several inputs, one without gradient, and outputs of which one has none. */
typedef struct mix {
    fb_tensor *w;
} mix;
static const fb_field mix_fields[] = {FB_PARAM(mix, w), {0}};

static void mix_forward(fb_module *m, fb_tensors in, fb_outs out)
{
    const mix *x = fb_nn_self(m);
    *out.t[0] = fb_mul(fb_mul(in.t[0], x->w), in.t[1]);
    *out.t[1] = fb_full(fb_context_of(in.t[0]), FB_I64, FB_SHAPE(2), 7);
    *out.t[2] = in.n > 2 && in.t[2] ? fb_exp(in.t[2]) : fb_exp(in.t[0]);
}

static const fb_module_type mix_type = {
    .name = "Mix", .size = sizeof(mix), .fields = mix_fields, .forward_n = mix_forward};

static void modules_of_several_tensors_are_checkpointed(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    mix self = {.w = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(2), fb_init_constant(3))};
    fb_module *m = fb_nn_new(ctx, &mix_type, &self);
    assert_int_equal(fb_nn_checkpoint(m, "", true), FB_OK);
    fb_tensor *a = fb_requires_grad(fb_full(ctx, FB_F32, FB_SHAPE(2), 2), true), *y, *n, *e;
    fb_tensor *b = fb_full(ctx, FB_F32, FB_SHAPE(2), 5);
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(a, b, NULL), FB_OUTS(&y, &n, &e)), FB_OK);
    assert_false(fb_needs_grad(n));
    assert_int_equal(fb_item_int(total(n)), 14);
    assert_int_equal(fb_backward(total(fb_add(y, e))), FB_OK);
    const float *ga = check_data(fb_grad_of(a)), *gw = check_data(fb_grad_of(fb_nn_param(m, "w")));
    assert_float_equal(ga[0], 15 + exp(2), 1e-4);
    assert_float_equal(gw[0], 10, 0);
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(a, b, b), FB_OUTS(&y, &n, &e)), FB_OK);
    assert_float_equal(fb_item(total(e)), 2 * exp(5), 1e-3);
}

/* Layers of transformers are called with masks, which are kept for the second run. */
static void transform(fb_context *ctx, bool kept, int *calls, bits *b)
{
    FB_SCOPE(ctx);
    fb_transformer_options o = {.ff = 16, .dropout = 0.2, .batch_first = true};
    fb_module *m = fb_nn_transformer(ctx, 8, 2, 2, 2, &o);
    if (kept)
        assert_int_equal(fb_nn_checkpoint(m, "*.layers.*", true), FB_OK);
    fb_nn_hook_forward(fb_nn_find(m, "decoder.layers.1.linear2"), count_call, calls);
    fb_tensor *source = fb_randn(ctx, FB_F32, FB_SHAPE(2, 5, 8));
    fb_tensor *target = fb_randn(ctx, FB_F32, FB_SHAPE(2, 3, 8));
    fb_tensor *hidden =
        fb_gt(fb_randn(ctx, FB_F32, FB_SHAPE(2, 5)), fb_full(ctx, FB_F32, FB_SHAPE(2, 5), 0.8));
    fb_tensor *y;
    {
        FB_SCOPE(ctx); /* the options are gone before backward */
        fb_attend_options pads = {.padding = hidden}, causal = {.causal = true};
        y = fb_nn_transformer_apply(m, source, target, &pads, &causal, &pads);
        check_ok(ctx);
        (void)fb_keep(y);
    }
    assert_int_equal(fb_backward(total(fb_mul(y, y))), FB_OK);
    b->n = 0;
    assert_int_equal(fb_nn_each_param(m, add_gradient, b), FB_OK);
}

static void transformers_are_checkpointed_by_layers(void **state)
{
    (void)state;
    static bits b[2];
    int calls[2] = {0};
    for (int k = 0; k < 2; k++) {
        fb_context *ctx = check_open_device(2);
        transform(ctx, k, &calls[k], &b[k]);
        check_close(ctx);
    }
    assert_int_equal(calls[0], 1);
    assert_int_equal(calls[1], 2);
    assert_int_equal(b[0].n, b[1].n);
    assert_memory_equal(b[0].v, b[1].v, (size_t)b[0].n * sizeof(float));
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_bits_are_those_of_a_plain_run_and_the_peak_is_lower),
        T(of_modules_within_each_other_the_outermost_counts),
        T(only_training_runs_twice),
        T(sinks_and_hooks_of_parameters_are_called_once),
        T(a_clone_is_checkpointed_too_and_a_closed_module_is_held),
        T(segments_may_keep_their_inputs_on_the_host),
        T(anomalies_are_looked_for_in_both_runs),
        T(modules_of_several_tensors_are_checkpointed),
        T(transformers_are_checkpointed_by_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
