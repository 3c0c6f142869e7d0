/* Elements of images at the places of a grid, made of gathers. */
#include <flambeau/core/ops/interpolate.h>

#include "core/ops/half_priv.h"

#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/view.h>

enum { TAPS = 4 };

/* Along one dimension: the elements at which a sample looks (floats that are whole numbers within
 * the image) and how much each of them counts. */
typedef struct line {
    int n;
    fb_tensor *at[TAPS], *weight[TAPS];
} line;

typedef struct sampler {
    fb_context *ctx;
    fb_grid_mode mode;
    fb_grid_padding padding;
    bool align;
    int nd;
    int64_t n, c, size[3], places;
    fb_tensor *x; /* [n, c, elements of an image] */
    line line[3];
} sampler;

static fb_tensor *scaled(fb_tensor *t, double by, double plus)
{
    t = t ? fb_mul_scalar(t, by) : NULL;
    return t && plus != 0 ? fb_add_scalar(t, plus) : t;
}

/* t rounded down; it is not below -2^31 or above 2^31, and has no NaN. No gradient. */
static fb_tensor *floor_of(fb_tensor *t)
{
    fb_tensor *d = t ? fb_detach(t) : NULL, *cut = d ? fb_to(d, FB_I64) : NULL;
    cut = cut ? fb_to(cut, fb_dtype_of(d)) : NULL;
    fb_tensor *less = cut ? fb_gt(cut, d) : NULL;
    return less ? fb_sub(cut, fb_to(less, fb_dtype_of(d))) : NULL;
}

/* Rounded to the nearest, of halves to the even one. No gradient. */
static fb_tensor *nearest_to(fb_tensor *t)
{
    double big = 3 * (t->dtype == FB_F64 ? 0x1p51 : 0x1p22);
    return scaled(fb_add_scalar(fb_detach(t), big), 1, -big);
}

/* Mirrored at lo / 2 and hi / 2 until it lies between them. */
static fb_tensor *mirrored(fb_tensor *t, double lo, double hi)
{
    double least = lo / 2, span = (hi - lo) / 2;
    if (span <= 0)
        return fb_mul_scalar(t, 0);
    t = fb_abs(scaled(t, 1, -least));
    fb_tensor *turns = floor_of(scaled(t, 1 / span, 0));
    fb_tensor *rest = turns ? fb_sub(t, fb_mul_scalar(turns, span)) : NULL;
    fb_tensor *pairs = floor_of(scaled(turns, 0.5, 0));
    fb_tensor *odd = pairs ? fb_sub(turns, fb_mul_scalar(pairs, 2)) : NULL;
    fb_tensor *back = scaled(rest, -1, span + least);
    return back ? fb_add(fb_mul(back, odd), fb_mul(scaled(rest, 1, least), scaled(odd, -1, 1)))
                : NULL;
}

/* Limited to 0 .. last; as in PyTorch there is no gradient on the limits. */
static fb_tensor *limited(fb_tensor *t, double last)
{
    fb_tensor *zero = fb_full_like(t, 0), *end = fb_full_like(t, last);
    fb_tensor *within = zero && end ? fb_mul(fb_gt(t, zero), fb_lt(t, end)) : NULL;
    return within ? fb_where(within, t, fb_clamp(fb_detach(t), 0, last)) : NULL;
}

/* Places outside the image, as the padding wants them. */
static fb_tensor *inside(const sampler *s, fb_tensor *t, int d)
{
    double last = (double)(s->size[d] - 1);
    if (s->padding == FB_GRID_REFLECTION && t)
        t = s->align ? mirrored(t, 0, 2 * last) : mirrored(t, -1, 2 * last + 1);
    return t && s->padding != FB_GRID_ZEROS ? limited(t, last) : t;
}

/* One tap: element `at`, which counts nothing if it is outside. */
static fb_status add_tap(const sampler *s, line *l, int d, fb_tensor *at, fb_tensor *weight)
{
    double last = (double)(s->size[d] - 1);
    fb_tensor *near = at ? fb_clamp(at, 0, last) : NULL, *is = near ? fb_eq(near, at) : NULL;
    fb_tensor *count = is ? fb_to(is, fb_dtype_of(at)) : NULL;
    l->at[l->n] = near;
    l->weight[l->n] = count && weight ? fb_mul(count, weight) : NULL;
    return l->weight[l->n++] ? FB_OK : s->ctx->status;
}

