/* Running sums and their like along dimension `dim`, which counts from the end if negative. The
 * result has the input's shape. F16 and BF16 are computed in F32; integers and BOOL give I64 in
 * sums and products and are kept in extremes. NULL on error: FB_E_ARG names a dimension that is not
 * there, FB_E_DTYPE. Local, not collective. */
#ifndef FLAMBEAU_CORE_OPS_SCAN_H
#define FLAMBEAU_CORE_OPS_SCAN_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** Element k: the sum of elements 0 .. k. */
FB_API FB_USE_RESULT fb_tensor *fb_cumsum(fb_tensor *x, int dim);
/** Element k: the product of elements 0 .. k. The gradient is exact where elements are 0, its own
 * derivative is not. */
FB_API FB_USE_RESULT fb_tensor *fb_cumprod(fb_tensor *x, int dim);
/** Element k: log of the sum of exp of elements 0 .. k, without overflow; floats only. */
FB_API FB_USE_RESULT fb_tensor *fb_logcumsumexp(fb_tensor *x, int dim);
/** The largest of elements 0 .. k, and its index (I64), of equal ones the last; NaN wins. The
 * gradient goes to that element. Either output may be NULL. */
FB_API fb_status fb_cummax(fb_tensor *x, int dim, fb_tensor **values, fb_tensor **indices);
/** The smallest of elements 0 .. k; otherwise as fb_cummax. */
FB_API fb_status fb_cummin(fb_tensor *x, int dim, fb_tensor **values, fb_tensor **indices);
/** Element k + 1 minus element k, n times over; one element less each time. Of BOOL: whether they
 * differ. */
FB_API FB_USE_RESULT fb_tensor *fb_diff(fb_tensor *x, int n, int dim);

/** Integral of samples y along `dim` by the trapezoidal rule, at places x (of y's shape, or one
 * dimension) or (NULL) dx apart. */
FB_API FB_USE_RESULT fb_tensor *fb_trapezoid(fb_tensor *y, fb_tensor *x, double dx, int dim);
/** The same up to each sample but the first. */
FB_API FB_USE_RESULT fb_tensor *fb_cumulative_trapezoid(fb_tensor *y, fb_tensor *x, double dx,
                                                        int dim);

FB_END
#endif
