/* Random numbers: distributions by Kolmogorov and Smirnov's distance and by moments, the same bits
 * on every device, orders without repetition, messages. */
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/dropout.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/random.h>
#include <flambeau/core/ops/reduce.h>

#include "tests/core/ops/ops_test_priv.h"

enum { N = 20000 };

static int rising(const void *a, const void *b)
{
    double p = *(const double *)a, q = *(const double *)b;
    return (p > q) - (p < q);
}

static double *values_of(fb_tensor *t, int64_t n)
{
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    assert_non_null(t);
    assert_int_equal(fb_numel(t), n);
    assert_int_equal(fb_read(fb_to(t, FB_F64), v, (size_t)n * sizeof *v), FB_OK);
    return v;
}

typedef double (*distribution)(double x, double a);

/* The largest distance between the distribution and that of t's elements. Beyond 2 / sqrt(N) it is
 * by chance in 7 of 10000 draws; the seed is fixed. */
static void is_distributed(fb_tensor *t, distribution f, double a)
{
    double *v = values_of(t, N), most = 0;
    qsort(v, N, sizeof *v, rising);
    for (int i = 0; i < N; i++) {
        double p = f(v[i], a);
        most = fmax(most, fmax(fabs(p - (double)i / N), fabs(p - (double)(i + 1) / N)));
    }
    free(v);
    if (!(most < 2 / sqrt(N)))
        fail_msg("the distance of the distributions is %g", most);
}

static double uniform(double x, double a)
{
    return (x + 1) / (a + 1); /* from -1 to a */
}
static double normal(double x, double a)
{
    return 0.5 * erfc(-(x - a) / 2 / sqrt(2)); /* deviation 2 */
}
static double exponential(double x, double a)
{
    return -expm1(-a * x);
}

/* Incomplete gamma function: its series, in steps that do not lose digits here. */
static double gamma_of(double x, double a)
{
    double term = 1 / a, sum = term;
    for (int k = 1; k < 1000 && term > 1e-17 * sum; k++) {
        term *= x / (a + k);
        sum += term;
    }
    return x > 0 ? sum * exp(a * log(x) - x - lgamma(a)) : 0;
}

static void draws_have_their_distributions(void **state)
{
    fb_context *ctx = *state;
    fb_shape s = FB_SHAPE(N);
    is_distributed(fb_uniform(ctx, FB_F64, s, -1, 3), uniform, 3);
    is_distributed(fb_normal(ctx, FB_F64, s, 1, 2), normal, 1);
    is_distributed(fb_exponential(ctx, FB_F64, s, 3), exponential, 3);
    is_distributed(fb_mul_scalar(fb_randn_like(fb_zeros(ctx, FB_F64, s)), 2), normal, 0);
}

static void a_wrong_distribution_is_noticed(void **state)
{
    double *v = values_of(fb_normal(*state, FB_F64, FB_SHAPE(N), 1, 2.1), N), most = 0;
    qsort(v, N, sizeof *v, rising);
    for (int i = 0; i < N; i++)
        most = fmax(most, fabs(normal(v[i], 1) - (double)i / N));
    free(v);
    assert_true(most > 1 / sqrt(N)); /* five in a hundred too wide: seen at half the bound */
}

static void gammas_have_their_distribution_on_both_sides_of_one(void **state)
{
    static const double shapes[] = {0.3, 1, 2.5, 8};
    for (int i = 0; i < 4; i++)
        is_distributed(fb_gamma(fb_full(*state, FB_F64, FB_SHAPE(N), shapes[i])), gamma_of,
                       shapes[i]);
}

/* How often each of 0 .. k - 1 comes; above that counts as k - 1. */
static void count(fb_tensor *t, int64_t n, double *bins, int k)
{
    double *v = values_of(t, n);
    memset(bins, 0, (size_t)k * sizeof *bins);
    for (int64_t i = 0; i < n; i++) {
        assert_true(v[i] >= 0 && v[i] == floor(v[i]));
        bins[v[i] < k ? (int)v[i] : k - 1]++;
    }
    free(v);
}

/* Six deviations of a binomial number. */
static void is_near(double got, double p)
{
    if (fabs(got - N * p) > 6 * sqrt(N * p * (1 - p)) + 1e-9)
        fail_msg("%g of %d, not %g", got, N, N * p);
}

