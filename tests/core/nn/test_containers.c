/* Lists, dicts, sequences of sequences, parameters by themselves: names, owners, copies. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/optim/optim.h>

static fb_status note(const char *name, fb_tensor *t, void *user)
{
    (void)t;
    strcat(strcat(user, name), " ");
    return FB_OK;
}

static void expect_names(fb_module *m, const char *want)
{
    char names[400] = "";
    assert_int_equal(fb_nn_each_param(m, note, names), FB_OK);
    assert_string_equal(names, want);
}

static void sequences_of_sequences_have_paths_of_numbers(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *inner =
        fb_nn_sequential(ctx, fb_nn_flatten(ctx), fb_nn_linear(ctx, 4, 3, NULL), fb_nn_relu(ctx));
    fb_module *m = fb_nn_sequential(ctx, inner, fb_nn_linear(ctx, 3, 2, NULL));
    expect_names(m, "0.1.weight 0.1.bias 1.weight 1.bias ");
    fb_tensor *y = fb_nn_forward(m, fb_ones(ctx, FB_F32, FB_SHAPE(5, 2, 2)));
    assert_true(fb_shape_equal(fb_shape_of(y), FB_SHAPE(5, 2)));
    assert_ptr_equal(fb_nn_find(m, "0.1"), fb_nn_list_at(inner, 1));
    check_close(ctx);
}

static void dicts_keep_modules_under_their_names(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *d = fb_nn_dict(ctx), *deep = fb_nn_dict(ctx);
    assert_int_equal(fb_nn_dict_set(deep, "last", fb_nn_linear(ctx, 2, 2, NULL)), FB_OK);
    assert_int_equal(fb_nn_dict_set(d, "conv", fb_nn_conv1d(ctx, 1, 2, 3, NULL)), FB_OK);
    assert_int_equal(fb_nn_dict_set(d, "act", fb_nn_relu(ctx)), FB_OK);
    assert_int_equal(fb_nn_dict_set(d, "heads", deep), FB_OK);
    fb_module *root = fb_nn_sequential(ctx, d);
    expect_names(root, "0.conv.weight 0.conv.bias 0.heads.last.weight 0.heads.last.bias ");
    assert_int_equal(fb_nn_list_size(d), 3);
    assert_ptr_equal(fb_nn_dict_at(d, "heads"), deep);
    assert_ptr_equal(fb_nn_find(root, "0.heads"), deep);
    fb_module *copy = fb_nn_clone(root);
    fb_nn_close(root);
    expect_names(copy, "0.conv.weight 0.conv.bias 0.heads.last.weight 0.heads.last.bias ");
    assert_null(fb_nn_dict_at(fb_nn_find(copy, "0"), "tail"));
    check_error(ctx, FB_E_NOT_FOUND, "fb_nn_dict_at: a Dict has no module \"tail\"");
    assert_int_equal(fb_nn_dict_set(fb_nn_find(copy, "0"), "tail", fb_nn_relu(ctx)), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "fill dicts before the first use");
    check_close(ctx);
}

static void dicts_name_what_does_not_fit(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *d = fb_nn_dict(ctx), *l = fb_nn_linear(ctx, 2, 2, NULL);
    assert_int_equal(fb_nn_dict_set(d, "a.b", l), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_nn_dict_set: \"a.b\" is no name: not empty, without dots");
    assert_int_equal(fb_nn_dict_set(d, "", l), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_nn_dict_set: \"\" is no name");
    assert_int_equal(fb_nn_dict_set(d, "a", NULL), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_nn_dict_set: the module a is NULL");
    assert_int_equal(fb_nn_dict_set(d, "a", l), FB_OK);
    assert_int_equal(fb_nn_dict_set(d, "a", fb_nn_relu(ctx)), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_nn_dict_set: a is there already");
    assert_int_equal(fb_nn_dict_set(d, "b", l), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "Dict: child b (Linear) is already a child of a Dict");
    assert_int_equal(fb_nn_list_size(d), 1);
    assert_int_equal(fb_nn_dict_set(fb_nn_list(ctx, 2), "b", fb_nn_relu(ctx)), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_nn_dict_set: a List is no Dict");
    assert_int_equal(fb_nn_dict_set(NULL, "b", NULL), FB_E_ARG);
    assert_null(fb_nn_forward(d, fb_ones(ctx, FB_F32, FB_SHAPE(2))));
    check_error(ctx, FB_E_ARG,
                "Dict: called with 1 inputs and 1 outputs; it has no forward function");
    check_close(ctx);
}

static void parameters_by_themselves_are_trained(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *given = fb_from(ctx, FB_F32, FB_SHAPE(2), ((float[]){1, 2}));
    fb_tensor *declared = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(3), fb_init_constant(5));
    fb_module *list = fb_nn_parameter_list(ctx, FB_TENSORS(given, declared));
    const char *const names[] = {"scale", "shift"};
    fb_tensor *scale = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(2), fb_init_ones());
    fb_tensor *shift = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(2), fb_init_zeros());
    fb_module *dict = fb_nn_parameter_dict(ctx, names, FB_TENSORS(scale, shift));
    fb_module *m = fb_nn_dict(ctx);
    assert_int_equal(fb_nn_dict_set(m, "list", list), FB_OK);
    assert_int_equal(fb_nn_dict_set(m, "dict", dict), FB_OK);
    expect_names(m, "list.0 list.1 dict.scale dict.shift ");
    assert_ptr_equal(fb_nn_param(m, "list.0"), given);
    assert_memory_equal(check_data(given), ((float[]){1, 2}), 8);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 0.5));
    fb_tensor *y = fb_add(fb_mul(given, fb_nn_param(dict, "scale")), fb_nn_param(dict, "shift"));
    assert_int_equal(fb_backward(fb_sum(y, FB_ALL, false)), FB_OK);
    assert_int_equal(fb_optim_step(opt), FB_OK);
    assert_memory_equal(check_data(given), ((float[]){0.5f, 1.5f}), 8);
    assert_memory_equal(check_data(fb_nn_param(m, "dict.scale")), ((float[]){0.5f, 0}), 8);
    fb_module *copy = fb_nn_clone(dict);
    expect_names(copy, "scale shift ");
    check_close(ctx);
}

static void bad_parameters_are_named(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    const char *const twice[] = {"a", "a"}, *const dotted[] = {"a.b", "c"};
    fb_tensor *a = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(2), fb_init_ones());
    fb_tensor *b = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(2), fb_init_ones());
    assert_null(fb_nn_parameter_dict(ctx, twice, FB_TENSORS(a, b)));
    check_error(ctx, FB_E_ARG, "fb_nn_parameter: \"a\" is there already");
    a = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(2), fb_init_ones());
    b = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(2), fb_init_ones());
    assert_null(fb_nn_parameter_dict(ctx, dotted, FB_TENSORS(a, b)));
    check_error(ctx, FB_E_ARG, "fb_nn_parameter: \"a.b\" is no name: not empty, without dots");
    a = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(2), fb_init_ones());
    assert_null(fb_nn_parameter_list(ctx, FB_TENSORS(a, NULL)));
    check_error(ctx, FB_E_ARG, "fb_nn_parameter: parameter 1 is NULL");
    a = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(2), fb_init_ones());
    assert_null(fb_nn_parameter_dict(ctx, NULL, FB_TENSORS(a)));
    check_error(ctx, FB_E_ARG, "fb_nn_parameter_dict: the list of names is NULL");
    fb_tensor *x = fb_requires_grad(fb_ones(ctx, FB_F32, FB_SHAPE(2)), true);
    assert_null(fb_nn_parameter_list(ctx, FB_TENSORS(fb_exp(x))));
    check_error(ctx, FB_E_ARG, "Parameters: 0 is the result of an operator, not a leaf");
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_of_sequences_have_paths_of_numbers),
        cmocka_unit_test(dicts_keep_modules_under_their_names),
        cmocka_unit_test(dicts_name_what_does_not_fit),
        cmocka_unit_test(parameters_by_themselves_are_trained),
        cmocka_unit_test(bad_parameters_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
