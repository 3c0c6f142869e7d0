/* Convolutions of one and three dimensions and transposed ones, made of those of two: a line is an
 * image of one row; of a volume the depth of the kernel becomes channels. */
#include "core/ops/conv_priv.h"
#include "core/ops/half_priv.h"

#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/fold.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/strided.h>
#include <flambeau/core/ops/view.h>

/* Attributes of these rows; those that are not transposed end before `output`. */
typedef fbi_attrs_conv_transpose1d attrs;

typedef struct conv {
    int nd;
    bool transposed, alone; /* alone: without a batch */
    int64_t stride[3], padding[3], dilation[3], extra[3], out[3], groups;
    fb_tensor *x, *w, *b;
} conv;

static fb_status numbers(const fbi_call *c, const char *what, fb_shape s, int nd, int64_t def,
                         int64_t least, int64_t *to)
{
    if (s.n != 0 && s.n != nd)
        return fbi_op_fail(c, FB_E_ARG, "%s %s has not %d numbers", what, fbi_shape_text(c->ctx, s),
                           nd);
    for (int d = 0; d < nd; d++) {
        to[d] = s.n ? s.d[d] : def;
        if (to[d] < least || to[d] > INT32_MAX)
            return fbi_op_fail(c, FB_E_ARG, "%s %s: at least %lld is wanted", what,
                               fbi_shape_text(c->ctx, s), (long long)least);
    }
    return FB_OK;
}

static fb_status read_attrs(const fbi_call *c, conv *p)
{
    const attrs *a = c->attrs;
    int nd = p->nd;
    fb_status st = numbers(c, "stride", a->stride, nd, 1, 1, p->stride);
    if (!st)
        st = numbers(c, "padding", a->padding, nd, 0, 0, p->padding);
    if (!st)
        st = numbers(c, "dilation", a->dilation, nd, 1, 1, p->dilation);
    if (!st && p->transposed)
        st = numbers(c, "output_padding", a->output_padding, nd, 0, 0, p->extra);
    p->groups = a->groups;
    if (!st && p->groups < 1)
        st = fbi_op_fail(c, FB_E_ARG, "%lld groups", (long long)p->groups);
    for (int d = 0; d < nd && !st && p->transposed; d++)
        if (p->extra[d] >= p->stride[d] && p->extra[d] >= p->dilation[d])
            st = fbi_op_fail(
                c, FB_E_ARG,
                "output_padding %lld is not below the stride %lld or the dilation %lld",
                (long long)p->extra[d], (long long)p->stride[d], (long long)p->dilation[d]);
    return st;
}

static fb_status need_channels(const fbi_call *c, const conv *p)
{
    const fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    int64_t have = x->size[x->ndim - p->nd - 1];
    int64_t want = p->transposed ? w->size[0] : w->size[1] * p->groups;
    int64_t made = p->transposed ? w->size[1] * p->groups : w->size[0];
    if (have != want)
        return fbi_op_fail(c, FB_E_SHAPE,
                           "input has %lld channels, weight expects %lld: input %s, weight %s",
                           (long long)have, (long long)want, fbi_text(x), fbi_text(w));
    if (w->size[0] % p->groups)
        return fbi_op_fail(c, FB_E_SHAPE, "%lld groups do not divide the %lld %s channels",
                           (long long)p->groups, (long long)w->size[0],
                           p->transposed ? "input" : "output");
    if (b && (b->ndim != 1 || b->size[0] != made))
        return fbi_op_fail(c, FB_E_SHAPE, "bias %s does not fit weight %s", fbi_text(b),
                           fbi_text(w));
    return FB_OK;
}

static fb_status set_sizes(const fbi_call *c, conv *p)
{
    const fb_tensor *x = c->in[0], *w = c->in[1];
    for (int d = 0; d < p->nd; d++) {
        int64_t in = x->size[x->ndim - p->nd + d], k = w->size[2 + d];
        p->out[d] = p->transposed
                        ? (in - 1) * p->stride[d] - 2 * p->padding[d] + p->dilation[d] * (k - 1) +
                              p->extra[d] + 1
                        : fbi_conv_size(in, k, p->stride[d], p->padding[d], p->dilation[d]);
        if (p->out[d] >= 1 && in >= 1 && k >= 1)
            continue;
        if (p->transposed)
            return fbi_op_fail(c, FB_E_SHAPE, "nothing is left of input %s after padding",
                               fbi_text(x));
        return fbi_op_fail(c, FB_E_SHAPE, "weight %s is larger than the padded input %s",
                           fbi_text(w), fbi_text(x));
    }
    return FB_OK;
}

