/* ranks: 1 2 3 4 */
/* Transforms on any number of ranks: each sample has the bits that one process gives it. */
#include "tests/io/transform_test_priv.h"

#include <flambeau/comm/world.h>

enum { ROW = 3 * 6 * 6 };

static fb_transforms list_of(fb_context *ctx, fb_transform *out[3], int64_t size)
{
    out[0] = fb_transform_random_crop(ctx, size, size, NULL);
    out[1] = fb_transform_random_horizontal_flip(ctx, 0.5);
    out[2] = fb_transform_mixup(ctx, 5, NULL);
    return (fb_transforms){out, 3};
}

static void collect(fb_loader *l, float out[2][N][ROW], bool seen[2][N])
{
    fb_batch b;
    while (fb_loader_epoch(l, 2))
        while (fb_loader_next(l, &b)) {
            int64_t n;
            const int64_t *index = fb_loader_indices(l, &n);
            const float *x = fb_data(b.input);
            for (int64_t i = 0; i < n; i++) {
                memcpy(out[b.at.epoch][index[i]], x + i * ROW, ROW * sizeof *x);
                seen[b.at.epoch][index[i]] = true;
            }
        }
}

static fb_world *world;

static void a_rank_makes_the_bits_of_one_process(void **state)
{
    (void)state;
    static float mine[2][N][ROW], alone[2][N][ROW];
    static bool seen[2][N], all[2][N];
    fb_context *ctx = fb_world_context(world), *own = check_open(1);
    fb_transform *t[3], *u[3];
    fb_loader *l = fb_loader_open(fb_world_group(world), pictures(ctx),
                                  FB_OPTS(fb_loader_options, .global_batch = 12, .shuffle = true,
                                          .seed = 4, .transforms = list_of(ctx, t, 6)));
    fb_loader *reference = fb_loader_open(
        NULL, pictures(own),
        FB_OPTS(fb_loader_options, .global_batch = 7, .seed = 4, .transforms = list_of(own, u, 6)));
    collect(l, mine, seen);
    collect(reference, alone, all);
    int64_t n = 0;
    for (int e = 0; e < 2; e++)
        for (int i = 0; i < N; i++) {
            assert_true(all[e][i]);
            n += seen[e][i];
            if (seen[e][i])
                assert_memory_equal(mine[e][i], alone[e][i], sizeof mine[e][i]);
        }
    assert_true(n >= 2 * N / fb_world_size(world) - 6);
    check_ok(ctx);
    fb_loader_close(l);
    check_close(own);
}

static void ranks_with_other_transforms_are_told(void **state)
{
    (void)state;
    if (fb_world_size(world) == 1)
        return;
    fb_context *ctx = fb_world_context(world);
    fb_transform *t[3];
    int64_t size = fb_world_rank(world) == 1 ? 5 : 6;
    assert_null(fb_loader_open(fb_world_group(world), pictures(ctx),
                               FB_OPTS(fb_loader_options, .transforms = list_of(ctx, t, size))));
    check_error(ctx, FB_E_ARG, "do not have the same transforms");
}

static void a_transform_that_fits_on_some_ranks_only_is_an_error_of_all(void **state)
{
    (void)state;
    fb_context *ctx = fb_world_context(world);
    fb_transform *t[3];
    int64_t size = fb_world_rank(world) == fb_world_size(world) - 1 ? 99 : 6;
    assert_null(fb_loader_open(fb_world_group(world), pictures(ctx),
                               FB_OPTS(fb_loader_options, .transforms = list_of(ctx, t, size))));
    check_error(ctx, FB_E_SHAPE, "99 x 99 is asked for, the padded image is 9 x 7");
}

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    if (!world)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_makes_the_bits_of_one_process),
        cmocka_unit_test(ranks_with_other_transforms_are_told),
        cmocka_unit_test(a_transform_that_fits_on_some_ranks_only_is_an_error_of_all),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
