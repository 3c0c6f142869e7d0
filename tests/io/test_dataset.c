#include "tests/io/io_test_priv.h"

#include <hdf5.h>

typedef struct place {
    fb_context *ctx;
    char folder[64], path[128];
} place;

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    p->ctx = check_open(1);
    make_folder(p->folder);
    snprintf(p->path, sizeof p->path, "%s/train.h5", p->folder);
    make_dataset(p->ctx, p->path);
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

static void what_was_written_is_described_again(void **state)
{
    place *p = *state;
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    check_ok(p->ctx);
    assert_int_equal(fb_dataset_size(ds), SAMPLES);
    assert_int_equal(fb_dataset_field_count(ds), 2);
    fb_dataset_field f = fb_dataset_field_at(ds, 0);
    assert_string_equal(f.name, "input");
    assert_int_equal(f.dtype, FB_U8);
    assert_true(fb_shape_equal(f.deliver, FB_SHAPE(2, 3)));
    assert_true(f.scale == 0.5 && f.shift == -1);
    assert_int_equal(fb_dataset_check(ds), FB_OK);
}

static void a_missing_dataset_is_named(void **state)
{
    place *p = *state;
    assert_null(fb_dataset_open(p->ctx, "/nowhere/train.h5"));
    check_error(p->ctx, FB_E_NOT_FOUND, "dataset /nowhere/train.h5: No such file");
}

static void a_file_that_is_not_hdf5_is_named(void **state)
{
    place *p = *state;
    FILE *f = fopen(p->path, "w");
    fputs("hello", f);
    fclose(f);
    assert_null(fb_dataset_open(p->ctx, p->path));
    check_error(p->ctx, FB_E_IO, "is not an HDF5 file");
}

static void a_foreign_hdf5_file_is_named(void **state)
{
    place *p = *state;
    H5Fclose(H5Fcreate(p->path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    assert_null(fb_dataset_open(p->ctx, p->path));
    check_error(p->ctx, FB_E_IO, "no Flambeau dataset");
}

static void a_shard_opened_as_dataset_is_told(void **state)
{
    place *p = *state;
    char shard[512];
    shard_path(p->folder, 1, shard);
    assert_null(fb_dataset_open(p->ctx, shard));
    check_error(p->ctx, FB_E_IO, "is a dataset shard; open the dataset's head");
}

static void a_missing_shard_is_named(void **state)
{
    place *p = *state;
    char shard[512];
    shard_path(p->folder, 1, shard);
    unlink(shard);
    assert_null(fb_dataset_open(p->ctx, p->path));
    check_error(p->ctx, FB_E_NOT_FOUND, "-00001.h5: No such file");
}

static void a_truncated_shard_is_named_with_both_sizes(void **state)
{
    place *p = *state;
    char shard[512];
    shard_path(p->folder, 2, shard);
    assert_int_equal(truncate(shard, 100), 0);
    assert_null(fb_dataset_open(p->ctx, p->path));
    check_error(p->ctx, FB_E_IO, "is 100 bytes, the head says");
}

static void a_flipped_byte_is_found_by_check(void **state)
{
    place *p = *state;
    char shard[512];
    shard_path(p->folder, 0, shard);
    FILE *f = fopen(shard, "r+b");
    fseek(f, -3, SEEK_END);
    int c = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(c ^ 1, f);
    fclose(f);
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    check_ok(p->ctx);
    assert_int_equal(fb_dataset_check(ds), FB_E_IO);
    check_error(p->ctx, FB_E_IO, "the head says");
}

static void another_datasets_shard_is_refused(void **state)
{
    place *p = *state;
    char shard[512], stranger[64], other[128], theirs[512], command[1200];
    make_folder(stranger);
    snprintf(other, sizeof other, "%s/train.h5", stranger);
    make_dataset(p->ctx, other);
    shard_path(p->folder, 0, shard);
    shard_path(stranger, 0, theirs);
    snprintf(command, sizeof command, "cp '%s' '%s'", theirs, shard);
    assert_int_equal(system(command), 0);
    assert_null(fb_dataset_open(p->ctx, p->path));
    check_error(p->ctx, FB_E_IO, "belongs to another dataset");
    remove_folder(stranger);
}

static void a_newer_format_is_refused_by_name(void **state)
{
    place *p = *state;
    hid_t file = H5Fopen(p->path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t attr = H5Aopen(file, "format", H5P_DEFAULT);
    int64_t format = 99;
    H5Awrite(attr, H5T_NATIVE_INT64, &format);
    H5Aclose(attr);
    H5Fclose(file);
    assert_null(fb_dataset_open(p->ctx, p->path));
    check_error(p->ctx, FB_E_IO, "has format 99; this version reads up to 1");
}

static void a_dataset_without_samples_is_refused(void **state)
{
    place *p = *state;
    fb_dataset_field field = {.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(2)};
    fb_dataset *ds = fb_dataset_create(p->ctx, "/tmp/none.h5", &field, 1, NULL);
    assert_int_equal(fb_dataset_finish(ds), FB_E_ARG);
    check_error(p->ctx, FB_E_ARG, "no samples were appended");
}

static void an_unwritable_folder_is_named(void **state)
{
    place *p = *state;
    fb_dataset_field field = {.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(2)};
    fb_dataset *ds = fb_dataset_create(p->ctx, "/nowhere/none.h5", &field, 1, NULL);
    float x[2] = {1, 2};
    fb_dataset_append(ds, 1, (const void *const[]){x});
    assert_int_equal(fb_dataset_finish(ds), FB_E_IO);
    check_error(p->ctx, FB_E_IO, "cannot write /nowhere/none-");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        CASE(what_was_written_is_described_again),        CASE(a_missing_dataset_is_named),
        CASE(a_file_that_is_not_hdf5_is_named),           CASE(a_foreign_hdf5_file_is_named),
        CASE(a_shard_opened_as_dataset_is_told),          CASE(a_missing_shard_is_named),
        CASE(a_truncated_shard_is_named_with_both_sizes), CASE(a_flipped_byte_is_found_by_check),
        CASE(another_datasets_shard_is_refused),          CASE(a_newer_format_is_refused_by_name),
        CASE(a_dataset_without_samples_is_refused),       CASE(an_unwritable_folder_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
