/* as_strided, diagonal, unfold and what they are made backwards of: shapes, backward, samples. */
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/strided.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/half_priv.h"
#include "core/ops/strided_priv.h"

static fb_shape row_major(fb_shape sizes)
{
    fb_shape s = {.n = sizes.n};
    int64_t step = 1;
    for (int i = sizes.n - 1; i >= 0; i--) {
        s.d[i] = step;
        step *= sizes.d[i];
    }
    return s;
}

/* The last element minus the first, in elements of the storage. */
static int64_t reach(fb_shape sizes, fb_shape strides)
{
    int64_t far = 0;
    for (int i = 0; i < sizes.n; i++)
        far += (sizes.d[i] - 1) * strides.d[i];
    return far;
}

/* --- strided_sum: in is added into zeros of shape `into`, its element i at offset + i . strides
 * --- */

fb_status fbi_infer_strided_sum(fbi_call *c)
{
    fbi_attrs_strided_sum *a = (fbi_attrs_strided_sum *)c->attrs; /* infer completes it */
    a->sizes = fb_shape_of(c->in[0]);
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, a->into);
}

fb_status fbi_bwd_ops_strided_sum(fbi_bw *bw)
{
    const fbi_attrs_strided_sum *a = bw->attrs;
    fb_tensor *g = fb_contiguous(bw->grad[0]);
    if (!g)
        return bw->ctx->status;
    return fbi_bw_give(bw, 0, fb_as_strided(g, a->sizes, a->strides, g->offset + a->offset));
}

static fb_tensor *strided_sum(fb_tensor *g, fb_shape into, fb_shape strides, int64_t offset)
{
    fbi_attrs_strided_sum a = {.into = into, .strides = strides, .offset = offset};
    return FBI_RUN(strided_sum, &a, g);
}

/* --- as_strided --- */

fb_status fbi_infer_as_strided(fbi_call *c)
{
    fbi_attrs_as_strided *a = (fbi_attrs_as_strided *)(uintptr_t)c->attrs;
    fb_tensor *t = c->in[0];
    int64_t offset = a->offset < 0 ? t->offset : a->offset;
    int64_t n = fb_shape_numel(a->sizes);
    int64_t holds = (int64_t)(t->storage->bytes / fb_dtype_size((fb_dtype)t->dtype)), far = offset;
    bool sound = n >= 0 && a->sizes.n == a->strides.n;
    for (int i = 0; sound && i < a->sizes.n; i++) {
        int64_t stride = a->strides.d[i], step;
        sound =
            stride >= 0 && (n == 0 || !__builtin_mul_overflow(a->sizes.d[i] - 1, stride, &step));
        sound = sound && (n == 0 || !__builtin_add_overflow(far, step, &far));
    }
    if (!sound)
        return fbi_op_fail(c, FB_E_ARG, "sizes %s with strides %s",
                           fbi_shape_text(c->ctx, a->sizes), fbi_shape_text(c->ctx, a->strides));
    if (n > 0 && far >= holds)
        return fbi_op_fail(c, FB_E_ARG,
                           "sizes %s with strides %s from element %lld on end at element %lld; the "
                           "storage holds %lld",
                           fbi_shape_text(c->ctx, a->sizes), fbi_shape_text(c->ctx, a->strides),
                           (long long)offset, (long long)far, (long long)holds);
    a->offset = offset;
    a->from = fb_shape_of(t);
    a->from_strides = fbi_strides_of(t);
    a->from_offset = t->offset;
    return fbi_out_view(c, 0, t, a->sizes, a->strides, offset);
}

/* The gradient of each place of the storage that either of the two sees, and of these the input's.
 * Where several elements of the input share a place, each gets its part. */
