/* The vectorisable functions against the C library in double, and halves against arithmetic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/vmath.h"

/* Distance of got from exact, in units of exact's last place as a float. */
static double ulps(float got, double exact)
{
    if (isnan(exact))
        return isnan(got) ? 0 : INFINITY;
    if (fabs(exact) > 3.4028235677973366e38)
        return isinf(got) && (got > 0) == (exact > 0) ? 0 : INFINITY;
    int e;
    frexp(exact, &e);
    double unit = ldexp(1.0, e - 24);
    unit = unit < 0x1p-149 ? 0x1p-149 : unit;
    return fabs((double)got - exact) / unit;
}

static uint64_t every = 1009; /* float is looked at */

/* The worst over floats of both signs, denormals, infinities and NaNs included. */
static double worst(float (*f)(float), double (*exact)(double))
{
    double w = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += every) {
        float x = fbi_bits_f32((uint32_t)bits);
        double u = ulps(f(x), exact((double)x));
        w = u > w ? u : w;
    }
    return w;
}

/* The same over evenly spaced values. */
static double worst_between(float (*f)(float), double (*exact)(double), double low, double high)
{
    double w = 0;
    for (int i = 0; i <= 1000000; i++) {
        float x = (float)(low + (high - low) * i / 1000000);
        double u = ulps(f(x), exact((double)x));
        w = u > w ? u : w;
    }
    return w;
}

static float exp_f(float x)
{
    return fbi_expf(x);
}
static float log_f(float x)
{
    return fbi_logf(x);
}
static float tanh_f(float x)
{
    return fbi_tanhf(x);
}
static float erf_f(float x)
{
    return fbi_erff(x);
}
static float sigmoid_f(float x)
{
    return fbi_sigmoidf(x);
}
static double sigmoid_d(double x)
{
    return 1 / (1 + exp(-x));
}

#define WRAP(name)                 \
    static float name##_f(float x) \
    {                              \
        return fbi_##name##f(x);   \
    }
WRAP(exp2)
WRAP(pow2)
WRAP(npdf)
WRAP(ncdf)
WRAP(expm1)
WRAP(log2)
WRAP(log10)
WRAP(log1p)
WRAP(asin)
WRAP(acos)
WRAP(atan)
WRAP(sinh)
WRAP(cosh)
WRAP(asinh)
WRAP(acosh)
WRAP(atanh)

#define ACCURATE(f, d, low, high, limit)                              \
    do {                                                              \
        double a_ = worst(f, d), b_ = worst_between(f, d, low, high); \
        print_message("%s: %.2f and %.2f ulp\n", #f, a_, b_);         \
        assert_true(a_ <= (limit) && b_ <= (limit));                  \
    } while (0)

static void exp_is_within_two_ulp_of_every_float(void **state)
{
    (void)state;
    ACCURATE(exp_f, exp, -104.0, 89.0, 2.0);
}

static void log_is_within_two_ulp_of_every_float(void **state)
{
    (void)state;
    ACCURATE(log_f, log, 0.01, 10.0, 2.0);
}

static void tanh_is_within_two_ulp_of_every_float(void **state)
{
    (void)state;
    ACCURATE(tanh_f, tanh, -10.0, 10.0, 2.0);
}

static void erf_is_within_two_ulp_of_every_float(void **state)
{
    (void)state;
    ACCURATE(erf_f, erf, -5.0, 5.0, 2.0);
}

static void sigmoid_is_within_three_ulp_of_every_float(void **state)
{
    (void)state;
    ACCURATE(sigmoid_f, sigmoid_d, -30.0, 30.0, 3.0);
}

static void the_other_functions_are_within_their_ulps_of_every_float(void **state)
{
    (void)state;
    ACCURATE(exp2_f, exp2, -150.0, 129.0, 2.0);
    ACCURATE(expm1_f, expm1, -20.0, 89.0, 2.0);
    ACCURATE(log2_f, log2, 0.01, 10.0, 3.0);
    ACCURATE(log10_f, log10, 0.01, 10.0, 3.0);
    ACCURATE(log1p_f, log1p, -0.9, 10.0, 3.0);
    ACCURATE(asin_f, asin, -1.0, 1.0, 3.0);
    ACCURATE(acos_f, acos, -1.0, 1.0, 3.0);
    ACCURATE(atan_f, atan, -5.0, 5.0, 3.0);
    ACCURATE(sinh_f, sinh, -89.0, 89.0, 3.0);
    ACCURATE(cosh_f, cosh, -89.0, 89.0, 3.0);
    ACCURATE(asinh_f, asinh, -20.0, 20.0, 4.0);
    ACCURATE(acosh_f, acosh, 1.0, 20.0, 4.0);
    ACCURATE(atanh_f, atanh, -1.0, 1.0, 4.0);
}

static double npdf(double x)
{
    return exp(-x * x / 2) * 0.39894228040143267794;
}

static double ncdf(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752440);
}

