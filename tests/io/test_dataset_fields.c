/* Fields that vary, labels, splits, checksums of blocks, appending, and the formats of old. */
#include <hdf5.h>

#include <flambeau/core/ops/view.h>

#include "io/dataset_priv.h"
#include "tests/io/io_test_priv.h"

enum { TEXTS = 57, TEXTS_A_SHARD = 20 };
static const char *const colours[] = {"red", "green", "deep \"blue\""};

typedef struct place {
    fb_context *ctx;
    char folder[64], path[128];
} place;

/* Sample i: i * i % 23 tokens i, i + 1, ..., as many pairs of floats, and a colour. */
static int64_t rows_of(int64_t i)
{
    return i * i % 23;
}

static void append_texts(fb_dataset *ds, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        uint16_t tokens[23];
        float pairs[23][2];
        uint8_t colour = (uint8_t)(i % 3);
        int64_t n = rows_of(i);
        for (int64_t k = 0; k < n; k++) {
            tokens[k] = (uint16_t)(1000 * (i % 60) + k);
            pairs[k][0] = (float)i;
            pairs[k][1] = (float)k;
        }
        fb_dataset_append_rows(ds, 1, (const void *const[]){tokens, pairs, &colour},
                               (const int64_t *const[]){&n, &n, NULL});
    }
}

static fb_dataset *create_texts(fb_context *ctx, const char *path, int64_t shard)
{
    const fb_dataset_field fields[] = {
        {.name = "text", .dtype = FB_U16, .varies = true},
        {.name = "path", .dtype = FB_F32, .shape = FB_SHAPE(2), .varies = true},
        {.name = "target", .dtype = FB_U8, .labels = colours, .n_labels = 3}};
    return fb_dataset_create(ctx, path, fields, 3,
                             FB_OPTS(fb_dataset_options, .shard_samples = shard));
}

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    p->ctx = check_open(1);
    make_folder(p->folder);
    snprintf(p->path, sizeof p->path, "%s/texts.h5", p->folder);
    fb_dataset *ds = create_texts(p->ctx, p->path, TEXTS_A_SHARD);
    append_texts(ds, 0, TEXTS);
    fb_dataset_finish(ds);
    fb_dataset_close(ds);
    check_ok(p->ctx);
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

static void check_texts(fb_dataset *ds, int64_t size)
{
    assert_int_equal(fb_dataset_size(ds), size);
    for (int64_t i = 0; i < size; i++) {
        FB_SCOPE(ds->ctx);
        fb_tensor *text = fb_dataset_sample(ds, "text", i);
        fb_tensor *path = fb_dataset_sample(ds, "path", i);
        fb_tensor *target = fb_dataset_sample(ds, "target", i);
        check_ok(ds->ctx);
        int64_t n = rows_of(i);
        assert_true(fb_shape_equal(fb_shape_of(text), FB_SHAPE(n)));
        assert_true(fb_shape_equal(fb_shape_of(path), FB_SHAPE(n, 2)));
        assert_int_equal(fb_dtype_of(text), FB_U16);
        for (int64_t k = 0; k < n; k++) {
            assert_int_equal(((const uint16_t *)fb_data(text))[k], 1000 * (i % 60) + k);
            assert_true(((const float *)fb_data(path))[2 * k] == (float)i);
            assert_true(((const float *)fb_data(path))[2 * k + 1] == (float)k);
        }
        assert_int_equal(fb_item_int(target), i % 3);
    }
}

/* As if the fields were too large to be held in memory. */
static void hold_nothing(fb_dataset *ds)
{
    for (int s = 0; s < ds->n_shards; s++)
        for (int f = 0; f < ds->n_fields; f++) {
            free(ds->shards[s].held[f]);
            free(ds->shards[s].starts[f]);
            ds->shards[s].held[f] = NULL;
            ds->shards[s].starts[f] = NULL;
        }
}

static void samples_of_any_length_come_back_as_they_were(void **state)
{
    place *p = *state;
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    check_ok(p->ctx);
    fb_dataset_field f = fb_dataset_field_at(ds, 0);
    assert_true(f.varies);
    assert_int_equal(fb_dataset_field_count(ds), 3);
    check_texts(ds, TEXTS);
    hold_nothing(ds);
    check_texts(ds, TEXTS);
    assert_int_equal(fb_dataset_check(ds), FB_OK);
}

