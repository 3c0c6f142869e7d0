/* scatter, index_copy, index_put and their kin: arguments checked, then the rows of scatter.c. */
#include <stdlib.h>

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/scatter.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/index_priv.h"
#include "core/ops/scatter_priv.h"

/* --- elements --- */

/* Inputs x, index and perhaps src fit along dim. @return dim, or -1 with the error set */
static int check_elements(const fbi_call *c, int64_t dim)
{
    const fb_tensor *x = c->in[0], *index = c->in[1], *src = c->n_in > 2 ? c->in[2] : NULL;
    int d = fbi_dim_of(c, dim);
    if (d < 0 || fbi_need_index(c, 1))
        return -1;
    bool fits = index->ndim == x->ndim && (!src || src->ndim == x->ndim);
    for (int i = 0; fits && i < x->ndim; i++)
        fits = (i == d || index->size[i] <= x->size[i]) && (!src || index->size[i] <= src->size[i]);
    if (fits && (!src || src->dtype == x->dtype))
        return d;
    if (fits)
        fbi_op_fail(c, FB_E_DTYPE, "source is %s, input is %s", fb_dtype_name((fb_dtype)src->dtype),
                    fb_dtype_name((fb_dtype)x->dtype));
    else
        fbi_op_fail(c, FB_E_SHAPE,
                    "index %s does not fit input %s and source %s along dimension %d",
                    fbi_text(index), fbi_text(x), src ? fbi_text(src) : "(a value)", d);
    return -1;
}

/* The part of src that index covers. */
static fb_tensor *covered(fb_tensor *src, fb_tensor *index)
{
    for (int d = 0; src && d < index->ndim; d++)
        if (index->size[d] < src->size[d])
            src = fb_narrow(src, d, 0, index->size[d]);
    return src;
}

static fb_status set(fbi_call *c, int64_t dim, int how, bool self)
{
    int d = check_elements(c, dim);
    if (d < 0)
        return c->ctx->status;
    fb_tensor *src = covered(c->in[2], c->in[1]);
    return fbi_composed(c, src ? fbi_set_elements(c->in[0], d, c->in[1], src, how, self) : NULL);
}

fb_status fbi_compose_scatter(fbi_call *c)
{
    return set(c, ((const fbi_attrs_scatter *)c->attrs)->dim, FBI_SET_COPY, true);
}

fb_status fbi_compose_scatter_add(fbi_call *c)
{
    return set(c, ((const fbi_attrs_scatter_add *)c->attrs)->dim, FBI_SET_SUM, true);
}

fb_status fbi_compose_scatter_value(fbi_call *c)
{
    const fbi_attrs_scatter_value *a = c->attrs;
    int d = check_elements(c, a->dim);
    if (d < 0)
        return c->ctx->status;
    fbi_attrs_set_elements b = {.dim = d, .how = FBI_SET_COPY, .self = 1, .value = a->value};
    return fbi_composed(c, FBI_RUN(set_elements, &b, c->in[0], c->in[1], NULL));
}

/* How, of the user's number; -1 with the error set. */
static int reduction_of(const fbi_call *c, int64_t how)
{
    if (how >= FB_SCATTER_SUM && how <= FB_SCATTER_AMIN)
        return (int)how;
    fbi_op_fail(c, FB_E_ARG, "%lld is no reduction", (long long)how);
    return -1;
}

static fb_status reduce(fbi_call *c, int d, int how, bool self, fb_tensor *index, fb_tensor *src)
{
    if (how == FBI_SET_SUM || how == FBI_SET_MEAN)
        return fbi_composed(c, fbi_set_elements(c->in[0], d, index, src, how, self));
    fbi_attrs_join_elements a = {.dim = d, .how = how, .self = self};
    return fbi_composed(c, FBI_RUN(join_elements, &a, c->in[0], index, src));
}

fb_status fbi_compose_scatter_reduce(fbi_call *c)
{
    const fbi_attrs_scatter_reduce *a = c->attrs;
    int how = reduction_of(c, a->how), d = how < 0 ? -1 : check_elements(c, a->dim);
    fb_tensor *src = d < 0 ? NULL : covered(c->in[2], c->in[1]);
    return src ? reduce(c, d, how, a->include_self != 0, c->in[1], src) : c->ctx->status;
}

