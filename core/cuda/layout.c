/* What the strides of a tensor say. */
#include "core/cuda/cuda_priv.h"

const char *fbi_cuda_dtype_name(int dtype)
{
    static const char *const names[FB_DTYPE_COUNT] = {"?",   "F32", "F64",  "F16", "BF16", "I32",
                                                      "I64", "U8",  "BOOL", "I8",  "I16",  "U16"};
    return names[dtype];
}

/* Dimensions in `order` (innermost first) follow each other without gaps. */
static bool follows(const fb_tensor *t, const int *order)
{
    int64_t want = 1;
    for (int i = 0; i < t->ndim; i++) {
        int d = order[i];
        if (t->size[d] != 1 && t->stride[d] != want)
            return false;
        want *= t->size[d];
    }
    return true;
}

bool fbi_cuda_contiguous(const fb_tensor *t)
{
    int order[FB_MAX_DIMS];
    for (int i = 0; i < t->ndim; i++)
        order[i] = t->ndim - 1 - i;
    return follows(t, order);
}

bool fbi_cuda_dense(const fb_tensor *t)
{
    int order[FB_MAX_DIMS];
    for (int i = 0; i < t->ndim; i++) {
        int k = i;
        for (; k > 0 && t->stride[order[k - 1]] > t->stride[i]; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    return follows(t, order);
}
