/* Fixtures of the operator tests: contexts, random data, comparison. */
#ifndef FLAMBEAU_TESTS_CORE_OPS_OPS_TEST_PRIV_H
#define FLAMBEAU_TESTS_CORE_OPS_OPS_TEST_PRIV_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/tensor/tensor.h>

static inline int open_context(void **state)
{
    *state = fb_context_open(NULL);
    return *state ? 0 : -1;
}

static inline int close_context(void **state)
{
    return fb_context_close(*state) == FB_OK ? 0 : -1;
}

/* The first error was `status` and its message contains `text`. */
static inline void expect_error(fb_context *ctx, fb_status status, const char *text)
{
    char msg[1024];
    assert_int_equal(fb_error_take(ctx, msg, sizeof msg), status);
    if (!strstr(msg, text))
        fail_msg("\"%s\" does not contain \"%s\"", msg, text);
}

/* The same numbers in every run, in lo .. hi. */
static inline void fill(float *x, int64_t n, float lo, float hi)
{
    uint32_t s = 12345;
    for (int64_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = lo + (hi - lo) * (float)(s >> 8) / 16777216.0f;
    }
}

/* An F32 tensor's values are those of `want`, within tol of their size. */
static inline void expect_values(fb_tensor *t, const double *want, int64_t n, double tol)
{
    assert_non_null(t);
    assert_int_equal(fb_dtype_of(t), FB_F32);
    assert_int_equal(fb_numel(t), n);
    float *got = malloc((size_t)n * sizeof *got + 1);
    assert_non_null(got);
    assert_int_equal(fb_read(t, got, (size_t)n * sizeof *got), FB_OK);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tol * (1 + fabs(want[i]))))
            fail_msg("element %lld is %.9g, not %.9g", (long long)i, (double)got[i], want[i]);
    free(got);
}

static inline void expect_ints(fb_tensor *t, fb_dtype dtype, const void *want, size_t bytes)
{
    char got[512];
    assert_non_null(t);
    assert_int_equal(fb_dtype_of(t), dtype);
    assert_true(bytes <= sizeof got);
    assert_int_equal(fb_read(t, got, bytes), FB_OK);
    assert_memory_equal(got, want, bytes);
}

#endif
