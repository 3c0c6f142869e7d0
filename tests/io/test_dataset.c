#include <hdf5.h>
#include <sys/resource.h>

#include "io/dataset_priv.h"
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
    check_error(p->ctx, FB_E_IO, "has format 99; this version reads up to 2: update Flambeau");
}

static void a_dataset_without_samples_is_refused(void **state)
{
    place *p = *state;
    fb_dataset_field field = {.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(2)};
    fb_dataset *ds = fb_dataset_create(p->ctx, "/tmp/none.h5", &field, 1, NULL);
    assert_int_equal(fb_dataset_finish(ds), FB_E_ARG);
    check_error(p->ctx, FB_E_ARG, "no samples were appended");
    assert_null(fb_dataset_custom(p->ctx, 0, &field, 1, (fb_dataset_read)abort, NULL));
    check_error(p->ctx, FB_E_ARG, "needs a read callback and at least one sample, got 0");
    hid_t file = H5Fopen(p->path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t attr = H5Aopen(file, "samples", H5P_DEFAULT);
    int64_t samples = 0;
    H5Awrite(attr, H5T_NATIVE_INT64, &samples);
    H5Aclose(attr);
    H5Fclose(file);
    assert_null(fb_dataset_open(p->ctx, p->path));
    check_error(p->ctx, FB_E_IO, "has no samples");
}

/* --- writing again --- */

static int files_in(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

enum { FILES = 1 + (SAMPLES + SHARD - 1) / SHARD };

static void writing_a_dataset_again_leaves_no_old_shards(void **state)
{
    place *p = *state;
    char near[160], killed[512], command[1200];
    snprintf(near, sizeof near, "%s/train-more.h5", p->folder); /* another dataset stays */
    make_dataset(p->ctx, near);
    make_dataset(p->ctx, p->path);
    assert_int_equal(files_in(p->folder), 2 * FILES);
    /* What an import that was killed left. */
    snprintf(killed, sizeof killed, "%s/train-0000beef-00000.h5", p->folder);
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    snprintf(command, sizeof command, "cp %s/%s %s", p->folder, ds->shards[0].name, killed);
    assert_int_equal(system(command), 0);
    /* A file of this name that is no shard is not ours. */
    snprintf(command, sizeof command, "echo hello > %s/train-0000feed-00000.h5", p->folder);
    assert_int_equal(system(command), 0);
    make_dataset(p->ctx, p->path);
    assert_int_equal(files_in(p->folder), 2 * FILES + 1);
    assert_int_equal(fb_dataset_check(fb_dataset_open(p->ctx, near)), FB_OK);
    assert_int_equal(fb_dataset_check(fb_dataset_open(p->ctx, p->path)), FB_OK);
}

static void the_old_dataset_is_there_until_the_new_one_is_finished(void **state)
{
    place *p = *state;
    fb_dataset_field field = {.name = "input", .dtype = FB_I64, .shape = FB_SCALAR};
    int64_t x[10] = {0};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, &field, 1,
                                       FB_OPTS(fb_dataset_options, .shard_samples = 4));
    fb_dataset_append(ds, 10, (const void *const[]){x});
    assert_int_equal(files_in(p->folder), FILES + 2);
    assert_int_equal(fb_dataset_check(fb_dataset_open(p->ctx, p->path)), FB_OK);
    fb_dataset_finish(ds);
    assert_int_equal(files_in(p->folder), 1 + 3);
    assert_int_equal(fb_dataset_size(fb_dataset_open(p->ctx, p->path)), 10);
    check_ok(p->ctx);
}

static void a_dataset_that_is_given_up_leaves_nothing(void **state)
{
    place *p = *state;
    fb_dataset_field field = {.name = "input", .dtype = FB_I64, .shape = FB_SCALAR};
    int64_t x[10] = {0};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, &field, 1,
                                       FB_OPTS(fb_dataset_options, .shard_samples = 4));
    fb_dataset_append(ds, 10, (const void *const[]){x});
    fb_dataset_close(ds);
    assert_int_equal(files_in(p->folder), FILES);
    assert_int_equal(fb_dataset_check(fb_dataset_open(p->ctx, p->path)), FB_OK);
}

static void a_shard_that_goes_while_its_dataset_is_written_is_named(void **state)
{
    place *p = *state;
    fb_dataset_field field = {.name = "input", .dtype = FB_I64, .shape = FB_SCALAR};
    int64_t x[10] = {0};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, &field, 1,
                                       FB_OPTS(fb_dataset_options, .shard_samples = 4));
    fb_dataset_append(ds, 10, (const void *const[]){x});
    make_dataset(p->ctx, p->path); /* another writer is faster */
    assert_int_equal(fb_dataset_finish(ds), FB_E_IO);
    check_error(p->ctx, FB_E_IO, "has gone: is another program writing the same dataset?");
    fb_dataset_close(ds);
    assert_int_equal(fb_dataset_check(fb_dataset_open(p->ctx, p->path)), FB_OK);
}

