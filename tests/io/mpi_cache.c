/* ranks: 1 2 4
 * Shards are read from the shared disk once in a job, whatever the number of ranks and nodes. */
#include <fcntl.h>
#include <sys/stat.h>

#include <flambeau/comm/world.h>

#include "comm/group_priv.h"
#include "io/cache_priv.h"
#include "io/loader_priv.h"
#include "tests/io/io_test_priv.h"

enum { ROWS = 600, BYTES = 4096, A_SHARD = 100, SHARDS_MADE = 6 }; /* 2.4 MB */

static fb_world *world;
static fb_group *all;
static fb_context *ctx;
static int rank, size;
static char folder[64], path[128], cache[128]; /* the same on every rank */

static void make_large(void)
{
    static uint8_t row[BYTES];
    const fb_dataset_field field = {.name = "input", .dtype = FB_U8, .shape = FB_SHAPE(BYTES)};
    fb_dataset *ds = fb_dataset_create(ctx, path, &field, 1,
                                       FB_OPTS(fb_dataset_options, .shard_samples = A_SHARD));
    for (int i = 0; i < ROWS; i++) {
        for (int k = 0; k < BYTES; k++)
            row[k] = (uint8_t)(i * 7 + k);
        fb_dataset_append(ds, 1, (const void *const[]){row});
    }
    fb_dataset_finish(ds);
    fb_dataset_close(ds);
    check_ok(ctx);
}

static int set_up(void **unused)
{
    (void)unused;
    if (rank == 0)
        make_folder(folder);
    fb_status st = fbi_group_broadcast(all, "test", folder, sizeof folder, 0);
    snprintf(path, sizeof path, "%s/d.h5", folder);
    snprintf(cache, sizeof cache, "%s/cache", folder);
    if (rank == 0)
        make_large();
    return st || fb_world_barrier(world);
}

static int tear_down(void **unused)
{
    (void)unused;
    assert_int_equal(fb_world_barrier(world), FB_OK);
    if (rank == 0)
        remove_folder(folder);
    return 0;
}

/* As if its field were too large to be held in memory. */
static fb_dataset *open_large(void)
{
    fb_dataset *ds = fb_dataset_open_shared(all, path);
    check_ok(ctx);
    for (int s = 0; s < ds->n_shards; s++) {
        free(ds->shards[s].held[0]);
        ds->shards[s].held[0] = NULL;
    }
    return ds;
}

static fb_loader *open_cached(fb_dataset *ds)
{
    return fb_loader_open(
        all, ds, FB_OPTS(fb_loader_options, .global_batch = 8, .shuffle = true, .cache = cache));
}

/* Bytes that this process has asked of read, pread and their like. */
static int64_t bytes_read(void)
{
    long long n = -1;
    FILE *f = fopen("/proc/self/io", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "rchar: %lld", &n), 1);
    fclose(f);
    return n;
}

static int64_t sum(int64_t mine)
{
    int64_t each[16], total = 0;
    assert_int_equal(fbi_group_gather(all, "test", &mine, sizeof mine, each), FB_OK);
    for (int r = 0; r < size; r++)
        total += each[r];
    return total;
}

static void check_epoch(fb_loader *l)
{
    fb_batch b;
    int64_t seen = 0;
    fb_loader_rewind(l);
    while (fb_loader_next(l, &b)) {
        FB_SCOPE(ctx);
        int64_t n;
        const int64_t *index = fb_loader_indices(l, &n);
        const uint8_t *x = fb_data(b.input);
        for (int64_t i = 0; i < n; i++, seen++)
            for (int k = 0; k < BYTES; k++)
                assert_int_equal(x[i * BYTES + k], (uint8_t)(index[i] * 7 + k));
    }
    check_ok(ctx);
    assert_int_equal(sum(seen), ROWS);
}

