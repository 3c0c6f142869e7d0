/* Tables of vectors. The gradient is added in the order of the indices, so its bits depend on
 * nothing else. Local, not collective. NULL on error; an index out of range is FB_E_ARG and named.
 */
#ifndef FLAMBEAU_CORE_OPS_EMBEDDING_H
#define FLAMBEAU_CORE_OPS_EMBEDDING_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

typedef enum fb_bag_mode { FB_BAG_SUM, FB_BAG_MEAN, FB_BAG_MAX } fb_bag_mode;

typedef struct fb_bag_options {
    fb_bag_mode mode;      /**< default: sums */
    fb_tensor *weights;    /**< factors, of index's shape and the table's dtype; FB_BAG_SUM only */
    bool pads;             /**< indices that are padding_index do not count */
    int64_t padding_index; /**< read if `pads` */
    bool include_last_offset; /**< the last offset is where the last bag ends */
} fb_bag_options;

/** Rows of weight [rows, dim] at `index` (integers of any dtype and shape): [index..., dim]. */
FB_API FB_USE_RESULT fb_tensor *fb_embedding(fb_tensor *weight, fb_tensor *index);
/** The same; row `padding_index` (>= 0) gets no gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_embedding_padded(fb_tensor *weight, fb_tensor *index,
                                                    int64_t padding_index);
/**
 * Sum, mean or maximum of the rows of weight [rows, dim] in each bag, without the rows in memory:
 * torch.nn.functional.embedding_bag.
 *
 * @param index   [n] with offsets [bags], where the bags begin: from 0, not falling, at most n; or
 *                [bags, n] without: NULL
 * @param opts    NULL: sums
 * @return        [bags, dim]; an empty bag gives zeros. NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG
 */
FB_API FB_USE_RESULT fb_tensor *fb_embedding_bag(fb_tensor *weight, fb_tensor *index,
                                                 fb_tensor *offsets, const fb_bag_options *opts);

/**
 * Scale down, in place, the rows of weight [rows, dim] at `index` whose norm of order p is above
 * max_norm: what torch.nn.functional.embedding does first if it gets max_norm. Not recorded.
 */
FB_API fb_status fb_embedding_renorm_(fb_tensor *weight, fb_tensor *index, double max_norm,
                                      double p);

FB_END
#endif
