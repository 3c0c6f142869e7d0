/* cat, and what is made of it: shapes, backward, samples. */
#include <stdlib.h>

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/op_priv.h"

/* Backward needs the sizes along dim, and attributes have a fixed size: `each` if all are equal,
 * else a list of at most 8 (longer ones are joined in groups). infer notes them. */
static void note_sizes(const fbi_call *c, fbi_attrs_cat *a, int d)
{
    a->each = c->in[0]->size[d];
    a->sizes.n = c->n_in <= FB_MAX_DIMS ? c->n_in : 0;
    for (int i = 0; i < c->n_in; i++) {
        if (c->in[i]->size[d] != a->each)
            a->each = -1;
        if (i < a->sizes.n)
            a->sizes.d[i] = c->in[i]->size[d];
        if (a->each < 0 && !a->sizes.n)
            return;
    }
}

fb_status fbi_infer_cat(fbi_call *c)
{
    fbi_attrs_cat *a = (fbi_attrs_cat *)c->attrs;
    const fb_tensor *x = c->in[0];
    int64_t given = a->dim, d = given < 0 ? given + x->ndim : given, total = 0;
    if (d < 0 || d >= x->ndim)
        return fbi_op_fail(c, FB_E_ARG, "no dimension %lld in input %s", (long long)given,
                           fbi_text(x));
    for (int i = 0; i < c->n_in; i++) {
        const fb_tensor *t = c->in[i];
        bool fits = t->ndim == x->ndim;
        for (int k = 0; fits && k < x->ndim; k++)
            fits = k == d || t->size[k] == x->size[k];
        if (!fits)
            return fbi_op_fail(c, FB_E_SHAPE, "input %d %s does not fit input 0 %s along %lld", i,
                               fbi_text(t), fbi_text(x), (long long)given);
        if (t->dtype != x->dtype)
            return fbi_op_fail(c, FB_E_DTYPE, "input %d is %s, input 0 is %s", i,
                               fb_dtype_name((fb_dtype)t->dtype),
                               fb_dtype_name((fb_dtype)x->dtype));
        total += t->size[d];
    }
    note_sizes(c, a, (int)d);
    if (a->each < 0 && a->sizes.n == 0)
        return fbi_op_fail(c, FB_E_UNSUPPORTED,
                           "%d inputs of different sizes in one call: fb_cat joins them in groups",
                           (int)c->n_in);
    fb_shape s = fb_shape_of(x);
    s.d[d] = total;
    return fbi_out(c, 0, (fb_dtype)x->dtype, s);
}

fb_status fbi_bwd_ops_cat(fbi_bw *bw)
{
    const fbi_attrs_cat *a = bw->attrs;
    int64_t start = 0;
    for (int i = 0; i < bw->node->n_in; i++) {
        int64_t len = a->each >= 0 ? a->each : a->sizes.d[i];
        fb_status st = FB_OK;
        if (fbi_bw_needs(bw, i))
            st = fbi_bw_give(bw, i, fb_narrow(bw->grad[0], (int)a->dim, start, len));
        if (st)
            return st;
        start += len;
    }
    return FB_OK;
}

static bool equal_sizes(fb_tensors x, int dim)
{
    for (int i = 1; i < x.n; i++)
        if (fb_size(x.t[i], dim) != fb_size(x.t[0], dim))
            return false;
    return true;
}

/* As in PyTorch, inputs of different dtypes are joined in their common one. */
static fb_tensor *cat_run(const void *site, fb_tensors x, int dim)
{
    fb_dtype wide = fb_dtype_of(x.t[0]);
    bool same = true;
    for (int i = 1; i < x.n; i++) {
        same = same && fb_dtype_of(x.t[i]) == fb_dtype_of(x.t[0]);
        wide = fb_promote(wide, fb_dtype_of(x.t[i]));
    }
    if (same)
        return fbi_run1(site, FBI_OP_cat, &(fbi_attrs_cat){.dim = dim}, x.n, x.t);
    fb_tensor **cast = malloc((size_t)x.n * sizeof(*cast)), *y = NULL;
    if (!cast) {
        fbi_fail(x.t[0]->ctx, FB_E_NOMEM, "cat: no memory for %d handles", x.n);
        return NULL;
    }
    for (int i = 0; i < x.n; i++)
        cast[i] = fb_to(x.t[i], wide);
    if (!x.t[0]->ctx->status)
        y = fbi_run1(site, FBI_OP_cat, &(fbi_attrs_cat){.dim = dim}, x.n, cast);
    free(cast);
    return y;
}

/* Context of a list, or NULL; with an error where one can be recorded. */
static fb_context *list_context(fb_tensors x, const char *op)
{
    fb_context *ctx = NULL;
    for (int i = 0; i < x.n && !ctx; i++)
        ctx = fb_context_of(x.t[i]);
    for (int i = 0; i < x.n && ctx; i++)
        if (!x.t[i]) {
            fbi_fail(ctx, FB_E_ARG, "%s: input %d is NULL", op, i);
            return NULL;
        }
    if (ctx && x.n > UINT16_MAX) {
        fbi_fail(ctx, FB_E_ARG, "%s: %d inputs, at most %d can be joined", op, x.n, UINT16_MAX);
        return NULL;
    }
    return ctx;
}

