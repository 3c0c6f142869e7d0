/* Random numbers: known answers, independence of how they are drawn, moments. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/normal_priv.h"
#include "core/base/philox_priv.h"
#include "core/base/rng_priv.h"

static void philox_gives_the_known_answers_of_random123(void **state)
{
    (void)state;
    static const struct {
        uint64_t key, stream, block;
        uint32_t out[4];
    } kat[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822u,
         0x0370734413198a2eu,
         0x85a308d3243f6a88u,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof kat[0]; i++) {
        uint32_t w[4];
        fbi_philox(kat[i].key, kat[i].stream, kat[i].block, w);
        for (int j = 0; j < 4; j++)
            assert_int_equal(w[j], kat[i].out[j]);
    }
}

static void an_element_does_not_depend_on_how_many_are_drawn(void **state)
{
    (void)state;
    float all[37], part[37];
    double wide[37], narrow[37];
    fbi_rng_uniform_f32(7, 3, 0, all, 37);
    fbi_rng_normal_f64(7, 3, 0, wide, 37);
    for (size_t from = 0; from < 37; from++) {
        fbi_rng_uniform_f32(7, 3, from, part, 37 - from);
        fbi_rng_normal_f64(7, 3, from, narrow, 37 - from);
        for (size_t i = from; i < 37; i++) {
            assert_true(part[i - from] == all[i]);
            assert_true(narrow[i - from] == wide[i]);
        }
    }
}

static void uniforms_lie_in_the_half_open_unit_interval_with_mean_one_half(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    static float u[N];
    static double d[N];
    fbi_rng_uniform_f32(1, 2, 0, u, N);
    fbi_rng_uniform_f64(1, 2, 0, d, N);
    double sum = 0, sum_d = 0;
    for (int i = 0; i < N; i++) {
        assert_true(u[i] >= 0 && u[i] < 1 && d[i] >= 0 && d[i] < 1);
        sum += (double)u[i];
        sum_d += d[i];
    }
    assert_true(fabs(sum / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(sum_d / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fbi_u32_to_f32(UINT32_MAX) < 1.0f);
    assert_true(fbi_u64_to_f64(UINT64_MAX) < 1.0);
}

static void normals_have_the_moments_of_the_normal_distribution(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    static float z[N];
    static double d[N];
    fbi_rng_normal_f32(5, 9, 0, z, N);
    fbi_rng_normal_f64(5, 9, 0, d, N);
    double m1 = 0, m2 = 0, m4 = 0;
    for (int i = 0; i < N; i++) {
        assert_true(z[i] == (float)d[i]);
        m1 += d[i];
        m2 += d[i] * d[i];
        m4 += d[i] * d[i] * d[i] * d[i];
    }
    assert_true(fabs(m1 / N) < 5 / sqrt(N));
    assert_true(fabs(m2 / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(m4 / N - 3) < 5 * sqrt(96.0 / N));
}

static void integers_below_a_limit_are_spread_evenly(void **state)
{
    (void)state;
    int counts[10] = {0};
    for (uint64_t i = 0; i < 10000; i++) {
        uint64_t v = fbi_rng_below(11, 0, i, 10);
        assert_true(v < 10);
        counts[v]++;
    }
    for (int i = 0; i < 10; i++)
        assert_true(fabs(counts[i] - 1000.0) < 5 * sqrt(900.0));
}

/* The functions behind first values and drawn normals, against those of long double. */
static void logarithm_and_cosine_are_within_two_units(void **state)
{
    (void)state;
    const long double turn = 6.283185307179586476925286766559L;
    const double edges[] = {1,
                            0x1.fffffffffffffp-1,
                            0x1.6a09e667f3bccp-1,
                            0x1.6a09e667f3bcdp-1,
                            0x1p-53,
                            0x1p-33,
                            0.125,
                            0.375,
                            0.625,
                            0.875};
    enum { EDGES = sizeof edges / sizeof edges[0], N = 100000 };
    for (uint64_t i = 0; i < N; i++) {
        double u = 1 - fbi_u64_to_f64(fbi_rng_u64(1, 2, i)),
               v = fbi_u64_to_f64(fbi_rng_u64(1, 3, i));
        u = i < EDGES ? edges[i] : i % 2 ? u : ldexp(u, -(int)(i % 50));
        v = i < EDGES ? edges[i] : v;
        long double log_u = logl(u), cos_v = cosl(turn * v);
        assert_true(fabsl(fbi_log_f64(u) - log_u) <= 0x1p-51L * fabsl(log_u));
        assert_true(fabsl(fbi_cos_turns(v) - cos_v) <= 0x1p-51L);
        double want = (double)(sqrtl(-2 * log_u) * cos_v);
        assert_true(fabs(fbi_normal_of(u, v) - want) <= 0x1p-48);
    }
    assert_true(fbi_log_f64(1) == 0 && fbi_cos_turns(0) == 1 && fbi_cos_turns(0.5) == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_known_answers_of_random123),
        cmocka_unit_test(an_element_does_not_depend_on_how_many_are_drawn),
        cmocka_unit_test(uniforms_lie_in_the_half_open_unit_interval_with_mean_one_half),
        cmocka_unit_test(normals_have_the_moments_of_the_normal_distribution),
        cmocka_unit_test(logarithm_and_cosine_are_within_two_units),
        cmocka_unit_test(integers_below_a_limit_are_spread_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
