/* What programs of tests/bench share. */
#ifndef TESTS_BENCH_PARTS_H
#define TESTS_BENCH_PARTS_H

#include <flambeau/flambeau.h>

/** Seconds of a clock that only goes forward. */
double bench_now(void);
/** Let the next tensors of this shape lie in memory that a loop has used, as those of a training
 * step do (it has huge pages). */
void bench_use_memory(fb_context *ctx, int tensors, fb_shape shape);

/** The array that peer.py has written to `dir`/`name`.npy; NULL: as fb_npy_load. */
fb_tensor *exchange_load(fb_context *ctx, const char *dir, const char *name);
/** Give every parameter the values of the array of its name. */
fb_status exchange_weights(fb_module *model, const char *dir);

#endif
