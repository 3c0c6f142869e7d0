/* A cache of keys and values against attention over everything at once; the choice of tokens
 * against probabilities computed here. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/generate.h>
#include <flambeau/core/ops/attention.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>
#include <math.h>

#include "core/tensor/context_priv.h"

enum { LAYERS = 2, BATCH = 2, HEADS = 2, QUERY_HEADS = 4, LONGEST = 70, DIM = 4 };

static double distance(fb_tensor *a, fb_tensor *b)
{
    return fb_item(fb_max(fb_abs(fb_sub(a, b))));
}

static fb_tensor *tokens(fb_tensor *t, int64_t from, int64_t n)
{
    return fb_narrow(t, 2, from, n);
}

/* Everything in pieces of these sizes is as everything at once. */
static void pieces_attend_as_the_whole(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    const int64_t pieces[] = {5, 1, 1, 3, 53, 1, 1, 1, 4};
    fb_tensor *q = fb_randn(ctx, FB_F32, FB_SHAPE(BATCH, QUERY_HEADS, LONGEST, DIM));
    fb_tensor *k[LAYERS], *v[LAYERS], *want[LAYERS];
    fb_sdpa_options causal = {.causal = true, .enable_gqa = true};
    for (int l = 0; l < LAYERS; l++) {
        k[l] = fb_randn(ctx, FB_F32, FB_SHAPE(BATCH, HEADS, LONGEST, DIM));
        v[l] = fb_randn(ctx, FB_F32, FB_SHAPE(BATCH, HEADS, LONGEST, DIM));
        want[l] = fb_scaled_dot_product_attention(q, k[l], v[l], &causal);
    }
    fb_kv_cache *cache = fb_kv_cache_open(ctx, LAYERS, BATCH, HEADS, LONGEST, DIM, 0);
    for (int round = 0; round < 2; round++) { /* what was there before a reset does not matter */
        for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
            FB_SCOPE(ctx);
            int64_t at = fb_kv_cache_length(cache), n = pieces[p];
            for (int l = 0; l < LAYERS; l++) {
                fb_tensor *y = fb_kv_cache_attend(cache, l, tokens(q, at, n), tokens(k[l], at, n),
                                                  tokens(v[l], at, n));
                check_ok(ctx);
                assert_true(distance(y, tokens(want[l], at, n)) < 1e-5);
            }
            assert_int_equal(fb_kv_cache_advance(cache, n), FB_OK);
        }
        assert_int_equal(fb_kv_cache_length(cache), LONGEST);
        fb_kv_cache_reset(cache);
        assert_int_equal(fb_kv_cache_length(cache), 0);
    }
    fb_kv_cache_close(cache);
    fb_kv_cache_close(NULL);
    check_close(ctx);
}

/* Taking the last tokens back; a smaller dtype; sequences that change places. */
static void tokens_are_given_up_and_sequences_change_places(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *q = fb_randn(ctx, FB_F32, FB_SHAPE(BATCH, HEADS, 4, DIM));
    fb_tensor *k = fb_randn(ctx, FB_F32, FB_SHAPE(BATCH, HEADS, 4, DIM));
    fb_kv_cache *cache = fb_kv_cache_open(ctx, 1, BATCH, HEADS, 8, DIM, FB_BF16);
    assert_non_null(
        fb_kv_cache_attend(cache, 0, tokens(q, 0, 3), tokens(k, 0, 3), tokens(k, 0, 3)));
    assert_int_equal(fb_kv_cache_advance(cache, 3), FB_OK);
    assert_int_equal(fb_kv_cache_advance(cache, -1), FB_OK);
    fb_tensor *last = tokens(k, 3, 1);
    fb_tensor *y = fb_kv_cache_attend(cache, 0, tokens(q, 3, 1), last, last);
    int64_t kept[3] = {0, 1, 3};
    fb_tensor *some = fb_from(ctx, FB_I64, FB_SHAPE(3), kept);
    fb_tensor *seen = fb_to(fb_to(fb_index_select(k, 2, some), FB_BF16), FB_F32);
    fb_tensor *want = fb_scaled_dot_product_attention(tokens(q, 3, 1), seen, seen, NULL);
    assert_int_equal(fb_dtype_of(y), FB_F32);
    assert_true(distance(y, want) < 0.03);
    int64_t swap[BATCH] = {1, 0};
    fb_tensor *index = fb_from(ctx, FB_I64, FB_SHAPE(BATCH), swap);
    assert_int_equal(fb_kv_cache_reorder(cache, index), FB_OK);
    fb_tensor *other =
        fb_kv_cache_attend(cache, 0, fb_index_select(tokens(q, 3, 1), 0, index),
                           fb_index_select(last, 0, index), fb_index_select(last, 0, index));
    assert_true(distance(fb_index_select(other, 0, index), y) == 0);
    check_close(ctx); /* which gives the cache back */
}

