/* Modules: names, first values, flat blocks, ties, freezing, clones, errors. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/module.h>
#include <math.h>

#include "core/nn/module_priv.h"

typedef struct unit {
    fb_tensor *weight, *bias, *seen;
} unit;
static const fb_field unit_fields[] = {
    FB_PARAM(unit, weight), FB_PARAM(unit, bias), FB_BUFFER(unit, seen), {0}};
static fb_tensor *unit_forward(fb_module *m, fb_tensor *x)
{
    (void)m;
    return x;
}
static const fb_module_type unit_type = {
    .name = "Unit", .size = sizeof(unit), .fields = unit_fields, .forward = unit_forward};

static fb_module *unit_new(fb_context *ctx, int64_t n)
{
    unit u = {.weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(n, n), fb_init_normal(0, 1)),
              .bias = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(n), fb_init_uniform(-1, 1)),
              .seen = fb_nn_declare_buffer(ctx, FB_I64, FB_SCALAR, fb_init_constant(7))};
    return fb_nn_new(ctx, &unit_type, &u);
}

typedef struct two {
    fb_module *a, *b;
} two;
static const fb_field two_fields[] = {FB_CHILD(two, a), FB_CHILD(two, b), {0}};
static fb_tensor *two_forward(fb_module *m, fb_tensor *x)
{
    two *t = fb_nn_self(m);
    return fb_nn_forward(t->b, fb_nn_forward(t->a, x));
}
static const fb_module_type two_type = {
    .name = "Two", .size = sizeof(two), .fields = two_fields, .forward = two_forward};

static fb_module *two_new(fb_context *ctx, bool a_first)
{
    two t = {0};
    if (a_first) {
        t.a = unit_new(ctx, 3);
        t.b = unit_new(ctx, 3);
    } else {
        t.b = unit_new(ctx, 3);
        t.a = unit_new(ctx, 3);
    }
    return fb_nn_new(ctx, &two_type, &t);
}

static fb_status join(const char *name, fb_tensor *t, void *user)
{
    (void)t;
    strcat(user, name);
    strcat(user, " ");
    return FB_OK;
}

static void names_are_paths_of_fields(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = two_new(ctx, true);
    char all[256] = "";
    assert_int_equal(fb_nn_each_param(m, join, all), FB_OK);
    assert_string_equal(all, "a.weight a.bias b.weight b.bias ");
    all[0] = '\0';
    assert_int_equal(fb_nn_each_buffer(m, join, all), FB_OK);
    assert_string_equal(all, "a.seen b.seen ");
    assert_int_equal(fb_nn_param_count(m), 24);
    assert_int_equal(fb_item_int(fb_nn_param(m, "b.seen")), 7);
    assert_ptr_equal(fb_nn_find(m, "a"), ((two *)fb_nn_self(m))->a);
    assert_null(fb_nn_param(m, "a.nothing"));
    check_error(ctx, FB_E_NOT_FOUND, "a.nothing");
    check_close(ctx);
}

static void values_do_not_depend_on_the_order_of_construction(void **state)
{
    (void)state;
    float v[2][9], w[9];
    for (int k = 0; k < 2; k++) {
        fb_context *ctx = check_open_device(1 + k);
        fb_module *m = two_new(ctx, k == 0);
        fb_read(fb_nn_param(m, "b.weight"), v[k], sizeof v[k]);
        fb_read(fb_nn_param(m, "a.weight"), w, sizeof w);
        check_close(ctx);
    }
    assert_memory_equal(v[0], v[1], sizeof v[0]);
    assert_memory_not_equal(v[0], w, sizeof w);
}

static void initialisers_have_their_moments(void **state)
{
    (void)state;
    enum { N = 200 };
    static const struct {
        const char *what;
        int kind;
        double std, bound;
    } cases[] = {{"normal", 0, 0.5, 1e9},         {"uniform", 1, 0.57735, 1},
                 {"trunc", 2, 0.8796, 2},         {"kaiming_uniform", 3, 0.040825, 0.0707107},
                 {"kaiming_normal", 4, 0.1, 1e9}, {"xavier", 5, 0.0707107, 0.122475}};
    static float v[N * N];
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        fb_init inits[] = {fb_init_normal(0, 0.5),     fb_init_uniform(-1, 1),
                           fb_init_trunc_normal(0, 1), fb_init_kaiming_uniform(sqrt(5)),
                           fb_init_kaiming_normal(0),  fb_init_xavier_uniform(1)};
        fb_context *ctx = check_open_device(2);
        fb_module *m = unit_new(ctx, N);
        assert_int_equal(fb_nn_init(m, "wei*", inits[cases[k].kind]), FB_OK);
        fb_read(fb_nn_param(m, "weight"), v, sizeof v);
        double sum = 0, sq = 0, top = 0;
        for (int i = 0; i < N * N; i++) {
            sum += v[i];
            sq += (double)v[i] * v[i];
            top = fmax(top, fabs(v[i]));
        }
        double std = sqrt(sq / (N * N));
        if (fabs(std / cases[k].std - 1) > 0.02 || top > cases[k].bound * 1.00001 ||
            fabs(sum / (N * N)) > 0.02 * cases[k].std)
            fail_msg("%s: std %g, largest %g", cases[k].what, std, top);
        check_close(ctx);
    }
}

static void parameters_lie_flat_in_reverse_order(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = two_new(ctx, true);
    fbi_flat *flat = fbi_nn_flat(m);
    assert_non_null(flat);
    assert_null(flat->next);
    assert_int_equal(flat->n_params, 4);
    assert_string_equal(flat->params[0].name, "b.bias");
    assert_string_equal(flat->params[3].name, "a.weight");
    for (int i = 0; i < 4; i++) {
        fb_tensor *t = flat->params[i].t;
        assert_int_equal(flat->params[i].begin % 64, 0);
        assert_ptr_equal(fbi_ptr(t), (float *)fbi_ptr(flat->values) + flat->params[i].begin);
        assert_ptr_equal(fbi_ptr(t->leaf->grad),
                         (float *)fbi_ptr(flat->grads) + flat->params[i].begin);
        assert_null(fb_grad_of(t));
    }
    check_close(ctx);
}

static void a_used_module_moves_to_its_new_root_with_its_values(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *a = unit_new(ctx, 3);
    float before[9], after[9];
    fb_tensor *w = fb_nn_param(a, "weight");
    fb_read(w, before, sizeof before);
    two t = {.a = a, .b = unit_new(ctx, 2)};
    fb_module *m = fb_nn_new(ctx, &two_type, &t);
    assert_ptr_equal(fb_nn_param(m, "a.weight"), w);
    fb_read(w, after, sizeof after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(fbi_nn_flat(m)->n_params, 4);
    check_close(ctx);
}

static void tied_parameters_are_one(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = two_new(ctx, true);
    assert_int_equal(fb_nn_tie(m, "b.weight", "a.weight"), FB_OK);
    assert_int_equal(fb_nn_param_count(m), 15);
    assert_ptr_equal(fb_nn_param(m, "b.weight"), fb_nn_param(m, "a.weight"));
    char all[256] = "";
    fb_nn_each_param(m, join, all);
    assert_string_equal(all, "a.weight a.bias b.bias ");
    fb_nn_tie(m, "b.bias", "a.bias");
    check_error(ctx, FB_E_STATE, "before the first use");
    fb_module *n = two_new(ctx, true);
    fb_nn_tie(n, "b.bias", "a.weight");
    check_error(ctx, FB_E_SHAPE, "a.weight is F32 [3, 3]");
    check_close(ctx);
}

static void frozen_parameters_want_no_gradient(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = two_new(ctx, true);
    assert_int_equal(fb_nn_freeze(m, "a.*"), FB_OK);
    assert_false(fb_needs_grad(fb_nn_param(m, "a.weight")));
    assert_true(fb_needs_grad(fb_nn_param(m, "b.weight")));
    fb_nn_unfreeze(m, "a.*");
    assert_true(fb_needs_grad(fb_nn_param(m, "a.weight")));
    fb_nn_freeze(m, "c.*");
    check_error(ctx, FB_E_NOT_FOUND, "no parameter of Two matches \"c.*\"");
    check_close(ctx);
}

static void clones_have_their_own_parameters(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = two_new(ctx, true);
    fb_nn_tie(m, "b.weight", "a.weight");
    fb_module *c = fb_nn_clone(m);
    check_ok(ctx);
    float x[9], y[9];
    fb_tensor *w = fb_nn_param(m, "a.weight"), *v = fb_nn_param(c, "a.weight");
    assert_ptr_not_equal(w, v);
    assert_ptr_equal(v, fb_nn_param(c, "b.weight"));
    fb_read(w, x, sizeof x);
    fb_read(v, y, sizeof y);
    assert_memory_equal(x, y, sizeof x);
    y[0] += 1;
    fb_write(v, y, sizeof y);
    fb_read(w, y, sizeof y);
    assert_memory_equal(x, y, sizeof x);
    fb_nn_close(m); /* in any order */
    fb_nn_close(c);
    check_close(ctx);
}