/* Check the call; fill p. */
static fb_status prepare(const fbi_call *c, int nd, bool transposed, conv *p)
{
    const fb_tensor *x = c->in[0];
    *p = (conv){.nd = nd, .transposed = transposed, .alone = x->ndim == nd + 1};
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)x->dtype);
    if (!st && c->in[2])
        st = fbi_need_dtype(c, 2, (fb_dtype)x->dtype);
    if (!st && !p->alone)
        st = fbi_need_ndim(c, 0, nd + 2);
    if (!st)
        st = fbi_need_ndim(c, 1, nd + 2);
    if (!st)
        st = read_attrs(c, p);
    if (!st)
        st = need_channels(c, p);
    if (!st)
        st = set_sizes(c, p);
    p->x = !st && p->alone ? fb_unsqueeze(c->in[0], 0) : c->in[0];
    p->w = c->in[1];
    p->b = c->in[2];
    return st ? st : p->x ? FB_OK : c->ctx->status;
}

static fb_status finish(fbi_call *c, const conv *p, fb_tensor *y)
{
    return fbi_composed(c, y && p->alone ? fb_squeeze(y, 0) : y);
}

/* --- forward --- */

fb_status fbi_compose_conv1d(fbi_call *c)
{
    conv p;
    fb_status st = prepare(c, 1, false, &p);
    if (st)
        return st;
    fbi_attrs_conv2d a = {1, p.stride[0], 0, p.padding[0], 1, p.dilation[0], p.groups};
    fb_tensor *x = fb_unsqueeze(p.x, 2), *w = fb_unsqueeze(p.w, 2);
    fb_tensor *y = x && w ? FBI_RUN(conv2d, &a, x, w, p.b) : NULL;
    return finish(c, &p, y ? fb_squeeze(y, 2) : NULL);
}

/* [n, c, d, h, w] as images [n od, c kd, h, w]: what lies behind one another in the depth of a
 * window are channels, those of a group together. */
static fb_tensor *slices(const conv *p, int64_t kd)
{
    fb_tensor *x = p->x;
    if (p->padding[0])
        x = fb_pad(x, FB_SHAPE(0, 0, 0, 0, p->padding[0], p->padding[0]), FB_PAD_CONSTANT, 0);
    int64_t reach = (kd - 1) * p->dilation[0] + 1, n = fb_size(x, 0), g = p->groups;
    int64_t h = fb_size(x, 3), w = fb_size(x, 4), c = fb_size(x, 1) / g;
    x = x ? fb_unfold(x, 2, reach, p->stride[0]) : NULL; /* [n, c, od, h, w, reach] */
    if (x && p->dilation[0] > 1) {                       /* every dilation-th of them */
        fb_shape size = fb_shape_of(x), stride = fbi_strides_of(x);
        size.d[5] = kd;
        stride.d[5] *= p->dilation[0];
        x = fb_as_strided(x, size, stride, -1);
    }
    x = x ? fb_reshape(x, FB_SHAPE(n, g, c, p->out[0], h, w, kd)) : NULL;
    x = x ? fb_permute(x, FB_SHAPE(0, 3, 1, 6, 2, 4, 5)) : NULL;
    return x ? fb_reshape(x, FB_SHAPE(n * p->out[0], g * kd * c, h, w)) : NULL;
}

/* [k, c, kd, kh, kw] as [k, kd c, kh, kw]. */
static fb_tensor *flat_weight(fb_tensor *w)
{
    fb_shape s = fb_shape_of(w);
    w = fb_permute(w, FB_SHAPE(0, 2, 1, 3, 4));
    return w ? fb_reshape(w, FB_SHAPE(s.d[0], s.d[2] * s.d[1], s.d[3], s.d[4])) : NULL;
}

