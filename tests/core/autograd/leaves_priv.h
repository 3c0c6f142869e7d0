/* What the tests of this room begin and end with, and small tensors for them. */
#ifndef FLAMBEAU_TESTS_CORE_AUTOGRAD_LEAVES_PRIV_H
#define FLAMBEAU_TESTS_CORE_AUTOGRAD_LEAVES_PRIV_H

#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/reduce.h>

static inline int open_context(void **state)
{
    *state = check_open_device(1);
    return 0;
}

static inline int close_context(void **state)
{
    return fb_context_close(*state) == FB_OK ? 0 : -1;
}

static inline fb_tensor *vector(fb_context *ctx, float a, float b)
{
    return fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){a, b});
}

static inline fb_tensor *leaf(fb_context *ctx, float a, float b)
{
    return fb_requires_grad(vector(ctx, a, b), true);
}

static inline fb_tensor *total(fb_tensor *x)
{
    return fb_sum(x, FB_ALL, false);
}

#endif
