/* Saved-tensor hooks: what is packed and unpacked, when it is dropped, what goes wrong. */
#include "tests/core/autograd/leaves_priv.h"

#include <flambeau/core/autograd/function.h>
#include <flambeau/core/autograd/saved.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>
#include <math.h>

#include "core/autograd/saver_priv.h"

static void expect(fb_tensor *t, double a, double b)
{
    assert_non_null(t);
    const float *v = check_data(t);
    if (!(fabs(v[0] - a) <= 1e-5 * fabs(a) && fabs(v[1] - b) <= 1e-5 * fabs(b)))
        fail_msg("[%.7g, %.7g], not [%.7g, %.7g]", v[0], v[1], a, b);
}

/* Hooks that copy to the host and count. */
typedef struct book {
    int packed, unpacked, dropped, closed;
    float factor; /* of what unpack gives; 0: 1 */
} book;

static fb_status book_pack(void *user, fb_tensor *t, void **packed)
{
    book *b = user;
    b->packed++;
    size_t bytes = (size_t)fb_numel(t) * sizeof(float);
    fb_shape *copy = malloc(sizeof *copy + bytes);
    assert_non_null(copy);
    *copy = fb_shape_of(t);
    *packed = copy;
    return fb_read(t, copy + 1, bytes);
}

static fb_tensor *book_unpack(void *user, fb_context *ctx, void *packed)
{
    book *b = user;
    b->unpacked++;
    const fb_shape *copy = packed;
    fb_tensor *t = fb_from(ctx, FB_F32, *copy, copy + 1);
    return b->factor != 0 ? fb_mul_scalar(t, b->factor) : t;
}

static void book_drop(void *user, void *packed)
{
    ((book *)user)->dropped++;
    free(packed);
}

static void book_close(void *user)
{
    ((book *)user)->closed++;
}

static fb_saved_hooks book_hooks(book *b)
{
    return (fb_saved_hooks){.pack = book_pack,
                            .unpack = book_unpack,
                            .drop = book_drop,
                            .close = book_close,
                            .user = b};
}

/* x exp(x): the product saves both factors, exp its result. PyTorch's numbers. */
static void backward_computes_with_what_unpack_gives(void **state)
{
    fb_context *ctx = *state;
    book b = {.factor = 2};
    {
        FB_SCOPE(ctx);
        fb_saved_hooks hooks = book_hooks(&b);
        fb_tensor *x = leaf(ctx, 2, 3), *loss;
        {
            FB_SCOPE(ctx);
            assert_int_equal(fb_saved_tensors_hooks(ctx, &hooks), FB_OK);
            loss = fb_keep(total(fb_mul(x, fb_exp(x))));
        }
        assert_int_equal(b.packed, 3);
        assert_int_equal(b.unpacked, 0);
        assert_int_equal(b.closed, 0);
        assert_int_equal(fb_backward(loss), FB_OK);
        expect(fb_grad_of(x), 73.8906, 281.1975);
        assert_int_equal(b.unpacked, 3);
        assert_int_equal(b.dropped, 3);
        assert_int_equal(b.closed, 1); /* the last one packed has gone */
        assert_non_null(fb_exp(x));
        assert_int_equal(b.packed, 3); /* the mode has ended */
    }
}

static void a_dropped_graph_drops_what_was_packed(void **state)
{
    fb_context *ctx = *state;
    book b = {0};
    fb_memory_stats before, after;
    fb_memory_stats_of(ctx, &before);
    {
        FB_SCOPE(ctx);
        fb_saved_hooks hooks = book_hooks(&b);
        assert_int_equal(fb_saved_tensors_hooks(ctx, &hooks), FB_OK);
        fb_tensor *x = leaf(ctx, 2, 3), *y = fb_mul(x, fb_exp(x));
        assert_non_null(y);
        assert_int_equal(b.packed, 3);
        assert_int_equal(b.dropped, 0);
    }
    assert_int_equal(b.dropped, 3);
    assert_int_equal(b.closed, 1);
    fb_memory_stats_of(ctx, &after);
    assert_int_equal(after.nodes, before.nodes);
    assert_int_equal(after.handles, before.handles);
}

