/* Beside the compute queue: batches that come on their own, copies between contexts, statistics. */

#include <dlfcn.h>

#include <flambeau/flambeau.h>

#include "core/tensor/alloc_priv.h"
#include "io/loader_priv.h"
#include "tests/check.h"

enum { SAMPLES = 41, WIDTH = 7 };

static fb_context *open_card(void)
{
    fb_context *ctx = fb_context_open(NULL); /* FLAMBEAU_DEVICE says which */
    assert_non_null(ctx);
    assert_string_equal(fb_context_device(ctx), "cudasim:0");
    return ctx;
}

/* --- batches --- */

/* The same small number as every dtype stores it. */
static void put(fb_dtype dtype, void *out, int64_t i, int value)
{
    static const uint16_t f16[3] = {0, 0x3c00, 0x4000}, bf16[3] = {0, 0x3f80, 0x4000};
    switch (dtype) {
    case FB_F32:
        ((float *)out)[i] = (float)value / 3;
        break;
    case FB_F64:
        ((double *)out)[i] = (double)value / 3;
        break;
    case FB_F16:
        ((uint16_t *)out)[i] = f16[value % 3];
        break;
    case FB_BF16:
        ((uint16_t *)out)[i] = bf16[value % 3];
        break;
    case FB_I32:
        ((int32_t *)out)[i] = value;
        break;
    case FB_I64:
        ((int64_t *)out)[i] = value;
        break;
    case FB_I16:
    case FB_U16:
        ((int16_t *)out)[i] = (int16_t)value;
        break;
    default:
        ((uint8_t *)out)[i] = (uint8_t)(dtype == FB_BOOL ? value % 2 : value % 100);
    }
}

static int make_sample(void *user, int64_t index, void *const *out)
{
    for (int k = 0; k < WIDTH; k++)
        for (int f = 0; f < 2; f++)
            put(*(fb_dtype *)user, out[f], k, (int)index * WIDTH + k);
    return 0;
}

static fb_loader *open_loader(fb_context *ctx, fb_dtype *dtype)
{
    fb_dataset_field fields[] = {{.name = "input",
                                  .dtype = *dtype,
                                  .shape = FB_SHAPE(WIDTH),
                                  .scale = 1. / 255,
                                  .shift = -.1},
                                 {.name = "target", .dtype = *dtype, .shape = FB_SHAPE(WIDTH)}};
    return fb_loader_open(
        NULL, fb_dataset_custom(ctx, SAMPLES, fields, 2, make_sample, dtype),
        FB_OPTS(fb_loader_options, .global_batch = 8, .micro_batch = 3, .shuffle = true));
}

static void batches_have_the_bits_of_those_on_the_cpu(void **state)
{
    (void)state;
    for (int d = FB_F32; d < FB_DTYPE_COUNT; d++) {
        fb_context *host = check_open(1), *card = open_card();
        fb_dtype dtype = (fb_dtype)d;
        fb_loader *a = open_loader(host, &dtype), *b = open_loader(card, &dtype);
        fb_batch x, y;
        for (int64_t epoch = 1; epoch <= 2; epoch++) {
            assert_true(fb_loader_epoch(a, epoch) && fb_loader_epoch(b, epoch));
            while (fb_loader_next(a, &x)) {
                float want[3 * WIDTH], got[3 * WIDTH];
                char stored[2][3 * WIDTH * 8];
                assert_true(fb_loader_next(b, &y));
                assert_int_equal(x.n, y.n);
                assert_int_equal(fb_dtype_of(y.input), FB_F32);
                assert_int_equal(fb_dtype_of(y.target), d);
                size_t bytes = (size_t)fb_numel(x.input) * sizeof(float);
                fb_read(x.input, want, bytes);
                fb_read(y.input, got, bytes);
                assert_memory_equal(want, got, bytes);
                bytes = (size_t)fb_numel(x.target) * fb_dtype_size(dtype);
                fb_read(x.target, stored[0], bytes);
                fb_read(y.target, stored[1], bytes);
                assert_memory_equal(stored[0], stored[1], bytes);
            }
            assert_false(fb_loader_next(b, &y));
        }
        check_close(card);
        check_close(host);
    }
}