/* The four weights of Keys' cubic convolution with a = -0.75 for what is beyond the second element.
 */
static fb_tensor *cubic(fb_tensor *t, int k)
{
    const double a = -0.75;
    fb_tensor *x = k < 2 ? scaled(t, 1, 1 - k) : scaled(t, -1, k - 1);
    bool outer = k == 0 || k == 3;
    fb_tensor *y = scaled(x, outer ? a : a + 2, outer ? -5 * a : -(a + 3)); /* Horner's way */
    y = y ? fb_mul(y, x) : NULL;
    y = y && outer ? fb_add_scalar(y, 8 * a) : y;
    y = y ? fb_mul(y, x) : NULL;
    return y ? fb_add_scalar(y, outer ? -4 * a : 1) : NULL;
}

/* The taps of dimension d from places g in -1 .. 1. */
static fb_status set_line(sampler *s, fb_tensor *g, int d)
{
    line *l = &s->line[d];
    double size = (double)s->size[d];
    fb_tensor *known = fb_eq(g, g); /* NaN is taken for -1 */
    g = known ? fb_where(known, g, fb_full_like(g, -1)) : NULL;
    fb_tensor *t =
        s->align ? scaled(g, (size - 1) / 2, (size - 1) / 2) : scaled(g, size / 2, (size - 1) / 2);
    if (s->mode != FB_GRID_CUBIC)
        t = inside(s, t, d);
    t = t ? fb_clamp(t, -3, size + 2) : NULL; /* far outside nothing counts */
    if (s->mode == FB_GRID_NEAREST)
        return t ? add_tap(s, l, d, nearest_to(t), scaled(t, 0, 1))
                 : s->ctx->status; /* gradient 0 */
    fb_tensor *low = floor_of(t), *beyond = low ? fb_sub(t, low) : NULL;
    int first = s->mode == FB_GRID_CUBIC ? -1 : 0, n = s->mode == FB_GRID_CUBIC ? 4 : 2;
    fb_status st = beyond ? FB_OK : s->ctx->status;
    for (int k = 0; k < n && !st; k++) {
        fb_tensor *at = scaled(low, 1, first + k), *weight;
        if (s->mode == FB_GRID_CUBIC) {
            at = inside(s, at, d);
            if (s->padding == FB_GRID_REFLECTION && at)
                at = nearest_to(at);
            weight = cubic(beyond, k);
        } else {
            weight = k ? beyond : scaled(beyond, -1, 1);
        }
        st = weight ? add_tap(s, l, d, at, weight) : s->ctx->status;
    }
    return st;
}

/* Taps k[0 .. nd) of all dimensions: what lies there, times what it counts. */
static fb_tensor *corner(const sampler *s, const int *k)
{
    fb_tensor *at = s->line[0].at[k[0]], *weight = s->line[0].weight[k[0]];
    for (int d = 1; d < s->nd && at && weight; d++) {
        at = fb_add(fb_mul_scalar(at, (double)s->size[d]), s->line[d].at[k[d]]);
        weight = fb_mul(weight, s->line[d].weight[k[d]]);
    }
    fb_tensor *index = at ? fb_reshape(fb_to(at, FB_I64), FB_SHAPE(s->n, 1, s->places)) : NULL;
    index = index ? fb_expand(index, FB_SHAPE(s->n, s->c, s->places)) : NULL;
    fb_tensor *v = index ? fb_gather(s->x, 2, index) : NULL;
    return v && weight ? fb_mul(v, fb_reshape(weight, FB_SHAPE(s->n, 1, s->places))) : NULL;
}

static fb_tensor *sum_of_corners(const sampler *s)
{
    int k[3] = {0}, d;
    fb_tensor *sum = NULL;
    do {
        fb_tensor *one = corner(s, k);
        sum = one ? (sum ? fb_add(sum, one) : one) : NULL;
        for (d = s->nd - 1; d >= 0 && ++k[d] == s->line[d].n; d--)
            k[d] = 0;
    } while (d >= 0 && sum);
    return sum;
}

