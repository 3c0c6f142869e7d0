#include <flambeau/core/ops/view.h>
#include <flambeau/io/interchange.h>

#include "tests/check.h"

/* Where things lie in DLPack's structs on machines of 64 bits. */
enum {
    AT_MAJOR = 0,
    AT_FLAGS = 24,
    AT_TENSOR = 32,
    IN_DEVICE = 8,
    IN_NDIM = 16,
    IN_CODE = 20,
    IN_BITS = 21
};

static int set_up(void **state)
{
    *state = check_open(1);
    return 0;
}

static int tear_down(void **state)
{
    return fb_context_close(*state);
}

static void *data_of(const void *tensor)
{
    void *data;
    memcpy(&data, tensor, sizeof data);
    return data;
}

static void a_tensor_goes_out_and_in_without_a_copy(void **state)
{
    fb_context *ctx = *state;
    const float x[6] = {1, 2, 3, 4, 5, 6};
    fb_tensor *base = fb_from(ctx, FB_F32, FB_SHAPE(2, 3), x), *t = fb_transpose(base, 0, 1);
    char *out = (char *)fb_dlpack_export(t);
    check_ok(ctx);
    assert_ptr_equal(data_of(out + AT_TENSOR), fb_data(base));
    assert_int_equal(*(uint32_t *)(out + AT_MAJOR), 1);
    assert_int_equal(*(int32_t *)(out + AT_TENSOR + IN_DEVICE), 1);
    assert_int_equal(*(int32_t *)(out + AT_TENSOR + IN_NDIM), 2);
    assert_int_equal(out[AT_TENSOR + IN_CODE], 2);
    assert_int_equal(out[AT_TENSOR + IN_BITS], 32);
    fb_tensor *in = fb_dlpack_import(ctx, (struct DLManagedTensorVersioned *)out);
    check_ok(ctx);
    assert_true(fb_shape_equal(fb_shape_of(in), FB_SHAPE(3, 2)));
    assert_int_equal(fb_stride(in, 0), 1);
    assert_int_equal(fb_stride(in, 1), 3);
    char *old = (char *)fb_dlpack_export_old(in);
    assert_ptr_equal(data_of(old), fb_data(base));
    fb_tensor *again = fb_dlpack_import_old(ctx, (struct DLManagedTensor *)old);
    assert_true(fb_shape_equal(fb_shape_of(again), FB_SHAPE(3, 2)));
    check_ok(ctx);
}

static void read_only_memory_stays_read_only(void **state)
{
    fb_context *ctx = *state;
    static const int64_t x[2] = {1, 2};
    fb_tensor *t = fb_wrap_const(ctx, FB_I64, FB_SHAPE(2), x, NULL);
    struct DLManagedTensorVersioned *out = fb_dlpack_export(t);
    assert_int_equal(*(uint64_t *)((char *)out + AT_FLAGS), 1);
    fb_tensor *in = fb_dlpack_import(ctx, out);
    assert_int_equal(fb_write(in, x, sizeof x), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "is on read-only memory");
}

/* An exported tensor with one of its 32-bit numbers changed is refused with this text, and then
 * taken, so that nothing is lost. */
static void refused(fb_context *ctx, size_t at, uint32_t value, fb_status status, const char *text)
{
    const int32_t x = 5;
    char *out = (char *)fb_dlpack_export(fb_from(ctx, FB_I32, FB_SHAPE(1), &x));
    uint32_t was;
    memcpy(&was, out + at, sizeof was);
    memcpy(out + at, &value, sizeof value);
    assert_null(fb_dlpack_import(ctx, (struct DLManagedTensorVersioned *)out));
    check_error(ctx, status, text);
    memcpy(out + at, &was, sizeof was);
    assert_int_equal(fb_item_int(fb_dlpack_import(ctx, (struct DLManagedTensorVersioned *)out)), 5);
}

static void what_cannot_be_taken_is_named_and_stays_the_callers(void **state)
{
    fb_context *ctx = *state;
    refused(ctx, AT_MAJOR, 2, FB_E_UNSUPPORTED, "dlpack: version 2; 1 is known");
    refused(ctx, AT_TENSOR + IN_DEVICE, 7, FB_E_UNSUPPORTED,
            "device type 7 is neither CPU nor CUDA");
    refused(ctx, AT_TENSOR + IN_DEVICE, 2, FB_E_UNSUPPORTED,
            "the data is on cuda:0, the context on cpu");
    refused(ctx, AT_TENSOR + IN_NDIM, 9, FB_E_SHAPE,
            "dlpack: 9 dimensions; at most 8 are possible");
    refused(ctx, AT_TENSOR + IN_CODE, 5 | 64 << 8 | 1 << 16, FB_E_DTYPE,
            "no dtype is code 5 with 64 bits and 1 lanes");
    refused(ctx, AT_TENSOR + IN_CODE, 2 | 32 << 8 | 4 << 16, FB_E_DTYPE,
            "no dtype is code 2 with 32 bits and 4 lanes");
    assert_null(fb_dlpack_import(ctx, NULL));
    check_error(ctx, FB_E_ARG, "dlpack: the tensor is NULL");
    assert_null(fb_dlpack_import_old(ctx, NULL));
    check_error(ctx, FB_E_ARG, "dlpack: the tensor is NULL");
    assert_null(fb_dlpack_export(NULL));
    assert_null(fb_dlpack_export_old(NULL));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_tensor_goes_out_and_in_without_a_copy),
        CASE(read_only_memory_stays_read_only),
        CASE(what_cannot_be_taken_is_named_and_stays_the_callers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
