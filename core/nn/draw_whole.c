/* First values in which elements depend on each other. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/philox_priv.h"
#include "core/nn/nn_priv.h"

/* A tensor as [rows, cols], and where its values go. */
typedef struct drawing {
    const fb_tensor *t;
    const char *name;
    uint64_t key;
    int64_t rows, cols;
    double *v;
} drawing;

static fb_status bad_shape(const drawing *d, const char *kind, const char *wanted)
{
    return fbi_fail(d->t->ctx, FB_E_SHAPE, "first values of %s: %s needs %s, it is %s", d->name,
                    kind, wanted, fbi_text(d->t));
}

static fb_status eye(const drawing *d)
{
    if (d->t->ndim != 2)
        return bad_shape(d, "fb_init_eye", "2 dimensions");
    for (int64_t i = 0; i < d->rows && i < d->cols; i++)
        d->v[i * d->cols + i] = 1;
    return FB_OK;
}

static fb_status dirac(const drawing *d, double groups)
{
    const fb_tensor *t = d->t;
    if (t->ndim < 3 || t->ndim > 5)
        return bad_shape(d, "fb_init_dirac", "3 to 5 dimensions");
    int64_t n = (int64_t)groups;
    if (n < 1 || d->rows % n)
        return fbi_fail(t->ctx, FB_E_ARG, "first values of %s: %" PRId64 " groups of %s", d->name,
                        n, fbi_text(t));
    int64_t centre = 0, field = 1;
    for (int i = 2; i < t->ndim; i++) {
        centre = centre * t->size[i] + t->size[i] / 2;
        field *= t->size[i];
    }
    int64_t per = d->rows / n, in = t->size[1];
    for (int64_t o = 0; o < d->rows; o++)
        if (o % per < in)
            d->v[o * d->cols + o % per * field + centre] = 1;
    return FB_OK;
}

/* --- orthogonal --- */

static double product(const double *a, const double *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += a[i] * b[i];
    return s;
}

/* The k vectors of n numbers in q, which are independent, become orthonormal: Gram and Schmidt,
 * twice for the sake of rounding. Each is changed by one thread: the bits depend on nothing else.
 */
static void orthonormalise(double *q, int64_t k, int64_t n, int threads)
{
    for (int64_t j = 0; j < k; j++) {
        double *own = q + j * n, norm = sqrt(product(own, own, n));
        for (int64_t i = 0; i < n; i++)
            own[i] /= norm;
#pragma omp parallel for num_threads(threads) if ((k - j) * n > 16384)
        for (int64_t l = j + 1; l < k; l++) {
            double *other = q + l * n, s = product(own, other, n);
            for (int64_t i = 0; i < n; i++)
                other[i] -= s * own[i];
        }
    }
}

static fb_status orthogonal(const drawing *d, double gain)
{
    if (d->t->ndim < 2)
        return bad_shape(d, "fb_init_orthogonal", "2 dimensions or more");
    bool wide = d->rows <= d->cols;
    int64_t k = wide ? d->rows : d->cols, n = wide ? d->cols : d->rows;
    int threads = d->t->ctx->threads;
    double *q = malloc((size_t)(k * n) * sizeof *q + 1);
    if (!q)
        return fbi_fail(d->t->ctx, FB_E_NOMEM, "no memory for the first values of %s", d->name);
#pragma omp parallel for num_threads(threads) if (k * n > 16384)
    for (int64_t i = 0; i < k * n; i++)
        q[i] = fbi_nn_draw_normal(d->key, i);
    for (int pass = 0; pass < 2; pass++)
        orthonormalise(q, k, n, threads);
    for (int64_t j = 0; j < k; j++)
        for (int64_t i = 0; i < n; i++)
            d->v[wide ? j * n + i : i * k + j] = gain * q[j * n + i];
    free(q);
    return FB_OK;
}

/* --- sparse --- */

typedef struct ticket {
    uint64_t draw;
    int64_t row;
} ticket;

static int by_draw(const void *a, const void *b)
{
    const ticket *x = a, *y = b;
    if (x->draw != y->draw)
        return x->draw < y->draw ? -1 : 1;
    return x->row < y->row ? -1 : 1;
}

static fb_status sparse(const drawing *d, double sparsity, double std)
{
    if (d->t->ndim != 2)
        return bad_shape(d, "fb_init_sparse", "2 dimensions");
    if (!(sparsity >= 0 && sparsity <= 1))
        return fbi_fail(d->t->ctx, FB_E_ARG,
                        "first values of %s: sparsity is %g, not within 0 .. 1", d->name, sparsity);
    ticket *order = malloc((size_t)d->rows * sizeof *order + 1);
    if (!order)
        return fbi_fail(d->t->ctx, FB_E_NOMEM, "no memory for the first values of %s", d->name);
    int64_t zeros = (int64_t)ceil(sparsity * (double)d->rows);
    for (int64_t col = 0; col < d->cols; col++) {
        for (int64_t row = 0; row < d->rows; row++) {
            int64_t i = row * d->cols + col;
            uint32_t w[4];
            fbi_philox(d->key, 1, (uint64_t)i, w);
            order[row] = (ticket){(uint64_t)w[0] << 32 | w[1], row};
            d->v[i] = std * fbi_nn_draw_normal(d->key, i);
        }
        qsort(order, (size_t)d->rows, sizeof *order, by_draw);
        for (int64_t k = 0; k < zeros; k++)
            d->v[order[k].row * d->cols + col] = 0;
    }
    free(order);
    return FB_OK;
}

/* The other rows have the bits that fb_init_normal(0, 1) gives them. */
static fb_status normal_padded(const drawing *d, int64_t row)
{
    int threads = d->t->ctx->threads;
#pragma omp parallel for num_threads(threads) if (d->t->numel > 16384)
    for (int64_t i = 0; i < d->t->numel; i++)
        d->v[i] = i / d->cols == row ? 0 : fbi_nn_draw_normal(d->key, i);
    return FB_OK;
}

fb_status fbi_nn_draw_whole(const fb_tensor *t, fb_init init, uint64_t key, const char *name,
                            double *v)
{
    int64_t rows = t->ndim ? t->size[0] : 1;
    drawing d = {t, name, key, rows, rows ? t->numel / rows : 0, v};
    memset(v, 0, (size_t)t->numel * sizeof *v);
    if (init.kind == FBI_INIT_EYE)
        return eye(&d);
    if (init.kind == FBI_INIT_NORMAL_PADDED)
        return normal_padded(&d, (int64_t)init.a);
    if (init.kind == FBI_INIT_DIRAC)
        return dirac(&d, init.a);
    return init.kind == FBI_INIT_SPARSE ? sparse(&d, init.a, init.b) : orthogonal(&d, init.a);
}
