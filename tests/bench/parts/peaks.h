/* What the machine can do, measured. */
#ifndef TESTS_BENCH_PEAKS_H
#define TESTS_BENCH_PEAKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** GFLOP/s of multiplying and adding floats in registers with the instructions of x86-64-v2, v3 or
 * v4; 0: this processor has not got them. */
double peak_fma(int level, int threads);
/** GB/s of a = b + s c, three arrays of `bytes` together for each thread; stores are plain or go
 * past the caches, whichever is quicker. */
double peak_stream(size_t bytes, int threads);

#endif
