/* Views that add, remove or move dimensions, made of reshape, permute, expand and narrow. */
#include <flambeau/core/ops/view.h>

#include "core/ops/op_priv.h"

/* As in PyTorch a scalar has, where it is asked for, a dimension 0. */
static int dim_of_any(const fbi_call *c, int64_t dim)
{
    return c->in[0]->ndim == 0 && (dim == 0 || dim == -1) ? 0 : fbi_dim_of(c, dim);
}

/* --- order --- */

static fb_status swap(fbi_call *c, int64_t dim0, int64_t dim1)
{
    int p = dim_of_any(c, dim0), q = p < 0 ? -1 : dim_of_any(c, dim1);
    if (q < 0)
        return FB_E_ARG;
    fb_shape dims = {.n = c->in[0]->ndim};
    for (int i = 0; i < dims.n; i++)
        dims.d[i] = i == p ? q : i == q ? p : i;
    return fbi_composed(c, fb_permute(c->in[0], dims));
}

fb_status fbi_compose_transpose(fbi_call *c)
{
    const fbi_attrs_transpose *a = c->attrs;
    return swap(c, a->dim0, a->dim1);
}

fb_status fbi_compose_swapdims(fbi_call *c)
{
    const fbi_attrs_swapdims *a = c->attrs;
    return swap(c, a->dim0, a->dim1);
}

fb_status fbi_compose_swapaxes(fbi_call *c)
{
    const fbi_attrs_swapaxes *a = c->attrs;
    return swap(c, a->dim0, a->dim1);
}

fb_status fbi_compose_t(fbi_call *c)
{
    int n = c->in[0]->ndim;
    if (n > 2)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s has more than 2 dimensions",
                           fbi_text(c->in[0]));
    return n < 2 ? fbi_composed(c, fb_view(c->in[0], fb_shape_of(c->in[0]))) : swap(c, 0, 1);
}

static fb_status move(fbi_call *c, fb_shape from, fb_shape to)
{
    int n = c->in[0]->ndim, next = 0;
    fb_shape dims = {.n = n};
    unsigned taken = 0, filled = 0;
    if (from.n != to.n)
        return fbi_op_fail(c, FB_E_ARG, "%d dimensions for %d places", from.n, to.n);
    for (int i = 0; i < from.n; i++) {
        int p = fbi_dim_of(c, from.d[i]), q = p < 0 ? -1 : fbi_dim_of(c, to.d[i]);
        if (q < 0)
            return FB_E_ARG;
        if ((taken & 1u << p) || (filled & 1u << q))
            return fbi_op_fail(c, FB_E_ARG, "a dimension is listed twice: from %s to %s",
                               fbi_shape_text(c->ctx, from), fbi_shape_text(c->ctx, to));
        taken |= 1u << p;
        filled |= 1u << q;
        dims.d[q] = p;
    }
    for (int i = 0; i < n; i++) {
        if (filled & 1u << i)
            continue;
        while (taken & 1u << next)
            next++;
        dims.d[i] = next++;
    }
    return fbi_composed(c, fb_permute(c->in[0], dims));
}

fb_status fbi_compose_movedim(fbi_call *c)
{
    const fbi_attrs_movedim *a = c->attrs;
    return move(c, a->from, a->to);
}

fb_status fbi_compose_moveaxis(fbi_call *c)
{
    const fbi_attrs_moveaxis *a = c->attrs;
    return move(c, a->from, a->to);
}

/* --- number --- */

fb_status fbi_compose_flatten(fbi_call *c)
{
    const fbi_attrs_flatten *a = c->attrs;
    fb_tensor *t = c->in[0];
    int p = dim_of_any(c, a->from), q = p < 0 ? -1 : dim_of_any(c, a->to);
    if (q < 0)
        return FB_E_ARG;
    if (p > q)
        return fbi_op_fail(c, FB_E_ARG, "dimension %d lies behind %d", p, q);
    if (t->ndim == 0)
        return fbi_composed(c, fb_reshape(t, FB_SHAPE(1)));
    fb_shape s = {0};
    for (int i = 0; i < t->ndim; i++) {
        if (i > p && i <= q)
            s.d[s.n - 1] *= t->size[i];
        else
            s.d[s.n++] = t->size[i];
    }
    return fbi_composed(c, fb_reshape(t, s));
}

fb_status fbi_compose_ravel(fbi_call *c)
{
    return fbi_composed(c, fb_reshape(c->in[0], FB_SHAPE(c->in[0]->numel)));
}

