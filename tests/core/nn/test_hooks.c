/* Hooks on modules: what they see, what they may change, and their end. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/hooks.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <math.h>

static int open_context(void **state)
{
    *state = check_open_device(1);
    return 0;
}

static int close_context(void **state)
{
    return fb_context_close(*state) == FB_OK ? 0 : -1;
}

/* y = w x, with w = [2, 5]; as forward_n: w x and x + x2 */
typedef struct scale {
    fb_tensor *w;
} scale;
static const fb_field scale_fields[] = {FB_PARAM(scale, w), {0}};

static fb_tensor *scale_forward(fb_module *m, fb_tensor *x)
{
    return fb_mul(((scale *)fb_nn_self(m))->w, x);
}

static void scale_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    *out.t[0] = fb_mul(((scale *)fb_nn_self(m))->w, in.t[0]);
    if (out.n > 1)
        *out.t[1] = fb_add(in.t[0], in.t[1]);
}

static const fb_module_type scale_type = {
    .name = "Scale", .size = sizeof(scale), .fields = scale_fields, .forward = scale_forward};
static const fb_module_type pair_type = {
    .name = "Pair", .size = sizeof(scale), .fields = scale_fields, .forward_n = scale_forward_n};

static fb_module *scale_new(fb_context *ctx, const fb_module_type *type)
{
    fb_tensor *w = fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){2, 5});
    return fb_nn_new(ctx, type, &(scale){fb_requires_grad(w, true)});
}

static fb_tensor *vector(fb_context *ctx, float a, float b)
{
    return fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){a, b});
}

static void expect(fb_tensor *t, double a, double b)
{
    assert_non_null(t);
    const float *v = check_data(t);
    if (!(fabs(v[0] - a) < 1e-5 && fabs(v[1] - b) < 1e-5))
        fail_msg("[%.7g, %.7g], not [%.7g, %.7g]", v[0], v[1], a, b);
}

static fb_tensor *total(fb_tensor *x)
{
    return fb_sum(x, FB_ALL, false);
}

/* --- forward --- */

typedef struct note {
    char *log;
    char letter;
    float factor; /* 0: nothing is changed */
    fb_nn_hook *remove;
    int n_in;
} note;

static void write_note(note *n)
{
    size_t at = strlen(n->log);
    n->log[at] = n->letter;
    n->log[at + 1] = '\0';
    fb_nn_hook_remove(n->remove);
    n->remove = NULL;
}

static fb_status on_pre(fb_module *m, fb_tensor **in, int n_in, void *user)
{
    (void)m;
    note *n = user;
    write_note(n);
    n->n_in = n_in;
    for (int i = 0; i < n_in && n->factor != 0; i++)
        in[i] = fb_mul_scalar(in[i], n->factor);
    return FB_OK;
}

static fb_status on_forward(fb_module *m, fb_tensors in, fb_tensor **out, int n_out, void *user)
{
    (void)m;
    note *n = user;
    write_note(n);
    n->n_in = in.n;
    for (int i = 0; i < n_out && n->factor != 0; i++)
        out[i] = fb_mul_scalar(out[i], n->factor);
    return FB_OK;
}

static void forward_hooks_run_in_order_and_may_replace(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    char log[32] = "";
    note a = {log, 'a', 10, NULL, 0}, b = {log, 'b', 0, NULL, 0}, c = {log, 'c', 3, NULL, 0};
    fb_module *m = scale_new(ctx, &scale_type);
    fb_tensor *x = vector(ctx, 1, 2);
    assert_non_null(fb_nn_hook_forward(m, on_forward, &b));
    fb_nn_hook *pre = fb_nn_hook_forward_pre(m, on_pre, &a);
    fb_nn_hook *post = fb_nn_hook_forward(m, on_forward, &c);
    expect(fb_nn_forward(m, x), 60, 300);
    assert_string_equal(log, "abc");
    assert_int_equal(c.n_in, 1);
    fb_nn_hook_remove(pre);
    expect(fb_nn_forward(m, x), 6, 30);
    fb_nn_hook_remove(post);
    fb_nn_hook_remove(NULL);
    expect(fb_nn_forward(m, x), 2, 10);
    assert_string_equal(log, "abcbcb");
    expect(x, 1, 2);
}