static void poissons_come_as_often_as_they_should(void **state)
{
    static const double rates[] = {0, 0.5, 4, 9.9, 10, 25};
    double bins[64];
    for (int r = 0; r < 6; r++) {
        double p = exp(-rates[r]);
        count(fb_poisson(fb_full(*state, FB_F64, FB_SHAPE(N), rates[r])), N, bins, 64);
        for (int k = 0; k < 63; k++) {
            is_near(bins[k], p);
            p *= rates[r] / (k + 1);
        }
    }
}

static void bernoullis_and_draws_by_weight_come_as_often_as_they_should(void **state)
{
    double bins[4];
    count(fb_bernoulli(fb_full(*state, FB_F32, FB_SHAPE(N), 0.3)), N, bins, 2);
    is_near(bins[1], 0.3);
    fb_tensor *w = fb_from(*state, FB_F32, FB_SHAPE(4), (float[]){1, 0, 3, 4});
    count(fb_multinomial(w, N, true), N, bins, 4);
    is_near(bins[0], 1.0 / 8);
    is_near(bins[1], 0);
    is_near(bins[2], 3.0 / 8);
    is_near(bins[3], 4.0 / 8);
}

static void the_first_of_draws_without_replacement_goes_by_weight(void **state)
{
    float rows[2000 * 3];
    int64_t got[2000 * 2];
    double first[3] = {0};
    for (int i = 0; i < 2000 * 3; i++)
        rows[i] = (float)(i % 3 + 1);
    fb_tensor *w = fb_from(*state, FB_F32, FB_SHAPE(2000, 3), rows);
    assert_int_equal(fb_read(fb_multinomial(w, 2, false), got, sizeof got), FB_OK);
    for (int i = 0; i < 2000; i++) {
        assert_true(got[2 * i] != got[2 * i + 1]);
        first[got[2 * i]]++;
    }
    for (int k = 0; k < 3; k++)
        assert_true(fabs(first[k] - 2000 * (k + 1) / 6.0) < 6 * sqrt(2000 * (k + 1) / 6.0));
}

static void an_order_has_every_number_once_and_is_no_other_calls(void **state)
{
    enum { M = 1000 };
    int64_t a[M], b[M];
    bool seen[M] = {false};
    assert_int_equal(fb_read(fb_randperm(*state, M), a, sizeof a), FB_OK);
    assert_int_equal(fb_read(fb_randperm(*state, M), b, sizeof b), FB_OK);
    for (int i = 0; i < M; i++) {
        assert_true(a[i] >= 0 && a[i] < M && !seen[a[i]]);
        seen[a[i]] = true;
    }
    assert_memory_not_equal(a, b, sizeof a);
}

/* Long weights, so that chunks are crossed. */
static fb_tensor *many_weights(fb_context *ctx)
{
    enum { M = 1500 };
    float w[M];
    fill(w, M, 0, 1);
    for (int i = 300; i < 700; i++)
        w[i] = 0;
    return fb_from(ctx, FB_F32, FB_SHAPE(M), w);
}

static void cards_draw_what_the_cpu_draws(void **state)
{
    fb_context *cpu = fb_context_open(&(fb_context_options){.device = "cpu"});
    fb_context *both[2] = {*state, cpu};
    int64_t perm[2][500], drawn[2][300], race[2][300];
    float flat[2][500], coin[2][500], alpha[2][500];
    for (int i = 0; i < 2; i++) {
        fb_context *ctx = both[i];
        assert_int_equal(fb_manual_seed(ctx, 5), FB_OK);
        fb_tensor *p = fb_uniform(ctx, FB_F32, FB_SHAPE(500), 0, 1);
        assert_int_equal(fb_read(p, flat[i], sizeof flat[i]), FB_OK);
        assert_int_equal(fb_read(fb_bernoulli(p), coin[i], sizeof coin[i]), FB_OK);
        assert_int_equal(fb_read(fb_randperm(ctx, 500), perm[i], sizeof perm[i]), FB_OK);
        fb_tensor *w = many_weights(ctx);
        assert_int_equal(fb_read(fb_multinomial(w, 300, true), drawn[i], sizeof drawn[i]), FB_OK);
        assert_int_equal(fb_read(fb_multinomial(w, 300, false), race[i], sizeof race[i]), FB_OK);
        assert_int_equal(fb_read(fb_alpha_dropout(p, 0.4), alpha[i], sizeof alpha[i]), FB_OK);
    }
    assert_memory_equal(flat[0], flat[1], sizeof flat[0]);
    assert_memory_equal(coin[0], coin[1], sizeof coin[0]);
    assert_memory_equal(perm[0], perm[1], sizeof perm[0]);
    assert_memory_equal(drawn[0], drawn[1], sizeof drawn[0]);
    assert_memory_equal(race[0], race[1], sizeof race[0]);
    for (int i = 0; i < 500; i++)
        assert_true(fabsf(alpha[0][i] - alpha[1][i]) < 1e-6f);
    for (int i = 0; i < 300; i++)
        assert_true(drawn[0][i] < 300 || drawn[0][i] >= 700);
    assert_int_equal(fb_context_close(cpu), FB_OK);
}

