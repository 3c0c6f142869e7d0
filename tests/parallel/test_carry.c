/* The stack of subtrees: any number of leaves, some absent, of every float dtype. */
#include "tests/check.h"

#include <flambeau/core/ops/create.h>

#include "comm/reduce_priv.h"
#include "core/base/half.h"
#include "core/tensor/device_priv.h"
#include "parallel/ddp_priv.h"

enum { N = 33 };

static fb_context *ctx;

static float draw(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    int e = (int)(*seed >> 20 & 15);
    return (float)(int32_t)(*seed >> 32) * 0x1p-31f * (float)(1 << e);
}

static void put(fb_dtype dtype, float x, void *data, int i)
{
    if (dtype == FB_F32)
        ((float *)data)[i] = x;
    else if (dtype == FB_F16)
        ((uint16_t *)data)[i] = fbi_f32_to_f16(x);
    else
        ((uint16_t *)data)[i] = fbi_f32_to_bf16(x);
}

/* Sum of leaves [first, end) by the carry stack and the layout's program; all on one rank. */
static void sum_by_carry(fb_dtype dtype, fb_dtype acc, int shards, uint64_t absent, void *out)
{
    FB_SCOPE(ctx);
    fbi_carry c = {.ctx = ctx, .dtype = dtype, .acc = acc, .n = N};
    fb_tensor *flat = fb_empty(ctx, dtype, FB_SHAPE(N)), *sum = fb_empty(ctx, dtype, FB_SHAPE(N));
    fbi_layout *l = fbi_layout_new(shards, 1);
    uint64_t seed = 3;
    char data[N * sizeof(float)];
    for (int leaf = 0; leaf < shards; leaf++) {
        for (int i = 0; i < N; i++)
            put(dtype, draw(&seed), data, i);
        bool there = !(absent >> leaf & 1);
        fb_write(flat, data, N * fb_dtype_size(dtype));
        assert_int_equal(fbi_carry_push(&c, leaf, there ? fbi_ptr(flat) : NULL, leaf == shards - 1),
                         FB_OK);
    }
    assert_int_equal(c.depth, l->n);
    fbi_task task = {0};
    fbi_carry_sources(&c, &task);
    uint32_t present = 0;
    for (int i = 0; i < task.n_src; i++)
        present |= (uint32_t)(task.src[i] != NULL) << i;
    int16_t program[2 * FBI_MAX_PIECES];
    int n = fbi_layout_program(l, &present, program);
    fbi_combine(ctx, FB_SUM, acc, dtype, program, n, task.src, fbi_ptr(sum), N);
    fb_read(sum, out, N * fb_dtype_size(dtype));
    check_ok(ctx);
    fbi_carry_close(&c);
    fbi_layout_free(l);
}

/* The same with every leaf a piece of its own, as if each were on its own rank. */
static void sum_by_ranks(fb_dtype dtype, int shards, uint64_t absent, void *out)
{
    static char data[64][N * sizeof(float)];
    fbi_layout *l = fbi_layout_new(shards, shards);
    uint64_t seed = 3;
    uint32_t present[64];
    const void *src[64];
    for (int leaf = 0; leaf < shards; leaf++) {
        for (int i = 0; i < N; i++)
            put(dtype, draw(&seed), data[leaf], i);
        present[leaf] = !(absent >> leaf & 1);
        src[leaf] = data[leaf];
    }
    int16_t program[128];
    int n = fbi_layout_program(l, present, program);
    fbi_reduce(FB_SUM, dtype, dtype, program, n, src, out, N);
    fbi_layout_free(l);
}

static void compare(fb_dtype dtype, fb_dtype acc)
{
    for (int shards = 1; shards <= 20; shards++)
        for (uint64_t absent = 0; absent < 4; absent++) {
            uint64_t mask = absent * 0x5a5a5 % (1ull << shards);
            char one[N * sizeof(float)], many[N * sizeof(float)];
            sum_by_carry(dtype, acc, shards, mask, one);
            sum_by_ranks(dtype, shards, mask, many);
            if (memcmp(one, many, N * fb_dtype_size(dtype)) != 0)
                fail_msg("%s, %d shards, absent %llx: other bits", fb_dtype_name(dtype), shards,
                         (unsigned long long)mask);
        }
}

static void leaves_of_one_rank_add_up_like_those_of_many(void **state)
{
    (void)state;
    compare(FB_F32, FB_F32);
}

static void halves_are_added_in_float_and_rounded_once(void **state)
{
    (void)state;
    compare(FB_F16, FB_F32);
    compare(FB_BF16, FB_F32);
}

static void a_cleared_stack_serves_again_without_new_memory(void **state)
{
    (void)state;
    fbi_carry c = {.ctx = ctx, .dtype = FB_F32, .acc = FB_F32, .n = N};
    fb_tensor *ones = fb_ones(ctx, FB_F32, FB_SHAPE(N));
    int spare = 0;
    for (int step = 0; step < 3; step++) {
        for (int leaf = 0; leaf < 7; leaf++)
            assert_int_equal(fbi_carry_push(&c, leaf, fbi_ptr(ones), leaf == 6), FB_OK);
        float sum[N] = {0};
        assert_int_equal(ctx->backend->copy_out(ctx, sum, c.stack[0].data, sizeof sum), FB_OK);
        assert_true(sum[0] == 4 && sum[N - 1] == 4);
        fbi_carry_clear(&c);
        assert_true(step == 0 || c.spare == spare);
        spare = c.spare;
    }
    fbi_carry_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_of_one_rank_add_up_like_those_of_many),
        cmocka_unit_test(halves_are_added_in_float_and_rounded_once),
        cmocka_unit_test(a_cleared_stack_serves_again_without_new_memory),
    };
    ctx = fb_context_open(NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_context_close(ctx) || failed;
}