fb_status fbi_bwd_ops_as_strided(fbi_bw *bw)
{
    const fbi_attrs_as_strided *a = bw->attrs;
    if (fb_shape_numel(a->from) == 0 || bw->grad[0]->numel == 0)
        return fbi_bw_give(bw, 0, fb_zeros(bw->ctx, (fb_dtype)bw->grad[0]->dtype, a->from));
    int64_t first = a->offset < a->from_offset ? a->offset : a->from_offset;
    int64_t end = a->offset + reach(a->sizes, a->strides);
    int64_t end_from = a->from_offset + reach(a->from, a->from_strides);
    fb_shape window = FB_SHAPE((end > end_from ? end : end_from) - first + 1);
    fb_tensor *g = strided_sum(fbi_exact(bw->grad[0]), window, a->strides, a->offset - first);
    fbi_strided in = fbi_strided_of(a->from, a->from_strides, a->from_offset - first);
    if (g && fbi_strided_overlaps(&in)) {
        fb_tensor *ones = fb_ones(bw->ctx, (fb_dtype)g->dtype, a->from);
        fb_tensor *shared = ones ? strided_sum(ones, window, a->from_strides, in.offset) : NULL;
        fb_tensor *one = fb_ones(bw->ctx, (fb_dtype)g->dtype, FB_SCALAR);
        g = fb_div(g, shared && one ? fb_maximum(shared, one) : NULL);
    }
    g = g ? fb_as_strided(g, a->from, a->from_strides, g->offset + in.offset) : NULL;
    return fbi_bw_give(bw, 0, g ? fb_to(g, (fb_dtype)bw->grad[0]->dtype) : NULL);
}

/* --- diagonal --- */

fb_status fbi_infer_diagonal(fbi_call *c)
{
    fbi_attrs_diagonal *a = (fbi_attrs_diagonal *)(uintptr_t)c->attrs;
    fb_tensor *t = c->in[0];
    int p = fbi_dim_of(c, a->dim1), q = p < 0 ? -1 : fbi_dim_of(c, a->dim2);
    if (q < 0)
        return FB_E_ARG;
    if (p == q)
        return fbi_op_fail(c, FB_E_ARG, "dimensions %lld and %lld of %s are the same",
                           (long long)a->dim1, (long long)a->dim2, fbi_text(t));
    int64_t k = a->offset, rows = t->size[p], cols = t->size[q];
    int64_t down = k < 0 ? (k < -rows ? rows : -k) : 0, right = k > 0 ? (k > cols ? cols : k) : 0;
    int64_t len = rows - down < cols - right ? rows - down : cols - right;
    fb_shape sizes = {0}, strides = {0};
    for (int i = 0; i < t->ndim; i++)
        if (i != p && i != q) {
            sizes.d[sizes.n++] = t->size[i];
            strides.d[strides.n++] = t->stride[i];
        }
    sizes.d[sizes.n++] = len;
    strides.d[strides.n++] = t->stride[p] + t->stride[q];
    a->dim1 = p;
    a->dim2 = q;
    a->from = fb_shape_of(t);
    int64_t start = len > 0 ? down * t->stride[p] + right * t->stride[q] : 0;
    return fbi_out_view(c, 0, t, sizes, strides, t->offset + start);
}

fb_status fbi_bwd_ops_diagonal(fbi_bw *bw)
{
    const fbi_attrs_diagonal *a = bw->attrs;
    fb_shape whole = row_major(a->from), strides = {0};
    for (int i = 0; i < a->from.n; i++)
        if (i != a->dim1 && i != a->dim2)
            strides.d[strides.n++] = whole.d[i];
    strides.d[strides.n++] = whole.d[a->dim1] + whole.d[a->dim2];
    int64_t start = a->offset < 0 ? -a->offset * whole.d[a->dim1] : a->offset * whole.d[a->dim2];
    return fbi_bw_give(bw, 0, strided_sum(bw->grad[0], a->from, strides, start));
}

/* --- unfold --- */

fb_status fbi_infer_unfold(fbi_call *c)
{
    fbi_attrs_unfold *a = (fbi_attrs_unfold *)(uintptr_t)c->attrs;
    fb_tensor *t = c->in[0];
    int d = fbi_dim_of(c, a->dim);
    if (d < 0)
        return FB_E_ARG;
    if (a->size < 0 || a->size > t->size[d])
        return fbi_op_fail(c, FB_E_ARG, "slices of size %lld along dimension %d of %s",
                           (long long)a->size, d, fbi_text(t));
    if (a->step < 1)
        return fbi_op_fail(c, FB_E_ARG, "step is %lld, must be positive", (long long)a->step);
    if (t->ndim == FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_SHAPE, "%s has no room for one more dimension", fbi_text(t));
    fb_shape sizes = fb_shape_of(t), strides = fbi_strides_of(t);
    sizes.d[d] = (t->size[d] - a->size) / a->step + 1;
    sizes.d[sizes.n++] = a->size;
    strides.d[strides.n++] = strides.d[d];
    strides.d[d] *= sizes.d[d] > 1 ? a->step : 1;
    a->dim = d;
    a->from = fb_shape_of(t);
    return fbi_out_view(c, 0, t, sizes, strides, t->offset);
}

