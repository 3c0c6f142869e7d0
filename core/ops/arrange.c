/* flip, tril, triu, and what `extend` does: pad, roll, repeat: shapes, backward, samples. */
#include <stdlib.h>

#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/extend_priv.h"
#include "core/ops/op_priv.h"

static fb_status same_shape(fbi_call *c)
{
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[0]));
}

/* --- flip --- */

fb_status fbi_infer_flip(fbi_call *c)
{
    fbi_attrs_flip *a = (fbi_attrs_flip *)c->attrs; /* infer completes it */
    unsigned seen = 0;
    for (int i = 0; i < a->dims.n; i++) {
        int d = fbi_dim_of(c, a->dims.d[i]);
        if (d < 0)
            return FB_E_ARG;
        if (seen & 1u << d)
            return fbi_op_fail(c, FB_E_ARG, "dimension %d is listed twice", d);
        seen |= 1u << d;
        a->dims.d[i] = d;
    }
    return same_shape(c);
}

fb_status fbi_bwd_ops_flip(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, fb_flip(bw->grad[0], ((const fbi_attrs_flip *)bw->attrs)->dims));
}

/* --- tril, triu --- */

static fb_status infer_triangle(fbi_call *c)
{
    if (c->in[0]->ndim < 2)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s needs at least 2 dimensions",
                           fbi_text(c->in[0]));
    return same_shape(c);
}

fb_status fbi_infer_tril(fbi_call *c)
{
    return infer_triangle(c);
}

fb_status fbi_infer_triu(fbi_call *c)
{
    return infer_triangle(c);
}

fb_status fbi_bwd_ops_tril(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, FBI_RUN(tril, bw->attrs, bw->grad[0]));
}

fb_status fbi_bwd_ops_triu(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, FBI_RUN(triu, bw->attrs, bw->grad[0]));
}

/* --- extend: out[o] = in[source(o - before)] in every dimension --- */

fb_status fbi_infer_extend(fbi_call *c)
{
    fbi_attrs_extend *a = (fbi_attrs_extend *)c->attrs; /* infer completes it */
    a->from = fb_shape_of(c->in[0]);
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, a->size);
}

fb_status fbi_infer_extend_bwd(fbi_call *c)
{
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, ((const fbi_attrs_extend_bwd *)c->attrs)->from);
}

fb_status fbi_bwd_ops_extend(fbi_bw *bw)
{
    const fbi_attrs_extend *a = bw->attrs;
    fbi_attrs_extend_bwd b = {
        .before = a->before, .size = a->size, .from = a->from, .mode = a->mode};
    return FBI_BW_APPLY(bw, 0, extend_bwd, &b, bw->grad[0]);
}

fb_status fbi_bwd_ops_extend_bwd(fbi_bw *bw)
{
    const fbi_attrs_extend_bwd *a = bw->attrs;
    fbi_attrs_extend b = {.before = a->before, .size = a->size, .mode = a->mode};
    return fbi_bw_give(bw, 0, FBI_RUN(extend, &b, bw->grad[0]));
}

/* The dimension that pads 2 i and 2 i + 1 are of, or an error. */
static fb_status check_pad(const fbi_call *c, const fbi_attrs_pad *a, int i)
{
    const fb_tensor *x = c->in[0];
    int d = x->ndim - 1 - i;
    int64_t n = x->size[d], left = a->pads.d[2 * i], right = a->pads.d[2 * i + 1], size;
    if (__builtin_add_overflow(n, left, &size) || __builtin_add_overflow(size, right, &size) ||
        size < 0 || n + left < 0 || n + right < 0)
        return fbi_op_fail(c, FB_E_ARG, "pads %lld and %lld of dimension %d of %s", (long long)left,
                           (long long)right, d, fbi_text(x));
    int64_t rest = n + (left < 0 ? left : 0) + (right < 0 ? right : 0);
    if (a->mode == FB_PAD_CIRCULAR && rest < 1)
        n = 0; /* nothing is left whose ends could meet */
    int64_t most = a->mode == FB_PAD_REFLECT ? n - 1 : a->mode == FB_PAD_CIRCULAR ? n : INT64_MAX;
    if (a->mode != FB_PAD_CONSTANT && (n == 0 || left > most || right > most))
        return fbi_op_fail(
            c, FB_E_ARG, "pads %lld and %lld of dimension %d of %s: this mode allows %lld",
            (long long)left, (long long)right, d, fbi_text(x), (long long)(n ? most : 0));
    return FB_OK;
}