static void a_retained_graph_keeps_what_was_packed(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    book b = {0};
    {
        FB_SCOPE(ctx);
        fb_saved_hooks hooks = book_hooks(&b);
        fb_saved_tensors_hooks(ctx, &hooks);
        fb_tensor *x = leaf(ctx, 2, 3), *loss = total(fb_exp(x));
        assert_int_equal(fb_backward_with(loss, &(fb_backward_options){.retain_graph = true}),
                         FB_OK);
        assert_int_equal(b.dropped, 0);
        assert_int_equal(fb_backward(loss), FB_OK);
        expect(fb_grad_of(x), 2 * exp(2), 2 * exp(3));
        assert_int_equal(b.unpacked, 2);
        assert_int_equal(b.dropped, 1);
        assert_int_equal(fb_backward(loss), FB_E_STATE);
        check_error(ctx, FB_E_STATE, "was freed by an earlier backward");
    }
    assert_int_equal(b.closed, 1);
}

static void the_innermost_hooks_count(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    book outer = {0}, inner = {0}, last = {0};
    fb_saved_hooks o = book_hooks(&outer), i = book_hooks(&inner), l = book_hooks(&last);
    fb_tensor *x = leaf(ctx, 2, 3);
    {
        FB_SCOPE(ctx);
        fb_saved_tensors_hooks(ctx, &o);
        assert_non_null(fb_exp(x));
        {
            FB_SCOPE(ctx);
            fb_saved_tensors_hooks(ctx, &i);
            assert_non_null(fb_exp(x));
            fb_saved_tensors_hooks(ctx, &l); /* in the place of i */
            assert_non_null(fb_exp(x));
            assert_int_equal(inner.closed, 0); /* its graph is there still */
            fb_saved_tensors_hooks(ctx, NULL);
            assert_non_null(fb_exp(x));
        }
        assert_non_null(fb_exp(x));
    }
    assert_int_equal(outer.packed, 2);
    assert_int_equal(inner.packed, 1);
    assert_int_equal(last.packed, 1);
    assert_int_equal(outer.closed + inner.closed + last.closed, 3);
}

static fb_tensor *fourth_power_by(fb_context *ctx, fb_tensor *x, const fb_saved_hooks *hooks)
{
    FB_SCOPE(ctx);
    assert_int_equal(fb_saved_tensors_hooks(ctx, hooks), FB_OK);
    return fb_keep(total(fb_mul(fb_mul(x, x), fb_mul(x, x))));
}

/* Of x^4: unpacked tensors are linked to the graph, leaves and results on the way. */
static void higher_derivatives_go_through_packed_tensors(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    book b = {0};
    fb_saved_hooks hooks = book_hooks(&b);
    for (int keep = 0; keep < 2; keep++) {
        hooks.keep_leaves = keep;
        fb_tensor *x = leaf(ctx, 1, 2), *y = fourth_power_by(ctx, x, &hooks), *g1, *g2, *g3;
        fb_gradient_options o = {.create_graph = true};
        assert_int_equal(fb_gradients(FB_TENSORS(y), FB_TENSORS(x), &o, &g1), FB_OK);
        assert_int_equal(fb_gradients(FB_TENSORS(total(g1)), FB_TENSORS(x), &o, &g2), FB_OK);
        assert_int_equal(fb_gradients(FB_TENSORS(total(g2)), FB_TENSORS(x), NULL, &g3), FB_OK);
        expect(g1, 4, 32);
        expect(g2, 12, 48);
        expect(g3, 24, 48);
        assert_int_equal(b.packed, keep ? 2 : 6);
        b = (book){0};
    }
}

static fb_status alias_pack(void *user, fb_tensor *t, void **packed)
{
    (void)user;
    *packed = fb_retain(t);
    return FB_OK;
}

static fb_tensor *alias_unpack(void *user, fb_context *ctx, void *packed)
{
    (void)user;
    (void)ctx;
    return packed;
}

static void alias_drop(void *user, void *packed)
{
    (void)user;
    fb_release(packed);
}

static void a_copy_may_differ_and_the_tensor_itself_may_not(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    book b = {0};
    fb_saved_hooks copies = book_hooks(&b),
                   same = {.pack = alias_pack, .unpack = alias_unpack, .drop = alias_drop};
    fb_tensor *x = leaf(ctx, 2, 3), *c = vector(ctx, 5, 7), *d = vector(ctx, 5, 7), *y, *z, *w;
    {
        FB_SCOPE(ctx);
        fb_saved_tensors_hooks(ctx, &copies);
        y = fb_keep(total(fb_mul(x, c)));
        fb_saved_tensors_hooks(ctx, &same);
        z = fb_keep(total(fb_mul(x, d)));
        w = fb_keep(total(fb_mul(x, d)));
    }
    assert_int_equal(fb_mul_scalar_(c, 100), FB_OK);
    assert_int_equal(fb_backward(y), FB_OK); /* of what c was */
    expect(fb_grad_of(x), 5, 7);
    assert_int_equal(fb_backward(z), FB_OK);
    expect(fb_grad_of(x), 10, 14);
    assert_int_equal(fb_mul_scalar_(d, 100), FB_OK);
    assert_int_equal(fb_backward(w), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "a tensor [2] that it saved was changed in place since");
}