static void senseless_requests_to_write_are_refused(void **state)
{
    place *p = *state;
    char name[160];
    memset(name, 'x', sizeof name);
    name[120] = '\0';
    fb_dataset_field field = {.name = "input", .dtype = FB_I64, .shape = FB_SCALAR};
    assert_null(fb_dataset_create(p->ctx, name, &field, 1, NULL));
    check_error(p->ctx, FB_E_ARG, "a name of at most 96 characters");
    assert_null(fb_dataset_create(p->ctx, p->path, &field, 1,
                                  FB_OPTS(fb_dataset_options, .shard_bytes = -1)));
    check_error(p->ctx, FB_E_ARG, "a positive number of samples or bytes a shard are needed");
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, &field, 1, NULL);
    assert_int_equal(fb_dataset_append(ds, -1, (const void *const[]){name}), FB_E_ARG);
    check_error(p->ctx, FB_E_ARG, "cannot append -1 samples");
    fb_dataset_close(ds);
    ds = fb_dataset_open(p->ctx, p->path);
    assert_int_equal(fb_dataset_append(ds, 1, (const void *const[]){name}), FB_E_STATE);
    check_error(p->ctx, FB_E_STATE, "is finished, or open for reading");
    fb_dataset_field twice[] = {{.name = "a/b", .dtype = FB_I64}};
    assert_null(fb_dataset_create(p->ctx, p->path, twice, 1, NULL));
    check_error(p->ctx, FB_E_ARG, "a field's name must have 1 to 127 characters and no '/'");
}

/* --- reading sample by sample --- */

/* As if the fields were too large to be held in memory. */
static void hold_nothing(fb_dataset *ds)
{
    for (int s = 0; s < ds->n_shards; s++) {
        for (int f = 0; f < ds->n_fields; f++) {
            free(ds->shards[s].held[f]);
            ds->shards[s].held[f] = NULL;
        }
        if (ds->shards[s].fd >= 0) {
            close(ds->shards[s].fd);
            ds->shards[s].fd = -1;
            ds->n_open--;
        }
    }
    assert_int_equal(ds->n_open, 0);
}

static void more_shards_than_open_files_are_read(void **state)
{
    place *p = *state;
    enum { N = 120 };
    fb_dataset_field field = {.name = "input", .dtype = FB_I64, .shape = FB_SHAPE(9)};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, &field, 1,
                                       FB_OPTS(fb_dataset_options, .shard_samples = 2));
    for (int64_t i = 0; i < N; i++) {
        int64_t x[9] = {i};
        fb_dataset_append(ds, 1, (const void *const[]){x});
    }
    fb_dataset_finish(ds);
    struct rlimit limit, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = 32;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    ds = fb_dataset_open(p->ctx, p->path);
    check_ok(p->ctx);
    hold_nothing(ds);
    for (int64_t i = 0; i < 2 * N; i++) {
        int64_t x[9], at = i * 7 % N;
        char text[256] = "";
        fbi_dataset_fetch(ds, at, (void *const[]){x}, NULL, text, sizeof text);
        assert_string_equal(text, "");
        assert_int_equal(x[0], at);
    }
    assert_int_equal(ds->n_open, 8);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void a_shard_that_goes_during_the_run_is_named(void **state)
{
    place *p = *state;
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    char shard[512], text[512];
    unsigned char x[WIDTH];
    int32_t y;
    void *out[] = {x, &y};
    hold_nothing(ds);
    shard_path(p->folder, 1, shard);
    unlink(shard);
    assert_int_equal(fbi_dataset_fetch(ds, 50, out, NULL, text, sizeof text), FB_E_IO);
    assert_non_null(strstr(text, "-00001.h5: cannot open it: No such file"));
    assert_non_null(strstr(text, "was the dataset changed during the run?"));
    shard_path(p->folder, 2, shard);
    assert_int_equal(truncate(shard, 10), 0);
    assert_int_equal(fbi_dataset_fetch(ds, 99, out, NULL, text, sizeof text), FB_E_IO);
    assert_non_null(strstr(text, "-00002.h5: is 10 bytes, the head says"));
    assert_int_equal(fbi_dataset_fetch(ds, 7, out, NULL, text, sizeof text), FB_OK);
    assert_int_equal(y, 21);
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
        CASE(what_was_written_is_described_again),
        CASE(a_missing_dataset_is_named),
        CASE(a_file_that_is_not_hdf5_is_named),
        CASE(a_foreign_hdf5_file_is_named),
        CASE(a_shard_opened_as_dataset_is_told),
        CASE(a_missing_shard_is_named),
        CASE(a_truncated_shard_is_named_with_both_sizes),
        CASE(a_flipped_byte_is_found_by_check),
        CASE(another_datasets_shard_is_refused),
        CASE(a_newer_format_is_refused_by_name),
        CASE(a_dataset_without_samples_is_refused),
        CASE(an_unwritable_folder_is_named),
        CASE(writing_a_dataset_again_leaves_no_old_shards),
        CASE(the_old_dataset_is_there_until_the_new_one_is_finished),
        CASE(a_dataset_that_is_given_up_leaves_nothing),
        CASE(a_shard_that_goes_while_its_dataset_is_written_is_named),
        CASE(senseless_requests_to_write_are_refused),
        CASE(more_shards_than_open_files_are_read),
        CASE(a_shard_that_goes_during_the_run_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