static void a_hook_may_end_itself_and_others(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    char log[32] = "";
    note a = {log, 'a', 0, NULL, 0}, b = {log, 'b', 0, NULL, 0}, c = {log, 'c', 0, NULL, 0};
    fb_module *m = scale_new(ctx, &scale_type);
    a.remove = fb_nn_hook_forward(m, on_forward, &a);
    b.remove = fb_nn_hook_forward(m, on_forward, &b);
    fb_nn_hook *last = fb_nn_hook_forward(m, on_forward, &c);
    fb_nn_hook_remove(b.remove);
    b.remove = last; /* b is gone already: nobody ends c */
    fb_tensor *x = vector(ctx, 1, 2);
    for (int k = 0; k < 2; k++)
        expect(fb_nn_forward(m, x), 2, 10);
    assert_string_equal(log, "acc");
    a.remove = last;
    assert_non_null(fb_nn_hook_forward_pre(m, on_pre, &a));
    expect(fb_nn_forward(m, x), 2, 10); /* the next one, before its turn */
    assert_string_equal(log, "acca");
}

static fb_tensor *by_function(fb_module *m, void *args)
{
    return fb_mul(((scale *)fb_nn_self(m))->w, args);
}

static void calls_by_function_and_with_several_tensors_have_hooks(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    char log[32] = "";
    note a = {log, 'a', 10, NULL, -1}, b = {log, 'b', 2, NULL, -1};
    fb_module *m = scale_new(ctx, &scale_type), *p = scale_new(ctx, &pair_type);
    fb_tensor *x = vector(ctx, 1, 2), *y = vector(ctx, 3, 4), *out[2];
    fb_nn_hook_forward_pre(m, on_pre, &a);
    fb_nn_hook_forward(m, on_forward, &b);
    expect(fb_nn_call(m, by_function, x), 4, 20);
    assert_int_equal(a.n_in, 0);
    assert_int_equal(b.n_in, 0);
    fb_nn_hook_forward_pre(p, on_pre, &a);
    fb_nn_hook_forward(p, on_forward, &b);
    assert_int_equal(fb_nn_forward_n(p, FB_TENSORS(x, y), FB_OUTS(&out[0], &out[1])), FB_OK);
    expect(out[0], 40, 200);
    expect(out[1], 80, 120);
    assert_int_equal(a.n_in, 2);
}

static void a_sequential_shows_what_is_between_its_layers(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    char log[32] = "";
    note a = {log, 'a', 0, NULL, 0}, b = {log, 'b', -1, NULL, 0};
    fb_module *m =
        fb_nn_sequential(ctx, fb_nn_linear(ctx, 2, 2, NULL), fb_nn_relu(ctx), fb_nn_relu(ctx));
    fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(3, 2));
    assert_int_equal(fb_nn_init(m, "0.weight", fb_init_constant(-1)), FB_OK);
    assert_int_equal(fb_nn_init(m, "0.bias", fb_init_zeros()), FB_OK);
    assert_float_equal(fb_item(total(fb_nn_forward(m, x))), 0, 0);
    fb_nn_hook *h = fb_nn_hook_forward(fb_nn_list_at(m, 0), on_forward, &b);
    fb_nn_hook_forward_pre(fb_nn_list_at(m, 1), on_pre, &a);
    assert_float_equal(fb_item(total(fb_nn_forward(m, x))), 12, 0); /* -(-2), six times */
    assert_string_equal(log, "ba");
    fb_nn_hook_remove(h);
    assert_float_equal(fb_item(total(fb_nn_forward(m, x))), 0, 0);
    assert_string_equal(log, "baa");
}

/* --- backward --- */

typedef struct grads {
    float in[4], out[4];
    int calls, pre, n_in, n_out, missing;
    float in_factor, out_factor;
} grads;

static fb_status on_backward_pre(fb_module *m, fb_tensor **grad_out, int n_out, void *user)
{
    (void)m;
    grads *g = user;
    g->pre++;
    for (int i = 0; i < n_out && g->out_factor != 0; i++)
        if (grad_out[i])
            grad_out[i] = fb_mul_scalar(grad_out[i], g->out_factor);
    return FB_OK;
}

static fb_status on_backward(fb_module *m, fb_tensor **grad_in, int n_in, fb_tensors grad_out,
                             void *user)
{
    (void)m;
    grads *g = user;
    g->calls++;
    g->n_in = n_in;
    g->n_out = grad_out.n;
    g->missing = 0;
    for (int i = 0; i < n_in; i++) {
        g->missing += !grad_in[i];
        if (grad_in[i])
            assert_int_equal(fb_read(grad_in[i], g->in + 2 * i, 8), FB_OK);
        if (grad_in[i] && g->in_factor != 0)
            grad_in[i] = fb_mul_scalar(grad_in[i], g->in_factor);
    }
    for (int i = 0; i < grad_out.n; i++) {
        g->missing += !grad_out.t[i];
        if (grad_out.t[i])
            assert_int_equal(fb_read(grad_out.t[i], g->out + 2 * i, 8), FB_OK);
    }
    return FB_OK;
}

