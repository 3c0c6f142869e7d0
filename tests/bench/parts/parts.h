/* What programs of tests/bench share. */
#ifndef TESTS_BENCH_PARTS_H
#define TESTS_BENCH_PARTS_H

#include <flambeau/flambeau.h>

/** Seconds of a clock that only goes forward. */
double bench_now(void);

/** The array that peer.py has written to `dir`/`name`.npy; NULL: as fb_npy_load. */
fb_tensor *exchange_load(fb_context *ctx, const char *dir, const char *name);
/** Give every parameter the values of the array of its name. */
fb_status exchange_weights(fb_module *model, const char *dir);

#endif