fb_status fbi_bwd_ops_unfold(fbi_bw *bw)
{
    const fbi_attrs_unfold *a = bw->attrs;
    fb_shape strides = row_major(a->from);
    strides.d[strides.n++] = strides.d[a->dim];
    strides.d[a->dim] *= bw->grad[0]->size[a->dim] > 1 ? a->step : 1;
    return fbi_bw_give(bw, 0, strided_sum(bw->grad[0], a->from, strides, 0));
}

/* --- diag_embed, diag --- */

fb_status fbi_compose_diag_embed(fbi_call *c)
{
    const fbi_attrs_diag_embed *a = c->attrs;
    fb_tensor *t = c->in[0];
    int n = t->ndim + 1;
    int64_t p = a->dim1 < 0 ? a->dim1 + n : a->dim1, q = a->dim2 < 0 ? a->dim2 + n : a->dim2;
    if (t->ndim == 0 || n > FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s must have 1 .. %d dimensions", fbi_text(t),
                           FB_MAX_DIMS - 1);
    if (p < 0 || p >= n || q < 0 || q >= n || p == q)
        return fbi_op_fail(c, FB_E_ARG, "dimensions %lld and %lld of a result with %d",
                           (long long)a->dim1, (long long)a->dim2, n);
    int64_t k = a->offset, side;
    if (__builtin_add_overflow(t->size[t->ndim - 1], k < 0 ? -(k + 1) : k, &side))
        return fbi_op_fail(c, FB_E_ARG, "offset %lld is too large", (long long)k);
    side += k < 0;
    fb_shape into = {.n = n}, strides = {0};
    for (int i = 0, from = 0; i < n; i++)
        into.d[i] = i == p || i == q ? side : t->size[from++];
    if (fb_shape_numel(into) < 0)
        return fbi_op_fail(c, FB_E_SHAPE, "%s is too large", fbi_shape_text(c->ctx, into));
    fb_shape whole = row_major(into);
    for (int i = 0; i < n; i++)
        if (i != p && i != q)
            strides.d[strides.n++] = whole.d[i];
    strides.d[strides.n++] = whole.d[p] + whole.d[q];
    return fbi_composed(c, strided_sum(t, into, strides, k < 0 ? -k * whole.d[p] : k * whole.d[q]));
}

fb_status fbi_compose_diag(fbi_call *c)
{
    const fbi_attrs_diag *a = c->attrs;
    fb_tensor *t = c->in[0];
    if (t->ndim == 1)
        return fbi_composed(c, fb_diag_embed(t, a->diagonal, 0, 1));
    if (t->ndim != 2)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s must have 1 or 2 dimensions", fbi_text(t));
    fb_tensor *d = fb_diagonal(t, a->diagonal, 0, 1);
    return fbi_composed(c, d ? fb_clone(d) : NULL);
}

fb_status fbi_compose_diagflat(fbi_call *c)
{
    int64_t offset = ((const fbi_attrs_diagflat *)c->attrs)->offset;
    fb_tensor *line = fb_reshape(c->in[0], FB_SHAPE(c->in[0]->numel));
    return fbi_composed(c, line ? fb_diag_embed(line, offset, 0, 1) : NULL);
}

/* --- public --- */

fb_tensor *fb_as_strided(fb_tensor *t, fb_shape sizes, fb_shape strides, int64_t offset)
{
    fbi_attrs_as_strided a = {.sizes = sizes, .strides = strides, .offset = offset};
    return FBI_RUN(as_strided, &a, t);
}

fb_tensor *fb_diagonal(fb_tensor *t, int64_t offset, int dim1, int dim2)
{
    fbi_attrs_diagonal a = {.offset = offset, .dim1 = dim1, .dim2 = dim2};
    return FBI_RUN(diagonal, &a, t);
}

fb_tensor *fb_unfold(fb_tensor *t, int dim, int64_t size, int64_t step)
{
    return FBI_RUN(unfold, (&(fbi_attrs_unfold){.dim = dim, .size = size, .step = step}), t);
}

fb_tensor *fb_diag_embed(fb_tensor *t, int64_t offset, int dim1, int dim2)
{
    fbi_attrs_diag_embed a = {.offset = offset, .dim1 = dim1, .dim2 = dim2};
    return FBI_RUN(diag_embed, &a, t);
}

fb_tensor *fb_diagflat(fb_tensor *t, int64_t offset)
{
    return FBI_RUN(diagflat, (&(fbi_attrs_diagflat){.offset = offset}), t);
}