/* --- slices --- */

/* Inputs x, index [n] and perhaps src, of n slices, fit. @return dim, or -1 with the error set */
static int check_slices(const fbi_call *c, int64_t dim)
{
    const fb_tensor *x = c->in[0], *index = c->in[1], *src = c->n_in > 2 ? c->in[2] : NULL;
    int d = fbi_dim_of(c, dim);
    if (d < 0 || fbi_need_index(c, 1))
        return -1;
    bool fits = index->ndim <= 1 && (!src || src->ndim == x->ndim);
    for (int i = 0; fits && src && i < x->ndim; i++)
        fits = src->size[i] == (i == d ? index->numel : x->size[i]);
    if (fits && (!src || src->dtype == x->dtype))
        return d;
    if (fits)
        fbi_op_fail(c, FB_E_DTYPE, "source is %s, input is %s", fb_dtype_name((fb_dtype)src->dtype),
                    fb_dtype_name((fb_dtype)x->dtype));
    else
        fbi_op_fail(c, FB_E_SHAPE,
                    "index %s does not fit input %s and source %s along dimension %d",
                    fbi_text(index), fbi_text(x), src ? fbi_text(src) : "(a value)", d);
    return -1;
}

fb_status fbi_compose_index_copy(fbi_call *c)
{
    int d = check_slices(c, ((const fbi_attrs_index_copy *)c->attrs)->dim);
    if (d < 0)
        return c->ctx->status;
    return fbi_composed(c, fbi_set_slices(c->in[0], d, c->in[1], c->in[2], FBI_SET_COPY));
}

fb_status fbi_compose_index_add(fbi_call *c)
{
    const fbi_attrs_index_add *a = c->attrs;
    int d = check_slices(c, a->dim);
    if (d < 0)
        return c->ctx->status;
    fb_tensor *src = a->alpha == 1 ? c->in[2] : fb_mul_scalar(c->in[2], a->alpha);
    src = src ? fb_to(src, (fb_dtype)c->in[0]->dtype) : NULL; /* of BOOL the product is I64 */
    return fbi_composed(c, src ? fbi_set_slices(c->in[0], d, c->in[1], src, FBI_SET_SUM) : NULL);
}

fb_status fbi_compose_index_fill(fbi_call *c)
{
    const fbi_attrs_index_fill *a = c->attrs;
    int d = check_slices(c, a->dim);
    if (d < 0)
        return c->ctx->status;
    fbi_attrs_set_slices b = {.dim = d, .how = FBI_SET_COPY, .value = a->value};
    return fbi_composed(c, FBI_RUN(set_slices, &b, c->in[0], c->in[1], NULL));
}

fb_status fbi_compose_index_reduce(fbi_call *c)
{
    const fbi_attrs_index_reduce *a = c->attrs;
    int how = reduction_of(c, a->how), d = how < 0 ? -1 : check_slices(c, a->dim);
    if (d < 0)
        return c->ctx->status;
    if (how == FBI_SET_SUM)
        return fbi_op_fail(c, FB_E_ARG, "sums are index_add's");
    fb_shape line = {.n = c->in[0]->ndim};
    for (int i = 0; i < line.n; i++)
        line.d[i] = i == d ? c->in[1]->numel : 1;
    fb_tensor *index = fb_reshape(c->in[1], line);
    index = index ? fb_expand(index, fb_shape_of(c->in[2])) : NULL;
    return index ? reduce(c, d, how, a->include_self != 0, index, c->in[2]) : c->ctx->status;
}

/* --- several indices --- */

fb_status fbi_infer_index_places(fbi_call *c)
{
    return fbi_out(c, 0, FB_I64, fb_shape_of(c->in[0]));
}