static void shards_are_as_large_as_asked_for(void **state)
{
    place *p = *state;
    const fb_dataset_field field = {.name = "input", .dtype = FB_U8, .varies = true};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, &field, 1,
                                       FB_OPTS(fb_dataset_options, .shard_bytes = 1000));
    const uint8_t bytes[300] = {0};
    const int64_t n = 300;
    for (int i = 0; i < 10; i++)
        fb_dataset_append_rows(ds, 1, (const void *const[]){bytes}, (const int64_t *const[]){&n});
    assert_int_equal(fb_dataset_finish(ds), FB_OK);
    ds = fb_dataset_open(p->ctx, p->path);
    assert_int_equal(ds->n_shards, 3); /* 1200, 1200 and 600 bytes */
    assert_int_equal(ds->shards[0].n, 4);
}

static void a_dataset_of_empty_samples_can_be_read(void **state)
{
    place *p = *state;
    const fb_dataset_field field = {.name = "input", .dtype = FB_U8, .varies = true};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, &field, 1, NULL);
    const int64_t none[4] = {0};
    fb_dataset_append_rows(ds, 4, (const void *const[]){""}, (const int64_t *const[]){none});
    assert_int_equal(fb_dataset_finish(ds), FB_OK);
    ds = fb_dataset_open(p->ctx, p->path);
    check_ok(p->ctx);
    assert_int_equal(fb_size(fb_dataset_sample(ds, "input", 3), 0), 0);
    fb_loader *l = fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .global_batch = 4));
    fb_batch b;
    assert_true(fb_loader_epoch(l, 1) && fb_loader_next(l, &b));
    assert_true(fb_shape_equal(fb_shape_of(b.input), FB_SHAPE(4, 1)));
    assert_int_equal(fb_item_int(fb_select(fb_loader_lengths(l, "input"), 0, 3)), 0);
}

static void senseless_samples_are_refused(void **state)
{
    place *p = *state;
    fb_dataset *ds = create_texts(p->ctx, p->path, 0);
    const uint8_t x[8] = {0};
    const void *const values[] = {x, x, x};
    const int64_t minus = -1, one = 1;
    assert_int_equal(fb_dataset_append(ds, 1, values), FB_E_ARG);
    check_error(p->ctx, FB_E_ARG, "field text varies: say how many rows each sample has");
    fb_dataset_append_rows(ds, 1, values, (const int64_t *const[]){&one, &minus, NULL});
    check_error(p->ctx, FB_E_ARG, "field path: sample 0 has -1 rows");
    const fb_dataset_field reserved = {.name = "flambeau_x", .dtype = FB_U8};
    assert_null(fb_dataset_create(p->ctx, p->path, &reserved, 1, NULL));
    check_error(p->ctx, FB_E_ARG, "not begin with \"flambeau_\"");
    const fb_dataset_field shaped = {.name = "x",
                                     .dtype = FB_U8,
                                     .varies = true,
                                     .shape = FB_SHAPE(4),
                                     .deliver = FB_SHAPE(2, 2)};
    assert_null(fb_dataset_create(p->ctx, p->path, &shaped, 1, NULL));
    check_error(p->ctx, FB_E_SHAPE, "field x varies: it is delivered as stored, not as [2, 2]");
    const fb_dataset_field nameless = {.name = "x", .dtype = FB_U8, .n_labels = 2};
    assert_null(fb_dataset_create(p->ctx, p->path, &nameless, 1, NULL));
    check_error(p->ctx, FB_E_ARG, "field x: 2 labels, which are NULL");
    const char *const holes[] = {"a", NULL};
    const fb_dataset_field unnamed = {.name = "x", .dtype = FB_U8, .labels = holes, .n_labels = 2};
    assert_null(fb_dataset_create(p->ctx, p->path, &unnamed, 1, NULL));
    check_error(p->ctx, FB_E_ARG, "field x: label 1 is NULL");
    const fb_dataset_field twins[] = {{.name = "x", .dtype = FB_U8}, {.name = "x", .dtype = FB_I8}};
    assert_null(fb_dataset_create(p->ctx, p->path, twins, 2, NULL));
    check_error(p->ctx, FB_E_ARG, "two fields have the name x");
    fb_dataset_append_rows(ds, 1, (const void *const[]){x, NULL, x},
                           (const int64_t *const[]){&one, &one, NULL});
    check_error(p->ctx, FB_E_ARG, "the values of field path are NULL");
    const fb_dataset_field made = {.name = "x", .dtype = FB_U8, .varies = true};
    assert_null(fb_dataset_custom(p->ctx, 3, &made, 1, (fb_dataset_read)abort, NULL));
    check_error(p->ctx, FB_E_UNSUPPORTED, "field x varies: a callback gives samples of a fixed");
    assert_null(fb_dataset_sample(ds, "text", 0));
    check_error(p->ctx, FB_E_STATE, "was opened for writing: finish it, then open it");
    fb_dataset_close(ds);
    ds = fb_dataset_open(p->ctx, p->path);
    assert_null(fb_dataset_sample(ds, "sound", 0));
    check_error(p->ctx, FB_E_NOT_FOUND, "has no field \"sound\"");
    assert_null(fb_dataset_sample(ds, "text", TEXTS));
    check_error(p->ctx, FB_E_ARG, "sample 57 of 57");
}