fb_status fbi_compose_unflatten(fbi_call *c)
{
    const fbi_attrs_unflatten *a = c->attrs;
    fb_tensor *t = c->in[0];
    int d = fbi_dim_of(c, a->dim), unknown = -1;
    fb_shape part = a->sizes, s = {0};
    int64_t known = 1;
    if (d < 0)
        return FB_E_ARG;
    bool sound = part.n > 0 && t->ndim - 1 + part.n <= FB_MAX_DIMS;
    for (int i = 0; sound && i < part.n; i++) {
        if (part.d[i] == -1 && unknown < 0)
            unknown = i;
        else
            sound = part.d[i] >= 0 && !__builtin_mul_overflow(known, part.d[i], &known);
    }
    if (sound && unknown >= 0 && known > 0)
        known *= part.d[unknown] = t->size[d] / known;
    if (!sound || known != t->size[d] || (unknown >= 0 && part.d[unknown] < 0))
        return fbi_op_fail(c, FB_E_SHAPE, "dimension %d of %s cannot become %s", d, fbi_text(t),
                           fbi_shape_text(c->ctx, a->sizes));
    for (int i = 0; i < t->ndim; i++)
        for (int k = 0; k < (i == d ? part.n : 1); k++)
            s.d[s.n++] = i == d ? part.d[k] : t->size[i];
    return fbi_composed(c, fb_view(t, s));
}

fb_status fbi_compose_squeeze(fbi_call *c)
{
    const fbi_attrs_squeeze *a = c->attrs;
    fb_tensor *t = c->in[0];
    unsigned listed = a->dims.n ? 0 : ~0u;
    fb_shape s = {0};
    for (int i = 0; i < a->dims.n; i++) {
        int d = dim_of_any(c, a->dims.d[i]);
        if (d < 0)
            return FB_E_ARG;
        if (listed & 1u << d)
            return fbi_op_fail(c, FB_E_ARG, "dimension %d is listed twice", d);
        listed |= 1u << d;
    }
    for (int i = 0; i < t->ndim; i++)
        if (t->size[i] != 1 || !(listed & 1u << i))
            s.d[s.n++] = t->size[i];
    return fbi_composed(c, fb_view(t, s));
}

fb_status fbi_compose_unsqueeze(fbi_call *c)
{
    int64_t dim = ((const fbi_attrs_unsqueeze *)c->attrs)->dim;
    fb_tensor *t = c->in[0];
    int64_t d = dim < 0 ? dim + t->ndim + 1 : dim;
    if (d < 0 || d > t->ndim || t->ndim == FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_ARG, "dimension %lld of %s", (long long)dim, fbi_text(t));
    fb_shape s = {0};
    for (int i = 0; i <= t->ndim; i++) {
        if (i == d)
            s.d[s.n++] = 1;
        if (i < t->ndim)
            s.d[s.n++] = t->size[i];
    }
    return fbi_composed(c, fb_view(t, s));
}

static fb_status at_least(fbi_call *c, int n)
{
    fb_tensor *t = c->in[0];
    fb_shape s = fb_shape_of(t);
    if (n == 3 && s.n == 2)
        s = FB_SHAPE(s.d[0], s.d[1], 1);
    else if (n == 3 && s.n == 1)
        s = FB_SHAPE(1, s.d[0], 1);
    else if (s.n < n)
        s = n == 1 ? FB_SHAPE(1) : n == 3 ? FB_SHAPE(1, 1, 1) : FB_SHAPE(1, s.n ? s.d[0] : 1);
    return fbi_composed(c, fb_view(t, s));
}

fb_status fbi_compose_atleast_1d(fbi_call *c)
{
    return at_least(c, 1);
}

fb_status fbi_compose_atleast_2d(fbi_call *c)
{
    return at_least(c, 2);
}

fb_status fbi_compose_atleast_3d(fbi_call *c)
{
    return at_least(c, 3);
}

/* --- sizes --- */

fb_status fbi_compose_broadcast_to(fbi_call *c)
{
    fb_shape to = ((const fbi_attrs_broadcast_to *)c->attrs)->sizes, s;
    if (fb_shape_numel(to) < 0 || !fbi_broadcast(fb_shape_of(c->in[0]), to, &s) ||
        !fb_shape_equal(s, to))
        return fbi_op_fail(c, FB_E_SHAPE, "%s cannot be broadcast to %s", fbi_text(c->in[0]),
                           fbi_shape_text(c->ctx, to));
    return fbi_composed(c, fb_expand(c->in[0], to));
}

