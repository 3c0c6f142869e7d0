#include <math.h>

#include <flambeau/core/ops/cast.h>
#include <flambeau/io/interchange.h>

#include "tests/io/io_test_priv.h"

typedef struct place {
    fb_context *ctx;
    char folder[64], path[128];
} place;

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    p->ctx = check_open(1);
    make_folder(p->folder);
    snprintf(p->path, sizeof p->path, "%s/x.npy", p->folder);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    place *p = *state;
    remove_folder(p->folder);
    assert_int_equal(fb_context_close(p->ctx), FB_OK);
    free(p);
    return 0;
}

/* A file of version 1 with this header and so many bytes 0, 1, 2, ... behind it. */
static void write_npy(const char *path, const char *head, int bytes)
{
    FILE *f = fopen(path, "wb");
    int n = (int)strlen(head);
    fwrite("\x93NUMPY\x01\x00", 1, 8, f);
    fputc(n & 255, f);
    fputc(n >> 8, f);
    fputs(head, f);
    for (int i = 0; i < bytes; i++)
        fputc(i, f);
    fclose(f);
}

static void every_dtype_comes_back_as_it_was_saved(void **state)
{
    place *p = *state;
    const fb_dtype dtypes[] = {FB_F32, FB_F64, FB_F16, FB_I32, FB_I64,
                               FB_U8,  FB_I8,  FB_I16, FB_U16};
    unsigned char bytes[6 * 8], back[6 * 8];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37 + 1);
    for (size_t k = 0; k < sizeof dtypes / sizeof dtypes[0]; k++) {
        fb_tensor *x = fb_from(p->ctx, dtypes[k], FB_SHAPE(2, 3), bytes);
        assert_int_equal(fb_npy_save(x, p->path), FB_OK);
        fb_tensor *y = fb_npy_load(p->ctx, p->path);
        check_ok(p->ctx);
        assert_int_equal(fb_dtype_of(y), dtypes[k]);
        assert_true(fb_shape_equal(fb_shape_of(y), FB_SHAPE(2, 3)));
        size_t n = 6 * fb_dtype_size(dtypes[k]);
        fb_read(y, back, n);
        assert_memory_equal(back, bytes, n);
    }
}

static void bf16_is_saved_as_f32_of_the_same_value(void **state)
{
    place *p = *state;
    float values[1000];
    for (int i = 0; i < 1000; i++)
        values[i] = ldexpf(1 + (float)(i % 128) / 128, i % 40 - 20); /* exact in BF16 */
    fb_tensor *x = fb_to(fb_from(p->ctx, FB_F32, FB_SHAPE(1000), values), FB_BF16);
    assert_int_equal(fb_npy_save(x, p->path), FB_OK);
    fb_tensor *y = fb_npy_load(p->ctx, p->path);
    check_ok(p->ctx);
    assert_int_equal(fb_dtype_of(y), FB_F32);
    assert_memory_equal(fb_data(y), values, sizeof values);
}

static void scalars_and_empty_arrays_keep_their_shape(void **state)
{
    place *p = *state;
    const double one = 1.5;
    fb_npy_save(fb_from(p->ctx, FB_F64, FB_SCALAR, &one), p->path);
    fb_tensor *x = fb_npy_load(p->ctx, p->path);
    assert_int_equal(fb_ndim(x), 0);
    assert_true(fb_item(x) == 1.5);
    fb_npy_save(fb_from(p->ctx, FB_F64, FB_SHAPE(3, 0), &one), p->path);
    x = fb_npy_load(p->ctx, p->path);
    assert_true(fb_shape_equal(fb_shape_of(x), FB_SHAPE(3, 0)));
}