static fb_status need_grid(const fbi_call *c, const fbi_attrs_grid_sample *a)
{
    const fb_tensor *x = c->in[0], *g = c->in[1];
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)x->dtype);
    if (st)
        return st;
    if ((x->ndim != 4 && x->ndim != 5) || g->ndim != x->ndim || g->size[0] != x->size[0] ||
        g->size[g->ndim - 1] != x->ndim - 2)
        return fbi_op_fail(c, FB_E_SHAPE, "grid %s does not fit input %s", fbi_text(g),
                           fbi_text(x));
    if (a->mode < 0 || a->mode > FB_GRID_CUBIC || a->padding < 0 || a->padding > FB_GRID_REFLECTION)
        return fbi_op_fail(c, FB_E_ARG, "mode %lld, padding %lld", (long long)a->mode,
                           (long long)a->padding);
    if (a->mode == FB_GRID_CUBIC && x->ndim != 4)
        return fbi_op_fail(c, FB_E_ARG, "cubic is of images [N, C, H, W], not %s", fbi_text(x));
    for (int d = 1; d < x->ndim; d++)
        if (x->size[d] < 1 || x->size[d] > 1 << 20)
            return fbi_op_fail(c, FB_E_SHAPE, "dimension %d of input %s is not within 1 .. 2^20", d,
                               fbi_text(x));
    int64_t image = 1, most = x->dtype == FB_F64 ? INT64_C(1) << 52 : 1 << 24;
    for (int d = 2; d < x->ndim; d++)
        image *= x->size[d];
    return image <= most ? FB_OK
                         : fbi_op_fail(c, FB_E_SHAPE, "images of %s have more than %lld elements",
                                       fbi_text(x), (long long)most);
}

fb_status fbi_compose_grid_sample(fbi_call *c)
{
    const fbi_attrs_grid_sample *a = c->attrs;
    fb_tensor *x = c->in[0], *g = c->in[1];
    fb_status st = need_grid(c, a);
    if (st)
        return st;
    sampler s = {.ctx = c->ctx,
                 .mode = (fb_grid_mode)a->mode,
                 .padding = (fb_grid_padding)a->padding,
                 .align = a->align_corners,
                 .nd = x->ndim - 2,
                 .n = x->size[0],
                 .c = x->size[1],
                 .places = 1};
    fb_shape out = fb_shape_of(x);
    for (int d = 0; d < s.nd; d++) {
        s.size[d] = x->size[2 + d];
        out.d[2 + d] = g->size[1 + d];
        s.places *= g->size[1 + d];
    }
    s.x = fb_flatten(fbi_exact(x), 2, -1);
    g = s.x ? fbi_exact(g) : NULL;
    for (int d = 0; d < s.nd && g && !st; d++) { /* a grid's last dimension begins with columns */
        fb_tensor *one = fb_select(g, -1, s.nd - 1 - d);
        st = one ? set_line(&s, one, d) : c->ctx->status;
    }
    fb_tensor *y = g && !st ? sum_of_corners(&s) : NULL;
    y = y ? fb_reshape(y, out) : NULL;
    return fbi_composed(c, y ? fb_to(y, (fb_dtype)x->dtype) : NULL);
}

void fbi_sample_grid_sample(fbi_samples *s)
{
    fbi_sample_in in[2] = {{.shape = FB_SHAPE(1, 2, 3, 4), .lo = -1, .hi = 1},
                           {.shape = FB_SHAPE(1, 2, 2, 2), .lo = -1.3, .hi = 1.3}};
    for (int mode = 0; mode < 3; mode++)
        for (int padding = 0; padding < 3; padding++)
            fbi_sample_add(s, &(fbi_attrs_grid_sample){mode, padding, padding == 1}, 2, in);
    fbi_sample_add(s, &(fbi_attrs_grid_sample){0, 2, 1}, 2, in);
    in[1].shape.d[3] = 3;
    fbi_sample_bad(s, &(fbi_attrs_grid_sample){0, 0, 0}, 2, in, FB_E_SHAPE,
                   "grid_sample: grid [1, 2, 2, 3] does not fit input [1, 2, 3, 4]");
    in[0].shape = FB_SHAPE(1, 2, 2, 3, 4);
    in[1].shape = FB_SHAPE(1, 2, 2, 1, 3);
    fbi_sample_add(s, &(fbi_attrs_grid_sample){0, 0, 0}, 2, in);
    fbi_sample_add(s, &(fbi_attrs_grid_sample){1, 1, 0}, 2, in);
    fbi_sample_bad(s, &(fbi_attrs_grid_sample){2, 0, 0}, 2, in, FB_E_ARG,
                   "grid_sample: cubic is of images");
}

fb_tensor *fb_grid_sample(fb_tensor *x, fb_tensor *grid, const fb_grid_options *opts)
{
    static const fb_grid_options none;
    const fb_grid_options *o = opts ? opts : &none;
    fbi_attrs_grid_sample a = {o->mode, o->padding, o->align_corners};
    return FBI_RUN(grid_sample, &a, x, grid);
}