fb_tensor *fb_cat(fb_tensors x, int dim)
{
    const void *site = FBI_SITE;
    fb_context *ctx = list_context(x, "cat");
    if (!ctx)
        return NULL;
    FBI_ENTRY(ctx);
    if (x.n <= FB_MAX_DIMS || equal_sizes(x, dim))
        return cat_run(site, x, dim);
    int groups = (x.n + FB_MAX_DIMS - 1) / FB_MAX_DIMS;
    fb_tensor **part = malloc((size_t)groups * sizeof(*part));
    if (!part) {
        fbi_fail(ctx, FB_E_NOMEM, "cat: no memory for %d handles", groups);
        return NULL;
    }
    for (int g = 0; g < groups; g++) {
        int first = g * FB_MAX_DIMS, n = x.n - first < FB_MAX_DIMS ? x.n - first : FB_MAX_DIMS;
        part[g] = cat_run(site, (fb_tensors){x.t + first, n}, dim);
    }
    fb_tensor *y = ctx->status ? NULL : fb_cat((fb_tensors){part, groups}, dim);
    free(part);
    return y;
}

/* --- rows made of cat --- */

/* c's inputs as `shaped` makes them, joined along dim. */
static fb_status join_shaped(fbi_call *c, int dim, fb_tensor *(*shaped)(fb_tensor *t, int dim))
{
    fb_tensor **t = malloc((size_t)c->n_in * sizeof(*t)), *y = NULL;
    if (!t)
        return fbi_op_fail(c, FB_E_NOMEM, "no memory for %d handles", (int)c->n_in);
    for (int i = 0; i < c->n_in; i++)
        t[i] = shaped(c->in[i], dim);
    if (!c->ctx->status)
        y = fb_cat((fb_tensors){t, c->n_in}, dim);
    free(t);
    return fbi_composed(c, y);
}

fb_status fbi_compose_stack(fbi_call *c)
{
    int64_t given = ((const fbi_attrs_stack *)c->attrs)->dim;
    int n = c->in[0]->ndim + 1;
    int64_t d = given < 0 ? given + n : given;
    if (d < 0 || d >= n || n > FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_ARG, "dimension %lld for inputs %s", (long long)given,
                           fbi_text(c->in[0]));
    for (int i = 1; i < c->n_in; i++)
        if (!fbi_same_shape(c->in[i], c->in[0]))
            return fbi_op_fail(c, FB_E_SHAPE, "input %d %s differs from input 0 %s", i,
                               fbi_text(c->in[i]), fbi_text(c->in[0]));
    return join_shaped(c, (int)d, fb_unsqueeze);
}

/* Inputs fit along `dim`, once they have at least `ndim` dimensions; `row` says how they are
 * joined.
 */
static fb_status check_stacked(const fbi_call *c, int ndim, int dim,
                               fb_tensor *(*shaped)(fb_tensor *))
{
    fb_tensor *first = shaped(c->in[0]);
    for (int i = 1; first && i < c->n_in; i++) {
        fb_tensor *t = shaped(c->in[i]);
        bool fits = t && t->ndim == first->ndim;
        for (int k = 0; fits && k < t->ndim; k++)
            fits = k == dim || t->size[k] == first->size[k];
        if (t && !fits)
            return fbi_op_fail(c, FB_E_SHAPE,
                               "input %d %s does not fit input 0 %s, as tensors of at least %d "
                               "dimensions along %d",
                               i, fbi_text(c->in[i]), fbi_text(c->in[0]), ndim, dim);
    }
    return c->ctx->status;
}

static fb_tensor *shaped_1d(fb_tensor *t, int dim)
{
    (void)dim;
    return fb_atleast_1d(t);
}

static fb_tensor *shaped_2d(fb_tensor *t, int dim)
{
    (void)dim;
    return fb_atleast_2d(t);
}

static fb_tensor *shaped_3d(fb_tensor *t, int dim)
{
    (void)dim;
    return fb_atleast_3d(t);
}

static fb_tensor *column(fb_tensor *t)
{
    return fb_ndim(t) < 2 ? fb_view(t, FB_SHAPE(fb_numel(t), 1)) : fb_view(t, fb_shape_of(t));
}

static fb_tensor *shaped_column(fb_tensor *t, int dim)
{
    (void)dim;
    return column(t);
}

fb_status fbi_compose_hstack(fbi_call *c)
{
    int dim = c->in[0]->ndim < 2 ? 0 : 1;
    fb_status st = check_stacked(c, 1, dim, fb_atleast_1d);
    return st ? st : join_shaped(c, dim, shaped_1d);
}

fb_status fbi_compose_vstack(fbi_call *c)
{
    fb_status st = check_stacked(c, 2, 0, fb_atleast_2d);
    return st ? st : join_shaped(c, 0, shaped_2d);
}