static void a_module_has_one_parent(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *a = unit_new(ctx, 3);
    assert_null(fb_nn_new(ctx, &two_type, &(two){.a = a, .b = a}));
    check_error(ctx, FB_E_ARG, "already a child");
    check_close(ctx);
}

static fb_tensor *returns_null(fb_module *m, fb_tensor *x)
{
    (void)m;
    (void)x;
    return NULL;
}

static void a_forward_that_returns_null_is_named(void **state)
{
    (void)state;
    static const fb_field none[] = {{0}};
    static const fb_module_type type = {
        .name = "Broken", .size = 1, .fields = none, .forward = returns_null};
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_new(ctx, &type, &(char){0});
    assert_null(fb_nn_forward(m, NULL));
    check_error(ctx, FB_E_USER, "Broken: forward returned NULL");
    check_close(ctx);
}

static void inputs_pass_through(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = two_new(ctx, true);
    float v[2] = {1, 2};
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(2), v);
    assert_ptr_equal(fb_nn_forward(m, x), x);
    assert_int_equal(fb_numel(x), 2);
    fb_tensor *y = NULL;
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(x), FB_OUTS(&y)), FB_OK);
    assert_ptr_equal(y, x);
    fb_nn_eval(m);
    assert_false(fb_nn_is_training(fb_nn_find(m, "b")));
    fb_nn_train(m);
    assert_true(fb_nn_is_training(fb_nn_find(m, "b")));
    check_close(ctx);
}

static void globs_match(void **state)
{
    (void)state;
    assert_true(fbi_glob_match("*.bias", "a.b.bias"));
    assert_true(fbi_glob_match("a.?.w*t", "a.3.weight"));
    assert_true(fbi_glob_match("*", ""));
    assert_false(fbi_glob_match("*.bias", "bias"));
    assert_false(fbi_glob_match("a", "ab"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_paths_of_fields),
        cmocka_unit_test(values_do_not_depend_on_the_order_of_construction),
        cmocka_unit_test(initialisers_have_their_moments),
        cmocka_unit_test(parameters_lie_flat_in_reverse_order),
        cmocka_unit_test(a_used_module_moves_to_its_new_root_with_its_values),
        cmocka_unit_test(tied_parameters_are_one),
        cmocka_unit_test(frozen_parameters_want_no_gradient),
        cmocka_unit_test(clones_have_their_own_parameters),
        cmocka_unit_test(a_module_has_one_parent),
        cmocka_unit_test(a_forward_that_returns_null_is_named),
        cmocka_unit_test(inputs_pass_through),
        cmocka_unit_test(globs_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