fb_status fbi_compose_conv3d(fbi_call *c)
{
    conv p;
    fb_status st = prepare(c, 3, false, &p);
    if (st)
        return st;
    fbi_attrs_conv2d a = {p.stride[1],   p.stride[2],   p.padding[1], p.padding[2],
                          p.dilation[1], p.dilation[2], p.groups};
    int64_t n = p.x->size[0], k = p.w->size[0];
    fb_tensor *x = slices(&p, p.w->size[2]), *w = x ? flat_weight(p.w) : NULL;
    fb_tensor *y = w ? FBI_RUN(conv2d, &a, x, w, p.b) : NULL;
    y = y ? fb_reshape(y, FB_SHAPE(n, p.out[0], k, p.out[1], p.out[2])) : NULL;
    return finish(c, &p, y ? fb_transpose(y, 1, 2) : NULL);
}

/* --- transposed --- */

/* The gradient that a convolution with these numbers gives its input; rows and columns are those
 * from `at` on of the dimensions of p. */
static fb_tensor *transposed_images(const conv *p, int at, fb_tensor *x, fb_tensor *w)
{
    int64_t s[2] = {1, 1}, pad[2] = {0, 0}, dil[2] = {1, 1}, extra[2] = {0, 0}, out[2] = {1, 1};
    for (int d = at, i = p->nd - at == 1 ? 1 : 0; d < p->nd; d++, i++) {
        s[i] = p->stride[d];
        pad[i] = p->padding[d];
        dil[i] = p->dilation[d];
        extra[i] = p->extra[d];
        out[i] = p->out[d];
    }
    if (extra[0] < s[0] && extra[1] < s[1]) {
        fbi_attrs_conv2d_bwd_data a = {s[0],   s[1],      pad[0], pad[1], dil[0],
                                       dil[1], p->groups, out[0], out[1]};
        return FBI_RUN(conv2d_bwd_data, &a, x, w);
    }
    /* All of it, then what is wanted: the convolution of a larger image would have more places. */
    int64_t h = (x->size[2] - 1) * s[0] + dil[0] * (w->size[2] - 1) + 1;
    int64_t width = (x->size[3] - 1) * s[1] + dil[1] * (w->size[3] - 1) + 1;
    fbi_attrs_conv2d_bwd_data a = {s[0], s[1], 0, 0, dil[0], dil[1], p->groups, h, width};
    fb_tensor *y = FBI_RUN(conv2d_bwd_data, &a, x, w);
    fb_shape pads = FB_SHAPE(-pad[1], extra[1] - pad[1], -pad[0], extra[0] - pad[0]);
    return y ? fb_pad(y, pads, FB_PAD_CONSTANT, 0) : NULL;
}

/* With a bias or several steps F16 and BF16 are rounded once, at the end. */
static fb_tensor *with_bias(const conv *p, fb_tensor *y, const fb_tensor *like)
{
    fb_shape s = {p->nd + 1, {0}};
    if (!y || !p->b)
        return y ? fb_to(y, (fb_dtype)like->dtype) : NULL;
    s.d[0] = p->b->size[0];
    for (int d = 0; d < p->nd; d++)
        s.d[1 + d] = 1;
    y = fb_add(y, fb_reshape(p->b, s));
    return y ? fb_to(y, (fb_dtype)like->dtype) : NULL;
}

fb_status fbi_compose_conv_transpose1d(fbi_call *c)
{
    conv p;
    fb_status st = prepare(c, 1, true, &p);
    if (st)
        return st;
    fb_tensor *x = fb_unsqueeze(p.b ? fbi_exact(p.x) : p.x, 2);
    fb_tensor *w = fb_unsqueeze(p.b ? fbi_exact(p.w) : p.w, 2);
    fb_tensor *y = x && w ? transposed_images(&p, 0, x, w) : NULL;
    return finish(c, &p, with_bias(&p, y ? fb_squeeze(y, 2) : NULL, c->in[0]));
}

fb_status fbi_compose_conv_transpose2d(fbi_call *c)
{
    conv p;
    fb_status st = prepare(c, 2, true, &p);
    if (st)
        return st;
    fb_tensor *x = p.b ? fbi_exact(p.x) : p.x, *w = p.b ? fbi_exact(p.w) : p.w;
    return finish(c, &p, with_bias(&p, x && w ? transposed_images(&p, 0, x, w) : NULL, c->in[0]));
}