static void the_next_batch_is_on_its_way_when_one_is_given(void **state)
{
    (void)state;
    fb_context *ctx = open_card();
    fb_dtype dtype = FB_F32;
    fb_loader *l = open_loader(ctx, &dtype);
    fb_batch b;
    assert_true(fb_loader_epoch(l, 1));
    for (int i = 0; i < 4; i++) {
        assert_non_null(fbi_prefetch_take(l, i ? 2 : 1, true)); /* the thread has it */
        assert_true(fb_loader_next(l, &b));
        assert_non_null(l->ahead.slot);
        assert_int_equal(l->ahead.fields[0]->queue, FBI_QUEUE_COPY);
    }
    check_close(ctx);
}

static void a_batch_may_be_held_and_the_loader_rewound_or_closed(void **state)
{
    (void)state;
    fb_context *ctx = open_card();
    fb_dtype dtype = FB_I32;
    fb_loader *l = open_loader(ctx, &dtype);
    fb_tensor *first = NULL;
    int32_t before[3 * WIDTH], after[3 * WIDTH];
    fb_batch b;
    fb_loader_rewind(l);
    assert_true(fb_loader_next(l, &b));
    fb_set(&first, b.target);
    fb_read(first, before, sizeof before);
    for (int i = 0; i < 3; i++)
        assert_true(fb_loader_next(l, &b));
    fb_read(first, after, sizeof after);
    assert_memory_equal(before, after, sizeof after);
    fb_loader_rewind(l);
    assert_true(fb_loader_next(l, &b));
    fb_read(b.target, after, sizeof after);
    assert_memory_equal(before, after, sizeof after);
    assert_true(fb_loader_next(l, &b));
    fb_loader_close(l);
    fb_set(&first, NULL);
    check_close(ctx);
}

static void batches_do_not_pile_up(void **state)
{
    (void)state;
    fb_context *ctx = open_card();
    fb_dtype dtype = FB_F32;
    fb_loader *l = open_loader(ctx, &dtype);
    fb_memory_stats s;
    fb_batch b;
    size_t most = 0;
    for (int64_t epoch = 1; epoch <= 3; epoch++) {
        assert_true(fb_loader_epoch(l, epoch));
        while (fb_loader_next(l, &b)) {
            assert_int_equal(fb_memory_stats_of(ctx, &s), FB_OK);
            most = s.in_use > most ? s.in_use : most;
        }
    }
    assert_true(most <= 4 * 3 * WIDTH * sizeof(float)); /* two fields, now and ahead */
    check_close(ctx);
}

/* As on a card, where blocks are kept: those of the copy queue come back to it. */
static void a_steady_loop_over_batches_asks_the_card_for_nothing(void **state)
{
    (void)state;
    fb_context *ctx = open_card();
    fbi_alloc_exact(ctx, false);
    fb_dtype dtype = FB_U8;
    fb_loader *l = open_loader(ctx, &dtype);
    fb_tensor *one = fb_ones(ctx, FB_F32, FB_SHAPE(1));
    fb_memory_stats first = {0}, s;
    fb_batch b;
    for (int64_t epoch = 1; epoch <= 4; epoch++) {
        assert_true(fb_loader_epoch(l, epoch));
        do {
            FB_SCOPE(ctx);
            fbi_prefetch_take(l, 2, true); /* as far ahead as may be */
            assert_non_null(fb_mul_scalar(fb_loader_next(l, &b) ? b.input : one, 2));
        } while (b.input);
        assert_int_equal(fb_memory_stats_of(ctx, &s), FB_OK);
        if (epoch == 2)
            first = s;
    }
    assert_int_equal(s.system_allocations, first.system_allocations);
    assert_int_equal(s.reserved, first.reserved);
    fb_loader_close(l);
    fb_memory_trim(ctx);
    assert_int_equal(fb_memory_stats_of(ctx, &s), FB_OK);
    assert_int_equal(s.reserved, fbi_block_bytes(sizeof(float)));
    check_close(ctx);
}

/* The host may wait for the slot that it fills again, of the batch before, and for nothing else:
 * each is on its way before the step that uses it has been computed. */
