/* Discrete Fourier transforms of any length, quick where its prime factors are small. */
#ifndef FLAMBEAU_IO_FFT_PRIV_H
#define FLAMBEAU_IO_FFT_PRIV_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fbi_complex {
    float re, im;
} fbi_complex;

enum { FBI_FFT_FACTORS = 64 };

typedef struct fbi_fft {
    int64_t n;
    int64_t factors[FBI_FFT_FACTORS]; /* their product is n; ended by 0 */
    fbi_complex *turns;               /* exp(-2 pi i k / n) */
} fbi_fft;

/* false: no memory. */
bool fbi_fft_open(fbi_fft *fft, int64_t n);
void fbi_fft_close(fbi_fft *fft);
/* y[k] = sum of x[j] exp(-2 pi i j k / n). `scratch` has room for n; three different arrays. */
void fbi_fft_run(const fbi_fft *fft, const fbi_complex *x, fbi_complex *y, fbi_complex *scratch);

#endif