/* Slices [n d, g kd c, h, w] added where they belong: [n, g c, od, h, w]. */
static fb_tensor *stacked(const conv *p, fb_tensor *z, int64_t n, int64_t d, int64_t kd)
{
    int64_t g = p->groups, c = z->size[1] / g / kd, h = z->size[2], w = z->size[3];
    bool late = p->extra[0] >= p->stride[0]; /* as in transposed_images */
    int64_t od = late ? (d - 1) * p->stride[0] + p->dilation[0] * (kd - 1) + 1 : p->out[0];
    fb_conv_options o = {.stride = {p->stride[0], 1},
                         .padding = {late ? FB_ZERO_INT : p->padding[0], FB_ZERO_INT},
                         .dilation = {p->dilation[0], 1}};
    if (!o.padding[0])
        o.padding[0] = FB_ZERO_INT;
    z = fb_reshape(z, FB_SHAPE(n, d, g, kd, c, h, w));
    z = z ? fb_permute(z, FB_SHAPE(0, 2, 4, 5, 6, 3, 1)) : NULL;
    z = z ? fb_reshape(z, FB_SHAPE(n, g * c * h * w * kd, d)) : NULL;
    z = z ? fb_fold(z, od, 1, kd, 1, &o) : NULL;
    z = z ? fb_reshape(z, FB_SHAPE(n, g * c, h, w, od)) : NULL;
    z = z ? fb_permute(z, FB_SHAPE(0, 1, 4, 2, 3)) : NULL;
    int64_t pad = p->padding[0];
    return z && late ? fb_pad(z, FB_SHAPE(0, 0, 0, 0, -pad, p->extra[0] - pad), FB_PAD_CONSTANT, 0)
                     : z;
}

fb_status fbi_compose_conv_transpose3d(fbi_call *c)
{
    conv p;
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = prepare(c, 3, true, &p);
    if (st)
        return st;
    int64_t n = p.x->size[0], d = p.x->size[2], kd = p.w->size[2];
    fb_tensor *x = fb_transpose(fbi_exact(p.x), 1, 2), *w = flat_weight(fbi_exact(p.w));
    x = x && w ? fb_reshape(x, FB_SHAPE(n * d, p.x->size[1], p.x->size[3], p.x->size[4])) : NULL;
    fb_tensor *z = x ? transposed_images(&p, 1, x, w) : NULL;
    return finish(c, &p, with_bias(&p, z ? stacked(&p, z, n, d, kd) : NULL, c->in[0]));
}

/* --- samples --- */

typedef struct example {
    fb_shape x, w;
    attrs a;
    bool bias;
} example;

static void add(fbi_samples *s, const example *e, bool transposed, fb_status status,
                const char *text)
{
    const fbi_sample_in bias = {.shape = FB_SHAPE(e->w.d[0]), .lo = -1, .hi = 1};
    fbi_sample_in in[3] = {{.shape = e->x, .lo = -1, .hi = 1}, {.shape = e->w, .lo = -1, .hi = 1}};
    in[2] = bias;
    if (transposed)
        in[2].shape.d[0] = e->w.d[1] * e->a.groups;
    in[2].absent = !e->bias;
    fbi_sample_bad(s, &e->a, 3, in, status, text);
}

static void examples(fbi_samples *s, const example *e, int n, bool transposed, const char *text)
{
    for (int i = 0; i < n; i++)
        add(s, &e[i], transposed, FB_OK, "");
    example bad = e[0];
    bad.x.d[1] = 5;
    add(s, &bad, transposed, FB_E_SHAPE, text);
    bad = e[0];
    bad.a.stride = FB_SHAPE(1, 2, 3, 4);
    add(s, &bad, transposed, FB_E_ARG, "stride [1, 2, 3, 4] has not");
    bad.a.stride = e[0].a.stride;
    bad.a.padding = (fb_shape){e[0].w.n - 2, {-1, -1, -1}};
    add(s, &bad, transposed, FB_E_ARG, "at least 0 is wanted");
}

void fbi_sample_conv1d(fbi_samples *s)
{
    const example e[] = {{FB_SHAPE(2, 4, 7), FB_SHAPE(3, 4, 3), {.groups = 1}, true},
                         {FB_SHAPE(2, 4, 8),
                          FB_SHAPE(6, 2, 3),
                          {FB_SHAPE(2), FB_SHAPE(2), FB_SHAPE(2), 2, {0}},
                          false},
                         {FB_SHAPE(4, 7), FB_SHAPE(3, 4, 2), {.groups = 1}, true}};
    examples(s, e, 3, false, "conv1d: input has 5 channels, weight expects 4: input [2, 5, 7]");
}

