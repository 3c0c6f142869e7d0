/* ranks: 2 4
 * timeout: 300
 * One model, one batch after the other, on 1, 2, ... ranks: the same bits everywhere. */
#include <flambeau/comm/collective.h>
#include <flambeau/comm/mpi.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/parallel/ddp.h>

#include "tests/check.h"

enum { IN = 12, OUT = 5, STEPS = 8 };

/* With batch norm: whole leaves of two samples or more. Without: micro-batches, and empty leaves.
 */
typedef struct recipe {
    bool norm, sums; /* sums: losses are sums, with a count */
    int64_t micro;
    int totals[STEPS];
    fb_optimizer *(*optimizer)(fb_context *ctx, fb_module *m);
} recipe;

static fb_optimizer *adam(fb_context *ctx, fb_module *m)
{
    return fb_optim_adam(ctx, m, FB_OPTS(fb_adam_options, .lr = 1e-2));
}

static fb_optimizer *nadam(fb_context *ctx, fb_module *m)
{
    return fb_optim_nadam(ctx, m, FB_OPTS(fb_nadam_options, .lr = 1e-2));
}

/* Made of operators. */
static fb_optimizer *adafactor(fb_context *ctx, fb_module *m)
{
    return fb_optim_adafactor(ctx, m, NULL);
}

/* Both. */
static fb_optimizer *muon(fb_context *ctx, fb_module *m)
{
    return fb_optim_muon(ctx, m, FB_OPTS(fb_muon_options, .lr = 1e-2));
}

static const recipe recipes[] = {
    {true, false, 64, {40, 40, 13, 29, 12, 40, 17, 31}, adam},
    {false, false, 3, {40, 40, 11, 29, 3, 40, 1, 17}, adam},
    {false, true, 3, {40, 40, 11, 29, 3, 40, 1, 17}, adam},
    {false, false, 64, {40, 40, 11, 29, 3, 40, 1, 17}, nadam},
    {false, true, 64, {40, 40, 11, 29, 3, 40, 1, 17}, adafactor},
    {true, false, 64, {40, 40, 13, 29, 12, 40, 17, 31}, muon},
};

typedef struct digest {
    uint64_t parameters, buffers, norms;
    double loss;
} digest;

static uint64_t mix(uint64_t h, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static fb_status add_bits(const char *name, fb_tensor *t, void *user)
{
    (void)name;
    uint64_t *h = user;
    *h = mix(*h, check_data(t), (size_t)fb_numel(t) * fb_dtype_size(fb_dtype_of(t)));
    return FB_OK;
}

static fb_module *build(fb_context *ctx, bool norm)
{
    fb_module *middle =
        norm ? fb_nn_batch_norm1d(ctx, 16, NULL) : fb_nn_layer_norm(ctx, FB_SHAPE(16), NULL);
    return fb_nn_sequential(ctx, fb_nn_linear(ctx, IN, 16, NULL), middle, fb_nn_relu(ctx),
                            fb_nn_dropout(ctx, 0.3), fb_nn_linear(ctx, 16, OUT, NULL));
}

/* Samples begin .. begin + n of a step: every rank can make any of them. */
static void make_samples(int step, int64_t begin, int64_t n, float *x, int64_t *y)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t s = (uint64_t)(step * 1000 + begin + i) * 0x9E3779B97F4A7C15u + 7;
        for (int k = 0; k < IN; k++) {
            s ^= s >> 29;
            s *= 0xBF58476D1CE4E5B9u;
            x[i * IN + k] = (float)(int32_t)(s >> 32) * 0x1p-30f;
        }
        y[i] = (int64_t)(s >> 40) % OUT;
    }
}

/* A micro-batch: forward and backward of samples of one leaf. */
static double micro_batch(fb_context *ctx, fb_module *m, fb_optimizer *opt, const fb_batch_info *at,
                          int64_t begin, int64_t n, bool sum)
{
    FB_SCOPE(ctx);
    float x[64 * IN];
    int64_t y[64];
    make_samples((int)at->step, begin, n, x, y);
    fb_context_batch(ctx, at);
    fb_tensor *loss = fb_cross_entropy(
        fb_nn_forward(m, fb_from(ctx, FB_F32, FB_SHAPE(n, IN), x)),
        fb_from(ctx, FB_I64, FB_SHAPE(n), y),
        FB_OPTS(fb_cross_entropy_options, .reduction = sum ? FB_LOSS_SUM : FB_LOSS_MEAN));
    fb_backward_with(loss, FB_OPTS(fb_backward_options,
                                   .count = sum ? fb_from(ctx, FB_I64, FB_SCALAR, &n) : NULL));
    fb_optim_step(opt);
    return fb_item(loss) * at->share;
}

