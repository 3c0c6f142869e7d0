/* Windows along a dimension, for all devices. */
#ifndef FLAMBEAU_CORE_OPS_WINDOW_PRIV_H
#define FLAMBEAU_CORE_OPS_WINDOW_PRIV_H

#include <stdint.h>

/* Size of the result along one dimension; below 1 if the window does not fit. */
static inline int64_t fbi_conv_size(int64_t in, int64_t k, int64_t stride, int64_t pad, int64_t dil)
{
    int64_t room = in + 2 * pad - dil * (k - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

#endif