/* --- the loader --- */

static void batches_are_padded_with_zeros_and_long_samples_are_cut(void **state)
{
    place *p = *state;
    for (int64_t longest = 0; longest <= 5; longest += 5) {
        fb_loader *l = fb_loader_open(NULL, fb_dataset_open(p->ctx, p->path),
                                      FB_OPTS(fb_loader_options, .global_batch = 8,
                                              .longest = longest, .shuffle = true, .seed = 3));
        check_ok(p->ctx);
        int64_t width = longest ? longest : 18, seen = 0; /* the squares modulo 23 end there */
        fb_batch b;
        assert_true(fb_loader_epoch(l, 1));
        while (fb_loader_next(l, &b)) {
            FB_SCOPE(p->ctx);
            int64_t n;
            const int64_t *index = fb_loader_indices(l, &n);
            fb_tensor *text = fb_loader_field(l, "text");
            assert_true(fb_shape_equal(fb_shape_of(text), FB_SHAPE(n, width)));
            assert_true(
                fb_shape_equal(fb_shape_of(fb_loader_field(l, "path")), FB_SHAPE(n, width, 2)));
            const int64_t *lengths = fb_data(fb_loader_lengths(l, "text"));
            const uint16_t *x = fb_data(text);
            for (int64_t i = 0; i < n; i++, seen++) {
                int64_t has = rows_of(index[i]) < width ? rows_of(index[i]) : width;
                assert_int_equal(lengths[i], has);
                for (int64_t k = 0; k < width; k++)
                    assert_int_equal(x[i * width + k], k < has ? 1000 * (index[i] % 60) + k : 0);
            }
        }
        check_ok(p->ctx);
        assert_int_equal(seen, TEXTS);
        assert_null(fb_loader_lengths(l, "target"));
        fb_loader_close(l);
    }
}

static void a_length_that_no_memory_has_is_told(void **state)
{
    place *p = *state;
    for (int i = 0; i < 2; i++) {
        assert_null(fb_loader_open(NULL, fb_dataset_open(p->ctx, p->path),
                                   FB_OPTS(fb_loader_options, .longest = INT64_MAX >> i)));
        check_error(p->ctx, FB_E_NOMEM, "no memory for batches of 32 samples");
    }
}

static void a_field_that_varies_is_scaled(void **state)
{
    place *p = *state;
    const fb_dataset_field field = {
        .name = "input", .dtype = FB_I16, .varies = true, .scale = 0.5, .shift = 1};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, &field, 1, NULL);
    const int16_t x[3] = {2, 4, -6};
    const int64_t n[2] = {1, 2};
    fb_dataset_append_rows(ds, 2, (const void *const[]){x}, (const int64_t *const[]){n});
    fb_dataset_finish(ds);
    fb_loader *l = fb_loader_open(NULL, fb_dataset_open(p->ctx, p->path),
                                  FB_OPTS(fb_loader_options, .global_batch = 2));
    fb_batch b;
    assert_true(fb_loader_epoch(l, 1) && fb_loader_next(l, &b));
    const float want[4] = {2, 1, 3, -2}; /* the shift is for what is padded, too */
    assert_memory_equal(fb_data(b.input), want, sizeof want);
}

/* --- labels and splits --- */

static void labels_come_back(void **state)
{
    place *p = *state;
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    for (int64_t i = 0; i < 3; i++)
        assert_string_equal(fb_dataset_label(ds, "target", i), colours[i]);
    assert_int_equal(fb_dataset_field_at(ds, 2).n_labels, 3);
    assert_null(fb_dataset_label(ds, "target", 3));
    assert_null(fb_dataset_label(ds, "target", -1));
    assert_null(fb_dataset_label(ds, "text", 0));
    assert_null(fb_dataset_label(ds, "sound", 0));
}