/* What is left of x where pads are negative: as in PyTorch, the ends of what is left meet. */
static fb_tensor *cropped(fb_tensor *x, const fbi_attrs_pad *a, fbi_attrs_extend *b)
{
    for (int i = 0; x && i < a->pads.n / 2; i++) {
        int d = x->ndim - 1 - i;
        int64_t left = a->pads.d[2 * i] < 0 ? -a->pads.d[2 * i] : 0;
        int64_t right = a->pads.d[2 * i + 1] < 0 ? -a->pads.d[2 * i + 1] : 0;
        if (left || right)
            x = fb_narrow(x, d, left, x->size[d] - left - right);
        b->before.d[d] += left;
    }
    return x;
}

fb_status fbi_compose_pad(fbi_call *c)
{
    const fbi_attrs_pad *a = c->attrs;
    fb_tensor *x = c->in[0];
    fbi_attrs_extend b = {.size = fb_shape_of(x), .mode = a->mode, .value = a->value};
    if (a->mode < FB_PAD_CONSTANT || a->mode > FB_PAD_CIRCULAR)
        return fbi_op_fail(c, FB_E_ARG, "%lld is no mode", (long long)a->mode);
    if (a->pads.n % 2 || a->pads.n > 2 * x->ndim)
        return fbi_op_fail(c, FB_E_ARG, "%d pads for input %s: two for each of its last dimensions",
                           a->pads.n, fbi_text(x));
    b.before.n = x->ndim;
    for (int i = 0; i < a->pads.n / 2; i++) {
        fb_status st = check_pad(c, a, i);
        if (st)
            return st;
        b.before.d[x->ndim - 1 - i] = a->pads.d[2 * i];
        b.size.d[x->ndim - 1 - i] += a->pads.d[2 * i] + a->pads.d[2 * i + 1];
    }
    if (fb_shape_numel(b.size) < 0)
        return fbi_op_fail(c, FB_E_SHAPE, "%s is too large", fbi_shape_text(c->ctx, b.size));
    if (x->ndim == 0)
        return fbi_composed(c, fb_clone(x));
    x = a->mode == FB_PAD_CIRCULAR ? cropped(x, a, &b) : x;
    return fbi_composed(c, x ? FBI_RUN(extend, &b, x) : NULL);
}

/* The elements in row-major order, turned. */
static fb_tensor *roll_flat(fb_tensor *x, int64_t shift)
{
    fb_tensor *line = fb_reshape(x, FB_SHAPE(-1));
    fb_tensor *y = line ? fb_roll(line, FB_SHAPE(shift), FB_SHAPE(0)) : NULL;
    return y ? fb_reshape(y, fb_shape_of(x)) : NULL;
}

fb_status fbi_compose_roll(fbi_call *c)
{
    const fbi_attrs_roll *a = c->attrs;
    fb_tensor *x = c->in[0];
    fbi_attrs_extend b = {.size = fb_shape_of(x), .mode = FB_PAD_CIRCULAR};
    if (a->dims.n ? a->shifts.n != a->dims.n : a->shifts.n != 1)
        return fbi_op_fail(c, FB_E_ARG, "%d shifts for %d dimensions", a->shifts.n, a->dims.n);
    if (a->dims.n && x->ndim == 0)
        return fbi_dim_of(c, a->dims.d[0]) < 0 ? FB_E_ARG : FB_OK;
    b.before.n = x->ndim;
    for (int i = 0; i < a->dims.n; i++) {
        int d = fbi_dim_of(c, a->dims.d[i]);
        if (d < 0)
            return FB_E_ARG;
        int64_t n = x->size[d] ? x->size[d] : 1;
        b.before.d[d] = (b.before.d[d] + a->shifts.d[i] % n) % n;
    }
    if (x->numel == 0 || x->ndim == 0)
        return fbi_composed(c, fb_clone(x));
    return fbi_composed(c, a->dims.n ? FBI_RUN(extend, &b, x) : roll_flat(x, a->shifts.d[0]));
}

