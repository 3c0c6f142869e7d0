/* Lines of a tensor resampled: a table of taps, then sums of rows. */
#include <stdlib.h>
#include <string.h>

#include "core/cpu/kernels_isa.h"
#include "core/cpu/flat_priv.h"
#include "core/ops/resample_priv.h"

/* Taps begin[o] .. begin[o + 1] - 1 make output o. */
typedef struct taps {
    int64_t *begin, *at;
    double *weight;
    void *memory;
} taps;

static bool make_taps(const fbi_call *c, const fbi_resampling *r, taps *t)
{
    int64_t n = 0, o = 0;
    fbi_taps one;
    for (o = 0; o < r->out; o++) {
        fbi_resample_taps(r, o, &one);
        n += one.n;
    }
    t->memory = fbi_scratch(c, r->out + 1 + 2 * n, 8);
    if (!t->memory)
        return false;
    t->begin = t->memory;
    t->at = t->begin + r->out + 1;
    t->weight = (double *)(t->at + n);
    for (o = n = 0; o < r->out; o++) {
        fbi_resample_taps(r, o, &one);
        t->begin[o] = n;
        for (int64_t k = 0; k < one.n; k++, n++) {
            t->at[n] = fbi_resample_clamp(one.first + k, r->in);
            t->weight[n] = fbi_resample_weight(r, &one, k);
        }
    }
    t->begin[r->out] = n;
    return true;
}

#define RESAMPLE(T)                                                                             \
    static void forward_##T(const fbi_resampling *r, const taps *t, int64_t inner, const T *x,  \
                            T *y)                                                               \
    {                                                                                           \
        for (int64_t o = 0; o < r->out; o++, y += inner) {                                      \
            memset(y, 0, (size_t)inner * sizeof(T));                                            \
            for (int64_t k = t->begin[o]; k < t->begin[o + 1]; k++) {                           \
                const T *from = x + t->at[k] * inner;                                           \
                T w = (T)t->weight[k];                                                          \
                for (int64_t i = 0; i < inner; i++)                                             \
                    y[i] += w * from[i];                                                        \
            }                                                                                   \
        }                                                                                       \
    }                                                                                           \
    static void backward_##T(const fbi_resampling *r, const taps *t, int64_t inner, const T *g, \
                             T *dx)                                                             \
    {                                                                                           \
        memset(dx, 0, (size_t)(r->in * inner) * sizeof(T));                                     \
        for (int64_t o = 0; o < r->out; o++, g += inner)                                        \
            for (int64_t k = t->begin[o]; k < t->begin[o + 1]; k++) {                           \
                T *to = dx + t->at[k] * inner, w = (T)t->weight[k];                             \
                for (int64_t i = 0; i < inner; i++)                                             \
                    to[i] += w * g[i];                                                          \
            }                                                                                   \
    }

RESAMPLE(float)
RESAMPLE(double)

/* in[0] in the order in memory of the output, which has no gaps. NULL: error. */
static const void *in_order(const fbi_call *c, const fb_tensor *x, const fb_tensor *y, void **copy)
{
    int order[FB_MAX_DIMS], n = x->ndim;
    bool same = fbi_dense(x);
    for (int i = 0; i < n; i++) { /* falling strides of the output; of equal ones the first */
        int k = i;
        for (; k > 0 && y->stride[order[k - 1]] < y->stride[i]; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    for (int i = 1; i < n && same; i++)
        same = x->stride[order[i - 1]] >= x->stride[order[i]];
    if (same || x->numel == 0)
        return fbi_ptr(x);
    *copy = fbi_scratch(c, x->numel, fb_dtype_size((fb_dtype)x->dtype));
    if (*copy)
        fbi_pack_to(x, order, *copy);
    return *copy;
}

static fb_status run(const fbi_call *c, bool back)
{
    const fbi_attrs_resample *a = c->attrs;
    const fb_tensor *y = c->out[0];
    fbi_resampling r = fbi_resampling_of(a);
    int64_t n = back ? r.in : r.out, m = back ? r.out : r.in, inner = y->stride[a->dim];
    if (y->numel == 0)
        return FB_OK;
    int64_t outer = y->numel / n / inner;
    void *copy = NULL;
    taps t = {.memory = NULL};
    const void *x = in_order(c, c->in[0], y, &copy);
    if (x && make_taps(c, &r, &t)) {
        int team = fbi_team(c, y->numel > c->in[0]->numel ? y->numel : c->in[0]->numel);
        bool wide = y->dtype == FB_F64;
#pragma omp parallel for num_threads(team) if (team > 1) schedule(static)
        for (int64_t i = 0; i < outer; i++) {
            size_t from = (size_t)(i * m * inner), to = (size_t)(i * n * inner);
            if (wide)
                (back ? backward_double : forward_double)(&r, &t, inner, (const double *)x + from,
                                                          (double *)fbi_ptr(y) + to);
            else
                (back ? backward_float : forward_float)(&r, &t, inner, (const float *)x + from,
                                                        (float *)fbi_ptr(y) + to);
        }
    }
    free(t.memory);
    free(copy);
    return c->ctx->status;
}

fb_status FBI_KERNEL(resample)(const fbi_call *c)
{
    return run(c, false);
}

fb_status FBI_KERNEL(resample_bwd)(const fbi_call *c)
{
    return run(c, true);
}