static void labels_that_are_no_text_are_refused(void **state)
{
    place *p = *state;
    const char *const bytes[] = {"\xff\xfe"};
    const fb_dataset_field field = {.name = "x", .dtype = FB_U8, .labels = bytes, .n_labels = 1};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, &field, 1, NULL);
    fb_dataset_append(ds, 1, (const void *const[]){""});
    assert_int_equal(fb_dataset_finish(ds), FB_E_ARG);
    check_error(p->ctx, FB_E_ARG, "labels and names of splits must be UTF-8 text");
}

/* Splits of a finished dataset: only the head is written again. */
static void split(place *p, const fb_dataset_split *splits, int n)
{
    fb_dataset *ds = fb_dataset_extend(p->ctx, p->path, NULL);
    fb_dataset_set_splits(ds, splits, n);
    fb_dataset_finish(ds);
    fb_dataset_close(ds);
}

static void splits_share_out_the_samples(void **state)
{
    place *p = *state;
    const fb_dataset_split splits[] = {
        {"train", 0, 40, 7, 0}, {"valid", 40, 17, 7, 0}, {"head", 0, 5, 0, 0}};
    split(p, splits, 3);
    check_ok(p->ctx);
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    check_texts(ds, TEXTS);
    assert_int_equal(fb_dataset_split_count(ds), 3);
    assert_string_equal(fb_dataset_split_at(ds, 1).name, "valid");
    assert_int_equal(fb_dataset_split_at(ds, 1).of, TEXTS);
    int seen[TEXTS] = {0}, moved = 0;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fb_dataset_select(ds, splits[i].name), FB_OK);
        assert_int_equal(fb_dataset_size(ds), splits[i].n);
        for (int64_t k = 0; k < splits[i].n; k++) {
            FB_SCOPE(p->ctx);
            const float *first = fb_data(fb_dataset_sample(ds, "path", k));
            int64_t which = fbi_dataset_place(ds, k);
            if (rows_of(which))
                assert_int_equal((int64_t)first[0], which);
            seen[which]++;
            moved += which != k;
        }
    }
    for (int i = 0; i < TEXTS; i++)
        assert_int_equal(seen[i], 1);
    assert_true(moved > TEXTS / 2);
    assert_int_equal(fb_dataset_select(ds, "head"), FB_OK);
    check_texts(ds, 5);
    assert_int_equal(fb_dataset_select(ds, NULL), FB_OK);
    check_texts(ds, TEXTS);
}

static void a_loader_sees_its_split_alone(void **state)
{
    place *p = *state;
    split(p, &(fb_dataset_split){"some", 10, 20, 5, 0}, 1);
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    fb_dataset_select(ds, "some");
    fb_loader *l = fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .global_batch = 20));
    fb_batch b;
    assert_true(fb_loader_epoch(l, 1) && fb_loader_next(l, &b));
    assert_int_equal(b.n, 20);
    const uint8_t *y = fb_data(b.target);
    for (int64_t i = 0; i < 20; i++)
        assert_int_equal(y[i], fbi_dataset_place(ds, i) % 3);
    assert_false(fb_loader_next(l, &b));
}

static void splits_that_make_no_sense_are_refused(void **state)
{
    place *p = *state;
    split(p, &(fb_dataset_split){"much", 50, 20, 1, 0}, 1);
    check_error(p->ctx, FB_E_ARG, "split much is 20 samples from 50 on, of 57: the dataset has 57");
    split(p, &(fb_dataset_split){"", 0, 1, 1, 0}, 1);
    check_error(p->ctx, FB_E_ARG, "split \"\": at most 16 splits with different names");
    split(p, (fb_dataset_split[]){{"a", 0, 1, 1, 0}, {"a", 1, 1, 1, 0}}, 2);
    check_error(p->ctx, FB_E_ARG, "split \"a\": at most 16 splits with different names");
    split(p, NULL, 2);
    check_error(p->ctx, FB_E_ARG, "2 splits, which are NULL");
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    check_texts(ds, TEXTS);
    assert_int_equal(fb_dataset_select(ds, "train"), FB_E_NOT_FOUND);
    check_error(p->ctx, FB_E_NOT_FOUND, "has no split train: its splits are: none");
    assert_int_equal(fb_dataset_set_splits(ds, NULL, 0), FB_E_STATE);
    check_error(p->ctx, FB_E_STATE, "is finished, or open for reading");
}