fb_status fbi_compose_select(fbi_call *c)
{
    const fbi_attrs_select *a = c->attrs;
    fb_tensor *t = c->in[0];
    int d = fbi_dim_of(c, a->dim);
    if (d < 0)
        return FB_E_ARG;
    int64_t n = t->size[d], i = a->index < 0 ? a->index + n : a->index;
    if (i < 0 || i >= n)
        return fbi_op_fail(c, FB_E_ARG, "index %lld is out of range: dimension %d of %s",
                           (long long)a->index, d, fbi_text(t));
    fb_tensor *piece = fb_narrow(t, d, i, 1);
    return fbi_composed(c, piece ? fb_squeeze(piece, d) : NULL);
}

/* --- public --- */

fb_tensor *fb_transpose(fb_tensor *t, int dim0, int dim1)
{
    return FBI_RUN(transpose, (&(fbi_attrs_transpose){.dim0 = dim0, .dim1 = dim1}), t);
}

fb_tensor *fb_swapdims(fb_tensor *t, int dim0, int dim1)
{
    return FBI_RUN(swapdims, (&(fbi_attrs_swapdims){.dim0 = dim0, .dim1 = dim1}), t);
}

fb_tensor *fb_swapaxes(fb_tensor *t, int dim0, int dim1)
{
    return FBI_RUN(swapaxes, (&(fbi_attrs_swapaxes){.dim0 = dim0, .dim1 = dim1}), t);
}

fb_tensor *fb_moveaxis(fb_tensor *t, fb_shape from, fb_shape to)
{
    return FBI_RUN(moveaxis, (&(fbi_attrs_moveaxis){.from = from, .to = to}), t);
}

fb_tensor *fb_t(fb_tensor *t)
{
    return FBI_RUN(t, NULL, t);
}

fb_tensor *fb_movedim(fb_tensor *t, fb_shape from, fb_shape to)
{
    return FBI_RUN(movedim, (&(fbi_attrs_movedim){.from = from, .to = to}), t);
}

fb_tensor *fb_flatten(fb_tensor *t, int from, int to)
{
    return FBI_RUN(flatten, (&(fbi_attrs_flatten){.from = from, .to = to}), t);
}

fb_tensor *fb_ravel(fb_tensor *t)
{
    return FBI_RUN(ravel, NULL, t);
}

fb_tensor *fb_unflatten(fb_tensor *t, int dim, fb_shape sizes)
{
    return FBI_RUN(unflatten, (&(fbi_attrs_unflatten){.dim = dim, .sizes = sizes}), t);
}

fb_tensor *fb_squeeze(fb_tensor *t, int dim)
{
    return FBI_RUN(squeeze, (&(fbi_attrs_squeeze){.dims = FB_DIMS(dim)}), t);
}

fb_tensor *fb_squeeze_dims(fb_tensor *t, fb_shape dims)
{
    return FBI_RUN(squeeze, (&(fbi_attrs_squeeze){.dims = dims}), t);
}

fb_tensor *fb_unsqueeze(fb_tensor *t, int dim)
{
    return FBI_RUN(unsqueeze, (&(fbi_attrs_unsqueeze){.dim = dim}), t);
}

fb_tensor *fb_atleast_1d(fb_tensor *t)
{
    return FBI_RUN(atleast_1d, NULL, t);
}

fb_tensor *fb_atleast_2d(fb_tensor *t)
{
    return FBI_RUN(atleast_2d, NULL, t);
}

fb_tensor *fb_atleast_3d(fb_tensor *t)
{
    return FBI_RUN(atleast_3d, NULL, t);
}

fb_tensor *fb_broadcast_to(fb_tensor *t, fb_shape sizes)
{
    return FBI_RUN(broadcast_to, (&(fbi_attrs_broadcast_to){.sizes = sizes}), t);
}

fb_tensor *fb_select(fb_tensor *t, int dim, int64_t i)
{
    return FBI_RUN(select, (&(fbi_attrs_select){.dim = dim, .index = i}), t);
}

/* --- samples --- */

#define IN(...)         (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2})
#define SCALAR          (&(fbi_sample_in){.lo = -2, .hi = 2})
#define ATTRS(row, ...) (&(fbi_attrs_##row){__VA_ARGS__})