void fbi_sample_conv3d(fbi_samples *s)
{
    const example e[] = {{FB_SHAPE(2, 2, 3, 4, 3), FB_SHAPE(3, 2, 2, 3, 2), {.groups = 1}, true},
                         {FB_SHAPE(1, 4, 5, 4, 4),
                          FB_SHAPE(2, 2, 2, 2, 2),
                          {FB_SHAPE(2, 1, 2), FB_SHAPE(1, 0, 1), FB_SHAPE(2, 1, 1), 2, {0}},
                          false},
                         {FB_SHAPE(2, 3, 3, 3), FB_SHAPE(2, 2, 3, 1, 1), {.groups = 1}, true}};
    examples(s, e, 3, false,
             "conv3d: input has 5 channels, weight expects 2: input [2, 5, 3, 4, 3]");
}

void fbi_sample_conv_transpose1d(fbi_samples *s)
{
    const example e[] = {{FB_SHAPE(2, 4, 5), FB_SHAPE(4, 3, 3), {.groups = 1}, true},
                         {FB_SHAPE(2, 4, 4),
                          FB_SHAPE(4, 2, 3),
                          {FB_SHAPE(2), FB_SHAPE(1), FB_SHAPE(2), 2, FB_SHAPE(1)},
                          false},
                         {FB_SHAPE(4, 4),
                          FB_SHAPE(4, 2, 3),
                          {FB_SHAPE(1), FB_SHAPE(1), FB_SHAPE(3), 1, FB_SHAPE(2)},
                          true}};
    examples(s, e, 3, true, "conv_transpose1d: input has 5 channels, weight expects 4");
    example bad = e[0];
    bad.a.output_padding = FB_SHAPE(1);
    add(s, &bad, true, FB_E_ARG, "conv_transpose1d: output_padding 1 is not below the stride 1");
}

void fbi_sample_conv_transpose2d(fbi_samples *s)
{
    const example e[] = {{FB_SHAPE(2, 4, 3, 2), FB_SHAPE(4, 3, 3, 2), {.groups = 1}, true},
                         {FB_SHAPE(1, 4, 3, 3),
                          FB_SHAPE(4, 2, 2, 3),
                          {FB_SHAPE(2, 3), FB_SHAPE(1, 0), FB_SHAPE(1, 2), 2, FB_SHAPE(1, 2)},
                          false},
                         {FB_SHAPE(1, 2, 3, 2),
                          FB_SHAPE(2, 2, 2, 2),
                          {FB_SHAPE(1, 2), FB_SHAPE(1, 1), FB_SHAPE(3, 1), 1, FB_SHAPE(2, 1)},
                          true}};
    examples(s, e, 3, true, "conv_transpose2d: input has 5 channels, weight expects 4");
}

void fbi_sample_conv_transpose3d(fbi_samples *s)
{
    const example e[] = {
        {FB_SHAPE(1, 2, 2, 3, 2), FB_SHAPE(2, 2, 2, 2, 3), {.groups = 1}, true},
        {FB_SHAPE(1, 4, 2, 2, 3),
         FB_SHAPE(4, 1, 3, 2, 2),
         {FB_SHAPE(2, 1, 2), FB_SHAPE(1, 0, 1), FB_SHAPE(1, 2, 1), 2, FB_SHAPE(1, 0, 1)},
         false},
        {FB_SHAPE(1, 2, 2, 2, 2),
         FB_SHAPE(2, 1, 2, 2, 2),
         {FB_SHAPE(1, 1, 1), FB_SHAPE(1, 0, 1), FB_SHAPE(3, 2, 1), 1, FB_SHAPE(2, 1, 0)},
         true}};
    examples(s, e, 3, true, "conv_transpose3d: input has 5 channels, weight expects 2");
}

/* --- public --- */

/* The options for nd dimensions as attributes. "same": half of what a window reaches beyond its
 * place on both sides, and one more behind if that is odd, which *x gets. NULL *x: error. */