fb_status fbi_compose_repeat(fbi_call *c)
{
    const fbi_attrs_repeat *a = c->attrs;
    fb_tensor *x = c->in[0];
    fbi_attrs_extend b = {.size = a->times, .mode = FB_PAD_CIRCULAR};
    int front = a->times.n - x->ndim;
    fb_shape sizes = {.n = a->times.n};
    bool fits = front >= 0;
    for (int i = 0; fits && i < a->times.n; i++) {
        sizes.d[i] = i < front ? 1 : x->size[i - front];
        fits =
            a->times.d[i] >= 0 && !__builtin_mul_overflow(sizes.d[i], a->times.d[i], &b.size.d[i]);
    }
    if (!fits || fb_shape_numel(b.size) < 0)
        return fbi_op_fail(c, FB_E_ARG, "%s cannot be repeated %s times", fbi_text(x),
                           fbi_shape_text(c->ctx, a->times));
    if (a->times.n == 0)
        return fbi_composed(c, fb_clone(x));
    b.before.n = a->times.n;
    fb_tensor *whole = fb_reshape(x, sizes);
    return fbi_composed(c, whole ? FBI_RUN(extend, &b, whole) : NULL);
}

fb_status fbi_compose_tile(fbi_call *c)
{
    fb_shape given = ((const fbi_attrs_tile *)c->attrs)->times, times = given;
    for (int missing = c->in[0]->ndim - given.n; missing > 0 && times.n < c->in[0]->ndim;) {
        for (int i = times.n++; i > 0; i--)
            times.d[i] = times.d[i - 1];
        times.d[0] = 1;
    }
    for (int i = 0; i < times.n; i++)
        if (times.d[i] < 0)
            return fbi_op_fail(c, FB_E_ARG, "%s cannot be repeated %s times", fbi_text(c->in[0]),
                               fbi_shape_text(c->ctx, given));
    return fbi_composed(c, fb_repeat(c->in[0], times));
}

/* --- made of views and copies --- */

fb_status fbi_compose_repeat_interleave(fbi_call *c)
{
    const fbi_attrs_repeat_interleave *a = c->attrs;
    fb_tensor *x = c->in[0];
    int d = fbi_dim_of(c, a->dim);
    fb_shape s = fb_shape_of(x);
    if (d < 0)
        return FB_E_ARG;
    if (a->repeats < 0 || __builtin_mul_overflow(s.d[d], a->repeats, &s.d[d]) ||
        fb_shape_numel(s) < 0)
        return fbi_op_fail(c, FB_E_ARG, "%lld repeats of dimension %d of %s", (long long)a->repeats,
                           d, fbi_text(x));
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < x->ndim; i++)
        *(i <= d ? &outer : &inner) *= x->size[i];
    fb_tensor *y = fb_reshape(x, FB_SHAPE(outer, 1, inner));
    y = y ? fb_expand(y, FB_SHAPE(outer, a->repeats, inner)) : NULL;
    return fbi_composed(c, y ? fb_reshape(y, s) : NULL);
}

fb_status fbi_compose_fliplr(fbi_call *c)
{
    if (c->in[0]->ndim < 2)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s needs at least 2 dimensions",
                           fbi_text(c->in[0]));
    return fbi_composed(c, fb_flip(c->in[0], FB_DIMS(1)));
}

fb_status fbi_compose_flipud(fbi_call *c)
{
    if (c->in[0]->ndim < 1)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s needs a dimension", fbi_text(c->in[0]));
    return fbi_composed(c, fb_flip(c->in[0], FB_DIMS(0)));
}

fb_status fbi_compose_rot90(fbi_call *c)
{
    const fbi_attrs_rot90 *a = c->attrs;
    fb_tensor *x = c->in[0];
    int p = fbi_dim_of(c, a->dim0), q = p < 0 ? -1 : fbi_dim_of(c, a->dim1);
    if (q < 0)
        return FB_E_ARG;
    if (p == q)
        return fbi_op_fail(c, FB_E_ARG, "dimensions %lld and %lld of %s are the same",
                           (long long)a->dim0, (long long)a->dim1, fbi_text(x));
    int64_t k = (a->k % 4 + 4) % 4;
    if (k == 0)
        return fbi_composed(c, fb_clone(x));
    if (k == 2)
        return fbi_composed(c, fb_flip(x, FB_DIMS(p, q)));
    fb_tensor *y = fb_flip(x, FB_DIMS(k == 1 ? q : p));
    return fbi_composed(c, y ? fb_transpose(y, p, q) : NULL);
}

/* --- public --- */

fb_tensor *fb_pad(fb_tensor *x, fb_shape pads, fb_pad_mode mode, double value)
{
    return FBI_RUN(pad, (&(fbi_attrs_pad){.pads = pads, .mode = (int64_t)mode, .value = value}), x);
}

