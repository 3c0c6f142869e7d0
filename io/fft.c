#include "io/fft_priv.h"

#include <math.h>
#include <stdlib.h>

bool fbi_fft_open(fbi_fft *fft, int64_t n)
{
    *fft = (fbi_fft){.n = n, .turns = malloc((size_t)n * sizeof *fft->turns)};
    if (!fft->turns)
        return false;
    for (int64_t k = 0; k < n; k++) {
        double angle = -6.283185307179586477 * (double)k / (double)n;
        fft->turns[k] = (fbi_complex){(float)cos(angle), (float)sin(angle)};
    }
    int count = 0;
    int64_t rest = n;
    for (; rest % 4 == 0; rest /= 4)
        fft->factors[count++] = 4;
    for (int64_t p = 2; rest > 1; p++) {
        if (p * p > rest)
            p = rest;
        for (; rest % p == 0; rest /= p)
            fft->factors[count++] = p;
    }
    return true;
}

void fbi_fft_close(fbi_fft *fft)
{
    free(fft->turns);
    fft->turns = NULL;
}

static fbi_complex times(fbi_complex a, fbi_complex b)
{
    return (fbi_complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static fbi_complex plus(fbi_complex a, fbi_complex b)
{
    return (fbi_complex){a.re + b.re, a.im + b.im};
}

static fbi_complex minus(fbi_complex a, fbi_complex b)
{
    return (fbi_complex){a.re - b.re, a.im - b.im};
}

/* -i times a. */
static fbi_complex quarter(fbi_complex a)
{
    return (fbi_complex){a.im, -a.re};
}

/* Two halves of length m each, one behind the other, become one transform. */
static void join_two(const fbi_complex *turns, int64_t step, fbi_complex *y, int64_t m)
{
    for (int64_t k = 0; k < m; k++) {
        fbi_complex a = y[k], b = times(y[k + m], turns[k * step]);
        y[k] = plus(a, b);
        y[k + m] = minus(a, b);
    }
}

static void join_four(const fbi_complex *turns, int64_t step, fbi_complex *y, int64_t m)
{
    for (int64_t k = 0; k < m; k++) {
        fbi_complex a = y[k], b = times(y[k + m], turns[k * step]);
        fbi_complex c = times(y[k + 2 * m], turns[2 * k * step]);
        fbi_complex d = times(y[k + 3 * m], turns[3 * k * step]);
        fbi_complex even = plus(a, c), odd = plus(b, d), rest = minus(a, c);
        fbi_complex turned = quarter(minus(b, d));
        y[k] = plus(even, odd);
        y[k + m] = plus(rest, turned);
        y[k + 2 * m] = minus(even, odd);
        y[k + 3 * m] = minus(rest, turned);
    }
}

static void join_five(const fbi_complex *turns, int64_t step, fbi_complex *y, int64_t m)
{
    const float c1 = 0.30901699437494745f, s1 = 0.95105651629515353f; /* of 72 degrees */
    const float c2 = -0.80901699437494734f, s2 = 0.58778525229247325f;
    for (int64_t k = 0; k < m; k++) {
        fbi_complex a = y[k], b = times(y[k + m], turns[k * step]);
        fbi_complex c = times(y[k + 2 * m], turns[2 * k * step]);
        fbi_complex d = times(y[k + 3 * m], turns[3 * k * step]);
        fbi_complex e = times(y[k + 4 * m], turns[4 * k * step]);
        fbi_complex be = plus(b, e), cd = plus(c, d), b_e = minus(b, e), c_d = minus(c, d);
        fbi_complex u = {a.re + c1 * be.re + c2 * cd.re, a.im + c1 * be.im + c2 * cd.im};
        fbi_complex v = {a.re + c2 * be.re + c1 * cd.re, a.im + c2 * be.im + c1 * cd.im};
        fbi_complex p =
            quarter((fbi_complex){s1 * b_e.re + s2 * c_d.re, s1 * b_e.im + s2 * c_d.im});
        fbi_complex q =
            quarter((fbi_complex){s2 * b_e.re - s1 * c_d.re, s2 * b_e.im - s1 * c_d.im});
        y[k] = plus(a, plus(be, cd));
        y[k + m] = plus(u, p);
        y[k + 2 * m] = plus(v, q);
        y[k + 3 * m] = minus(v, q);
        y[k + 4 * m] = minus(u, p);
    }
}

/* The same with p parts. */
static void join(const fbi_fft *fft, int64_t step, fbi_complex *y, int64_t m, int64_t p,
                 fbi_complex *kept)
{
    for (int64_t k = 0; k < m; k++) {
        for (int64_t q = 0; q < p; q++)
            kept[q] = y[k + q * m];
        for (int64_t r = 0; r < p; r++) {
            int64_t by = (k + r * m) * step % fft->n, at = 0;
            fbi_complex sum = kept[0];
            for (int64_t q = 1; q < p; q++) {
                at = at + by < fft->n ? at + by : at + by - fft->n;
                fbi_complex part = times(kept[q], fft->turns[at]);
                sum.re += part.re;
                sum.im += part.im;
            }
            y[k + r * m] = sum;
        }
    }
}

/* Every `stride`-th element of x, n of them: Cooley and Tukey 1965, decimation in time. */
static void transform(const fbi_fft *fft, const int64_t *factor, const fbi_complex *x,
                      int64_t stride, int64_t n, fbi_complex *y, fbi_complex *scratch)
{
    if (n == 1) {
        y[0] = x[0];
        return;
    }
    int64_t p = *factor, m = n / p;
    for (int64_t q = 0; q < p; q++)
        transform(fft, factor + 1, x + q * stride, stride * p, m, y + q * m, scratch);
    if (p == 2)
        join_two(fft->turns, stride, y, m);
    else if (p == 4)
        join_four(fft->turns, stride, y, m);
    else if (p == 5)
        join_five(fft->turns, stride, y, m);
    else
        join(fft, stride, y, m, p, scratch);
}

void fbi_fft_run(const fbi_fft *fft, const fbi_complex *x, fbi_complex *y, fbi_complex *scratch)
{
    transform(fft, fft->factors, x, 1, fft->n, y, scratch);
}