static void overwrite_shards(void)
{
    for (int s = 0; rank == 0 && s < SHARDS_MADE; s++) {
        char file[512];
        struct stat info;
        shard_path(folder, s, file);
        assert_int_equal(stat(file, &info), 0);
        int fd = open(file, O_WRONLY | O_TRUNC);
        assert_int_equal(ftruncate(fd, info.st_size), 0);
        close(fd);
    }
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

static void every_shard_is_read_once_in_the_job(void **unused)
{
    (void)unused;
    fb_dataset *ds = open_large();
    int64_t all_bytes = 0;
    for (int s = 0; s < ds->n_shards; s++)
        all_bytes += ds->shards[s].bytes;
    int64_t before = bytes_read();
    fb_loader *l = open_cached(ds);
    check_ok(ctx);
    int64_t read = sum(bytes_read() - before);
    assert_true(read >= all_bytes && read < all_bytes + all_bytes / 4);
    assert_true(ds->cache && ds->cache->fd >= 0);
    overwrite_shards();
    check_epoch(l);
    fb_loader_close(l);
    fb_dataset_close(ds);
}

static void a_shard_that_is_damaged_is_told_to_all(void **unused)
{
    (void)unused;
    fb_dataset *ds = open_large();
    overwrite_shards();
    assert_null(open_cached(ds));
    check_error(ctx, FB_E_IO, "has checksum");
    assert_null(ds->cache);
    fb_dataset_close(ds);
}

static void a_shard_that_cannot_be_read_is_told_to_all(void **unused)
{
    (void)unused;
    fb_dataset *ds = open_large();
    if (rank == 0) {
        char file[512];
        shard_path(folder, SHARDS_MADE - 1, file);
        assert_int_equal(truncate(file, 100), 0);
    }
    assert_int_equal(fb_world_barrier(world), FB_OK);
    assert_null(open_cached(ds));
    check_error(ctx, FB_E_IO, /* rank 0 has it open already; of four, rank 2 is to read it */
                size < 4 ? "-00005.h5: cannot read it: the file ends too early"
                         : "-00005.h5: is 100 bytes, the head says");
    fb_dataset_close(ds);
}

static void a_node_without_room_reads_the_shards_and_others_their_copies(void **unused)
{
    (void)unused;
    fb_dataset *ds = open_large();
    if (size < 4 ? rank == size - 1 : rank >= 2) /* of four the second node */
        snprintf(cache, sizeof cache, "/proc/nowhere");
    char same[128];
    snprintf(same, sizeof same, "%s", cache);
    fb_status st = fbi_cache_stage(all, ds, same, 0);
    assert_int_equal(st, FB_OK);
    fb_loader *l = fb_loader_open(all, ds, FB_OPTS(fb_loader_options, .global_batch = 8));
    check_epoch(l);
    fb_loader_close(l);
    fb_dataset_close(ds);
}

static void ranks_with_other_folders_are_told(void **unused)
{
    (void)unused;
    if (size == 1)
        return;
    fb_dataset *ds = open_large();
    if (rank == 1)
        snprintf(cache, sizeof cache, "%s/other", folder);
    assert_null(open_cached(ds));
    check_error(ctx, FB_E_ARG, "do not have the same cache");
    fb_dataset_close(ds);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv)
{
    setenv("FLAMBEAU_RANKS_PER_NODE", "2", 0); /* of four ranks two to a node */
    world = fb_world_open(&argc, &argv);
    all = fb_world_group(world);
    ctx = fb_world_context(world);
    rank = fb_world_rank(world);
    size = fb_world_size(world);
    const struct CMUnitTest tests[] = {
        TEST(every_shard_is_read_once_in_the_job),
        TEST(a_shard_that_is_damaged_is_told_to_all),
        TEST(a_shard_that_cannot_be_read_is_told_to_all),
        TEST(a_node_without_room_reads_the_shards_and_others_their_copies),
        TEST(ranks_with_other_folders_are_told),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