/* Leaves of a batch of `total`, some of them empty if there are more leaves than samples. */
static void step_of(fb_world *world, fb_module *m, fb_optimizer *opt, int step, const recipe *how)
{
    int total = how->totals[step];
    fb_context *ctx = fb_world_context(world);
    fb_group *all = fb_world_group(world);
    int64_t shards = fb_group_shards(all), size = fb_group_size(all), rank = fb_group_rank(all);
    int64_t first = rank * shards / size, end = (rank + 1) * shards / size;
    for (int64_t leaf = first; leaf < end; leaf++) {
        int64_t begin = total * leaf / shards, n = total * (leaf + 1) / shards - begin;
        for (int64_t done = 0; done == 0 || done < n; done += how->micro) {
            int64_t take = n - done < how->micro ? n - done : how->micro;
            fb_batch_info at = {.step = step,
                                .shard = leaf,
                                .first = leaf == first && done == 0,
                                .last = leaf == end - 1 && done + how->micro >= n,
                                .share = (double)take / total};
            micro_batch(ctx, m, opt, &at, begin + done, take ? take : 1, how->sums);
        }
    }
}

/* Train on the first `ranks` ranks with a number of shards; rank 0's digest. */
static digest train(MPI_Comm comm, int ranks, int shards, int64_t bucket, const recipe *how)
{
    int rank;
    MPI_Comm part;
    digest d = {.parameters = 1, .buffers = 1, .norms = 1};
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_split(comm, rank < ranks ? 0 : MPI_UNDEFINED, rank, &part);
    if (part == MPI_COMM_NULL)
        return d;
    fb_world *world = fb_world_open_comm(part, FB_OPTS(fb_world_options, .shards = shards));
    fb_context *ctx = fb_world_context(world);
    fb_module *m = build(ctx, how->norm);
    fb_optimizer *opt = how->optimizer(ctx, m);
    fb_optim_clip_norm(opt, 0.5);
    fb_ddp_attach(fb_world_group(world), m, FB_OPTS(fb_ddp_options, .bucket_bytes = bucket));
    for (int step = 0; step < STEPS; step++) {
        step_of(world, m, opt, step, how);
        double norm = fb_optim_grad_norm(opt);
        d.norms = mix(d.norms, &norm, sizeof norm);
    }
    check_ok(ctx);
    fb_nn_each_param(m, add_bits, &d.parameters);
    fb_nn_each_buffer(m, add_bits, &d.buffers);
    assert_int_equal(fb_world_close(world), FB_OK);
    MPI_Comm_free(&part);
    return d;
}

static void check_recipe(int shards, const recipe *how)
{
    int size, rank;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    digest one = train(MPI_COMM_WORLD, 1, shards, 0, how);
    for (int ranks = 2; ranks <= size; ranks++) {
        digest d = train(MPI_COMM_WORLD, ranks, shards, ranks == 3 ? 300 : 0, how);
        if (rank)
            continue;
        if (d.norms != one.norms)
            fail_msg("%d shards: norms on %d ranks differ from one rank's", shards, ranks);
        if (d.parameters != one.parameters)
            fail_msg("%d shards: parameters on %d ranks differ from one rank's", shards, ranks);
        if (d.buffers != one.buffers)
            fail_msg("%d shards: running statistics on %d ranks differ from one rank's", shards,
                     ranks);
    }
}

static void check_ranks(int shards)
{
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++)
        check_recipe(shards, &recipes[i]);
}

static void four_shards_give_one_digest_on_any_number_of_ranks(void **state)
{
    (void)state;
    check_ranks(4);
}

static void six_shards_give_one_digest_on_any_number_of_ranks(void **state)
{
    (void)state;
    check_ranks(6);
}

static void another_number_of_shards_gives_another_digest(void **state)
{
    (void)state;
    digest four = train(MPI_COMM_WORLD, 2, 4, 0, recipes);
    digest six = train(MPI_COMM_WORLD, 2, 6, 0, recipes);
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    assert_true(rank || four.parameters != six.parameters);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_shards_give_one_digest_on_any_number_of_ranks),
        cmocka_unit_test(six_shards_give_one_digest_on_any_number_of_ranks),
        cmocka_unit_test(another_number_of_shards_gives_another_digest),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    setenv("FLAMBEAU_RANKS_PER_NODE", "2", 1); /* messages between nodes, sums in stages */
    failed += cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