/* A context that does not wait to see whether indices are in range. */
static fb_context *open_unblocked(void)
{
    static const char name[] = "FLAMBEAU_CUDA_BLOCKING";
    const char *given = getenv(name);
    char *was = given ? strdup(given) : NULL;
    unsetenv(name);
    fb_context *ctx = check_open_device(1);
    if (was)
        setenv(name, was, 1);
    free(was);
    return ctx;
}

static void nothing_waits_for_the_device(void **state)
{
    (void)state;
    fb_context *ctx = open_unblocked();
    fb_kv_cache *cache = fb_kv_cache_open(ctx, 1, 1, 1, 16, DIM, 0);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(1, 1, 1, DIM));
    fb_tensor *logits = fb_randn(ctx, FB_F32, FB_SHAPE(2, 9));
    fb_sample_options o = {.top_k = 5, .top_p = 0.9, .min_p = 0.01};
    uint64_t before = ctx->host_waits;
    for (int i = 0; i < 3; i++) {
        FB_SCOPE(ctx);
        assert_non_null(fb_kv_cache_attend(cache, 0, x, x, x));
        assert_int_equal(fb_kv_cache_advance(cache, 1), FB_OK);
        assert_non_null(fb_sample_token(logits, 0.8, &o));
        assert_non_null(fb_sample_token(logits, 1, NULL));
    }
    assert_true(ctx->host_waits == before);
    check_close(ctx);
}