static void a_step_waits_for_no_batch(void **state)
{
    (void)state;
    fb_context *ctx = open_card();
    fb_dtype dtype = FB_I64;
    fb_loader *l = open_loader(ctx, &dtype);
    fb_module *model = fb_nn_linear(ctx, WIDTH, 3, NULL);
    fb_optimizer *opt = fb_optim_adam(ctx, model, NULL);
    fb_batch b;
    uint64_t batches = 0, first = 0;
    for (int64_t epoch = 1; epoch <= 3; epoch++) {
        assert_true(fb_loader_epoch(l, epoch));
        while (fb_loader_next(l, &b)) {
            FB_SCOPE(ctx);
            fb_tensor *y = fb_nn_forward(model, b.input);
            assert_int_equal(fb_backward(fb_mean(fb_mul(y, y), FB_ALL, false)), FB_OK);
            assert_int_equal(fb_optim_step(opt), FB_OK);
            if (++batches == 1) /* tables and plans are made in the first step */
                first = ctx->host_waits;
        }
    }
    assert_true(batches >= 3 * SAMPLES / 3);
    assert_true(ctx->host_waits - first <= batches);
    check_close(ctx);
}

/* --- between contexts --- */

static void values_go_to_another_device_and_back(void **state)
{
    (void)state;
    fb_context *host = check_open(1), *card = open_card();
    float x[6] = {1, 2, 3, 4, 5, 6}, turned[6];
    fb_tensor *a = fb_transpose(fb_from(host, FB_F32, FB_SHAPE(2, 3), x), 0, 1);
    fb_tensor *b = fb_to_device(a, card);
    assert_string_equal(fb_device_of(b), "cudasim:0");
    assert_ptr_equal(fb_to_device(b, card), b);
    fb_tensor *c = fb_to_device(fb_transpose(fb_mul_scalar(b, 2), 0, 1), host);
    assert_string_equal(fb_device_of(c), "cpu");
    fb_read(c, turned, sizeof turned);
    for (int i = 0; i < 6; i++)
        assert_true(turned[i] == 2 * x[i]);
    assert_int_equal(fb_numel(fb_to_device(fb_zeros(host, FB_F32, FB_SHAPE(0)), card)), 0);
    check_close(card);
    check_close(host);
}

/* y = x^4 with the square of x in one context and the square of that in another. */
static void carry_a_gradient(fb_context *near, fb_context *far)
{
    float x[3] = {1, -2, 0.5F}, g[3];
    fb_tensor *leaf = fb_requires_grad(fb_from(near, FB_F32, FB_SHAPE(3), x), true);
    fb_tensor *t = fb_mul(leaf, leaf);
    fb_tensor *copy = fb_requires_grad(fb_to_device(t, far), true);
    assert_int_equal(fb_backward(fb_sum(fb_mul(copy, copy), FB_ALL, false)), FB_OK);
    assert_null(fb_grad_of(leaf)); /* nothing flows back by itself */
    fb_tensor *grad = fb_to_device(fb_grad_of(copy), near);
    assert_int_equal(fb_backward_with(t, FB_OPTS(fb_backward_options, .grad = grad)), FB_OK);
    assert_int_equal(fb_read(fb_grad_of(leaf), g, sizeof g), FB_OK);
    for (int i = 0; i < 3; i++)
        assert_true(g[i] == 4 * x[i] * x[i] * x[i]);
}

static void a_gradient_is_carried_across_by_hand(void **state)
{
    (void)state;
    fb_context *host = check_open(1), *card = open_card();
    carry_a_gradient(host, card);
    carry_a_gradient(card, host);
    check_close(card);
    check_close(host);
}

static void a_copy_that_fails_is_an_error_of_both(void **state)
{
    (void)state;
    fb_context *host = check_open(1), *card = open_card();
    fb_tensor *a = fb_ones(card, FB_F32, FB_SHAPE(3));
    assert_null(fb_to_device(a, NULL));
    assert_null(fb_to_device(NULL, host));
    check_error(host, FB_E_ARG, "to_device: no values came");
    fb_fail(card, FB_E_USER, "as if the card had failed");
    assert_null(fb_to_device(a, host));
    check_error(host, FB_E_USER, "to_device: no values came from cudasim:0: as if the card");
    check_error(card, FB_E_USER, "as if");
    check_close(card);
    check_close(host);
}

/* --- statistics --- */