/* Inputs first .. of c, of the first dimensions of x, as places in these, in their common shape. */
static fb_tensor *places(fbi_call *c, int first)
{
    fb_tensor *x = c->in[0], *index[FB_MAX_DIMS];
    int n = c->n_in - first;
    fbi_attrs_index_places a = {.sizes = {.n = n}};
    fb_shape s = FB_SCALAR;
    if (n < 1 || n > x->ndim) {
        fbi_op_fail(c, FB_E_ARG, "%d indices for input %s", n, fbi_text(x));
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        if (fbi_need_index(c, first + i))
            return NULL;
        if (!fbi_broadcast(s, fb_shape_of(c->in[first + i]), &s)) {
            fbi_op_fail(c, FB_E_SHAPE, "index %d %s cannot be broadcast with those before", i,
                        fbi_text(c->in[first + i]));
            return NULL;
        }
        a.sizes.d[i] = x->size[i];
    }
    for (int i = 0; i < n; i++) {
        index[i] = fb_expand(c->in[first + i], s);
        if (!index[i])
            return NULL;
    }
    return fbi_run1(c->ctx->site, FBI_OP_index_places, &a, n, index);
}

/* x with its first n dimensions as one. */
static fb_tensor *merged(fb_tensor *x, int n)
{
    fb_shape s = {.n = 1, .d = {1}};
    for (int i = 0; i < x->ndim; i++) {
        if (i < n)
            s.d[0] *= x->size[i];
        else
            s.d[s.n++] = x->size[i];
    }
    return fb_reshape(x, s);
}

/* The shape of x at these places. */
static fb_status shape_at(const fbi_call *c, const fb_tensor *at, int n, fb_shape *s)
{
    const fb_tensor *x = c->in[0];
    *s = fb_shape_of(at);
    if (at->ndim + x->ndim - n > FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_SHAPE, "indices %s of input %s have too many dimensions",
                           fbi_text(at), fbi_text(x));
    for (int i = n; i < x->ndim; i++)
        s->d[s->n++] = x->size[i];
    return FB_OK;
}

fb_status fbi_compose_index(fbi_call *c)
{
    int n = c->n_in - 1;
    fb_shape s;
    fb_tensor *at = places(c, 1);
    fb_status st = at ? shape_at(c, at, n, &s) : c->ctx->status;
    if (st)
        return st;
    fb_tensor *flat = merged(c->in[0], n), *line = fb_reshape(at, FB_SHAPE(at->numel));
    fb_tensor *y = flat && line ? fb_index_select(flat, 0, line) : NULL;
    return fbi_composed(c, y ? fb_reshape(y, s) : NULL);
}

/* x with values [n, rest of x's sizes] at places [n] of the first dimensions. */
static fb_tensor *put_slices(fb_tensor *x, int dims, fb_tensor *at, fb_tensor *values, bool add)
{
    fb_tensor *flat = merged(x, dims), *line = fb_reshape(at, FB_SHAPE(at->numel));
    if (!flat || !line || !values)
        return NULL;
    fb_shape s = fb_shape_of(flat);
    s.d[0] = at->numel;
    fb_tensor *rows = fb_reshape(values, s);
    fb_tensor *y =
        rows ? fbi_set_slices(flat, 0, line, rows, add ? FBI_SET_SUM : FBI_SET_COPY) : NULL;
    return y ? fb_reshape(y, fb_shape_of(x)) : NULL;
}

fb_status fbi_compose_index_put(fbi_call *c)
{
    const fbi_attrs_index_put *a = c->attrs;
    int n = c->n_in - 2;
    fb_shape s, both;
    if (n < 1)
        return fbi_op_fail(c, FB_E_ARG, "takes an input, values and at least one index");
    fb_tensor *values = c->in[1], *at = places(c, 2);
    fb_status st = at ? shape_at(c, at, n, &s) : c->ctx->status;
    if (st)
        return st;
    if (values->dtype != c->in[0]->dtype)
        return fbi_op_fail(c, FB_E_DTYPE, "values are %s, input is %s",
                           fb_dtype_name((fb_dtype)values->dtype),
                           fb_dtype_name((fb_dtype)c->in[0]->dtype));
    if (!fbi_broadcast(fb_shape_of(values), s, &both) || !fb_shape_equal(both, s))
        return fbi_op_fail(c, FB_E_SHAPE, "values %s cannot be broadcast to %s", fbi_text(values),
                           fbi_shape_text(c->ctx, s));
    return fbi_composed(c, put_slices(c->in[0], n, at, fb_expand(values, s), a->accumulate != 0));
}