/* exp_ saves its own result, which is not there before the kernel has run. */
static void results_written_in_place_are_packed_afterwards(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    book b = {0};
    fb_saved_hooks hooks = book_hooks(&b);
    fb_saved_tensors_hooks(ctx, &hooks);
    fb_tensor *x = leaf(ctx, 1, 2), *y = fb_mul_scalar(x, 2);
    assert_int_equal(fb_exp_(y), FB_OK);
    assert_int_equal(b.packed, 1);
    assert_int_equal(fb_backward(total(y)), FB_OK);
    expect(fb_grad_of(x), 2 * exp(2), 2 * exp(4));
}

static fb_status none_pack(void *user, fb_tensor *t, void **packed)
{
    (void)t;
    (void)packed;
    ++*(int *)user;
    return FB_OK;
}

static void what_pack_leaves_alone_is_kept_as_ever(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    int calls = 0;
    fb_saved_hooks hooks = {.pack = none_pack, .unpack = alias_unpack, .user = &calls};
    fb_saved_tensors_hooks(ctx, &hooks);
    fb_tensor *x = leaf(ctx, 2, 3), *c = vector(ctx, 5, 7), *y = total(fb_mul(x, c));
    assert_int_equal(calls, 1);
    assert_int_equal(fb_mul_scalar_(c, 2), FB_OK);
    assert_int_equal(fb_backward(y), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "changed in place since");
}

typedef enum fault { BAD_STATUS, OWN_WORDS, CHANGES, NO_TENSOR, BAD_SHAPE, BAD_DTYPE } fault;

static fb_status bad_pack(void *user, fb_tensor *t, void **packed)
{
    fault f = *(fault *)user;
    *packed = user;
    if (f == BAD_STATUS)
        return FB_E_IO;
    if (f == OWN_WORDS)
        return fb_fail(fb_context_of(t), FB_E_USER, "no room on the moon");
    return f == CHANGES ? fb_mul_scalar_(t, 2) : FB_OK;
}

static fb_tensor *bad_unpack(void *user, fb_context *ctx, void *packed)
{
    (void)packed;
    fault f = *(fault *)user;
    if (f == NO_TENSOR)
        return NULL;
    return fb_ones(ctx, f == BAD_DTYPE ? FB_F64 : FB_F32, FB_SHAPE(f == BAD_SHAPE ? 3 : 2));
}