/* --- appending --- */

static int files_in(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void more_samples_are_appended_to_a_finished_dataset(void **state)
{
    place *p = *state;
    split(p, &(fb_dataset_split){"train", 0, 30, 9, 0}, 1);
    fb_dataset *before = fb_dataset_open(p->ctx, p->path);
    fb_dataset_select(before, "train");
    for (int times = 0; times < 2; times++) {
        fb_dataset *ds = fb_dataset_extend(p->ctx, p->path, NULL);
        check_ok(p->ctx);
        append_texts(ds, TEXTS + 10 * times, TEXTS + 10 * times + 10);
        assert_int_equal(fb_dataset_finish(ds), FB_OK);
    }
    assert_int_equal(files_in(p->folder), 1 + 3 + 2);
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    check_texts(ds, TEXTS + 20);
    assert_int_equal(fb_dataset_check(ds), FB_OK);
    assert_string_equal(fb_dataset_label(ds, "target", 1), "green");
    assert_int_equal(fb_dataset_select(ds, "train"), FB_OK); /* the same samples as ever */
    for (int64_t i = 0; i < 30; i++)
        assert_int_equal(fbi_dataset_place(ds, i), fbi_dataset_place(before, i));
}

static void appending_that_is_given_up_leaves_the_dataset_as_it_was(void **state)
{
    place *p = *state;
    fb_dataset *ds =
        fb_dataset_extend(p->ctx, p->path, FB_OPTS(fb_dataset_options, .shard_samples = 4));
    append_texts(ds, 0, 10);
    assert_int_equal(files_in(p->folder), 1 + 3 + 2);
    fb_dataset_close(ds);
    assert_int_equal(files_in(p->folder), 1 + 3);
    ds = fb_dataset_open(p->ctx, p->path);
    check_texts(ds, TEXTS);
    assert_null(fb_dataset_extend(p->ctx, "/nowhere/x.h5", NULL));
    check_error(p->ctx, FB_E_NOT_FOUND, "dataset /nowhere/x.h5: No such file");
}

/* --- damage --- */

static void flip(place *p, int shard, int64_t at)
{
    char path[512];
    shard_path(p->folder, shard, path);
    FILE *f = fopen(path, "r+b");
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 4, f);
    fclose(f);
}

static void damaged_samples_are_named(void **state)
{
    place *p = *state;
    enum { N = 40, WIDE = 1 << 14 }; /* four samples to a block */
    const fb_dataset_field fields[] = {{.name = "input", .dtype = FB_U8, .shape = FB_SHAPE(WIDE)},
                                       {.name = "text", .dtype = FB_U8, .varies = true}};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, fields, 2, NULL);
    uint8_t *x = calloc(1, WIDE);
    const int64_t n = WIDE;
    for (int i = 0; i < N; i++)
        fb_dataset_append_rows(ds, 1, (const void *const[]){x, x},
                               (const int64_t *const[]){NULL, &n});
    free(x);
    fb_dataset_finish(ds);
    ds = fb_dataset_open(p->ctx, p->path);
    check_ok(p->ctx);
    const fbi_place *input = &ds->shards[0].place[0], *text = &ds->shards[0].place[1];
    flip(p, 0, input->at + 10 * WIDE + 5);
    assert_int_equal(fb_dataset_check(ds), FB_E_IO);
    check_error(p->ctx, FB_E_IO, "field input is damaged within samples 8 to 11: copy it again");
    assert_null(fb_dataset_open(p->ctx, p->path)); /* small fields are looked at on opening */
    check_error(p->ctx, FB_E_IO,
                "cannot read field input: samples 8 to 11 do not have their checksum");
    flip(p, 0, input->at + 10 * WIDE + 5);
    flip(p, 0, text->at + 39 * WIDE);
    assert_int_equal(fb_dataset_check(ds), FB_E_IO);
    check_error(p->ctx, FB_E_IO, "field text is damaged within samples 36 to 39");
}

static void damaged_offsets_are_told(void **state)
{
    place *p = *state;
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    hold_nothing(ds);
    flip(p, 1, ds->shards[1].place[0].offsets + 5 * 8 + 6);
    assert_null(fb_dataset_sample(ds, "text", 25));
    check_error(p->ctx, FB_E_IO, "its offsets are damaged");
}

