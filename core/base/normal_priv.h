/* The standard normal distribution by Box and Muller, in arithmetic alone: the same bits on all
 * processors, whose libraries differ, and loops over it vectorise. */
#ifndef FLAMBEAU_CORE_BASE_NORMAL_PRIV_H
#define FLAMBEAU_CORE_BASE_NORMAL_PRIV_H

#include <math.h>
#include <string.h>

#include "core/base/philox_priv.h"

static inline FBI_BOTH uint64_t fbi_f64_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline FBI_BOTH double fbi_bits_f64(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* log x for normal x: 1 ulp. x = 2^k (1 + f) with 1 + f between the roots of 1/2 and 2, and
 * fdlibm's polynomial in (f / (2 + f))^2. */
static inline FBI_BOTH double fbi_log_f64(double x)
{
    const uint64_t root = UINT64_C(0x3FE6A09E667F3BCD), of_2p52 = UINT64_C(0x4330000000000000);
    uint64_t bits = fbi_f64_bits(x) - root;
    double f = fbi_bits_f64((bits & UINT64_C(0x000FFFFFFFFFFFFF)) + root) - 1;
    double k = fbi_bits_f64(of_2p52 + (bits >> 52)) - 0x1p52; /* 12 bits, of a negative one too */
    k = k < 2048 ? k : k - 4096;
    double s = f / (2 + f), z = s * s, w = z * z, half = 0.5 * f * f;
    double odd = w * (3.999999999940941908e-01 +
                      w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    double even = z * (6.666666666666735130e-01 +
                       w * (2.857142874366239149e-01 +
                            w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    return k * 6.93147180369123816490e-01 -
           ((half - (s * (half + (odd + even)) + k * 1.90821492927058770002e-10)) - f);
}

/* cos 2 pi v for 0 <= v <= 1: quarters of a turn, and fdlibm's polynomials within an eighth. */
static inline FBI_BOTH double fbi_cos_turns(double v)
{
    const double shift = 0x1.8p52;
    double shifted = 4 * v + shift, r = v - 0.25 * (shifted - shift);
    uint64_t quarter = fbi_f64_bits(shifted), odd = 0 - (quarter & 1);
    double x = 6.283185307179586477 * r, z = x * x;
    double c =
        1 - 0.5 * z +
        z * z *
            (4.16666666666666019037e-02 +
             z * (-1.38888888888741095749e-03 +
                  z * (2.48015872894767294178e-05 +
                       z * (-2.75573143513906633035e-07 +
                            z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
    double s =
        x +
        x * z *
            (-1.66666666666666324348e-01 +
             z * (8.33333333332248946124e-03 +
                  z * (-1.98412698298579493134e-04 +
                       z * (2.75573137070700676789e-06 +
                            z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
    uint64_t value = (fbi_f64_bits(s) & odd) | (fbi_f64_bits(c) & ~odd);
    return fbi_bits_f64(value ^ ((quarter + 1) & 2) << 62);
}

/* Of u in (0, 1] and v in [0, 1]. */
static inline FBI_BOTH double fbi_normal_of(double u, double v)
{
    return sqrt(-2 * fbi_log_f64(u)) * fbi_cos_turns(v);
}

#endif