static void failures_of_hooks_are_told(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    static const struct {
        fb_status status;
        const char *text;
    } cases[] = {
        {FB_E_IO, "saved-tensor hook: pack failed for a tensor F32 [2] that exp saves"},
        {FB_E_USER, "no room on the moon"},
        {FB_E_STATE, "pack changed the tensor [2] that exp saves in place"},
        {FB_E_USER, "unpack gave no tensor [2] for backward of exp"},
        {FB_E_SHAPE, "unpack gave F32 [3] for backward of exp, which saved F32 [2]"},
        {FB_E_SHAPE, "unpack gave F64 [2] for backward of exp, which saved F32 [2]"},
    };
    fb_memory_stats before, after;
    fb_memory_stats_of(ctx, &before);
    for (int k = 0; k < 6; k++) {
        FB_SCOPE(ctx);
        fault f = (fault)k;
        fb_saved_hooks hooks = {.pack = bad_pack, .unpack = bad_unpack, .user = &f};
        fb_saved_tensors_hooks(ctx, &hooks);
        fb_tensor *x = leaf(ctx, 2, 3), *y = fb_exp(x);
        if (k < 3)
            assert_null(y);
        else
            assert_int_equal(fb_backward(total(y)), cases[k].status);
        check_error(ctx, cases[k].status, cases[k].text);
        assert_null(fb_grad_of(x));
    }
    fb_memory_stats_of(ctx, &after);
    assert_int_equal(after.nodes, before.nodes);
    assert_int_equal(after.handles, before.handles);
    fb_saved_hooks half = {.pack = bad_pack};
    assert_int_equal(fb_saved_tensors_hooks(ctx, &half), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_saved_tensors_hooks: unpack is NULL");
    half = (fb_saved_hooks){.unpack = bad_unpack};
    assert_int_equal(fb_saved_tensors_hooks(ctx, &half), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_saved_tensors_hooks: pack is NULL");
}

static fb_status twice_forward(fb_call *call, fb_tensors in, fb_tensor **out)
{
    fb_call_save(call, 0, in.t[0]);
    out[0] = fb_mul(in.t[0], in.t[0]);
    out[1] = fb_mul_scalar(in.t[0], 3);
    return FB_OK;
}

static fb_status twice_backward(fb_call *call, fb_tensors g, fb_tensor **grad_in)
{
    fb_tensor *x = fb_call_saved(call, 0);
    fb_tensor *a = x ? fb_mul_scalar(fb_mul(g.t[0], x), 2) : NULL;
    grad_in[0] = a ? fb_add(a, fb_mul_scalar(g.t[1], 3)) : NULL;
    return a ? FB_OK : FB_E_USER;
}

/* The second output is not used: its gradient comes as zeros of the right shape. */
static void custom_functions_pack_what_they_save(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    book b = {0};
    fb_saved_hooks hooks = book_hooks(&b);
    fb_saved_tensors_hooks(ctx, &hooks);
    fb_function f = {"twice", 2, twice_forward, twice_backward, false};
    fb_tensor *x = leaf(ctx, 2, 3), *out[2];
    assert_int_equal(fb_function_apply(ctx, &f, NULL, 0, FB_TENSORS(x), out), FB_OK);
    assert_int_equal(b.packed, 1);
    assert_int_equal(fb_backward(total(out[0])), FB_OK);
    assert_int_equal(b.unpacked, 1);
    expect(fb_grad_of(x), 4, 6);
}

static fb_status many(void *user, fb_tensors in, fb_tensor **out)
{
    (void)user;
    fb_tensor *x = in.t[0];
    for (int i = 0; i < 4 && x; i++)
        x = fb_tanh(fb_mul(x, x));
    out[0] = x;
    return x ? FB_OK : FB_E_USER;
}

static void checkpoints_pack_their_inputs_alone(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    book b = {0};
    fb_saved_hooks hooks = book_hooks(&b);
    float got[2][2];
    for (int k = 0; k < 2; k++) {
        FB_SCOPE(ctx);
        fb_tensor *x = leaf(ctx, 0.5f, 1), *h = fb_mul_scalar(x, 2), *y;
        if (k)
            fb_saved_tensors_hooks(ctx, &hooks);
        assert_int_equal(fb_checkpoint_call(many, NULL, FB_TENSORS(h), 1, &y), FB_OK);
        assert_int_equal(b.packed, k);
        assert_int_equal(fb_backward(total(y)), FB_OK);
        assert_int_equal(fb_read(fb_grad_of(x), got[k], sizeof got[k]), FB_OK);
    }
    assert_int_equal(b.packed, 1);
    assert_int_equal(b.unpacked, 1);
    assert_memory_equal(got[0], got[1], sizeof got[0]);
}

static void an_input_of_a_checkpoint_must_stay(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(ctx, 1, 2), *h = fb_mul_scalar(x, 2), *y;
    assert_int_equal(fb_checkpoint_call(many, NULL, FB_TENSORS(h), 1, &y), FB_OK);
    {
        FB_SCOPE(ctx);
        fb_no_grad(ctx);
        assert_int_equal(fb_mul_scalar_(h, 2), FB_OK);
    }
    assert_int_equal(fb_backward(total(y)), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "backward of checkpoint (recorded at ");
}

/* --- on the host --- */

static fb_module *small_net(fb_context *ctx)
{
    fb_conv_options same = {.padding = {1}};
    return fb_nn_sequential(
        ctx, fb_nn_conv2d(ctx, 2, 8, 3, &same), fb_nn_batch_norm2d(ctx, 8, NULL), fb_nn_relu(ctx),
        fb_nn_max_pool2d(ctx, 2, NULL), fb_nn_dropout(ctx, 0.3), fb_nn_flatten(ctx),
        fb_nn_linear(ctx, 8 * 16, 5, NULL), fb_nn_softmax(ctx, 1));
}

static fb_status add_gradient(const char *name, fb_tensor *t, void *user)
{
    (void)name;
    float **at = user;
    fb_status st = fb_read(fb_grad_of(t), *at, (size_t)fb_numel(t) * sizeof(float));
    *at += fb_numel(t);
    return st;
}

static void net_gradients(fb_context *ctx, bool on_host, float *g)
{
    FB_SCOPE(ctx);
    fb_module *m = small_net(ctx);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(4, 2, 8, 8));
    x = fb_transpose(x, 2, 3); /* a layout of its own */
    if (on_host)
        assert_int_equal(fb_save_on_cpu(ctx), FB_OK);
    fb_tensor *y = fb_nn_forward(m, x);
    check_ok(ctx);
    assert_int_equal(fb_backward(total(fb_mul(y, y))), FB_OK);
    assert_int_equal(fb_nn_each_param(m, add_gradient, &g), FB_OK);
}

static void a_net_saved_on_the_host_has_the_same_bits(void **state)
{
    (void)state;
    static float g[2][2 * 8 * 9 + 8 + 16 + 5 * 128 + 5];
    for (int k = 0; k < 2; k++) {
        fb_context *ctx = check_open_device(2);
        net_gradients(ctx, k, g[k]);
        check_close(ctx);
    }
    assert_memory_equal(g[0], g[1], sizeof g[0]);
}

static void what_is_saved_on_the_host_is_not_on_the_device(void **state)
{
    fb_context *ctx = *state;
    size_t held[2];
    enum { N = 64 * 1024 };
    for (int k = 0; k < 2; k++) {
        FB_SCOPE(ctx);
        fb_tensor *x = fb_requires_grad(fb_ones(ctx, FB_F32, FB_SHAPE(N)), true), *y;
        {
            FB_SCOPE(ctx);
            if (k)
                fb_save_on_cpu(ctx);
            fb_tensor *h = x;
            for (int i = 0; i < 8; i++)
                h = fb_sigmoid(h);
            y = fb_keep(total(h));
        }
        fb_memory_stats s;
        fb_memory_stats_of(ctx, &s);
        held[k] = s.in_use;
        assert_int_equal(fb_backward(y), FB_OK);
    }
    assert_true(held[0] - held[1] >= 8 * N * sizeof(float));
}

static void layouts_come_back(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(2, 3, 4));
    fb_tensor *t[] = {x, fb_transpose(x, 0, 2), fb_narrow(x, 2, 1, 2),
                      fb_ones(ctx, FB_I64, FB_SHAPE(0, 2)),
                      fb_expand(fb_ones(ctx, FB_F64, FB_SHAPE(1, 2)), FB_SHAPE(3, 2))};
    for (size_t k = 0; k < sizeof t / sizeof *t; k++) {
        fbi_image im = fbi_image_of(t[k]);
        char *bytes = malloc(im.bytes + 1);
        assert_int_equal(fbi_image_read(&im, t[k], bytes), FB_OK);
        fb_tensor *back = fbi_image_make(ctx, &im, bytes);
        free(bytes);
        assert_non_null(back);
        assert_true(fb_shape_equal(fb_shape_of(back), fb_shape_of(t[k])));
        if (k < 2)
            assert_true(fb_shape_equal(fbi_strides_of(back), fbi_strides_of(t[k])));
        size_t n = (size_t)fb_numel(t[k]) * fb_dtype_size(fb_dtype_of(t[k]));
        assert_memory_equal(check_data(back), check_data(t[k]), n);
    }
    check_ok(ctx);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(backward_computes_with_what_unpack_gives),
        T(a_dropped_graph_drops_what_was_packed),
        T(a_retained_graph_keeps_what_was_packed),
        T(the_innermost_hooks_count),
        T(higher_derivatives_go_through_packed_tensors),
        T(a_copy_may_differ_and_the_tensor_itself_may_not),
        T(results_written_in_place_are_packed_afterwards),
        T(what_pack_leaves_alone_is_kept_as_ever),
        T(failures_of_hooks_are_told),
        T(custom_functions_pack_what_they_save),
        T(checkpoints_pack_their_inputs_alone),
        T(an_input_of_a_checkpoint_must_stay),
        cmocka_unit_test(a_net_saved_on_the_host_has_the_same_bits),
        T(what_is_saved_on_the_host_is_not_on_the_device),
        T(layouts_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