fb_status fbi_compose_dstack(fbi_call *c)
{
    fb_status st = check_stacked(c, 3, 2, fb_atleast_3d);
    return st ? st : join_shaped(c, 2, shaped_3d);
}

fb_status fbi_compose_column_stack(fbi_call *c)
{
    fb_status st = check_stacked(c, 2, 1, column);
    return st ? st : join_shaped(c, 1, shaped_column);
}

static fb_tensor *run_list(const void *site, fbi_op op, const void *attrs, fb_tensors x)
{
    fb_context *ctx = list_context(x, fbi_opdefs[op].name);
    return ctx ? fbi_run1(site, op, attrs, x.n, x.t) : NULL;
}

fb_tensor *fb_stack(fb_tensors x, int dim)
{
    return run_list(FBI_SITE, FBI_OP_stack, &(fbi_attrs_stack){.dim = dim}, x);
}

fb_tensor *fb_hstack(fb_tensors x)
{
    return run_list(FBI_SITE, FBI_OP_hstack, NULL, x);
}

fb_tensor *fb_vstack(fb_tensors x)
{
    return run_list(FBI_SITE, FBI_OP_vstack, NULL, x);
}

fb_tensor *fb_dstack(fb_tensors x)
{
    return run_list(FBI_SITE, FBI_OP_dstack, NULL, x);
}

fb_tensor *fb_column_stack(fb_tensors x)
{
    return run_list(FBI_SITE, FBI_OP_column_stack, NULL, x);
}

void fbi_sample_cat(fbi_samples *s)
{
    fbi_sample_in in[3] = {{.shape = FB_SHAPE(2, 3, 2), .lo = -2, .hi = 2},
                           {.shape = FB_SHAPE(2, 1, 2), .lo = -2, .hi = 2},
                           {.shape = FB_SHAPE(2, 4, 2), .lo = -2, .hi = 2}};
    fbi_attrs_cat a = {.dim = 1};
    fbi_sample_add(s, &a, 3, in);
    fbi_sample_add(s, &(fbi_attrs_cat){.dim = -2}, 2, in);
    fbi_sample_add(s, &(fbi_attrs_cat){.dim = 0}, 1, in);
    fbi_sample_bad(s, &(fbi_attrs_cat){.dim = 0}, 3, in, FB_E_SHAPE,
                   "input 1 [2, 1, 2] does not fit input 0 [2, 3, 2] along 0");
    in[1].dtype = FB_I64;
    in[1].constant = true;
    fbi_sample_bad(s, &a, 2, in, FB_E_DTYPE, "input 1 is I64, input 0 is");
}

#define IN(...)                                           \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2 \
    }

void fbi_sample_stack(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(2, 3), IN(2, 3), IN(2, 3)};
    fbi_sample_add(s, &(fbi_attrs_stack){.dim = 1}, 3, in);
    fbi_sample_add(s, &(fbi_attrs_stack){.dim = -1}, 2, in);
    fbi_sample_bad(s, &(fbi_attrs_stack){.dim = 3}, 2, in, FB_E_ARG,
                   "stack: dimension 3 for inputs [2, 3]");
    in[1].shape = FB_SHAPE(3, 2);
    fbi_sample_bad(s, &(fbi_attrs_stack){.dim = 0}, 2, in, FB_E_SHAPE,
                   "stack: input 1 [3, 2] differs from input 0 [2, 3]");
}

/* Scalars, vectors and tensors that fit; then two that do not. */
static void samples_of(fbi_samples *s, fb_shape a, fb_shape b, fb_shape bad, const char *text)
{
    fbi_sample_in scalars[2] = {{.lo = -2, .hi = 2}, {.lo = -2, .hi = 2}};
    fbi_sample_in vectors[2] = {IN(3), IN(3)}, in[2] = {IN(1), IN(1)};
    in[0].shape = a;
    in[1].shape = b;
    fbi_sample_add(s, NULL, 2, scalars);
    fbi_sample_add(s, NULL, 2, vectors);
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = bad;
    fbi_sample_bad(s, NULL, 2, in, FB_E_SHAPE, text);
}

void fbi_sample_hstack(fbi_samples *s)
{
    samples_of(s, FB_SHAPE(2, 3), FB_SHAPE(2, 1), FB_SHAPE(3, 3),
               "hstack: input 1 [3, 3] does not fit input 0 [2, 3]");
}

void fbi_sample_vstack(fbi_samples *s)
{
    samples_of(s, FB_SHAPE(2, 3), FB_SHAPE(3), FB_SHAPE(2, 2),
               "vstack: input 1 [2, 2] does not fit input 0 [2, 3]");
}

void fbi_sample_dstack(fbi_samples *s)
{
    samples_of(s, FB_SHAPE(2, 3), FB_SHAPE(2, 3, 2), FB_SHAPE(3, 3),
               "dstack: input 1 [3, 3] does not fit input 0 [2, 3]");
}

void fbi_sample_column_stack(fbi_samples *s)
{
    samples_of(s, FB_SHAPE(2, 3), FB_SHAPE(2), FB_SHAPE(3),
               "column_stack: input 1 [3] does not fit input 0 [2, 3]");
}
