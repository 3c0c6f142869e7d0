/* Private: special functions in double; F32 callers round the result. Derivatives of the gamma
 * function, the inverse of the error function, the sine quotient, modified Bessel functions. */
#ifndef FLAMBEAU_CORE_BASE_SPECIAL_PRIV_H
#define FLAMBEAU_CORE_BASE_SPECIAL_PRIV_H

#include <math.h>
#include <stdint.h>

#include "core/base/half.h"

#define FBI_PI 3.14159265358979323846

/* psi(x), the derivative of log gamma: NaN at negative integers, -inf at 0 and inf at -0. */
static inline FBI_BOTH double fbi_digamma(double x)
{
    double y = 0;
    if (x == 0)
        return copysign((double)INFINITY, -x);
    if (x < 0) {
        double whole = trunc(x);
        if (x == whole)
            return NAN;
        y = -FBI_PI / tan(FBI_PI * (x - whole)); /* psi(x) = psi(1 - x) - pi / tan(pi x) */
        x = 1 - x;
    }
    for (; x < 10; x += 1)
        y -= 1 / x;
    double z = 1 / (x * x);
    double tail =
        z *
        (1.0 / 12 -
         z * (1.0 / 120 -
              z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132 - z * (691.0 / 32760 - z / 12))))));
    return y + log(x) - 0.5 / x - tail;
}

/* Hurwitz zeta: the sum of (x + k)^-s over k >= 0, for s > 1 and x > 0, by Euler and Maclaurin. */
static inline FBI_BOTH double fbi_zeta_above(double s, double x)
{
    /* Bernoulli numbers B_2k / (2k)! */
    const double b[8] = {1.0 / 12,
                         -1.0 / 720,
                         1.0 / 30240,
                         -1.0 / 1209600,
                         1.0 / 47900160,
                         -691.0 / 1307674368000.0,
                         1.0 / 74724249600.0,
                         -3617.0 / 10670622842880000.0};
    double sum = 0, end = x + 12;
    for (; x < end; x += 1) {
        double term = pow(x, -s);
        sum += term;
        if (term <= 1e-17 * sum)
            return sum;
    }
    double power = pow(x, -s), rise = s;
    sum += power * x / (s - 1) + 0.5 * power;
    power /= x;
    for (int k = 0; k < 8; k++) {
        sum += b[k] * rise * power;
        rise *= (s + 2 * k + 1) * (s + 2 * k + 2);
        power /= x * x;
    }
    return sum;
}

/* The same for integers s > 1 and any x: the terms below 0 are those of their absolute values. */
static inline FBI_BOTH double fbi_zeta(double s, double x)
{
    if (x > 0 || x != x)
        return fbi_zeta_above(s, x);
    double up = floor(-x) + 1; /* x + up is in (0, 1] */
    if (x + up == 1)
        return INFINITY; /* a pole */
    double below = fbi_zeta_above(s, 1 - (x + up)) - fbi_zeta_above(s, 1 - x);
    return (fmod(s, 2.0) != 0 ? -below : below) + fbi_zeta_above(s, x + up);
}

/* The n-th derivative of digamma. */
static inline FBI_BOTH double fbi_polygamma(double n, double x)
{
    if (n == 0)
        return fbi_digamma(x);
    double y = tgamma(n + 1) * fbi_zeta(n + 1, x);
    return fmod(n, 2.0) != 0 ? y : -y;
}

/* Winitzki's formula, good to 2e-3, and Halley's steps; near 1 on the complement, which is exact.
 */
static inline FBI_BOTH double fbi_erfinv(double x)
{
    double a = fabs(x);
    if (!(a < 1))
        return a == 1 ? copysign((double)INFINITY, x) : NAN;
    double l = log1p(-a * a), t = 2 / (FBI_PI * 0.147) + 0.5 * l;
    double y = sqrt(sqrt(t * t - l / 0.147) - t);
    for (int step = 0; step < 3 && a > 0; step++) {
        double off = a < 0.5 ? erf(y) - a : (1 - a) - erfc(y);
        double r = off / (2 / sqrt(FBI_PI) * exp(-y * y));
        y -= r / (1 + y * r);
    }
    return copysign(y, x);
}

/* sin(pi x) / (pi x) and its derivatives; near 0 by series. */
static inline FBI_BOTH double fbi_sinc(double x)
{
    double t = FBI_PI * x;
    return x == 0 ? 1 : sin(t) / t;
}
static inline FBI_BOTH double fbi_sinc1(double x)
{
    double t = FBI_PI * x, z = t * t;
    if (fabs(t) < 0.1)
        return FBI_PI * t * (-1.0 / 3 + z * (1.0 / 30 - z * (1.0 / 840 - z / 45360)));
    return FBI_PI * (t * cos(t) - sin(t)) / z;
}
static inline FBI_BOTH double fbi_sinc2(double x)
{
    double t = FBI_PI * x, z = t * t;
    if (fabs(t) < 0.1)
        return FBI_PI * FBI_PI * (-1.0 / 3 + z * (1.0 / 10 - z * (1.0 / 168 - z / 6480)));
    return FBI_PI * FBI_PI * ((2 - z) * sin(t) - 2 * t * cos(t)) / (z * t);
}

/* exp(-|x|) I_n(x) for n 0 or 1, I the modified Bessel function of the first kind: its series of
 * positive terms, or far out the asymptotic one up to its smallest term. */
static inline FBI_BOTH double fbi_bessel_ie(int n, double x)
{
    double a = fabs(x), sum = 0, term;
    if (a != a)
        return x;
    if (a <= 30) {
        term = n ? 0.5 * a : 1;
        for (int k = 1; term > 1e-18 * sum; k++) {
            sum += term;
            term *= 0.25 * a * a / ((double)k * (k + n));
        }
        sum *= exp(-a);
    } else {
        term = 1;
        for (int k = 1; k < 40 && fabs(term) > 1e-18; k++) {
            sum += term;
            term *= -(4.0 * n - (2.0 * k - 1) * (2.0 * k - 1)) / (8 * a * k);
        }
        sum /= sqrt(2 * FBI_PI * a);
    }
    return n && x < 0 ? -sum : sum;
}

#endif
