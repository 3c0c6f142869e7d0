/* ranks: 1
 * timeout: 400
 * Files with a byte changed, or cut off, anywhere: a message, or the values that were saved. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <flambeau/comm/world.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/io/checkpoint.h>

#include "io/dataset_priv.h"
#include "tests/io/forgets_priv.h"
#include "tests/io/io_test_priv.h"

static fb_world *world;
static fb_context *ctx;
static char folder[64];

static int set_up(void **unused)
{
    (void)unused;
    make_folder(folder);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    remove_folder(folder);
    return 0;
}

/* --- a file, changed and mended again --- */

typedef struct victim {
    char path[512];
    unsigned char *bytes;
    size_t n;
} victim;

static victim take(const char *path)
{
    victim v = {0};
    snprintf(v.path, sizeof v.path, "%s", path);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    v.n = (size_t)ftell(f);
    rewind(f);
    v.bytes = malloc(v.n + 1);
    assert_non_null(v.bytes);
    assert_int_equal(fread(v.bytes, 1, v.n, f), v.n);
    fclose(f);
    return v;
}

static void put_byte(const victim *v, size_t at, unsigned char byte)
{
    int fd = open(v->path, O_WRONLY);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

/* The first n bytes as they were. */
static void put_head(const victim *v, size_t n)
{
    FILE *f = fopen(v->path, "wb");
    assert_int_equal(fwrite(v->bytes, 1, n, f), n);
    fclose(f);
}

/* What reads the file: true if it gave the values of the whole file, false with an error set. */
typedef bool (*reads_fn)(void);

enum { EACH = -1 };

/* Flip a bit of every byte that is not zero, and of every 1009th; each time another bit. At least
 * `least` flips must be noticed, or EACH. */
static void flip_everywhere(const char *path, reads_fn reads, int least)
{
    assert_true(reads());
    victim v = take(path);
    int noticed = 0, flips = 0;
    for (size_t at = 0; at < v.n; at += 1) {
        if ((!v.bytes[at] || at % 5) && at % 1009)
            continue;
        put_byte(&v, at, (unsigned char)(v.bytes[at] ^ (1 << flips % 8)));
        bool same = reads();
        char text[1024] = "";
        fb_status st = fb_error_take(ctx, text, sizeof text);
        if (same == (st != FB_OK) || (!same && !strstr(text, folder)))
            fail_msg("%s: byte %zu: %s", path, at, same ? text : "other values, or a poor message");
        noticed += !same;
        flips++;
        put_byte(&v, at, v.bytes[at]);
    }
    print_message("%s: %zu bytes, %d flips, %d noticed\n", path, v.n, flips, noticed);
    assert_true(noticed >= (least == EACH ? flips : least));
    assert_true(reads());
    free(v.bytes);
}

/* Cut to many lengths: a message, and always one below `least` bytes. HDF5 pads files, so that a
 * cut at the end may be harmless where only HDF5 looks. */
static void cut_everywhere(const char *path, reads_fn reads, size_t least)
{
    victim v = take(path);
    for (size_t n = 0; n < v.n; n += 1 + v.n / 101) {
        put_head(&v, n);
        bool same = reads();
        char text[1024] = "";
        fb_status st = fb_error_take(ctx, text, sizeof text);
        if (same ? n < least : st == FB_OK || !strstr(text, folder))
            fail_msg("%s cut to %zu of %zu bytes: \"%s\"", path, n, v.n, text);
    }
    put_head(&v, v.n);
    assert_true(reads());
    free(v.bytes);
}

/* --- checkpoints --- */

static fb_state *state;
static char path[128], want[17];
static int64_t step;
static double rate;

static void make_checkpoint(void)
{
    fb_module *m =
        fb_nn_sequential(ctx, fb_nn_linear(ctx, 5, 8, NULL), fb_nn_linear(ctx, 8, 2, NULL));
    state = fb_state_open(ctx);
    step = 3;
    rate = 0.1;
    fb_state_add(state, "model", m);
    fb_state_add(state, "optimizer", fb_optim_adam(ctx, m, NULL));
    fb_state_add(state, "step", &step);
    fb_state_add(state, "rate", &rate);
    assert_int_equal(fb_checkpoint_save(world, folder, state), FB_OK);
    check_ok(ctx);
    fb_state_digest(state, want);
    snprintf(path, sizeof path, "%s/step-000000000", folder);
}

/* Load over other values. */
static bool checkpoint_reads(void)
{
    step = 99;
    rate = 99;
    if (fb_checkpoint_load(world, path, state))
        return false;
    char found[17];
    fb_state_digest(state, found);
    assert_string_equal(found, want);
    return true;
}

static const char *inside(const char *name)
{
    static char full[256];
    snprintf(full, sizeof full, "%s/%s", path, name);
    return full;
}

/* The same, after every file has been compared with its checksums. */
static bool checkpoint_is_whole(void)
{
    char text[512];
    if (fb_checkpoint_verify(path, text, sizeof text))
        return checkpoint_reads();
    fb_fail(ctx, FB_E_IO, "%s: %s", path, text);
    return false;
}

static void a_flip_in_a_checkpoints_data_is_a_message_or_harmless(void **unused)
{
    (void)unused;
    make_checkpoint();
    flip_everywhere(inside("data.h5"), checkpoint_reads, 40);
    flip_everywhere(inside("data.h5"), checkpoint_is_whole, EACH);
}

static void a_flip_in_the_index_is_a_message(void **unused)
{
    (void)unused;
    make_checkpoint();
    flip_everywhere(inside("index.h5"), checkpoint_reads, EACH);
}

static void a_flip_in_a_manifest_is_a_message_or_harmless(void **unused)
{
    (void)unused;
    make_checkpoint();
    flip_everywhere(inside("manifest.json"), checkpoint_reads, 300);
}

static void a_checkpoint_that_is_cut_off_is_a_message(void **unused)
{
    (void)unused;
    make_checkpoint();
    cut_everywhere(inside("data.h5"), checkpoint_reads, SIZE_MAX);
    cut_everywhere(inside("manifest.json"), checkpoint_reads, SIZE_MAX);
}

/* --- datasets --- */

/* Open, check, and compare every sample with what make_dataset wrote. */
static bool read_dataset(bool check)
{
    char head[128], text[256] = "";
    snprintf(head, sizeof head, "%s/train.h5", folder);
    fb_dataset *ds = fb_dataset_open(ctx, head);
    if (!ds)
        return false;
    fb_dataset_field f = fb_dataset_field_at(ds, 0), g = fb_dataset_field_at(ds, 1);
    assert_int_equal(fb_dataset_field_count(ds), 2);
    assert_true(f.scale == 0.5 && f.shift == -1 && f.dtype == FB_U8 && g.dtype == FB_I32);
    assert_true(fb_shape_equal(f.deliver, FB_SHAPE(2, 3)));
    assert_int_equal(fb_dataset_size(ds), SAMPLES);
    if (check && fb_dataset_check(ds)) {
        fb_dataset_close(ds);
        return false;
    }
    for (int64_t i = 0; i < SAMPLES; i++) {
        uint8_t x[WIDTH];
        int32_t y;
        assert_int_equal(fbi_dataset_fetch(ds, i, (void *const[]){x, &y}, NULL, text, sizeof text),
                         FB_OK);
        assert_int_equal(y, 3 * i);
        for (int k = 0; k < WIDTH; k++)
            assert_int_equal(x[k], (uint8_t)(i + k));
    }
    fb_dataset_close(ds);
    return true;
}

/* Opening reads the structure only; the values are checked by "flambeau data check". */
static bool dataset_opens(void)
{
    return read_dataset(false);
}
static bool dataset_is_whole(void)
{
    return read_dataset(true);
}

static char *made_dataset(void)
{
    static char head[128];
    snprintf(head, sizeof head, "%s/train.h5", folder);
    make_dataset(ctx, head);
    return head;
}

static void a_flip_in_a_datasets_head_is_a_message_or_harmless(void **unused)
{
    (void)unused;
    flip_everywhere(made_dataset(), dataset_opens, 100);
}

static void a_flip_in_a_shard_is_a_message_or_harmless(void **unused)
{
    (void)unused;
    made_dataset();
    char shard[512];
    shard_path(folder, 1, shard);
    flip_everywhere(shard, dataset_is_whole, 100);
}

static void a_dataset_that_is_cut_off_is_a_message(void **unused)
{
    (void)unused;
    char shard[512];
    cut_everywhere(made_dataset(), dataset_opens, 5000);
    shard_path(folder, 2, shard);
    cut_everywhere(shard, dataset_opens, SIZE_MAX);
}

static void a_head_that_names_a_shard_outside_is_refused(void **unused)
{
    (void)unused;
    victim v = take(made_dataset());
    char shard[512];
    shard_path(folder, 0, shard);
    const char *name = strrchr(shard, '/') + 1;
    unsigned char *at = memmem(v.bytes, v.n, "\"shards\"", 8);
    assert_non_null(at);
    at = memmem(at, v.n - (size_t)(at - v.bytes), name, strlen(name));
    assert_non_null(at);
    memcpy(at, "../", 3);
    enum { SEAL = 32 }; /* who forges a head leaves its checksum out */
    put_head(&v, v.n - SEAL);
    assert_false(dataset_opens());
    check_error(ctx, FB_E_IO, "lies outside the dataset's folder: refused");
    free(v.bytes);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(a_flip_in_a_checkpoints_data_is_a_message_or_harmless),
        CASE(a_flip_in_the_index_is_a_message),
        CASE(a_flip_in_a_manifest_is_a_message_or_harmless),
        CASE(a_checkpoint_that_is_cut_off_is_a_message),
        CASE(a_flip_in_a_datasets_head_is_a_message_or_harmless),
        CASE(a_flip_in_a_shard_is_a_message_or_harmless),
        CASE(a_dataset_that_is_cut_off_is_a_message),
        CASE(a_head_that_names_a_shard_outside_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
