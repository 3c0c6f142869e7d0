/* ranks: 3 4 */
/* labels: cudasim */
/* Sums in fixed order between simulated cards: the bits of one host that adds everything up. */
#include "tests/check.h"

#include <flambeau/comm/world.h>
#include <flambeau/core/ops/create.h>

#include "comm/reduce_priv.h"
#include "comm/work_priv.h"
#include "core/base/half.h"
#include "core/ops/backend.h"
#include "tests/comm/linked.h"

/* Odd, so that ranks have several pieces, and more of them than a card joins at once. */
enum { SHARDS = 29, MOST = 5000 };

static fb_world *world;
static fb_context *ctx;
static fb_group *all;

static void fill(fb_dtype dtype, int piece, int64_t n, void *out)
{
    uint64_t seed = (uint64_t)piece * 77777 + 1;
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        float v = (float)((double)(seed >> 40) / (1 << 20) - 8) * (float)(1 << (seed >> 8 & 7));
        if (dtype == FB_F32)
            ((float *)out)[i] = v;
        else if (dtype == FB_F64)
            ((double *)out)[i] = (double)v / 3;
        else if (dtype == FB_F16)
            ((uint16_t *)out)[i] = fbi_f32_to_f16(v);
        else
            ((uint16_t *)out)[i] = fbi_f32_to_bf16(v);
    }
}

/* Which pieces there are: bit k of `absent` takes piece k away. */
static void one_sum(fb_dtype dtype, fb_dtype out_dtype, int64_t n, uint64_t absent)
{
    FB_SCOPE(ctx);
    const fbi_layout *l = all->leaves;
    size_t size = fb_dtype_size(dtype);
    char *host = malloc((size_t)l->n * MOST * size), *want = malloc((size_t)n * sizeof(double));
    const void **operands = calloc((size_t)l->n, sizeof *operands);
    uint32_t *present = calloc((size_t)l->ranks, sizeof *present);
    fb_tensor *dst = fb_empty(ctx, out_dtype, FB_SHAPE(n));
    fbi_task task = {.kind = FBI_KIND_GRADIENTS,
                     .op = FB_SUM,
                     .dtype = dtype,
                     .out_dtype = out_dtype,
                     .count = n,
                     .layout = l,
                     .dst = fbi_ptr(dst),
                     .on_device = true};
    for (int r = 0; r < l->ranks; r++)
        for (int k = l->first[r]; k < l->first[r + 1]; k++) {
            char *piece = host + (size_t)k * MOST * size;
            operands[k] = piece;
            fill(dtype, k, n, piece);
            bool there = !(absent >> k & 1);
            if (there)
                present[r] |= 1u << (k - l->first[r]);
            if (r == all->rank)
                task.src[task.n_src++] =
                    there ? fbi_ptr(fb_from(ctx, dtype, FB_SHAPE(n), piece)) : NULL;
        }
    int16_t program[2 * SHARDS];
    int length = fbi_layout_program(l, present, program);
    fbi_reduce(FB_SUM, dtype, out_dtype, program, length, operands, want, n);
    assert_int_equal(fbi_work_run(all, &task), FB_OK);
    assert_memory_equal(check_data(dst), want, (size_t)n * fb_dtype_size(out_dtype));
    free(host);
    free(want);
    free(operands);
    free(present);
}

static void all_dtypes(int64_t n, uint64_t absent)
{
    static const fb_dtype dtypes[][2] = {{FB_F32, FB_F32},   {FB_F64, FB_F64}, {FB_F16, FB_F16},
                                         {FB_BF16, FB_BF16}, {FB_F32, FB_F16}, {FB_F32, FB_BF16}};
    for (size_t d = 0; d < 6; d++)
        one_sum(dtypes[d][0], dtypes[d][1], n, absent);
}

static void there_are_more_pieces_than_a_card_joins_at_once(void **state)
{
    (void)state;
    assert_non_null(all->link);
    assert_true(all->leaves->n > FBI_LINK_OPERANDS);
}

static void sums_have_the_bits_of_one_host(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 63, 1000, MOST};
    for (int i = 0; i < 4; i++)
        all_dtypes(lengths[i], 0);
}

static void pieces_may_be_absent(void **state)
{
    (void)state;
    uint64_t others = 0;
    for (int k = all->leaves->first[1]; k < all->leaves->first[2]; k++)
        others |= 1ull << k;
    all_dtypes(1000, 0x5);     /* some */
    all_dtypes(1000, others);  /* all of rank 1 */
    all_dtypes(1000, ~0ull);   /* all: zeros */
    all_dtypes(1000, ~others); /* all but those of rank 1 */
}

static void many_rounds_give_the_same_bits(void **state)
{
    (void)state;
    int64_t room = world->link_room;
    world->link_room = 20000;
    all_dtypes(MOST, 0x12);
    world->link_room = room;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_are_more_pieces_than_a_card_joins_at_once),
        cmocka_unit_test(sums_have_the_bits_of_one_host),
        cmocka_unit_test(pieces_may_be_absent),
        cmocka_unit_test(many_rounds_give_the_same_bits),
    };
    int code = linked_world(&argc, &argv, FB_OPTS(fb_world_options, .shards = SHARDS), &world);
    if (code)
        return code;
    ctx = fb_world_context(world);
    all = fb_world_group(world);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) != FB_OK || failed;
}
