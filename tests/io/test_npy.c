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
    write_npy(p->path, "{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }\n", 16);
    assert_null(fb_npy_load(p->ctx, p->path));
    check_error(p->ctx, FB_E_DTYPE, "dtype '<c8' cannot be read");
    write_npy(p->path, "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n", 8);
    assert_null(fb_npy_load(p->ctx, p->path));
    check_error(p->ctx, FB_E_DTYPE, "dtype '|O' cannot be read");
}

/* Bytes 0, 1, 2, ... (write_npy) in another order or width. */
static void other_byte_orders_and_unsigned_types_are_converted(void **state)
{
    place *p = *state;
    write_npy(p->path, "{'descr': '>u2', 'fortran_order': False, 'shape': (2,), }\n", 4);
    fb_tensor *x = fb_npy_load(p->ctx, p->path);
    check_ok(p->ctx);
    assert_int_equal(fb_dtype_of(x), FB_U16);
    const uint16_t numbers[2] = {0x0001, 0x0203};
    assert_memory_equal(fb_data(x), numbers, sizeof numbers);
    write_npy(p->path, "{'descr': '<u4', 'fortran_order': True, 'shape': (1, 2), }\n", 8);
    x = fb_npy_load(p->ctx, p->path);
    const int64_t wide[2] = {0x03020100, 0x07060504};
    assert_int_equal(fb_dtype_of(x), FB_I64);
    assert_true(fb_shape_equal(fb_shape_of(x), FB_SHAPE(1, 2)));
    assert_memory_equal(fb_data(x), wide, sizeof wide);
    write_npy(p->path, "{'descr': '>u8', 'fortran_order': False, 'shape': (1,), }\n", 8);
    assert_int_equal(fb_item_int(fb_npy_load(p->ctx, p->path)), 0x0001020304050607);
    write_npy(p->path, "{'descr': '<u8', 'fortran_order': False, 'shape': (20,), }\n", 160);
    assert_null(fb_npy_load(p->ctx, p->path));
    check_error(p->ctx, FB_E_DTYPE, "has uint64 values above those of I64");
}

static void a_mapped_array_is_the_loaded_one_and_read_only(void **state)
{
    place *p = *state;
    const float values[6] = {1, 2, 3, 4, 5, 6};
    fb_npy_save(fb_from(p->ctx, FB_F32, FB_SHAPE(2, 3), values), p->path);
    fb_tensor *x = fb_npy_map(p->ctx, p->path);
    check_ok(p->ctx);
    assert_true(fb_shape_equal(fb_shape_of(x), FB_SHAPE(2, 3)));
    assert_memory_equal(fb_data(x), values, sizeof values);
    assert_int_equal(fb_write(x, values, sizeof values), FB_E_ARG);
    check_error(p->ctx, FB_E_ARG, "is on read-only memory: change a copy of it");
    assert_null(fb_npy_map(p->ctx, NULL));
    check_error(p->ctx, FB_E_NOT_FOUND, "npy (null): a path is needed");
}

/* --- several arrays --- */

static void save_two(place *p)
{
    const float x[3] = {1, 2, 3};
    const int64_t y = -7;
    fb_tensor *const t[] = {fb_from(p->ctx, FB_F32, FB_SHAPE(3), x),
                            fb_from(p->ctx, FB_I64, FB_SCALAR, &y)};
    fb_npz_save(p->ctx, p->path, (const char *const[]){"first", "the second"}, t, 2);
}

static void arrays_of_a_file_come_back_by_name(void **state)
{
    place *p = *state;
    save_two(p);
    check_ok(p->ctx);
    char *names = fb_npz_names(p->ctx, p->path);
    assert_string_equal(names, "first\nthe second\n");
    free(names);
    const float x[3] = {1, 2, 3};
    assert_memory_equal(fb_data(fb_npz_load(p->ctx, p->path, "first")), x, sizeof x);
    assert_int_equal(fb_item_int(fb_npz_load(p->ctx, p->path, "the second")), -7);
    assert_null(fb_npz_load(p->ctx, p->path, "third"));
    check_error(p->ctx, FB_E_NOT_FOUND, "has no array \"third\"");
    assert_null(fb_npz_load(p->ctx, "/nowhere/x.npz", "x"));
    check_error(p->ctx, FB_E_NOT_FOUND, "npz /nowhere/x.npz: No such file");
    assert_int_equal(
        fb_npz_save(p->ctx, p->path, (const char *const[]){""}, (fb_tensor *const[]){NULL}, 1),
        FB_E_ARG);
    check_error(p->ctx, FB_E_ARG, "array 0, \"\": a tensor and a name of its own");
    assert_int_equal(fb_npz_save(p->ctx, "/nowhere/x.npz", NULL, NULL, 0), FB_E_IO);
    check_error(p->ctx, FB_E_IO, "npz /nowhere/x.npz: cannot write it: No such file");
}

static void an_archive_cut_or_flipped_anywhere_is_an_error_or_whole(void **state)
{
    place *p = *state;
    save_two(p);
    FILE *f = fopen(p->path, "rb");
    char whole[4096];
    size_t n = fread(whole, 1, sizeof whole, f);
    fclose(f);
    int errors = 0;
    for (size_t i = 0; i < n; i++)
        for (int cut = 0; cut < 2; cut++) {
            FB_SCOPE(p->ctx);
            whole[i] ^= 0x24;
            f = fopen(p->path, "wb");
            fwrite(whole, 1, cut ? i : n, f);
            fclose(f);
            whole[i] ^= 0x24;
            fb_tensor *t = fb_npz_load(p->ctx, p->path, "first");
            if (cut)
                assert_null(t);
            errors += !t;
            if (!t)
                fb_error_take(p->ctx, NULL, 0);
        }
    assert_true(errors > (int)n);
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
        CASE(other_byte_orders_and_unsigned_types_are_converted),
        CASE(a_mapped_array_is_the_loaded_one_and_read_only),
        CASE(arrays_of_a_file_come_back_by_name),
        CASE(an_archive_cut_or_flipped_anywhere_is_an_error_or_whole),
        CASE(an_unwritable_place_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