fb_tensor *fb_diag(fb_tensor *t, int64_t diagonal)
{
    return FBI_RUN(diag, (&(fbi_attrs_diag){.diagonal = diagonal}), t);
}

/* --- samples --- */

#define IN(...) (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2})

void fbi_sample_as_strided(fbi_samples *s)
{
    fbi_attrs_as_strided a = {
        .sizes = FB_SHAPE(3, 2, 2), .strides = FB_SHAPE(1, 2, 0), .offset = 1};
    fbi_sample_add(s, &a, 1, IN(2, 4));
    a = (fbi_attrs_as_strided){.sizes = FB_SHAPE(2, 2), .strides = FB_SHAPE(4, 1), .offset = -1};
    fbi_sample_add(s, &a, 1, IN(2, 4));
    a.sizes = FB_SHAPE(3, 4);
    fbi_sample_bad(s, &a, 1, IN(2, 4), FB_E_ARG,
                   "as_strided: sizes [3, 4] with strides [4, 1] from element 0 on end at element "
                   "11; the storage holds");
    a.strides = FB_SHAPE(4, -1);
    fbi_sample_bad(s, &a, 1, IN(2, 4), FB_E_ARG, "sizes [3, 4] with strides [4, -1]");
    a.strides = FB_SHAPE(4);
    fbi_sample_bad(s, &a, 1, IN(2, 4), FB_E_ARG, "sizes [3, 4] with strides [4]");
}

void fbi_sample_diagonal(fbi_samples *s)
{
    fbi_attrs_diagonal a = {.offset = 1, .dim1 = 0, .dim2 = 1};
    fbi_sample_add(s, &a, 1, IN(3, 4));
    a = (fbi_attrs_diagonal){.offset = -1, .dim1 = 2, .dim2 = -3};
    fbi_sample_add(s, &a, 1, IN(4, 2, 3));
    a.offset = 7;
    fbi_sample_add(s, &a, 1, IN(4, 2, 3));
    a.dim2 = 2;
    fbi_sample_bad(s, &a, 1, IN(4, 2, 3), FB_E_ARG, "dimensions 2 and 2 of [4, 2, 3] are the same");
    fbi_sample_bad(s, &a, 1, IN(4), FB_E_ARG, "diagonal: no dimension 2 in input [4]");
}

void fbi_sample_unfold(fbi_samples *s)
{
    fbi_attrs_unfold a = {.dim = 1, .size = 3, .step = 1};
    fbi_sample_add(s, &a, 1, IN(2, 6, 2));
    a = (fbi_attrs_unfold){.dim = -1, .size = 2, .step = 3};
    fbi_sample_add(s, &a, 1, IN(2, 7));
    a.size = 8;
    fbi_sample_bad(s, &a, 1, IN(2, 7), FB_E_ARG, "slices of size 8 along dimension 1 of [2, 7]");
    a = (fbi_attrs_unfold){.dim = 0, .size = 1, .step = 0};
    fbi_sample_bad(s, &a, 1, IN(2, 7), FB_E_ARG, "step is 0, must be positive");
}

void fbi_sample_diag_embed(fbi_samples *s)
{
    fbi_attrs_diag_embed a = {.offset = 0, .dim1 = -2, .dim2 = -1};
    fbi_sample_add(s, &a, 1, IN(2, 3));
    a = (fbi_attrs_diag_embed){.offset = -2, .dim1 = 0, .dim2 = 2};
    fbi_sample_add(s, &a, 1, IN(2, 3));
    a.dim2 = 3;
    fbi_sample_bad(s, &a, 1, IN(2, 3), FB_E_ARG, "dimensions 0 and 3 of a result with 3");
}

void fbi_sample_diagflat(fbi_samples *s)
{
    fbi_sample_add(s, &(fbi_attrs_diagflat){.offset = 1}, 1, IN(2, 2));
    fbi_sample_add(s, &(fbi_attrs_diagflat){.offset = -1}, 1, IN(3));
}

void fbi_sample_diag(fbi_samples *s)
{
    fbi_sample_add(s, &(fbi_attrs_diag){.diagonal = 1}, 1, IN(3));
    fbi_sample_add(s, &(fbi_attrs_diag){.diagonal = -1}, 1, IN(3, 4));
    fbi_sample_bad(s, &(fbi_attrs_diag){.diagonal = 0}, 1, IN(3, 4, 2), FB_E_SHAPE,
                   "diag: input [3, 4, 2] must have 1 or 2 dimensions");
}