static attrs attrs_of(const char *name, int nd, fb_tensor **x, const fb_tensor *w,
                      const fb_conv_options *opts)
{
    static const fb_conv_options none;
    const fb_conv_options *o = opts ? opts : &none;
    attrs a = {{.n = nd}, {.n = nd}, {.n = nd}, o->groups ? o->groups : 1, {.n = nd}};
    fb_shape behind = {2 * nd, {0}};
    bool odd = false;
    for (int d = 0; d < nd; d++) {
        a.stride.d[d] = fbi_conv_opt(o->stride, d, 1);
        a.padding.d[d] = fbi_conv_opt(o->padding, d, 0);
        a.dilation.d[d] = fbi_conv_opt(o->dilation, d, 1);
        a.output_padding.d[d] = fbi_conv_opt(o->output_padding, d, 0);
        if (!o->same || w->ndim != nd + 2)
            continue;
        int64_t reach = a.dilation.d[d] * (w->size[2 + d] - 1);
        a.padding.d[d] = reach / 2;
        behind.d[2 * (nd - 1 - d) + 1] = reach % 2;
        odd = odd || reach % 2;
        if (a.stride.d[d] == 1)
            continue;
        fbi_fail((*x)->ctx, FB_E_ARG, "%s: padding \"same\" needs a stride of 1", name);
        *x = NULL;
        return a;
    }
    if (odd)
        *x = fb_pad(*x, behind, FB_PAD_CONSTANT, 0);
    return a;
}

static fb_tensor *run(const char *name, int nd, fbi_op op, fb_tensor *x, fb_tensor *w, fb_tensor *b,
                      const fb_conv_options *opts)
{
    fb_context *ctx = fb_context_of(x);
    if (!fbi_tensor_check(ctx, x, name, "x") || !fbi_tensor_check(ctx, w, name, "w"))
        return NULL;
    attrs a = attrs_of(name, nd, &x, w, opts);
    return x ? fbi_run1(ctx->site, op, &a, 3, (fb_tensor *const[]){x, w, b}) : NULL;
}

fb_tensor *fb_conv1d(fb_tensor *x, fb_tensor *w, fb_tensor *b, const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return run("conv1d", 1, FBI_OP_conv1d, x, w, b, opts);
}
fb_tensor *fb_conv3d(fb_tensor *x, fb_tensor *w, fb_tensor *b, const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return run("conv3d", 3, FBI_OP_conv3d, x, w, b, opts);
}
fb_tensor *fb_conv_transpose1d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                               const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return run("conv_transpose1d", 1, FBI_OP_conv_transpose1d, x, w, b, opts);
}
fb_tensor *fb_conv_transpose2d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                               const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return run("conv_transpose2d", 2, FBI_OP_conv_transpose2d, x, w, b, opts);
}
fb_tensor *fb_conv_transpose3d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                               const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return run("conv_transpose3d", 3, FBI_OP_conv_transpose3d, x, w, b, opts);
}

/* A row of the kind of conv2d. */
static fb_tensor *images(fbi_op op, fb_tensor *x, fb_tensor *w, fb_tensor *b,
                         const fb_conv_options *opts)
{
    fb_context *ctx = fb_context_of(x);
    const char *name = fbi_opdefs[op].name;
    if (!fbi_tensor_check(ctx, x, name, "x") || !fbi_tensor_check(ctx, w, name, "w"))
        return NULL;
    attrs s = attrs_of(name, 2, &x, w, opts);
    bool alone = x && x->ndim == 3;
    x = alone ? fb_unsqueeze(x, 0) : x;
    if (!x)
        return NULL;
    fbi_attrs_conv2d a = {s.stride.d[0],   s.stride.d[1],   s.padding.d[0], s.padding.d[1],
                          s.dilation.d[0], s.dilation.d[1], s.groups};
    fb_tensor *y = fbi_run1(ctx->site, op, &a, 3, (fb_tensor *const[]){x, w, b});
    return y && alone ? fb_squeeze(y, 0) : y;
}

fb_tensor *fb_conv2d(fb_tensor *x, fb_tensor *w, fb_tensor *b, const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    return images(FBI_OP_conv2d, x, w, b, opts);
}

fb_tensor *fb_conv2d_relu(fb_tensor *x, fb_tensor *w, fb_tensor *b, const fb_conv_options *opts)
{
    FBI_ENTRY(fb_context_of(x));
    if (x && !fb_dtype_is_float(fb_dtype_of(x)))
        return fb_relu(images(FBI_OP_conv2d, x, w, b, opts));
    return images(FBI_OP_conv2d_relu, x, w, b, opts);
}
