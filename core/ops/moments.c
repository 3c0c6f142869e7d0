/* Covariances, norms of slices, integrals of samples: composed. */
#include <flambeau/core/ops/reduce.h>

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/scan.h>
#include <flambeau/core/ops/strided.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/compose_priv.h"

/* --- covariances --- */

static fb_status need_weights(const fbi_call *c, int i, const char *what, int64_t n)
{
    const fb_tensor *w = c->in[i];
    if (!w || (w->ndim == 1 && w->numel == n))
        return FB_OK;
    return fbi_op_fail(c, FB_E_SHAPE, "%s %s do not fit the %lld observations of %s", what,
                       fbi_text(w), (long long)n, fbi_text(c->in[0]));
}

/* Weights of the observations [n], in the dtype of x; NULL: none, or the error is set. */
static fb_tensor *weights_of(const fbi_call *c, const fb_tensor *x)
{
    fb_tensor *f = c->in[1], *a = c->in[2];
    f = f ? fb_to(f, (fb_dtype)x->dtype) : NULL;
    a = a ? fb_to(a, (fb_dtype)x->dtype) : NULL;
    return f && a ? fb_mul(f, a) : f ? f : a;
}

/* What the products of deviations are divided by. */
static fb_tensor *freedom(const fbi_call *c, fb_tensor *w, fb_tensor *total, double correction)
{
    fb_tensor *lost = fbi_scalar(w, correction), *a = c->in[2];
    if (a)
        lost = fb_mul_scalar(
            fb_div(fb_sum(fb_mul(w, fb_to(a, (fb_dtype)w->dtype)), FB_ALL, false), total),
            correction);
    return fb_clamp(fb_sub(total, lost), 0, __builtin_inf());
}

static fb_tensor *covariance(const fbi_call *c, fb_tensor *x, double correction)
{
    int64_t n = x->size[1];
    fb_tensor *w = weights_of(c, x);
    if (!w) {
        double by = (double)n - correction;
        fb_tensor *d = fb_sub(x, fb_mean(x, FB_SHAPE(1), true));
        fb_tensor *p = d ? fb_matmul(d, fb_t(d)) : NULL;
        return fb_div(p, fbi_scalar(x, by > 0 ? by : 0));
    }
    fb_tensor *total = fb_sum(w, FB_ALL, false);
    fb_tensor *mean = fb_div(fb_sum(fb_mul(x, w), FB_SHAPE(1), true), total), *d = fb_sub(x, mean);
    fb_tensor *p = d ? fb_matmul(fb_mul(d, w), fb_t(d)) : NULL;
    return fb_div(p, freedom(c, w, total, correction));
}

fb_status fbi_compose_cov(fbi_call *c)
{
    fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (x->ndim > 2)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s must be [variables, observations] or less",
                           fbi_text(x));
    bool line = x->ndim < 2;
    int64_t n = line ? x->numel : x->size[1];
    st = need_weights(c, 1, "frequencies", n);
    if (!st)
        st = need_weights(c, 2, "weights", n);
    if (st)
        return st;
    x = line ? fb_reshape(x, FB_SHAPE(1, n)) : x;
    fb_tensor *y =
        x ? covariance(c, x, (double)((const fbi_attrs_cov *)c->attrs)->correction) : NULL;
    return fbi_composed(c, y && y->numel == 1 ? fb_reshape(y, FB_SCALAR) : y);
}

fb_status fbi_compose_corrcoef(fbi_call *c)
{
    fb_status st = fbi_need_float(c, 0);
    fb_tensor *y = st ? NULL : fb_cov(c->in[0], NULL, NULL, 1);
    if (!y)
        return st ? st : c->ctx->status;
    if (y->ndim == 0)
        return fbi_composed(c, fb_div(y, y));
    fb_tensor *root = fb_sqrt(fb_diagonal(y, 0, 0, 1));
    y = fb_div(fb_div(y, fb_unsqueeze(root, 1)), root);
    return fbi_composed(c, fb_clamp(y, -1, 1));
}

