/* The caching allocator: classes, reuse, statistics, trimming, running out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <flambeau/core/tensor/tensor.h>

#include "core/tensor/alloc_priv.h"

static int open_context(void **state)
{
    *state = fb_context_open(NULL);
    return *state ? 0 : -1;
}

static int close_context(void **state)
{
    return fb_context_close(*state) == FB_OK ? 0 : -1;
}

static fb_memory_stats stats(fb_context *ctx)
{
    fb_memory_stats s;
    assert_int_equal(fb_memory_stats_of(ctx, &s), FB_OK);
    return s;
}

static void a_block_wastes_at_most_an_eighth(void **state)
{
    (void)state;
    for (size_t bytes = 1; bytes < (size_t)1 << 39; bytes += 1 + bytes / 37) {
        size_t block = fbi_block_bytes(bytes);
        assert_true(block >= bytes && block % 64 == 0);
        assert_true(bytes <= 512 ? block < bytes + 64 : (block - bytes) * 8 < block);
        assert_int_equal(fbi_block_bytes(block), block);
        assert_true(fbi_block_bytes(block + 1) > block);
    }
    assert_int_equal(fbi_block_bytes((size_t)1 << 60), 0);
}

static void a_steady_loop_asks_the_system_once(void **state)
{
    fb_context *ctx = *state;
    int64_t calls = 0;
    for (int i = 0; i < 50; i++) {
        FB_SCOPE(ctx);
        for (int64_t n = 1; n < 100000; n *= 3) {
            fb_tensor *t = fbi_empty(ctx, FB_F32, FB_SHAPE(n));
            assert_int_equal((uintptr_t)t->storage->data % (n > 1024 ? 256 : 64), 0);
            memset(t->storage->data, 1, t->storage->bytes);
        }
        if (i == 0)
            calls = stats(ctx).system_allocations;
    }
    assert_int_equal(stats(ctx).system_allocations, calls);
    assert_int_equal(stats(ctx).in_use, 0);
}

/* Bytes in huge pages of the mapping that has p; -1: it cannot be told. */
static long huge_bytes(const void *p)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512];
    bool here = false;
    long kb = -1;
    while (f && kb < 0 && fgets(line, sizeof line, f)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = from <= (uintptr_t)p && (uintptr_t)p < to;
        else if (here)
            sscanf(line, "AnonHugePages: %ld kB", &kb);
    }
    if (f)
        fclose(f);
    return kb < 0 ? kb : kb * 1024;
}

/* Whether this system makes huge pages of pages that are in use. */
static bool pages_can_be_joined(void)
{
    enum { BYTES = 8 << 20, COLLAPSE = 25 };
    char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    memset(p, 1, BYTES);
    char *whole = p + (-(uintptr_t)p & (BYTES / 4 - 1));
    bool can = !madvise(whole, BYTES / 4, COLLAPSE) && huge_bytes(whole) > 0;
    munmap(p, BYTES);
    return can;
}

static void a_block_that_a_loop_uses_has_huge_pages_and_its_values(void **state)
{
    enum { BYTES = 64 << 20, USES = 6 };
    fb_context *ctx = *state;
    const void *before = NULL;
    for (int use = 0; use < USES; use++) {
        FB_SCOPE(ctx);
        fb_tensor *t = fbi_empty(ctx, FB_U8, FB_SHAPE(BYTES));
        unsigned char *data = t->storage->data;
        assert_true(use == 0 || data == before);
        for (size_t i = 0; use && i < BYTES; i += 4096 - 64)
            assert_int_equal(data[i], (unsigned char)(i / 64 + (size_t)use - 1));
        for (size_t i = 0; i < BYTES; i += 4096 - 64)
            data[i] = (unsigned char)(i / 64 + (size_t)use);
        before = data;
    }
    if (!pages_can_be_joined()) {
        print_message("no huge pages on this system: only values were compared\n");
        return;
    }
    assert_true(huge_bytes(before) > 0);
}

static void statistics_count_bytes_and_blocks(void **state)
{
    fb_context *ctx = *state;
    fb_scope s = fb_scope_begin(ctx);
    assert_non_null(fbi_empty(ctx, FB_F32, FB_SHAPE(100)));
    assert_non_null(fbi_empty(ctx, FB_F64, FB_SHAPE(1000)));
    fb_memory_stats m = stats(ctx);
    assert_int_equal(m.in_use, 8400);
    assert_int_equal(m.peak, 8400);
    assert_int_equal(m.blocks, 2);
    assert_int_equal(m.handles, 2);
    assert_true(m.reserved >= 8400);
    assert_int_equal(m.reserved_peak, m.reserved);
    fb_scope_end(&s);
    m = stats(ctx);
    assert_int_equal(m.in_use, 0);
    assert_int_equal(m.peak, 8400);
    assert_int_equal(m.blocks, 0);
    fb_memory_reset_peak(ctx);
    assert_int_equal(stats(ctx).peak, 0);
    assert_true(stats(ctx).reserved > 0);
    fb_memory_trim(ctx);
    assert_int_equal(stats(ctx).reserved, 0);
    assert_int_equal(stats(ctx).reserved_peak, m.reserved);
    fb_memory_reset_peak(ctx);
    assert_int_equal(stats(ctx).reserved_peak, 0);
}

