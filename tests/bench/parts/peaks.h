/* What the machine can do, measured. */
#ifndef TESTS_BENCH_PEAKS_H
#define TESTS_BENCH_PEAKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** GFLOP/s of multiplying and adding floats in registers with the instructions of x86-64-v2, v3 or
 * v4; 0: this processor has not got them. */
double peak_fma(int level, int threads);

/** What is read and written, bytes counted once for each: no line is read because it is written. */
typedef enum peak_stream_kind {
    PEAK_TRIAD,   /* a = b + s c */
    PEAK_COPY,    /* a = s b */
    PEAK_UPDATE2, /* two arrays in place, one more is read: SGD with momentum */
    PEAK_UPDATE3  /* three arrays in place, one more is read: Adam */
} peak_stream_kind;

enum { PEAK_ARRAYS = 4 };

/** Arrays for the streams, of n floats each, PEAK_ARRAYS for each thread. */
typedef struct peak_room {
    float *data;
    int64_t n;
    int threads;
} peak_room;

/** Arrays of `bytes` each, in huge pages where the system has them. False: no memory. */
bool peak_room_open(peak_room *r, size_t bytes, int threads);
void peak_room_close(peak_room *r);
/** GB/s of running a stream once, the better of plain stores and of stores past the caches. */
double peak_room_speed(const peak_room *r, peak_stream_kind kind);
/** GB/s of PEAK_TRIAD, the best of several, arrays of `bytes` together for each thread. */
double peak_stream(size_t bytes, int threads);

#endif