static void the_normal_distribution_is_within_its_bounds(void **state)
{
    (void)state;
    for (int i = -2000000; i <= 2000000; i++) {
        double x = (double)((float)i * 1e-5f), exact = ncdf(x);
        assert_true(fabs((double)npdf_f((float)x) - npdf(x)) < 1e-7);
        assert_true(fabs((double)ncdf_f((float)x) - exact) < 2.2e-7);
        if (x > -13)
            assert_true(fabs((double)ncdf_f((float)x) / exact - 1) < 2e-5);
    }
    assert_true(ncdf_f(INFINITY) == 1 && ncdf_f(-INFINITY) == 0 && npdf_f(INFINITY) == 0);
    assert_true(isnan(ncdf_f(NAN)) && isnan(npdf_f(NAN)));
}

static void powers_of_two_below_one_end_at_the_denormals(void **state)
{
    (void)state;
    double w = worst_between(pow2_f, exp2, -126.0, 0.0);
    print_message("pow2_f: %.2f ulp\n", w);
    assert_true(w <= 3);
    assert_true(pow2_f(0) == 1 && pow2_f(-127) == 0 && pow2_f(-INFINITY) == 0);
    assert_true(isnan(pow2_f(NAN)) && isnan(pow2_f(INFINITY)));
}

/* What an F16 means, by its definition. */
static double half_value(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

static void every_half_survives_the_way_to_float_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h <= UINT16_MAX; h++) {
        float x = fbi_f16_to_f32((uint16_t)h), y = fbi_bf16_to_f32((uint16_t)h);
        double exact = half_value((uint16_t)h);
        assert_true(isnan(exact) ? isnan(x) : (double)x == exact);
        if (!isnan(x))
            assert_int_equal(fbi_f32_to_f16(x), h);
        if (!isnan(y))
            assert_int_equal(fbi_f32_to_bf16(y), h);
        assert_true(!isnan(x) || isnan(fbi_f16_to_f32(fbi_f32_to_f16(x))));
        assert_true(!isnan(y) || isnan(fbi_bf16_to_f32(fbi_f32_to_bf16(y))));
    }
}

/* A value halfway between two neighbours goes to the even one, one beside it to the nearer. */
static void rounding_is_to_nearest_even(void **state)
{
    (void)state;
    for (uint16_t h = 0; h < 0x7BFF; h++) {
        float low = fbi_f16_to_f32(h), high = fbi_f16_to_f32((uint16_t)(h + 1));
        float mid = (low + high) / 2;
        assert_int_equal(fbi_f32_to_f16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(fbi_f32_to_f16(nextafterf(mid, 1e9f)), h + 1);
        assert_int_equal(fbi_f32_to_f16(nextafterf(mid, -1e9f)), h);
    }
    for (uint32_t h = 0; h < 0x7F7F; h++) {
        uint32_t mid = h << 16 | 0x8000;
        assert_int_equal(fbi_f32_to_bf16(fbi_bits_f32(mid)), h & 1 ? h + 1 : h);
        assert_int_equal(fbi_f32_to_bf16(fbi_bits_f32(mid + 1)), h + 1);
        assert_int_equal(fbi_f32_to_bf16(fbi_bits_f32(mid - 1)), h);
    }
    assert_int_equal(fbi_f32_to_f16(65520.0f), 0x7C00); /* the first that overflows */
    assert_int_equal(fbi_f32_to_f16(65519.0f), 0x7BFF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_two_ulp_of_every_float),
        cmocka_unit_test(log_is_within_two_ulp_of_every_float),
        cmocka_unit_test(tanh_is_within_two_ulp_of_every_float),
        cmocka_unit_test(erf_is_within_two_ulp_of_every_float),
        cmocka_unit_test(sigmoid_is_within_three_ulp_of_every_float),
        cmocka_unit_test(the_other_functions_are_within_their_ulps_of_every_float),
        cmocka_unit_test(the_normal_distribution_is_within_its_bounds),
        cmocka_unit_test(powers_of_two_below_one_end_at_the_denormals),
        cmocka_unit_test(every_half_survives_the_way_to_float_and_back),
        cmocka_unit_test(rounding_is_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