/* --- norms of slices --- */

fb_status fbi_compose_renorm(fbi_call *c)
{
    const fbi_attrs_renorm *a = c->attrs;
    fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    int d = st ? -1 : fbi_dim_of(c, a->dim);
    if (d < 0)
        return st ? st : FB_E_ARG;
    if (x->ndim < 2 || !(a->p > 0) || !(a->maxnorm >= 0))
        return fbi_op_fail(c, FB_E_ARG,
                           "input %s, order %g, largest norm %g: needs 2 dimensions, an order "
                           "above 0, a norm of at least 0",
                           fbi_text(x), a->p, a->maxnorm);
    fb_shape dims = {0};
    for (int i = 0; i < x->ndim; i++)
        if (i != d)
            dims.d[dims.n++] = i;
    fb_tensor *norm = fb_norm(x, a->p, dims, true);
    fb_tensor *less = fb_div(fbi_scalar(x, a->maxnorm), fb_add_scalar(norm, 1e-7));
    fb_tensor *large = fb_gt(norm, fbi_scalar(x, a->maxnorm));
    return fbi_composed(c, fb_mul(x, fb_where(large, less, fbi_scalar(x, 1))));
}

/* --- integrals --- */

/* Widths of the steps along dimension d of y, from places x: [n] or beside y. */
static fb_tensor *widths(const fbi_call *c, int d)
{
    const fb_tensor *y = c->in[0];
    fb_tensor *x = c->in[1];
    if (x->ndim != 1)
        return fb_diff(x, 1, d - y->ndim);
    if (x->numel != y->size[d]) {
        fbi_op_fail(c, FB_E_SHAPE, "places %s do not fit dimension %d of %s", fbi_text(x), d,
                    fbi_text(y));
        return NULL;
    }
    fb_shape s = {.n = y->ndim};
    for (int i = 0; i < y->ndim; i++)
        s.d[i] = i == d ? x->numel - 1 : 1;
    return fb_reshape(fb_diff(x, 1, 0), s);
}

/* Areas of the steps, and their dimension. NULL: the error is set. */
static fb_tensor *areas(const fbi_call *c, double dx, int64_t dim, int *d)
{
    fb_tensor *y = c->in[0];
    if (fbi_need_float(c, 0))
        return NULL;
    *d = fbi_dim_of(c, dim);
    if (*d < 0)
        return NULL;
    int64_t n = y->size[*d];
    if (n == 0) {
        fbi_op_fail(c, FB_E_SHAPE, "dimension %lld of input %s is empty", (long long)dim,
                    fbi_text(y));
        return NULL;
    }
    fb_tensor *mean = fb_mul_scalar(fb_add(fb_narrow(y, *d, 0, n - 1), fb_narrow(y, *d, 1, n - 1)),
                                    c->in[1] ? 0.5 : dx / 2);
    return c->in[1] ? fb_mul(mean, widths(c, *d)) : mean;
}

fb_status fbi_compose_trapezoid(fbi_call *c)
{
    const fbi_attrs_trapezoid *a = c->attrs;
    int d = 0;
    fb_tensor *y = areas(c, a->dx, a->dim, &d);
    return fbi_composed(c, y ? fb_sum(y, FB_SHAPE(d), false) : NULL);
}

fb_status fbi_compose_cumulative_trapezoid(fbi_call *c)
{
    const fbi_attrs_cumulative_trapezoid *a = c->attrs;
    int d = 0;
    fb_tensor *y = areas(c, a->dx, a->dim, &d);
    return fbi_composed(c, y ? fb_cumsum(y, d) : NULL);
}

/* --- public --- */

fb_tensor *fb_cov(fb_tensor *x, fb_tensor *frequencies, fb_tensor *weights, int64_t correction)
{
    return FBI_RUN(cov, (&(fbi_attrs_cov){correction}), x, frequencies, weights);
}

fb_tensor *fb_corrcoef(fb_tensor *x)
{
    return FBI_RUN(corrcoef, NULL, x);
}