static void running_out_says_what_was_wanted_and_leaves_the_context_usable(void **state)
{
    fb_context *ctx = *state;
    assert_non_null(fbi_empty(ctx, FB_F32, FB_SHAPE(10)));
    fb_memory_stats before = stats(ctx);
    fbi_alloc_fail_at(ctx, 2);
    assert_non_null(fbi_empty(ctx, FB_F32, FB_SHAPE(10)));
    assert_null(fbi_empty(ctx, FB_F32, FB_SHAPE(1000)));
    char msg[1024];
    assert_int_equal(fb_error_take(ctx, msg, sizeof msg), FB_E_NOMEM);
    assert_non_null(
        strstr(msg, "memory: 4000 bytes wanted on cpu: 80 bytes in tensors (80 bytes of "
                    "open scopes), largest 40 bytes F32 [10], 40 bytes F32 [10], peak 80 bytes"));
    assert_int_equal(stats(ctx).blocks, before.blocks + 1);
    assert_int_equal(stats(ctx).failures, before.failures + 1);
    assert_non_null(fbi_empty(ctx, FB_F32, FB_SHAPE(1000)));
}

static void running_out_names_the_largest_tensors(void **state)
{
    fb_context *ctx = *state;
    char msg[1024];
    fb_tensor *big = fbi_empty(ctx, FB_F32, FB_SHAPE(700, 1000));
    assert_non_null(
        fbi_view(big, FB_SHAPE(1000, 700), FB_SHAPE(700, 1), 0)); /* no memory of its own */
    fb_tensor *pieces = fbi_empty(ctx, FB_BF16, FB_SHAPE(3, 100, 2));
    fbi_empty(ctx, FB_F32, FB_SHAPE(10));
    fbi_empty(ctx, FB_I64, FB_SHAPE(20, 20));
    assert_non_null(pieces);
    fbi_alloc_fail_at(ctx, 1);
    assert_null(fbi_empty(ctx, FB_F32, FB_SHAPE(1000)));
    assert_int_equal(fb_error_take(ctx, msg, sizeof msg), FB_E_NOMEM);
    if (!strstr(msg, ", largest 2.7 MiB F32 [700, 1000], 3200 bytes I64 [20, 20], 1200 bytes BF16 "
                     "[3, 100, 2], peak "))
        fail_msg("%s", msg);
}

static void more_than_the_machine_has_is_an_error_and_no_crash(void **state)
{
    fb_context *ctx = *state;
    assert_null(fbi_empty(ctx, FB_F32, FB_SHAPE((int64_t)1 << 45)));
    assert_int_equal(fb_error_take(ctx, NULL, 0), FB_E_NOMEM);
    assert_int_equal(stats(ctx).in_use, 0);
}

static void a_freed_handle_rests_before_it_is_used_again(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *t = fbi_empty(ctx, FB_F32, FB_SCALAR);
    fb_drop(t);
    for (int i = 0; i < 200; i++) {
        fb_tensor *u = fbi_empty(ctx, FB_F32, FB_SCALAR);
        assert_ptr_not_equal(t, u);
        fb_drop(u);
    }
    assert_true(fb_ok(ctx));
}

static void nodes_of_every_size_are_zeroed_and_reused(void **state)
{
    fb_context *ctx = *state;
    for (size_t bytes = 64; bytes < 200000; bytes = bytes * 2 + 8) {
        unsigned char *a = fbi_slab_node(ctx, bytes);
        memset(a, 255, bytes);
        fbi_slab_node_free(ctx, a, bytes);
        unsigned char *b = fbi_slab_node(ctx, bytes);
        for (size_t i = 0; i < bytes; i++)
            assert_int_equal(b[i], 0);
        fbi_slab_node_free(ctx, b, bytes);
    }
    assert_int_equal(stats(ctx).nodes, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_wastes_at_most_an_eighth),
        TEST(a_steady_loop_asks_the_system_once),
        TEST(a_block_that_a_loop_uses_has_huge_pages_and_its_values),
        TEST(statistics_count_bytes_and_blocks),
        TEST(running_out_says_what_was_wanted_and_leaves_the_context_usable),
        TEST(running_out_names_the_largest_tensors),
        TEST(more_than_the_machine_has_is_an_error_and_no_crash),
        TEST(a_freed_handle_rests_before_it_is_used_again),
        TEST(nodes_of_every_size_are_zeroed_and_reused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