static void a_cache_names_what_does_not_fit(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    assert_null(fb_kv_cache_open(ctx, 1, 1, 0, 4, 4, 0));
    check_error(ctx, FB_E_ARG, "fb_kv_cache_open: 1 layers, 1 sequences, 0 heads, 4 tokens of 4");
    assert_null(fb_kv_cache_open(ctx, 1, 1, 1, 4, 4, FB_I64));
    check_error(ctx, FB_E_DTYPE, "fb_kv_cache_open: I64 is no float");
    fb_kv_cache *cache = fb_kv_cache_open(ctx, 1, 2, 2, 4, DIM, 0);
    fb_tensor *x = fb_zeros(ctx, FB_F32, FB_SHAPE(2, 2, 3, DIM));
    fb_tensor *three = fb_zeros(ctx, FB_F32, FB_SHAPE(2, 3, 3, DIM));
    fb_tensor *two = fb_zeros(ctx, FB_F32, FB_SHAPE(2, 2, 2, DIM));
    assert_null(fb_kv_cache_attend(cache, 0, three, x, x));
    check_error(ctx, FB_E_SHAPE,
                "fb_kv_cache_attend: q is [2, 3, 3, 4], not [2, a multiple of 2, T, 4]");
    assert_null(fb_kv_cache_attend(cache, 0, x, two, two));
    check_error(ctx, FB_E_SHAPE, "fb_kv_cache_attend: k is [2, 2, 2, 4], not [2, 2, T, 4]");
    assert_null(fb_kv_cache_attend(cache, 0, x, x, NULL));
    check_error(ctx, FB_E_ARG, "fb_kv_cache_attend: v is NULL");
    assert_null(fb_kv_cache_attend(cache, 0, x, x, fb_to(x, FB_I64)));
    check_error(ctx, FB_E_DTYPE, "fb_kv_cache_attend: v is I64");
    assert_null(fb_kv_cache_attend(cache, 1, x, x, x));
    check_error(ctx, FB_E_ARG, "fb_kv_cache_attend: layer 1 of 1");
    fb_tensor *leaf = fb_requires_grad(fb_zeros_like(x), true);
    assert_null(fb_kv_cache_attend(cache, 0, leaf, x, x));
    check_error(ctx, FB_E_STATE, "call fb_no_grad first");
    assert_int_equal(fb_kv_cache_advance(cache, 3), FB_OK);
    assert_null(fb_kv_cache_attend(cache, 0, x, x, x));
    check_error(ctx, FB_E_STATE, "fb_kv_cache_attend: 3 tokens after 3: the cache holds 4");
    assert_int_equal(fb_kv_cache_advance(cache, 2), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "fb_kv_cache_advance: 2 tokens after 3: the cache holds 0 .. 4");
    assert_int_equal(fb_kv_cache_advance(cache, -4), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "fb_kv_cache_advance: -4 tokens after 3");
    assert_int_equal(fb_kv_cache_reorder(cache, fb_zeros(ctx, FB_I64, FB_SHAPE(3))), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "fb_kv_cache_reorder: index [3] for 2 sequences");
    assert_int_equal(fb_kv_cache_reorder(cache, NULL), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_kv_cache_reorder: index is NULL");
    assert_null(fb_kv_cache_attend(NULL, 0, x, x, x));
    assert_int_equal(fb_kv_cache_length(NULL), 0);
    check_close(ctx);
}

/* --- tokens --- */

enum { ROWS = 4000, V = 5 };

/* How often each token was drawn from ROWS rows of these logits is as likely as `want` says. */
static void expect_shares(const float logits[V], double temperature, const fb_sample_options *o,
                          const double want[V])
{
    fb_context *ctx = check_open_device(2);
    fb_tensor *x = fb_expand(fb_from(ctx, FB_F32, FB_SHAPE(V), logits), FB_SHAPE(ROWS, V));
    fb_tensor *y = fb_sample_token(x, temperature, o);
    check_ok(ctx);
    assert_true(fb_shape_equal(fb_shape_of(y), FB_SHAPE(ROWS, 1)));
    assert_int_equal(fb_dtype_of(y), FB_I64);
    const int64_t *token = check_data(y);
    int count[V] = {0};
    for (int i = 0; i < ROWS; i++) {
        assert_true(token[i] >= 0 && token[i] < V);
        count[token[i]]++;
    }
    double total = 0;
    for (int i = 0; i < V; i++)
        total += want[i];
    for (int i = 0; i < V; i++) {
        double p = want[i] / total, sigma = sqrt(ROWS * p * (1 - p));
        if (!(fabs(count[i] - ROWS * p) <= 4 * sigma))
            fail_msg("token %d was drawn %d times of %d, not with probability %g", i, count[i],
                     ROWS, p);
    }
    check_close(ctx);
}

/* Probabilities 0.1, 0.5, 0.05, 0.25, 0.1 */
static const double shares[V] = {0.1, 0.5, 0.05, 0.25, 0.1};

static void as_logits(float out[V])
{
    for (int i = 0; i < V; i++)
        out[i] = (float)log(shares[i]) + 3;
}

static void tokens_come_as_often_as_they_are_likely(void **state)
{
    (void)state;
    float x[V];
    double warm[V];
    as_logits(x);
    expect_shares(x, 1, NULL, shares);
    for (int i = 0; i < V; i++)
        warm[i] = pow(shares[i], 1 / 1.7);
    expect_shares(x, 1.7, NULL, warm);
    for (int i = 0; i < V; i++)
        warm[i] = pow(shares[i], 2);
    expect_shares(x, 0.5, NULL, warm);
}

static void unlikely_tokens_are_left_out(void **state)
{
    (void)state;
    float x[V];
    as_logits(x);
    const double two[V] = {0, 0.5, 0, 0.25, 0}, one[V] = {0, 1, 0, 0, 0};
    const double three[V] = {0.1, 0.5, 0, 0.25, 0}, four[V] = {0.1, 0.5, 0, 0.25, 0.1};
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .top_k = 2), two);
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .top_k = 3),
                  three); /* of equal ones the first */
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .top_k = 99), shares);
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .top_p = 0.6), two);
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .top_p = 0.01), one);
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .top_p = 0.8), three);
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .top_p = 0.9), four);
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .top_p = 1), shares);
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .min_p = 0.4), two);
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .min_p = 0.15), four);
    /* of the two that top_k leaves the first has 2/3, which is enough */
    expect_shares(x, 1, FB_OPTS(fb_sample_options, .top_k = 2, .top_p = 0.66), one);
}

static void repeated_tokens_are_less_likely(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    const float x[2 * V] = {2, 1.5f, -1, 0, 0.5f, -3, -1, -2, -4, -5};
    fb_tensor *logits = fb_from(ctx, FB_F32, FB_SHAPE(2, V), x);
    fb_tensor *was = fb_from(ctx, FB_I64, FB_SHAPE(2, 3), ((int64_t[]){0, 0, 3, 1, 1, 4}));
    fb_sample_options o = {.repetition_penalty = 2.5, .previous = was};
    const int64_t *token = check_data(fb_sample_token(logits, 0, &o));
    assert_int_equal(token[0], 1); /* 2 / 2.5 is below 1.5 */
    assert_int_equal(token[1], 2); /* -1 * 2.5 is below -2 */
    o.repetition_penalty = 1;
    token = check_data(fb_sample_token(logits, 0, &o));
    assert_true(token[0] == 0 && token[1] == 1);
    float v[V];
    as_logits(v);
    for (int i = 0; i < V; i++)
        v[i] -= 3; /* all below 0: probabilities to the power of 2 */
    fb_tensor *row = fb_from(ctx, FB_I64, FB_SHAPE(1), ((int64_t[]){1}));
    o = (fb_sample_options){.repetition_penalty = 2, .previous = row};
    int other = 0;
    for (int i = 0; i < 400; i++) {
        FB_SCOPE(ctx);
        other += fb_item_int(fb_sample_token(fb_from(ctx, FB_F32, FB_SHAPE(V), v), 1, &o)) != 1;
    }
    assert_true(abs(other - 267) < 4 * 10); /* 0.5 of 0.75, not of 1 */
    check_close(ctx);
}