fb_tensor *fb_renorm(fb_tensor *x, double p, int dim, double maxnorm)
{
    return FBI_RUN(renorm, (&(fbi_attrs_renorm){p, dim, maxnorm}), x);
}

fb_tensor *fb_trapezoid(fb_tensor *y, fb_tensor *x, double dx, int dim)
{
    return FBI_RUN(trapezoid, (&(fbi_attrs_trapezoid){dx, dim}), y, x);
}

fb_tensor *fb_cumulative_trapezoid(fb_tensor *y, fb_tensor *x, double dx, int dim)
{
    return FBI_RUN(cumulative_trapezoid, (&(fbi_attrs_cumulative_trapezoid){dx, dim}), y, x);
}

/* --- samples --- */

#define IN(low, high, ...)                                        \
    {                                                             \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = (low), .hi = (high) \
    }

void fbi_sample_cov(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 3, 5), {.absent = true}, {.absent = true}};
    fbi_attrs_cov a = {.correction = 1};
    fbi_sample_add(s, &a, 3, in);
    in[1] = (fbi_sample_in){.shape = FB_SHAPE(5), .lo = 1, .hi = 4, .dtype = FB_I64};
    fbi_sample_add(s, &a, 3, in);
    in[2] = (fbi_sample_in)IN(0.5, 2, 5);
    a.correction = 0;
    fbi_sample_add(s, &a, 3, in);
    in[0].shape = FB_SHAPE(5);
    fbi_sample_add(s, &a, 3, in);
    in[1].shape = FB_SHAPE(4);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "frequencies [4] do not fit the 5 observations");
    in[0].shape = FB_SHAPE(2, 3, 5);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "input [2, 3, 5] must be [variables, observations]");
}

void fbi_sample_corrcoef(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(-2, 2, 3, 5)};
    fbi_sample_add(s, NULL, 1, in);
    in[0].dtype = FB_I64;
    fbi_sample_bad(s, NULL, 1, in, FB_E_DTYPE, "corrcoef: input 0 is I64");
}

void fbi_sample_renorm(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(0.2, 2, 3, 4)};
    fbi_attrs_renorm a = {.p = 2, .dim = 0, .maxnorm = 1.5};
    fbi_sample_add(s, &a, 1, in);
    a = (fbi_attrs_renorm){.p = 1, .dim = -1, .maxnorm = 100};
    fbi_sample_add(s, &a, 1, in);
    a.p = 0;
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "input [3, 4], order 0, largest norm 100");
}

static void sample_areas(fbi_samples *s, const void *attrs, int64_t *dim)
{
    fbi_sample_in in[2] = {IN(-2, 2, 3, 4), {.absent = true}};
    *dim = -1;
    fbi_sample_add(s, attrs, 2, in);
    in[1] = (fbi_sample_in)IN(-2, 2, 4);
    fbi_sample_add(s, attrs, 2, in);
    *dim = 0;
    in[1] = (fbi_sample_in)IN(-2, 2, 3, 4);
    fbi_sample_add(s, attrs, 2, in);
    in[1] = (fbi_sample_in)IN(-2, 2, 4);
    fbi_sample_bad(s, attrs, 2, in, FB_E_SHAPE, "places [4] do not fit dimension 0 of [3, 4]");
    *dim = 2;
    fbi_sample_bad(s, attrs, 2, in, FB_E_ARG, "no dimension 2 in input [3, 4]");
    *dim = 0;
    in[0].shape = FB_SHAPE(0, 4);
    fbi_sample_bad(s, attrs, 2, in, FB_E_SHAPE, "dimension 0 of input [0, 4] is empty");
}

void fbi_sample_trapezoid(fbi_samples *s)
{
    fbi_attrs_trapezoid a = {.dx = 0.5};
    sample_areas(s, &a, &a.dim);
}

void fbi_sample_cumulative_trapezoid(fbi_samples *s)
{
    fbi_attrs_cumulative_trapezoid a = {.dx = 0.5};
    sample_areas(s, &a, &a.dim);
}