#define SWAP(row)                                                                     \
    void fbi_sample_##row(fbi_samples *s)                                             \
    {                                                                                 \
        fbi_sample_add(s, ATTRS(row, .dim0 = 0, .dim1 = -1), 1, IN(2, 3, 4));         \
        fbi_sample_add(s, ATTRS(row, .dim0 = 0, .dim1 = -1), 1, SCALAR);              \
        fbi_sample_bad(s, ATTRS(row, .dim0 = 0, .dim1 = 3), 1, IN(2, 3, 4), FB_E_ARG, \
                       #row ": no dimension 3 in input [2, 3, 4]");                   \
    }
SWAP(transpose)
SWAP(swapdims)
SWAP(swapaxes)

void fbi_sample_t(fbi_samples *s)
{
    fbi_sample_add(s, NULL, 1, IN(2, 3));
    fbi_sample_add(s, NULL, 1, IN(3));
    fbi_sample_bad(s, NULL, 1, IN(2, 3, 4), FB_E_SHAPE,
                   "t: input [2, 3, 4] has more than 2 dimensions");
}

#define MOVE(row)                                                                              \
    void fbi_sample_##row(fbi_samples *s)                                                      \
    {                                                                                          \
        fbi_attrs_##row a = {.from = FB_DIMS(0, -1), .to = FB_DIMS(1, 0)};                     \
        fbi_sample_add(s, &a, 1, IN(2, 3, 4));                                                 \
        a = (fbi_attrs_##row){.from = FB_DIMS(0), .to = FB_DIMS(-1)};                          \
        fbi_sample_add(s, &a, 1, IN(2, 3, 4, 2));                                              \
        a = (fbi_attrs_##row){.from = FB_DIMS(0, -1), .to = FB_DIMS(1, 1)};                    \
        fbi_sample_bad(s, &a, 1, IN(2, 3, 4), FB_E_ARG, #row ": a dimension is listed twice"); \
        a.to = FB_DIMS(1);                                                                     \
        fbi_sample_bad(s, &a, 1, IN(2, 3, 4), FB_E_ARG, #row ": 2 dimensions for 1 places");   \
    }
MOVE(movedim)
MOVE(moveaxis)

void fbi_sample_flatten(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(flatten, .from = 1, .to = -1), 1, IN(2, 3, 4));
    fbi_sample_add(s, ATTRS(flatten, .from = 0, .to = -1), 1, SCALAR);
    fbi_sample_bad(s, ATTRS(flatten, .from = 2, .to = 1), 1, IN(2, 3, 4), FB_E_ARG,
                   "flatten: dimension 2 lies behind 1");
}

void fbi_sample_ravel(fbi_samples *s)
{
    fbi_sample_add(s, NULL, 1, IN(2, 3, 4));
}

void fbi_sample_unflatten(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(unflatten, .dim = -2, .sizes = FB_SHAPE(2, -1)), 1, IN(2, 6, 2));
    fbi_sample_bad(s, ATTRS(unflatten, .dim = 1, .sizes = FB_SHAPE(4, -1)), 1, IN(2, 6), FB_E_SHAPE,
                   "unflatten: dimension 1 of [2, 6] cannot become [4, -1]");
}

void fbi_sample_squeeze(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(squeeze, .dims = FB_DIMS(1)), 1, IN(2, 1, 3, 1));
    fbi_sample_add(s, ATTRS(squeeze, .dims = FB_DIMS(0)), 1, IN(2, 1, 3, 1));
    fbi_sample_add(s, ATTRS(squeeze, .dims = FB_ALL), 1, IN(2, 1, 3, 1));
    fbi_sample_bad(s, ATTRS(squeeze, .dims = FB_DIMS(1, -1)), 1, IN(2, 1), FB_E_ARG,
                   "squeeze: dimension 1 is listed twice");
}

void fbi_sample_unsqueeze(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(unsqueeze, .dim = 1), 1, IN(2, 3));
    fbi_sample_add(s, ATTRS(unsqueeze, .dim = -1), 1, IN(2, 3));
    fbi_sample_bad(s, ATTRS(unsqueeze, .dim = 3), 1, IN(2, 3), FB_E_ARG,
                   "unsqueeze: dimension 3 of [2, 3]");
}

#define AT_LEAST(row)                         \
    void fbi_sample_##row(fbi_samples *s)     \
    {                                         \
        fbi_sample_add(s, NULL, 1, SCALAR);   \
        fbi_sample_add(s, NULL, 1, IN(3));    \
        fbi_sample_add(s, NULL, 1, IN(2, 3)); \
    }
AT_LEAST(atleast_1d)
AT_LEAST(atleast_2d)
AT_LEAST(atleast_3d)

void fbi_sample_broadcast_to(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(broadcast_to, .sizes = FB_SHAPE(2, 3, 4)), 1, IN(3, 1));
    fbi_sample_bad(s, ATTRS(broadcast_to, .sizes = FB_SHAPE(2, 4)), 1, IN(3, 1), FB_E_SHAPE,
                   "broadcast_to: [3, 1] cannot be broadcast to [2, 4]");
}

void fbi_sample_select(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(select, .dim = 1, .index = -1), 1, IN(2, 3, 4));
    fbi_sample_bad(s, ATTRS(select, .dim = 1, .index = 3), 1, IN(2, 3, 4), FB_E_ARG,
                   "select: index 3 is out of range: dimension 1 of [2, 3, 4]");
}