static void whole_channels_are_dropped(void **state)
{
    float v[40 * 5 * 6];
    fb_tensor *x = fb_ones(*state, FB_F32, FB_SHAPE(40, 5, 6));
    assert_int_equal(fb_read(fb_dropout1d(x, 0.25), v, sizeof v), FB_OK);
    int kept = 0;
    for (int c = 0; c < 200; c++) {
        for (int i = 1; i < 6; i++)
            assert_true(v[c * 6 + i] == v[c * 6]);
        assert_true(v[c * 6] == 0 || v[c * 6] == 1 / 0.75f);
        kept += v[c * 6] != 0;
    }
    assert_true(kept > 110 && kept < 190);
}

static void alpha_dropout_keeps_mean_and_variance(void **state)
{
    fb_tensor *x = fb_randn(*state, FB_F64, FB_SHAPE(N));
    fb_tensor *y = fb_alpha_dropout(x, 0.3);
    assert_true(fabs(fb_item(fb_mean(y, FB_ALL, false))) < 0.05);
    assert_true(fabs(fb_item(fb_var(y, FB_ALL, true, false)) - 1) < 0.05);
    assert_ptr_equal(fb_alpha_dropout(x, 0), x);
    fb_tensor *f = fb_feature_alpha_dropout(fb_randn(*state, FB_F64, FB_SHAPE(100, 200, 2)), 0.3);
    assert_true(fabs(fb_item(fb_mean(f, FB_ALL, false))) < 0.05);
    assert_true(fabs(fb_item(fb_var(f, FB_ALL, true, false)) - 1) < 0.05);
}

static void integers_and_shapes_are_refused(void **state)
{
    assert_null(fb_multinomial(fb_ones(*state, FB_F32, FB_SHAPE(2, 2, 2)), 1, true));
    expect_error(*state, FB_E_SHAPE, "multinomial: weights [2, 2, 2] must be [n] or [rows, n]");
    assert_null(fb_poisson(fb_ones(*state, FB_I64, FB_SHAPE(2))));
    expect_error(*state, FB_E_DTYPE, "poisson: input 0 is I64");
    assert_null(fb_uniform(*state, FB_F32, FB_SHAPE(2), 1, (double)NAN));
    expect_error(*state, FB_E_ARG, "uniform: from 1 to nan");
    fb_tensor *w = fb_from(*state, FB_F32, FB_SHAPE(3), (float[]){1, 0, 1});
    fb_tensor *drawn = fb_multinomial(w, 3, false);
    if (drawn) /* on a card the next wait tells */
        assert_int_equal(fb_context_sync(*state), FB_E_ARG);
    expect_error(*state, FB_E_ARG, "multinomial: row 0 has too few weights above 0");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        T(draws_have_their_distributions),
        T(a_wrong_distribution_is_noticed),
        T(gammas_have_their_distribution_on_both_sides_of_one),
        T(poissons_come_as_often_as_they_should),
        T(bernoullis_and_draws_by_weight_come_as_often_as_they_should),
        T(the_first_of_draws_without_replacement_goes_by_weight),
        T(an_order_has_every_number_once_and_is_no_other_calls),
        T(cards_draw_what_the_cpu_draws),
        T(whole_channels_are_dropped),
        T(alpha_dropout_keeps_mean_and_variance),
        T(integers_and_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
