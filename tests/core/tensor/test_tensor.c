/* Making, reading, writing, wrapping and printing tensors; shapes and dtypes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <flambeau/core/tensor/tensor.h>

#include "core/tensor/context_priv.h"

static int open_context(void **state)
{
    *state = fb_context_open(NULL);
    return *state ? 0 : -1;
}

static int close_context(void **state)
{
    return fb_context_close(*state) == FB_OK ? 0 : -1;
}

static void expect(fb_context *ctx, fb_status status, const char *text)
{
    char msg[1024];
    assert_int_equal(fb_error_take(ctx, msg, sizeof msg), status);
    if (!strstr(msg, text))
        fail_msg("\"%s\" does not contain \"%s\"", msg, text);
}

static void expect_text(fb_tensor *t, const char *text)
{
    char buf[4096];
    assert_int_equal(fb_to_string(t, buf, sizeof buf), strlen(text));
    assert_string_equal(buf, text);
    char few[8];
    assert_int_equal(fb_to_string(t, few, sizeof few), strlen(text));
    assert_int_equal(strlen(few), 7);
}

static void data_come_back_as_they_went_in(void **state)
{
    fb_context *ctx = *state;
    float in[6] = {1, 2, 3, 4, 5, 6}, out[6] = {0};
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(2, 3), in);
    assert_int_equal(fb_read(t, out, sizeof out), FB_OK);
    assert_memory_equal(in, out, sizeof in);
    assert_int_equal(fb_ndim(t), 2);
    assert_int_equal(fb_size(t, -1), 3);
    assert_int_equal(fb_stride(t, 0), 3);
    assert_int_equal(fb_numel(t), 6);
    assert_int_equal(fb_dtype_of(t), FB_F32);
    assert_true(fb_shape_equal(fb_shape_of(t), FB_SHAPE(2, 3)));
    assert_true(fb_is_contiguous(t));
    assert_string_equal(fb_device_of(t), fb_context_device(ctx));
    assert_int_equal(fb_size(t, 2), 1);
    expect(ctx, FB_E_ARG, "size: dim 2 is out of range for [2, 3]: use -2 .. 1");
    assert_int_equal(fb_read(t, out, 8), FB_E_SHAPE);
    expect(ctx, FB_E_SHAPE, "read: 8 bytes given, F32 [2, 3] has 24");
}

static void views_read_and_write_through_their_strides(void **state)
{
    fb_context *ctx = *state;
    float in[6] = {1, 2, 3, 4, 5, 6}, out[6];
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(2, 3), in);
    fb_tensor *v = fbi_view(t, FB_SHAPE(3, 2), FB_SHAPE(1, 3), 0);
    const float turned[6] = {1, 4, 2, 5, 3, 6}, back[6] = {0, 2, 4, 1, 3, 5};
    assert_false(fb_is_contiguous(v));
    assert_true(fb_same_storage(t, v));
    assert_int_equal(fb_read(v, out, sizeof out), FB_OK);
    assert_memory_equal(out, turned, sizeof out);
    uint32_t version = t->storage->version;
    assert_int_equal(fb_write(v, (float[]){0, 1, 2, 3, 4, 5}, sizeof out), FB_OK);
    assert_int_equal(t->storage->version, version + 1);
    assert_int_equal(fb_read(t, out, sizeof out), FB_OK);
    assert_memory_equal(out, back, sizeof out);
    assert_null(fb_data(v));
    expect(ctx, FB_E_SHAPE, "data: the tensor [3, 2] has strides [1, 3]: use fb_contiguous");
    fb_drop(t);
    assert_int_equal(fb_read(v, out, sizeof out), FB_OK);
}

static void item_reads_every_dtype(void **state)
{
    fb_context *ctx = *state;
    assert_true(fb_item(fb_from(ctx, FB_F64, FB_SCALAR, &(double){0.1})) == 0.1);
    assert_true(fb_item(fb_from(ctx, FB_F16, FB_SCALAR, &(uint16_t){0x3E00})) == 1.5);
    assert_true(fb_item(fb_from(ctx, FB_BF16, FB_SCALAR, &(uint16_t){0xC000})) == -2);
    int64_t big = INT64_MAX - 1;
    assert_true(fb_item_int(fb_from(ctx, FB_I64, FB_SCALAR, &big)) == big);
    assert_int_equal(fb_item_int(fb_from(ctx, FB_I32, FB_SHAPE(1, 1), &(int32_t){-3})), -3);
    assert_int_equal(fb_item_int(fb_from(ctx, FB_U8, FB_SCALAR, &(uint8_t){255})), 255);
    assert_int_equal(fb_item_int(fb_from(ctx, FB_F32, FB_SCALAR, &(float){-2.7f})), -2);
    assert_true(isnan(fb_item(fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){1, 2}))));
    expect(ctx, FB_E_SHAPE, "item: the tensor has 2 elements: [2]");
}

static void bad_sizes_and_dtypes_are_refused(void **state)
{
    fb_context *ctx = *state;
    float v = 0;
    assert_null(fb_from(ctx, (fb_dtype)99, FB_SCALAR, &v));
    expect(ctx, FB_E_DTYPE, "99 is no dtype");
    assert_null(fb_from(ctx, FB_F32, FB_SHAPE(-1), &v));
    expect(ctx, FB_E_SHAPE, "[-1]");
    assert_null(fb_from(ctx, FB_F32, FB_SHAPE(INT64_MAX, 4), &v));
    expect(ctx, FB_E_SHAPE, "too many elements");
    assert_null(fb_from(ctx, FB_F32, FB_SHAPE(2), NULL));
    expect(ctx, FB_E_ARG, "data is NULL");
    fb_tensor *empty = fb_from(ctx, FB_F32, FB_SHAPE(0, INT64_MAX), NULL);
    assert_int_equal(fb_numel(empty), 0);
    assert_int_equal(fb_read(empty, NULL, 0), FB_OK);
}

static void count_call(void *data, void *user)
{
    assert_non_null(data);
    ++*(int *)user;
}

static void wrapped_memory_is_shared_and_released_once_after_the_last_use(void **state)
{
    fb_context *ctx = *state;
    float mine[6] = {1, 2, 3, 4, 5, 6};
    int calls = 0;
    fb_wrap_options o = {.deleter = count_call, .user = &calls};
    fb_scope s = fb_scope_begin(ctx);
    fb_tensor *t = fb_wrap(ctx, FB_F32, FB_SHAPE(6), mine, &o);
    fb_tensor *alias = fb_retain(fbi_tensor_alias(t));
    assert_ptr_equal(fb_data(t), mine);
    ((float *)fb_data_mut(t))[2] = 9;
    assert_true(mine[2] == 9);
    fb_scope_end(&s);
    assert_int_equal(calls, 0);
    fb_release(alias);
    assert_int_equal(calls, 1);
    assert_null(fb_wrap(ctx, FB_F32, FB_SHAPE(6), NULL, &o));
    expect(ctx, FB_E_ARG, "wrap: data is NULL");
    assert_null(fb_wrap(ctx, FB_F32, FB_SHAPE(1), (char *)mine + 1, &o));
    expect(ctx, FB_E_ARG, "not aligned");
    o.strides = (int64_t[]){-1};
    assert_null(fb_wrap(ctx, FB_F32, FB_SHAPE(6), mine, &o));
    expect(ctx, FB_E_ARG, "stride -1");
    assert_int_equal(calls, 1);
}

static void constant_memory_cannot_be_written(void **state)
{
    fb_context *ctx = *state;
    static const float mine[2] = {1, 2};
    fb_tensor *t = fb_wrap_const(ctx, FB_F32, FB_SHAPE(2), mine, NULL);
    assert_true(fb_data(t) == mine);
    assert_int_equal(fb_write(t, mine, sizeof mine), FB_E_ARG);
    expect(ctx, FB_E_ARG, "write: the tensor [2] is on read-only memory");
    assert_null(fb_data_mut(t));
    expect(ctx, FB_E_ARG, "read-only");
}

static void numel_and_text_of_shapes(void **state)
{
    (void)state;
    char buf[64];
    assert_int_equal(fb_shape_numel(FB_SCALAR), 1);
    assert_int_equal(fb_shape_numel(FB_SHAPE(2, 0, 5)), 0);
    assert_int_equal(fb_shape_numel(FB_SHAPE(INT64_MAX, 2)), -1);
    assert_int_equal(fb_shape_numel(FB_SHAPE(0, INT64_MAX, 2)), -1);
    assert_string_equal(fb_shape_text(FB_SHAPE(2, 3), buf, sizeof buf), "[2, 3]");
    assert_string_equal(fb_shape_text(FB_SCALAR, buf, sizeof buf), "[]");
    assert_string_equal(fb_shape_text(FB_SHAPE(200, 3), buf, 4), "[20");
}

static void shapes_broadcast_from_the_right(void **state)
{
    (void)state;
    fb_shape r;
    assert_true(fbi_broadcast(FB_SHAPE(5, 1, 3), FB_SHAPE(4, 1), &r));
    assert_true(fb_shape_equal(r, FB_SHAPE(5, 4, 3)));
    assert_true(fbi_broadcast(FB_SCALAR, FB_SHAPE(0), &r));
    assert_true(fb_shape_equal(r, FB_SHAPE(0)));
    assert_false(fbi_broadcast(FB_SHAPE(2), FB_SHAPE(3), &r));
}

static void layouts_are_recognised(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *t = fbi_empty(ctx, FB_F32, FB_SHAPE(2, 3, 4, 5));
    assert_true(fbi_contiguous(t) && fbi_dense(t));
    fb_tensor *cl = fbi_view(t, FB_SHAPE(2, 3, 4, 5), FB_SHAPE(60, 1, 15, 3), 0);
    assert_true(!fbi_contiguous(cl) && fbi_dense(cl));
    fb_tensor *gap = fbi_view(t, FB_SHAPE(2, 3), FB_SHAPE(60, 2), 0);
    assert_false(fbi_dense(gap));
    fb_tensor *twice = fbi_view(t, FB_SHAPE(2, 3), FB_SHAPE(0, 1), 0);
    assert_false(fbi_dense(twice));
    fb_tensor *one = fbi_view(t, FB_SHAPE(1, 3, 1), FB_SHAPE(77, 1, 99), 0);
    assert_true(fbi_contiguous(one) && fbi_dense(one));
}

static void promotion_follows_pytorch(void **state)
{
    (void)state;
    static const struct {
        fb_dtype a, b, r;
    } rows[] = {
        {FB_F32, FB_F64, FB_F64},   {FB_F16, FB_BF16, FB_F32},   {FB_F16, FB_F32, FB_F32},
        {FB_I64, FB_F16, FB_F16},   {FB_BOOL, FB_U8, FB_U8},     {FB_U8, FB_I8, FB_I16},
        {FB_I32, FB_I64, FB_I64},   {FB_BOOL, FB_BOOL, FB_BOOL}, {FB_U8, FB_I32, FB_I32},
        {FB_BF16, FB_I64, FB_BF16}, {FB_U16, FB_I16, FB_I32},    {FB_U16, FB_I8, FB_I32},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(fb_promote(rows[i].a, rows[i].b), rows[i].r);
        assert_int_equal(fb_promote(rows[i].b, rows[i].a), rows[i].r);
    }
    assert_int_equal(fb_dtype_size(FB_BF16), 2);
    assert_int_equal(fb_dtype_size((fb_dtype)77), 0);
    assert_string_equal(fb_dtype_name(FB_BF16), "BF16");
}

static void tensors_print_as_in_pytorch(void **state)
{
    fb_context *ctx = *state;
    float f[6] = {1, 2.5f, -3, 4, 5, 6};
    expect_text(fb_from(ctx, FB_F32, FB_SHAPE(2, 3), f),
                "tensor([[ 1.0000,  2.5000, -3.0000],\n        [ 4.0000,  5.0000,  6.0000]])");
    expect_text(fb_from(ctx, FB_F32, FB_SHAPE(3), (float[]){1, 0, 20}), "tensor([ 1.,  0., 20.])");
    expect_text(fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){1e-6f, 1}),
                "tensor([1.0000e-06, 1.0000e+00])");
    expect_text(fb_from(ctx, FB_F64, FB_SCALAR, &(double){1.5}), "tensor(1.5000, dtype=F64)");
    expect_text(fb_from(ctx, FB_I64, FB_SHAPE(2), (int64_t[]){1, -20}), "tensor([  1, -20])");
    expect_text(fb_from(ctx, FB_BOOL, FB_SHAPE(2), (uint8_t[]){1, 0}), "tensor([ True, False])");
    expect_text(fb_from(ctx, FB_F32, FB_SHAPE(0, 3), NULL), "tensor([], size=[0, 3])");
    expect_text(fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){NAN, 1.5f}),
                "tensor([   nan, 1.5000])");
    int64_t many[1001];
    for (int i = 0; i < 1001; i++)
        many[i] = i;
    expect_text(fb_from(ctx, FB_I64, FB_SHAPE(1001), many),
                "tensor([   0,    1,    2,  ...,  998,  999, 1000])");
    assert_int_equal(fb_to_string(NULL, NULL, 0), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(data_come_back_as_they_went_in),
        TEST(views_read_and_write_through_their_strides),
        TEST(item_reads_every_dtype),
        TEST(bad_sizes_and_dtypes_are_refused),
        TEST(wrapped_memory_is_shared_and_released_once_after_the_last_use),
        TEST(constant_memory_cannot_be_written),
        cmocka_unit_test(numel_and_text_of_shapes),
        cmocka_unit_test(shapes_broadcast_from_the_right),
        TEST(layouts_are_recognised),
        cmocka_unit_test(promotion_follows_pytorch),
        TEST(tensors_print_as_in_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
