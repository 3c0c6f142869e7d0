/* See loop_priv.h. Dimensions are ordered by the output's strides. */
#include "core/cuda/loop_priv.h"

#include <string.h>

/* Indices of the output's dimensions, smallest stride first; ties keep the later one inside. */
static void order_of(const fb_tensor *o, int *order)
{
    for (int i = 0; i < o->ndim; i++) {
        int d = o->ndim - 1 - i, k = i;
        while (k > 0 && o->size[d] > 1 && o->stride[order[k - 1]] > o->stride[d]) {
            order[k] = order[k - 1];
            k--;
        }
        order[k] = d;
    }
}

static bool merges(const fbi_loop *p, const int64_t *next, int n_args)
{
    int top = p->ndim - 1;
    for (int a = 0; a < n_args; a++)
        if (next[a] != p->stride[a][top] * p->size[top])
            return false;
    return true;
}

/* All operands flat, of one floating dtype, and aligned to 16 bytes. */
static int width_of(const fbi_loop *p, const fb_tensor *const *t, int n_args)
{
    if (p->ndim != 1 || !fbi_cuda_is_float(p->dtype[0]))
        return 0;
    for (int a = 0; a < n_args; a++)
        if (t[a] && (p->stride[a][0] != 1 || p->dtype[a] != p->dtype[0] ||
                     (uintptr_t)fbi_cuda_data(t[a]) % 16))
            return 0;
    return (int)(16 / fbi_cuda_bytes(p->dtype[0]));
}

void fbi_cuda_loop(fbi_loop *p, const fb_tensor *const *t, int n_args)
{
    int order[FB_MAX_DIMS];
    const fb_tensor *o = t[0];
    memset(p, 0, sizeof *p);
    p->n = o->numel;
    order_of(o, order);
    for (int a = 0; a < n_args; a++)
        p->dtype[a] = t[a] ? t[a]->dtype : o->dtype;
    for (int i = 0; i < o->ndim; i++) {
        int d = order[i];
        if (o->size[d] == 1)
            continue;
        int64_t next[FBI_LOOP_ARGS];
        for (int a = 0; a < n_args; a++)
            next[a] = t[a] ? t[a]->stride[d] : 0;
        if (p->ndim && merges(p, next, n_args)) {
            p->size[p->ndim - 1] *= o->size[d];
            continue;
        }
        for (int a = 0; a < n_args; a++)
            p->stride[a][p->ndim] = next[a];
        p->size[p->ndim++] = o->size[d];
    }
    if (!p->ndim) {
        p->ndim = 1;
        p->size[0] = 1;
        for (int a = 0; a < n_args; a++)
            p->stride[a][0] = 1;
    }
    p->width = width_of(p, t, n_args);
}