fb_tensor *fb_flip(fb_tensor *x, fb_shape dims)
{
    return FBI_RUN(flip, (&(fbi_attrs_flip){.dims = dims}), x);
}

fb_tensor *fb_fliplr(fb_tensor *x)
{
    return FBI_RUN(fliplr, NULL, x);
}

fb_tensor *fb_flipud(fb_tensor *x)
{
    return FBI_RUN(flipud, NULL, x);
}

fb_tensor *fb_roll(fb_tensor *x, fb_shape shifts, fb_shape dims)
{
    return FBI_RUN(roll, (&(fbi_attrs_roll){.shifts = shifts, .dims = dims}), x);
}

fb_tensor *fb_rot90(fb_tensor *x, int64_t k, int dim0, int dim1)
{
    return FBI_RUN(rot90, (&(fbi_attrs_rot90){.k = k, .dim0 = dim0, .dim1 = dim1}), x);
}

fb_tensor *fb_repeat(fb_tensor *x, fb_shape times)
{
    return FBI_RUN(repeat, (&(fbi_attrs_repeat){.times = times}), x);
}

fb_tensor *fb_tile(fb_tensor *x, fb_shape times)
{
    return FBI_RUN(tile, (&(fbi_attrs_tile){.times = times}), x);
}

fb_tensor *fb_repeat_interleave(fb_tensor *x, int64_t repeats, int dim)
{
    fbi_attrs_repeat_interleave a = {.repeats = repeats, .dim = dim};
    return FBI_RUN(repeat_interleave, &a, x);
}

/* The slices that `repeats`, on the host, asks for; NULL: the error is set. */
static fb_tensor *repeated_index(fb_context *ctx, const int64_t *repeats, int64_t n)
{
    int64_t total = 0;
    for (int64_t i = 0; i < n; i++)
        if (repeats[i] < 0 || __builtin_add_overflow(total, repeats[i], &total)) {
            fbi_fail(ctx, FB_E_ARG, "repeat_interleave: %lld repeats at position %lld",
                     (long long)repeats[i], (long long)i);
            return NULL;
        }
    int64_t *at = calloc((size_t)total + 1, sizeof *at), k = 0;
    if (!at) {
        fbi_fail(ctx, FB_E_NOMEM, "repeat_interleave: no memory for %lld slices", (long long)total);
        return NULL;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < repeats[i]; r++)
            at[k++] = i;
    fb_tensor *t = fb_from(ctx, FB_I64, FB_SHAPE(total), at);
    free(at);
    return t;
}

fb_tensor *fb_repeat_interleave_each(fb_tensor *x, fb_tensor *repeats, int dim)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!ctx || !fbi_enter(ctx) || !fbi_tensor_check(ctx, x, "repeat_interleave", "x") ||
        !fbi_tensor_check(ctx, repeats, "repeat_interleave", "repeats"))
        return NULL;
    int d = fbi_dim(ctx, x, dim, "repeat_interleave");
    if (d < 0)
        return NULL;
    if (repeats->ndim != 1 || repeats->size[0] != x->size[d] || repeats->dtype < FB_I32 ||
        repeats->dtype == FB_BOOL) {
        fbi_fail(ctx, FB_E_SHAPE,
                 "repeat_interleave: repeats %s of %s must be an integer for each of dimension %d "
                 "of %s",
                 fbi_text(repeats), fb_dtype_name((fb_dtype)repeats->dtype), d, fbi_text(x));
        return NULL;
    }
    FB_SCOPE(ctx);
    int64_t n = repeats->numel, *host = calloc((size_t)n + 1, sizeof *host);
    fb_tensor *exact = host ? fb_to(repeats, FB_I64) : NULL, *at = NULL;
    if (!host)
        fbi_fail(ctx, FB_E_NOMEM, "repeat_interleave: no memory for %lld repeats", (long long)n);
    if (exact && !fb_read(exact, host, (size_t)n * sizeof *host))
        at = repeated_index(ctx, host, n);
    free(host);
    return at ? fb_keep(fb_index_select(x, d, at)) : NULL;
}

fb_tensor *fb_tril(fb_tensor *x, int64_t diagonal)
{
    return FBI_RUN(tril, (&(fbi_attrs_tril){.diagonal = diagonal}), x);
}

fb_tensor *fb_triu(fb_tensor *x, int64_t diagonal)
{
    return FBI_RUN(triu, (&(fbi_attrs_triu){.diagonal = diagonal}), x);
}
