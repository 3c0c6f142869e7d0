/* Numbers by a formula, for tests whose expected values come from PyTorch, and one number for many:
 * sum of v_i cos(0.7 (i + 1)). */
#ifndef FLAMBEAU_TESTS_CORE_NN_WAVE_PRIV_H
#define FLAMBEAU_TESTS_CORE_NN_WAVE_PRIV_H

#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/module.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <math.h>

/* F64 [shape]: size * sin(step i + start) */
static inline fb_tensor *wave(fb_context *ctx, fb_shape shape, double size, double step,
                              double start)
{
    int64_t n = fb_shape_numel(shape);
    double *v = malloc((size_t)n * sizeof *v + 1);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = size * sin(step * (double)i + start);
    fb_tensor *t = fb_from(ctx, FB_F64, shape, v);
    free(v);
    return t;
}

static inline double digest(fb_tensor *t)
{
    if (!t)
        return 0;
    const double *v = check_data(t);
    double sum = 0;
    for (int64_t i = 0; i < fb_numel(t); i++)
        sum += v[i] * cos(0.7 * (double)(i + 1));
    return sum;
}

/* The same as an operator: a scalar. */
static inline fb_tensor *digested(fb_tensor *t)
{
    fb_context *ctx = fb_context_of(t);
    int64_t n = fb_numel(t);
    double *v = malloc((size_t)n * sizeof *v + 1);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = cos(0.7 * (double)(i + 1));
    fb_tensor *w = fb_from(ctx, FB_F64, fb_shape_of(t), v);
    free(v);
    return fb_sum(fb_mul(t, w), FB_ALL, false);
}

static inline fb_status wave_one(const char *name, fb_tensor *t, void *user)
{
    (void)name;
    int *k = user;
    FB_SCOPE(fb_context_of(t));
    fb_tensor *v = wave(fb_context_of(t), fb_shape_of(t), 0.8, 1.3, ++*k);
    return fb_write(t, check_data(v), (size_t)fb_numel(t) * sizeof(double));
}

/* F64 parameters 0.8 sin(1.3 i + k), k = 1, 2, ... in their order. */
static inline fb_module *waved(fb_module *m)
{
    int k = 0;
    assert_non_null(m);
    assert_int_equal(fb_nn_to(m, FB_F64), FB_OK);
    assert_int_equal(fb_nn_each_param(m, wave_one, &k), FB_OK);
    return m;
}

static inline fb_status add_gradient(const char *name, fb_tensor *t, void *user)
{
    (void)name;
    *(double *)user += digest(fb_grad_of(t));
    return FB_OK;
}

/* Sum of the digests of the gradients of all parameters. */
static inline double gradient_digest(fb_module *m)
{
    double sum = 0;
    assert_int_equal(fb_nn_each_param(m, add_gradient, &sum), FB_OK);
    return sum;
}

static inline void close_to(double got, double want, const char *what, size_t at)
{
    if (!(fabs(got - want) <= 1e-9 * (1 + fabs(want))))
        fail_msg("%s of case %zu is %.12g, not %.12g", what, at, got, want);
}

#endif
