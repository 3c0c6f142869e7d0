/* Kernels of embedding_bag and bag_of. Bags are summed in the order of their indices. */
#include "core/cpu/index_priv.h"
#include "core/cpu/kernels_isa.h"
#include <flambeau/core/ops/embedding.h>

/* Where bag b ends. */
static int64_t end_of(const int64_t *begin, int64_t b, int64_t bags, int64_t n)
{
    int64_t end = b + 1 < bags ? begin[b + 1] : n;
    return end < begin[b] ? begin[b] : end;
}

#define BAG(T)                                                                               \
    static void bag_##T(const fbi_attrs_embedding_bag *a, const T *w, int64_t dim,           \
                        const int64_t *at, const T *factor, int64_t n, T *out, int64_t *arg) \
    {                                                                                        \
        int64_t met = 0;                                                                     \
        for (int64_t k = 0; k < dim; k++) {                                                  \
            out[k] = 0;                                                                      \
            if (arg)                                                                         \
                arg[k] = a->rows;                                                            \
        }                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                    \
            const T *row = w + at[i] * dim;                                                  \
            if (at[i] == a->padding_index)                                                   \
                continue;                                                                    \
            for (int64_t k = 0; k < dim; k++)                                                \
                if (!arg)                                                                    \
                    out[k] += factor ? row[k] * factor[i] : row[k];                          \
                else if (met == 0 || row[k] > out[k]) {                                      \
                    out[k] = row[k];                                                         \
                    arg[k] = at[i];                                                          \
                }                                                                            \
            met++;                                                                           \
        }                                                                                    \
        for (int64_t k = 0; a->mode == FB_BAG_MEAN && met > 0 && k < dim; k++)               \
            out[k] /= (T)met;                                                                \
    }
BAG(float)
BAG(double)

typedef struct bags {
    fbi_flat w, factor;
    int64_t *at, *begin;
} bags;

/* Bags begin at 0, and none before the one in front of it. */
static bool in_order(const fbi_call *c, const int64_t *begin)
{
    for (int64_t b = 0; b < c->in[2]->numel; b++) {
        int64_t least = b ? begin[b - 1] : 0;
        if (begin[b] < least || (b == 0 && begin[b] > 0)) {
            fbi_op_fail(c, FB_E_ARG, "offset %lld at position %lld: they begin at 0 and never fall",
                        (long long)begin[b], (long long)b);
            return false;
        }
    }
    return true;
}

/* Operands as plain arrays, checked. */
static bool open_bags(const fbi_call *c, bags *b)
{
    int64_t n = c->in[1]->numel;
    *b = (bags){.at = fbi_indices_of(c, c->in[1], c->in[0]->size[0])};
    b->begin = b->at ? fbi_indices_of(c, c->in[2], n + 1) : NULL;
    return b->begin && in_order(c, b->begin) && fbi_flat_of(c, c->in[0], &b->w) &&
           (!c->in[3] || fbi_flat_of(c, c->in[3], &b->factor));
}

static void close_bags(bags *b)
{
    fbi_flat_free(&b->w);
    fbi_flat_free(&b->factor);
    free(b->at);
    free(b->begin);
}

fb_status FBI_KERNEL(embedding_bag)(const fbi_call *c)
{
    const fbi_attrs_embedding_bag *a = c->attrs;
    int64_t n = c->in[1]->numel, dim = c->in[0]->size[1], count = c->in[2]->numel;
    bags b;
    if (!open_bags(c, &b)) {
        close_bags(&b);
        return fbi_index_failed(c);
    }
    int64_t *arg = a->mode == FB_BAG_MAX ? fbi_ptr(c->out[1]) : NULL;
    bool wide = c->out[0]->dtype == FB_F64;
    int team = fbi_team(c, n * dim);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < count; i++) {
        int64_t begin = b.begin[i], len = end_of(b.begin, i, count, n) - begin;
        int64_t *to = arg ? arg + i * dim : NULL;
        if (wide)
            bag_double(a, b.w.p, dim, b.at + begin,
                       b.factor.p ? (const double *)b.factor.p + begin : NULL, len,
                       (double *)fbi_ptr(c->out[0]) + i * dim, to);
        else
            bag_float(a, b.w.p, dim, b.at + begin,
                      b.factor.p ? (const float *)b.factor.p + begin : NULL, len,
                      (float *)fbi_ptr(c->out[0]) + i * dim, to);
    }
    close_bags(&b);
    return FB_OK;
}

fb_status FBI_KERNEL(bag_of)(const fbi_call *c)
{
    int64_t n = c->out[0]->numel, count = c->in[0]->numel, *out = fbi_ptr(c->out[0]), bag = 0;
    int64_t *begin = fbi_indices_of(c, c->in[0], n + 1);
    if (!begin)
        return fbi_index_failed(c);
    for (int64_t i = 0; i < n; i++) {
        while (bag + 1 < count && begin[bag + 1] <= i)
            bag++;
        out[i] = bag;
    }
    free(begin);
    return FB_OK;
}