/* The same seed gives the same tokens, on the CPU and on this device, whatever the threads. */
static void tokens_depend_on_the_seed_only(void **state)
{
    (void)state;
    fb_context *a = check_open(1), *b = check_open_device(3);
    float x[64 * 300];
    for (int i = 0; i < 64 * 300; i++)
        x[i] = (float)(3 * sin(0.37 * i) + 2 * cos(1.1 * i));
    fb_sample_options o[] = {{.top_k = 0}, {.top_k = 40}, {.top_p = 0.9, .min_p = 0.02}};
    bool changed = false;
    int64_t last[64] = {0};
    for (int i = 0; i < 9; i++) {
        const int64_t *one =
            check_data(fb_sample_token(fb_from(a, FB_F32, FB_SHAPE(64, 300), x), 0.7, &o[i % 3]));
        const int64_t *two =
            check_data(fb_sample_token(fb_from(b, FB_F32, FB_SHAPE(64, 300), x), 0.7, &o[i % 3]));
        assert_memory_equal(one, two, 64 * sizeof *one);
        changed |= i > 0 && memcmp(one, last, sizeof last) != 0;
        memcpy(last, one, sizeof last);
    }
    assert_true(changed);
    fb_tensor *greedy =
        fb_sample_token(fb_from(b, FB_BF16, FB_SHAPE(3), (uint16_t[]){0, 0x3f80, 0}), 0, NULL);
    assert_true(fb_shape_equal(fb_shape_of(greedy), FB_SHAPE(1)));
    assert_int_equal(fb_item_int(greedy), 1);
    check_close(a);
    check_close(b);
}

static void samples_name_what_makes_no_sense(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *x = fb_zeros(ctx, FB_F32, FB_SHAPE(2, V));
    fb_tensor *was = fb_zeros(ctx, FB_I64, FB_SHAPE(3, 1));
    const struct {
        fb_tensor *x;
        double temperature;
        fb_sample_options o;
        fb_status status;
        const char *text;
    } bad[] = {
        {fb_zeros(ctx, FB_F32, FB_SCALAR),
         1,
         {.top_k = 0},
         FB_E_SHAPE,
         "fb_sample_token: logits [] must be [V] or [B, V]"},
        {fb_zeros(ctx, FB_I64, FB_SHAPE(3)),
         1,
         {.top_k = 0},
         FB_E_DTYPE,
         "fb_sample_token: logits are I64"},
        {x, -1, {.top_k = 0}, FB_E_ARG, "fb_sample_token: temperature is -1, not at least 0"},
        {x, 1, {.top_k = -1}, FB_E_ARG, "fb_sample_token: top_k is -1, not at least 0"},
        {x, 1, {.top_p = 1.5}, FB_E_ARG, "fb_sample_token: top_p is 1.5, not within 0 .. 1"},
        {x, 1, {.min_p = -0.5}, FB_E_ARG, "fb_sample_token: min_p is -0.5, not within 0 .. 1"},
        {x,
         1,
         {.repetition_penalty = -2},
         FB_E_ARG,
         "fb_sample_token: repetition_penalty is -2, not above 0"},
        {x,
         1,
         {.repetition_penalty = 2},
         FB_E_ARG,
         "fb_sample_token: a repetition_penalty without previous tokens"},
        {x,
         1,
         {.repetition_penalty = 2, .previous = was},
         FB_E_SHAPE,
         "fb_sample_token: previous tokens [3, 1] for logits [2, 5]"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_null(fb_sample_token(bad[i].x, bad[i].temperature, &bad[i].o));
        check_error(ctx, bad[i].status, bad[i].text);
    }
    assert_null(fb_sample_token(NULL, 1, NULL));
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_attend_as_the_whole),
        cmocka_unit_test(tokens_are_given_up_and_sequences_change_places),
        cmocka_unit_test(nothing_waits_for_the_device),
        cmocka_unit_test(a_cache_names_what_does_not_fit),
        cmocka_unit_test(tokens_come_as_often_as_they_are_likely),
        cmocka_unit_test(unlikely_tokens_are_left_out),
        cmocka_unit_test(repeated_tokens_are_less_likely),
        cmocka_unit_test(tokens_depend_on_the_seed_only),
        cmocka_unit_test(samples_name_what_makes_no_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