static void statistics_know_the_card_and_pinned_memory(void **state)
{
    (void)state;
    fb_context *ctx = open_card(), *host = check_open(1);
    fb_memory_stats before, after;
    assert_int_equal(fb_memory_stats_of(ctx, &before), FB_OK);
    assert_int_equal(before.device_total, (size_t)1 << 30);
    assert_true(before.pinned > 0);
    assert_non_null(fb_zeros(ctx, FB_F32, FB_SHAPE(1 << 20)));
    fb_dtype dtype = FB_F32;
    fb_loader *l = open_loader(ctx, &dtype);
    assert_int_equal(fb_memory_stats_of(ctx, &after), FB_OK);
    assert_int_equal(before.device_free - after.device_free, 4 << 20);
    assert_int_equal(after.pinned - before.pinned, 4 * 2 * 3 * WIDTH * sizeof(float));
    fb_loader_close(l);
    assert_int_equal(fb_memory_stats_of(ctx, &after), FB_OK);
    assert_int_equal(after.pinned, before.pinned);
    assert_int_equal(fb_memory_stats_of(host, &after), FB_OK);
    assert_int_equal(after.device_total, 0);
    check_close(host);
    check_close(ctx);
}

static void what_is_cached_is_given_back_before_giving_up(void **state)
{
    (void)state;
    fb_context *ctx = open_card();
    fb_memory_stats before, after;
    fbi_alloc_exact(ctx, false);
    fb_drop(fb_empty(ctx, FB_F32, FB_SHAPE(192 << 20))); /* of a card of 1 GiB */
    assert_int_equal(fb_memory_stats_of(ctx, &before), FB_OK);
    assert_true(before.reserved >= (size_t)768 << 20 && before.in_use == 0);
    assert_non_null(fb_empty(ctx, FB_F32, FB_SHAPE(160 << 20)));
    assert_int_equal(fb_memory_stats_of(ctx, &after), FB_OK);
    assert_int_equal(after.reserved, (size_t)640 << 20);
    assert_int_equal(after.reserved_peak, before.reserved);
    assert_int_equal(after.retries - before.retries, 1);
    assert_int_equal(after.failures, 0);
    assert_null(fb_empty(ctx, FB_F32, FB_SHAPE(160 << 20)));
    check_error(ctx, FB_E_NOMEM, "640.0 MiB wanted");
    assert_int_equal(fb_memory_stats_of(ctx, &after), FB_OK);
    assert_int_equal(after.failures, 1);
    check_close(ctx);
}

/* What the simulator still counts: allocations, streams, events. */
static int left_on_the_card(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/libflambeau_cudasim.so", getenv("FLAMBEAU_PLUGINS"));
    void *plugin = dlopen(path, RTLD_NOW | RTLD_NOLOAD), *symbol;
    assert_non_null(plugin);
    symbol = dlsym(plugin, "cudasim_live");
    int (*live)(void) = NULL;
    assert_non_null(symbol);
    memcpy(&live, &symbol, sizeof symbol);
    dlclose(plugin);
    return live();
}

static void a_closed_context_leaves_nothing_on_the_card(void **state)
{
    (void)state;
    fb_context *ctx = open_card();
    fb_dtype dtype = FB_U8;
    fb_loader *l = open_loader(ctx, &dtype);
    fb_batch b;
    assert_true(fb_loader_epoch(l, 1) && fb_loader_next(l, &b) && fb_loader_next(l, &b));
    assert_true(left_on_the_card() > 0);
    check_close(ctx);
    assert_int_equal(left_on_the_card(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_have_the_bits_of_those_on_the_cpu),
        cmocka_unit_test(the_next_batch_is_on_its_way_when_one_is_given),
        cmocka_unit_test(a_batch_may_be_held_and_the_loader_rewound_or_closed),
        cmocka_unit_test(batches_do_not_pile_up),
        cmocka_unit_test(a_steady_loop_over_batches_asks_the_card_for_nothing),
        cmocka_unit_test(a_step_waits_for_no_batch),
        cmocka_unit_test(values_go_to_another_device_and_back),
        cmocka_unit_test(a_gradient_is_carried_across_by_hand),
        cmocka_unit_test(a_copy_that_fails_is_an_error_of_both),
        cmocka_unit_test(statistics_know_the_card_and_pinned_memory),
        cmocka_unit_test(what_is_cached_is_given_back_before_giving_up),
        cmocka_unit_test(a_closed_context_leaves_nothing_on_the_card),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
