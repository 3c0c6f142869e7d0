/* Elements of an extended dimension and those they come from, for all devices. */
#ifndef FLAMBEAU_CORE_OPS_EXTEND_PRIV_H
#define FLAMBEAU_CORE_OPS_EXTEND_PRIV_H

#include "core/base/philox_priv.h" /* FBI_BOTH */

/* What lies beyond the ends; the numbers are those of fb_pad_mode. */
enum { FBI_EXTEND_CONSTANT, FBI_EXTEND_REFLECT, FBI_EXTEND_REPLICATE, FBI_EXTEND_CIRCULAR };

/* The element of a dimension of n > 0 that stands at place i, which may lie beyond its ends; -1:
 * none, but the constant. */
static inline FBI_BOTH int64_t fbi_extend_source(int64_t mode, int64_t i, int64_t n)
{
    if (i >= 0 && i < n)
        return i;
    if (mode == FBI_EXTEND_CONSTANT)
        return -1;
    if (mode == FBI_EXTEND_REPLICATE)
        return i < 0 ? 0 : n - 1;
    if (mode == FBI_EXTEND_REFLECT)
        return i < 0 ? -i : 2 * (n - 1) - i;
    i %= n;
    return i < 0 ? i + n : i;
}

/* The k-th of the elements 0 .. size - 1 that come from element i, where element `before` is at
 * place 0; -1: there are not so many. Always in the same order. */
static inline FBI_BOTH int64_t fbi_extend_target(int64_t mode, int64_t i, int64_t k, int64_t before,
                                                 int64_t n, int64_t size)
{
    if (mode == FBI_EXTEND_CIRCULAR) {
        int64_t first = (i + before) % n;
        int64_t at = (first < 0 ? first + n : first) + k * n;
        return at < size ? at : -1;
    }
    if (mode == FBI_EXTEND_REPLICATE) {
        int64_t lo = i == 0 ? 0 : i + before, hi = i == n - 1 ? size - 1 : i + before;
        int64_t at = (lo < 0 ? 0 : lo) + k;
        return at <= hi && at < size ? at : -1;
    }
    int64_t at[3] = {i + before, -1, -1};
    if (mode == FBI_EXTEND_REFLECT) {
        at[1] = i > 0 ? before - i : -1;
        at[2] = i < n - 1 ? before + 2 * (n - 1) - i : -1;
    }
    for (int j = 0; j < 3; j++)
        if (at[j] >= 0 && at[j] < size && k-- == 0)
            return at[j];
    return -1;
}

#endif
