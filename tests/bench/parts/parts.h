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

/** From now on, add up the time of every operator of this context; the table is empty again. */
void profile_begin(fb_context *ctx);
/**
 * Print, on stderr, where the time went since then, `steps` being how many steps that were: a line
 * for each operator in forward, backward and the optimizer, its own time without that of operators
 * it calls. What is not in an operator is "outside".
 */
void profile_print(int64_t steps);
/** Seconds since then in operators, of any phase, whose name begins so; no longer looks. */
double profile_end(fb_context *ctx, const char *begins);

#endif