static void a_view_is_saved_in_its_own_order(void **state)
{
    place *p = *state;
    /* A Fortran-ordered file is the transpose of what lies in it; saving it writes C order. */
    write_npy(p->path, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }\n", 6);
    fb_tensor *x = fb_npy_load(p->ctx, p->path);
    check_ok(p->ctx);
    unsigned char got[6], want[6] = {0, 2, 4, 1, 3, 5};
    fb_read(x, got, 6);
    assert_memory_equal(got, want, 6);
    fb_npy_save(x, p->path);
    fb_read(fb_npy_load(p->ctx, p->path), got, 6);
    assert_memory_equal(got, want, 6);
}

static void a_missing_file_is_named(void **state)
{
    place *p = *state;
    assert_null(fb_npy_load(p->ctx, "/nowhere/x.npy"));
    check_error(p->ctx, FB_E_NOT_FOUND, "npy /nowhere/x.npy: No such file");
}

static void another_kind_of_file_is_told(void **state)
{
    place *p = *state;
    FILE *f = fopen(p->path, "w");
    fputs("hello, world: this is text", f);
    fclose(f);
    assert_null(fb_npy_load(p->ctx, p->path));
    check_error(p->ctx, FB_E_IO, "is no NumPy array");
}

static void a_file_cut_anywhere_is_an_error(void **state)
{
    place *p = *state;
    const float x[4] = {1, 2, 3, 4};
    for (long size = 0; size < 128 + (long)sizeof x; size++) {
        fb_npy_save(fb_from(p->ctx, FB_F32, FB_SHAPE(4), x), p->path);
        assert_int_equal(truncate(p->path, size), 0);
        assert_null(fb_npy_load(p->ctx, p->path));
        check_error(p->ctx, FB_E_IO, size < 128 ? "is cut" : "its header speaks of");
    }
}

static void a_header_that_asks_for_too_much_takes_no_memory(void **state)
{
    place *p = *state;
    write_npy(p->path, "{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }\n", 8);
    assert_null(fb_npy_load(p->ctx, p->path));
    check_error(p->ctx, FB_E_IO, "its header speaks of 7999999999984 more");
    write_npy(p->path,
              "{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000, 4000000000), }\n", 8);
    assert_null(fb_npy_load(p->ctx, p->path));
    check_error(p->ctx, FB_E_IO, "more elements than fit");
}

static void a_dtype_that_cannot_be_read_is_named(void **state)
{
    place *p = *state;
    write_npy(p->path, "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }\n", 8);
    assert_null(fb_npy_load(p->ctx, p->path));
    check_error(p->ctx, FB_E_DTYPE, "dtype '>f4' cannot be read");
    write_npy(p->path, "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n", 8);
    assert_null(fb_npy_load(p->ctx, p->path));
    check_error(p->ctx, FB_E_DTYPE, "dtype '|O' cannot be read");
}

static void an_unwritable_place_is_named(void **state)
{
    place *p = *state;
    const float x = 1;
    fb_tensor *t = fb_from(p->ctx, FB_F32, FB_SCALAR, &x);
    assert_int_equal(fb_npy_save(t, "/nowhere/x.npy"), FB_E_IO);
    check_error(p->ctx, FB_E_IO, "npy /nowhere/x.npy: cannot write it: No such file");
    t = fb_from(p->ctx, FB_F32, FB_SCALAR, &x);
    if (access("/dev/full", W_OK) == 0) {
        assert_int_equal(fb_npy_save(t, "/dev/full"), FB_E_IO);
        check_error(p->ctx, FB_E_IO, "cannot write it: No space left on device");
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_dtype_comes_back_as_it_was_saved),
        CASE(bf16_is_saved_as_f32_of_the_same_value),
        CASE(scalars_and_empty_arrays_keep_their_shape),
        CASE(a_view_is_saved_in_its_own_order),
        CASE(a_missing_file_is_named),
        CASE(another_kind_of_file_is_told),
        CASE(a_file_cut_anywhere_is_an_error),
        CASE(a_header_that_asks_for_too_much_takes_no_memory),
        CASE(a_dtype_that_cannot_be_read_is_named),
        CASE(an_unwritable_place_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