/* Input 1 as places in input 0, row-major. */
static fb_tensor *flat_places(fbi_call *c)
{
    if (fbi_need_index(c, 1))
        return NULL;
    fbi_attrs_index_places a = {.sizes = FB_SHAPE(c->in[0]->numel)};
    return FBI_RUN(index_places, &a, c->in[1]);
}

fb_status fbi_compose_take(fbi_call *c)
{
    fb_tensor *at = flat_places(c), *flat = at ? fb_ravel(c->in[0]) : NULL;
    fb_tensor *line = flat ? fb_ravel(at) : NULL, *y = line ? fb_gather(flat, 0, line) : NULL;
    return fbi_composed(c, y ? fb_reshape(y, fb_shape_of(c->in[1])) : NULL);
}

fb_status fbi_compose_put(fbi_call *c)
{
    const fbi_attrs_put *a = c->attrs;
    fb_tensor *x = c->in[0], *src = c->in[2];
    if (src->dtype != x->dtype)
        return fbi_op_fail(c, FB_E_DTYPE, "source is %s, input is %s",
                           fb_dtype_name((fb_dtype)src->dtype), fb_dtype_name((fb_dtype)x->dtype));
    if (src->numel != c->in[1]->numel)
        return fbi_op_fail(c, FB_E_SHAPE, "source %s has not as many elements as index %s",
                           fbi_text(src), fbi_text(c->in[1]));
    fb_tensor *at = flat_places(c), *flat = at ? fb_ravel(x) : NULL;
    fb_tensor *y = flat ? put_slices(flat, 1, at, fb_ravel(src), a->accumulate != 0) : NULL;
    return fbi_composed(c, y ? fb_reshape(y, fb_shape_of(x)) : NULL);
}

fb_status fbi_compose_take_along_dim(fbi_call *c)
{
    fb_tensor *x = c->in[0], *index = c->in[1];
    int d = fbi_dim_of(c, ((const fbi_attrs_take_along_dim *)c->attrs)->dim);
    if (d < 0)
        return FB_E_ARG;
    fb_shape xs = fb_shape_of(x), is = fb_shape_of(index), s;
    if (xs.n == is.n)
        xs.d[d] = is.d[d] = 1;
    if (xs.n != is.n || !fbi_broadcast(xs, is, &s))
        return fbi_op_fail(c, FB_E_SHAPE, "input %s and index %s do not fit along dimension %d",
                           fbi_text(x), fbi_text(index), d);
    xs = is = s;
    xs.d[d] = x->size[d];
    is.d[d] = index->size[d];
    x = fb_expand(x, xs);
    index = x ? fb_expand(index, is) : NULL;
    return fbi_composed(c, index ? fb_gather(x, d, index) : NULL);
}

fb_status fbi_compose_one_hot(fbi_call *c)
{
    fb_tensor *index = c->in[0];
    int64_t n = ((const fbi_attrs_one_hot *)c->attrs)->classes;
    if (fbi_need_index(c, 0))
        return c->ctx->status;
    if (n == 0 || n < -1 || (n == -1 && index->numel == 0) || index->ndim == FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_ARG, "%lld classes for index %s", (long long)n, fbi_text(index));
    if (n == -1) {
        fb_tensor *most = fb_amax(fb_to(index, FB_I64), FB_ALL, false);
        n = most ? fb_item_int(most) + 1 : 0;
        if (c->ctx->status)
            return c->ctx->status;
        n = n < 1 ? 1 : n; /* a negative index is named by scatter */
    }
    fb_shape s = fb_shape_of(index);
    s.d[s.n++] = n;
    fb_tensor *zeros = fb_zeros(c->ctx, FB_I64, s), *at = fb_unsqueeze(index, -1);
    return fbi_composed(c, zeros && at ? fb_scatter_value(zeros, -1, at, 1) : NULL);
}