static void backward_hooks_see_both_sides_and_may_replace(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    grads g = {.out_factor = 3, .in_factor = 100};
    fb_module *m = scale_new(ctx, &scale_type);
    fb_tensor *x = fb_requires_grad(vector(ctx, 1, 2), true);
    assert_non_null(fb_nn_hook_backward(m, on_backward, &g));
    fb_nn_hook *pre = fb_nn_hook_backward_pre(m, on_backward_pre, &g);
    assert_int_equal(fb_backward(total(fb_mul_scalar(fb_nn_forward(m, x), 7))), FB_OK);
    assert_int_equal(g.calls, 1);
    assert_int_equal(g.pre, 1);
    assert_float_equal(g.out[0], 21, 0);
    assert_float_equal(g.in[0], 42, 0);
    assert_float_equal(g.in[1], 105, 0);
    expect(fb_grad_of(x), 4200, 10500);
    expect(fb_grad_of(fb_nn_param(m, "w")), 21, 42);
    fb_nn_hook_remove(pre);
    fb_set_grad(x, NULL);
    assert_int_equal(fb_backward(total(fb_nn_forward(m, x))), FB_OK);
    assert_int_equal(g.pre, 1);
    expect(fb_grad_of(x), 200, 500);
}

static void inputs_without_gradients_do_not_keep_hooks_from_running(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    grads g = {0};
    fb_module *m = scale_new(ctx, &scale_type), *p = scale_new(ctx, &pair_type);
    fb_tensor *x = vector(ctx, 1, 2), *out[2];
    fb_nn_hook_backward(m, on_backward, &g);
    assert_int_equal(fb_backward(total(fb_nn_forward(m, x))), FB_OK);
    assert_int_equal(g.calls, 1);
    assert_int_equal(g.n_in, 1);
    assert_int_equal(g.missing, 1);
    assert_float_equal(g.out[0], 1, 0);
    expect(fb_grad_of(fb_nn_param(m, "w")), 1, 2);
    /* of two inputs one, of two outputs one */
    fb_nn_hook_backward(p, on_backward, &g);
    fb_tensor *y = fb_requires_grad(vector(ctx, 3, 4), true);
    assert_int_equal(fb_nn_forward_n(p, FB_TENSORS(x, y), FB_OUTS(&out[0], &out[1])), FB_OK);
    assert_int_equal(fb_backward(total(out[1])), FB_OK);
    assert_int_equal(g.calls, 2);
    assert_int_equal(g.n_in, 2);
    assert_int_equal(g.n_out, 2);
    assert_int_equal(g.missing, 2);
    assert_float_equal(g.in[2], 1, 0);
    expect(fb_grad_of(y), 1, 1);
}

static void nothing_is_watched_without_recording(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    grads g = {0};
    fb_module *m = scale_new(ctx, &scale_type);
    fb_nn_hook_backward(m, on_backward, &g);
    fb_tensor *x = vector(ctx, 1, 2);
    {
        FB_SCOPE(ctx);
        fb_no_grad(ctx);
        assert_false(fb_needs_grad(fb_nn_forward(m, x)));
    }
    /* a module that is closed before backward is there for it still */
    fb_tensor *y = total(fb_nn_forward(m, x));
    fb_nn_close(m);
    assert_int_equal(fb_backward(y), FB_OK);
    assert_int_equal(g.calls, 1);
}

static void second_derivatives_go_through_hooks(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    grads h = {.in_factor = 2};
    fb_module *m = scale_new(ctx, &scale_type);
    fb_nn_hook_backward(m, on_backward, &h);
    fb_tensor *x = fb_requires_grad(vector(ctx, 1, 2), true), *y = fb_nn_forward(m, x), *g, *gg;
    fb_gradient_options o = {.create_graph = true};
    y = total(fb_mul(y, y)); /* w^2 x^2; the hook doubles: 4 w^2 x */
    assert_int_equal(fb_gradients(FB_TENSORS(y), FB_TENSORS(x), &o, &g), FB_OK);
    expect(g, 16, 200);
    assert_int_equal(fb_gradients(FB_TENSORS(total(g)), FB_TENSORS(x), NULL, &gg), FB_OK);
    assert_int_equal(h.calls, 2);
    expect(gg, 32, 200); /* 4 w^2, doubled once more */
}