static void a_longest_sample_that_cannot_be_is_told(void **state)
{
    place *p = *state;
    hid_t file = H5Fopen(p->path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t group = H5Gopen2(file, "text", H5P_DEFAULT);
    hid_t attr = H5Aopen(group, "longest", H5P_DEFAULT);
    int64_t longest = INT64_MAX;
    assert_true(H5Awrite(attr, H5T_NATIVE_INT64, &longest) >= 0);
    H5Aclose(attr);
    H5Gclose(group);
    H5Fclose(file);
    assert_null(fb_dataset_open(p->ctx, p->path));
    check_error(p->ctx, FB_E_IO, "field text: its longest sample has 9223372036854775807 rows");
}

/* --- formats of old: they are read for ever --- */

static void unpack_format(place *p, int format)
{
    char command[512];
    snprintf(command, sizeof command, "tar -C '%s' -xzf '%s/tests/io/formats/dataset-%d.tar.gz'",
             p->folder, getenv("FLAMBEAU_SOURCE"), format);
    assert_int_equal(system(command), 0);
    snprintf(p->path, sizeof p->path, "%s/old.h5", p->folder);
}

static void check_format_1(place *p, int64_t size)
{
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    check_ok(p->ctx);
    assert_int_equal(fb_dataset_size(ds), size);
    assert_int_equal(fb_dataset_check(ds), FB_OK);
    fb_dataset_field f = fb_dataset_field_at(ds, 0);
    assert_true(f.scale == 0.5 && f.shift == -1 && fb_shape_equal(f.deliver, FB_SHAPE(1, 2, 3)));
    const char targets[] = {3, 1, 4, 1, 5, 9};
    for (int64_t i = 0; i < size; i++) {
        FB_SCOPE(p->ctx);
        const uint8_t *x = fb_data(fb_dataset_sample(ds, "input", i));
        for (int k = 0; k < 6; k++)
            assert_int_equal(x[k], 6 * i + k);
        assert_int_equal(fb_item_int(fb_dataset_sample(ds, "target", i)), targets[i]);
    }
    fb_dataset_close(ds);
}

static void format_1_is_read_and_extended(void **state)
{
    place *p = *state;
    unpack_format(p, 1);
    check_format_1(p, 5);
    fb_dataset *ds = fb_dataset_extend(p->ctx, p->path, NULL);
    const uint8_t x[6] = {30, 31, 32, 33, 34, 35}, y = 9;
    fb_dataset_append(ds, 1, (const void *const[]){x, &y});
    assert_int_equal(fb_dataset_finish(ds), FB_OK);
    check_format_1(p, 6);
}

static void format_2_is_read(void **state)
{
    place *p = *state;
    unpack_format(p, 2);
    fb_dataset *ds = fb_dataset_open(p->ctx, p->path);
    check_ok(p->ctx);
    assert_int_equal(fb_dataset_check(ds), FB_OK);
    check_texts(ds, 12);
    assert_string_equal(fb_dataset_label(ds, "target", 2), colours[2]);
    assert_int_equal(fb_dataset_select(ds, "train"), FB_OK);
    const int64_t order[] = {7, 1, 4, 11, 5, 2, 3, 6, 0};
    for (int64_t i = 0; i < 9; i++)
        assert_int_equal(fbi_dataset_place(ds, i), order[i]);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        CASE(samples_of_any_length_come_back_as_they_were),
        CASE(shards_are_as_large_as_asked_for),
        CASE(a_dataset_of_empty_samples_can_be_read),
        CASE(senseless_samples_are_refused),
        CASE(batches_are_padded_with_zeros_and_long_samples_are_cut),
        CASE(a_length_that_no_memory_has_is_told),
        CASE(a_field_that_varies_is_scaled),
        CASE(labels_come_back),
        CASE(labels_that_are_no_text_are_refused),
        CASE(splits_share_out_the_samples),
        CASE(a_loader_sees_its_split_alone),
        CASE(splits_that_make_no_sense_are_refused),
        CASE(more_samples_are_appended_to_a_finished_dataset),
        CASE(appending_that_is_given_up_leaves_the_dataset_as_it_was),
        CASE(damaged_samples_are_named),
        CASE(damaged_offsets_are_told),
        CASE(a_longest_sample_that_cannot_be_is_told),
        CASE(format_1_is_read_and_extended),
        CASE(format_2_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