/* --- affine_grid --- */

/* Places along a dimension of n: from -1 to 1, or the centres of n pieces of that. */
static fb_tensor *places(fb_context *ctx, fb_dtype dtype, int64_t n, bool align)
{
    double step = align ? (n > 1 ? 2.0 / (double)(n - 1) : 0) : 2.0 / (double)n;
    double first = align ? (n > 1 ? -1 : 0) : -1 + step / 2;
    fb_tensor *i = fb_arange(ctx, dtype, 0, (double)n, 1);
    return scaled(i, step, first);
}

fb_status fbi_compose_affine_grid(fbi_call *c)
{
    const fbi_attrs_affine_grid *a = c->attrs;
    fb_tensor *theta = c->in[0], *column[4];
    int nd = a->size.n - 2;
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (nd != 2 && nd != 3)
        return fbi_op_fail(c, FB_E_ARG, "a size %s has not 4 or 5 numbers",
                           fbi_shape_text(c->ctx, a->size));
    if (theta->ndim != 3 || theta->size[0] != a->size.d[0] || theta->size[1] != nd ||
        theta->size[2] != nd + 1)
        return fbi_op_fail(c, FB_E_SHAPE, "theta %s does not fit the size %s", fbi_text(theta),
                           fbi_shape_text(c->ctx, a->size));
    fb_dtype dtype = fbi_stat_dtype(theta);
    fb_shape one = {nd + 1, {0}}, out = {nd + 2, {0}};
    int64_t n = 1;
    out.d[0] = a->size.d[0];
    out.d[nd + 1] = nd;
    for (int d = 0; d < nd; d++) {
        one.d[d] = out.d[1 + d] = a->size.d[2 + d];
        n *= one.d[d];
        if (one.d[d] < 1)
            return fbi_op_fail(c, FB_E_ARG, "a size %s", fbi_shape_text(c->ctx, a->size));
    }
    one.d[nd] = 1;
    for (int d = 0; d < nd; d++) { /* columns first */
        fb_shape along = {nd + 1, {1, 1, 1, 1}};
        int at = nd - 1 - d;
        along.d[at] = one.d[at];
        column[d] = places(c->ctx, dtype, one.d[at], a->align_corners);
        column[d] = column[d] ? fb_expand(fb_reshape(column[d], along), one) : NULL;
        if (!column[d])
            return c->ctx->status;
    }
    column[nd] = fb_ones(c->ctx, dtype, one);
    fb_tensor *base = column[nd] ? fb_cat((fb_tensors){column, nd + 1}, nd) : NULL;
    base = base ? fb_reshape(base, FB_SHAPE(n, nd + 1)) : NULL;
    fb_tensor *y = base ? fb_matmul(base, fb_transpose(fbi_exact(theta), 1, 2)) : NULL;
    y = y ? fb_reshape(y, out) : NULL;
    return fbi_composed(c, y ? fb_to(y, (fb_dtype)theta->dtype) : NULL);
}

void fbi_sample_affine_grid(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(2, 2, 3), .lo = -1, .hi = 1};
    fbi_sample_add(s, &(fbi_attrs_affine_grid){FB_SHAPE(2, 1, 3, 4), 0}, 1, &in);
    fbi_sample_add(s, &(fbi_attrs_affine_grid){FB_SHAPE(2, 1, 1, 4), 1}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_affine_grid){FB_SHAPE(3, 1, 3, 4), 0}, 1, &in, FB_E_SHAPE,
                   "affine_grid: theta [2, 2, 3] does not fit the size [3, 1, 3, 4]");
    fbi_sample_bad(s, &(fbi_attrs_affine_grid){FB_SHAPE(2, 1, 3), 0}, 1, &in, FB_E_ARG,
                   "affine_grid: a size [2, 1, 3] has not 4 or 5 numbers");
    in.shape = FB_SHAPE(1, 3, 4);
    fbi_sample_add(s, &(fbi_attrs_affine_grid){FB_SHAPE(1, 1, 2, 3, 2), 0}, 1, &in);
}

fb_tensor *fb_affine_grid(fb_tensor *theta, fb_shape size, bool align_corners)
{
    return FBI_RUN(affine_grid, (&(fbi_attrs_affine_grid){size, align_corners}), theta);
}