/* --- what goes wrong --- */

static fb_status fails_pre(fb_module *m, fb_tensor **in, int n_in, void *user)
{
    (void)m;
    (void)in;
    (void)n_in;
    return *(fb_status *)user;
}

static fb_status empties(fb_module *m, fb_tensors in, fb_tensor **out, int n_out, void *user)
{
    (void)m;
    (void)in;
    (void)n_out;
    (void)user;
    out[0] = NULL;
    return FB_OK;
}

static fb_status misfits(fb_module *m, fb_tensor **grad_in, int n_in, fb_tensors grad_out,
                         void *user)
{
    (void)n_in;
    (void)grad_out;
    (void)user;
    grad_in[0] = fb_ones(fb_nn_context(m), FB_F32, FB_SHAPE(3));
    return FB_OK;
}

static fb_status says(fb_module *m, fb_tensor **grad_out, int n_out, void *user)
{
    (void)grad_out;
    (void)n_out;
    (void)user;
    return fb_fail(fb_nn_context(m), FB_E_USER, "not today");
}

static void failures_of_hooks_are_told(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_status st = FB_E_IO;
    fb_module *m = scale_new(ctx, &scale_type);
    fb_tensor *x = vector(ctx, 1, 2), *leaf = fb_requires_grad(vector(ctx, 1, 2), true);
    assert_null(fb_nn_hook_forward(m, NULL, NULL));
    check_error(ctx, FB_E_ARG, "Scale: the function of a forward hook is NULL");
    assert_null(fb_nn_hook_backward_pre(NULL, says, NULL));
    fb_nn_hook *h = fb_nn_hook_forward_pre(m, fails_pre, &st);
    assert_null(fb_nn_forward(m, x));
    check_error(ctx, FB_E_IO, "Scale: a forward pre-hook failed");
    fb_nn_hook_remove(h);
    h = fb_nn_hook_forward(m, empties, NULL);
    assert_null(fb_nn_forward(m, x));
    check_error(ctx, FB_E_USER, "Scale: a forward hook left output 0 NULL");
    fb_nn_hook_remove(h);
    h = fb_nn_hook_backward(m, misfits, NULL);
    assert_int_equal(fb_backward(total(fb_nn_forward(m, leaf))), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE,
                "Scale: a backward hook gave gradient 0 as F32 [3], it is F32 [2]");
    assert_int_equal(fb_backward(total(fb_nn_forward(m, x))), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "Scale: a backward hook gave gradient 0, where none is wanted");
    fb_nn_hook_remove(h);
    assert_non_null(fb_nn_hook_backward_pre(m, says, NULL));
    assert_int_equal(fb_backward(total(fb_nn_forward(m, leaf))), FB_E_USER);
    check_error(ctx, FB_E_USER, "not today");
}

static fb_tensor *adds_in_place(fb_module *m, fb_tensor *x)
{
    (void)m;
    return fb_add_scalar_(x, 1) ? NULL : x;
}

static void what_a_hook_watches_is_not_changed_in_place(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    static const fb_field none[] = {{0}};
    static const fb_module_type type = {
        .name = "InPlace", .size = 1, .fields = none, .forward = adds_in_place};
    grads g = {0};
    fb_module *m = fb_nn_new(ctx, &type, &(char){0});
    fb_nn_hook_backward(m, on_backward, &g);
    fb_tensor *x = fb_requires_grad(vector(ctx, 1, 2), true);
    assert_null(fb_nn_forward(m, fb_mul_scalar(x, 2)));
    check_error(ctx, FB_E_UNSUPPORTED, "in place on a view cannot be recorded");
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(forward_hooks_run_in_order_and_may_replace),
        T(a_hook_may_end_itself_and_others),
        T(calls_by_function_and_with_several_tensors_have_hooks),
        T(a_sequential_shows_what_is_between_its_layers),
        T(backward_hooks_see_both_sides_and_may_replace),
        T(inputs_without_gradients_do_not_keep_hooks_from_running),
        T(nothing_is_watched_without_recording),
        T(second_derivatives_go_through_hooks),
        T(failures_of_hooks_are_told),
        T(what_a_hook_watches_is_not_changed_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
