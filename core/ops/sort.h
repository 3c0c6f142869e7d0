/* Order along dimension `dim`, which counts from the end if negative: sorting, and what follows
 * from it. NaN counts as the largest value. Equal values keep their order, on every device. Indices
 * are I64. The gradient goes to the elements that the values came from. NULL (or a status) on
 * error: FB_E_ARG names a dimension or number that does not fit, FB_E_DTYPE, FB_E_SHAPE where there
 * is nothing to choose from. Of two output places either may be NULL. Local, not collective. */
#ifndef FLAMBEAU_CORE_OPS_SORT_H
#define FLAMBEAU_CORE_OPS_SORT_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** Values in ascending (or descending) order, and where they were. Stable. */
FB_API fb_status fb_sort(fb_tensor *x, int dim, bool descending, fb_tensor **values,
                         fb_tensor **indices);
/** The indices of fb_sort. */
FB_API FB_USE_RESULT fb_tensor *fb_argsort(fb_tensor *x, int dim, bool descending);
/** Sorted along the first dimension. */
FB_API FB_USE_RESULT fb_tensor *fb_msort(fb_tensor *x);
/** The k largest (or smallest) values, in order, and their indices. */
FB_API fb_status fb_topk(fb_tensor *x, int64_t k, int dim, bool largest, fb_tensor **values,
                         fb_tensor **indices);
/** The k-th smallest value, k from 1, and its index. */
FB_API fb_status fb_kthvalue(fb_tensor *x, int64_t k, int dim, bool keepdim, fb_tensor **values,
                             fb_tensor **indices);
/** The middle value, of two the lower one, and its index; NaN if there is one. */
FB_API fb_status fb_median(fb_tensor *x, int dim, bool keepdim, fb_tensor **values,
                           fb_tensor **indices);
/** The middle of the values that are no NaN. */
FB_API fb_status fb_nanmedian(fb_tensor *x, int dim, bool keepdim, fb_tensor **values,
                              fb_tensor **indices);
/** The most frequent value, of several the smallest, and its last index. */
FB_API fb_status fb_mode(fb_tensor *x, int dim, bool keepdim, fb_tensor **values,
                         fb_tensor **indices);
/** The value below which a share q of the values lies, between two neighbours in proportion;
 * floats; NaN if there is one. */
FB_API FB_USE_RESULT fb_tensor *fb_quantile(fb_tensor *x, double q, int dim, bool keepdim);

/** How many values of `sorted` (its last dimension ascending) lie below each value of x; `right`:
 * below or at it. `sorted` has one dimension, or those of x up to the last. I64, like x; no
 * gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_searchsorted(fb_tensor *sorted, fb_tensor *x, bool right);
/** The bucket of each value of x: fb_searchsorted in `boundaries` [n]. */
FB_API FB_USE_RESULT fb_tensor *fb_bucketize(fb_tensor *x, fb_tensor *boundaries, bool right);
/** BOOL: whether each value of x is among those of `test`. */
FB_API FB_USE_RESULT fb_tensor *fb_isin(fb_tensor *x, fb_tensor *test);

/* Results whose size depends on the data: these wait for the device. No gradient. */
/** The different values of x, ascending. inverse, like x: where in them each element is. counts:
 * how often each occurs. Every NaN is a value of its own. All three places may be NULL. */
FB_API fb_status fb_unique(fb_tensor *x, fb_tensor **values, fb_tensor **inverse,
                           fb_tensor **counts);
/** The same of runs of equal neighbours, in the order of x, flattened. */
FB_API fb_status fb_unique_consecutive(fb_tensor *x, fb_tensor **values, fb_tensor **inverse,
                                       fb_tensor **counts);
/** How often 0, 1, ... occur in x [n], integers that are not negative; at least `minlength` of
 * them. With weights [n] their sums: F32 for F32 weights, else F64. */
FB_API FB_USE_RESULT fb_tensor *fb_bincount(fb_tensor *x, fb_tensor *weights, int64_t minlength);
/** How many elements lie in each of `bins` equal parts of [lo, hi], in the dtype of x, a float;
 * lo equal to hi: the smallest and largest element. */
FB_API FB_USE_RESULT fb_tensor *fb_histc(fb_tensor *x, int64_t bins, double lo, double hi);

/** []: the median of all elements, the lower one of two; NaN if there is one. The gradient goes to
 * one element. */
FB_API FB_USE_RESULT fb_tensor *fb_median_all(fb_tensor *x);
/** The same without NaN. */
FB_API FB_USE_RESULT fb_tensor *fb_nanmedian_all(fb_tensor *x);
/** fb_quantile without NaN; a line of nothing else gives NaN. */
FB_API FB_USE_RESULT fb_tensor *fb_nanquantile(fb_tensor *x, double q, int dim, bool keepdim);
/**
 * The different slices along `dim`, in rising order of their elements from the first on.
 *
 * @param values  like x, with as many slices as there are different ones
 * @param inverse I64 [size of dim]: which one each slice of x is
 * @param counts  I64: how often each occurs. Any may be NULL
 * One stable sort for each element of a slice, the last one first.
 */
FB_API fb_status fb_unique_dim(fb_tensor *x, int dim, fb_tensor **values, fb_tensor **inverse,
                               fb_tensor **counts);

FB_END
#endif
