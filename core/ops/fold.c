/* im2col and fold, each the derivative of the other: shapes, backward, samples. */
#include <flambeau/core/ops/fold.h>

#include "core/ops/conv_priv.h"
#include "core/ops/op_priv.h"

/* Of both rows, in the same order. */
typedef struct windows {
    int64_t kh, kw, sh, sw, ph, pw, dh, dw, h, w;
} windows;

#define FIELDS(a)                                                                              \
    {                                                                                          \
        (a)->kh, (a)->kw, (a)->sh, (a)->sw, (a)->ph, (a)->pw, (a)->dh, (a)->dw, (a)->h, (a)->w \
    }

static const char *const sides[2] = {"rows", "columns"};

/* Blocks along both dimensions of the h x w images. */
static fb_status blocks_of(const fbi_call *c, const windows *a, int64_t *blocks)
{
    const int64_t size[2] = {a->h, a->w}, k[2] = {a->kh, a->kw}, s[2] = {a->sh, a->sw},
                  p[2] = {a->ph, a->pw}, d[2] = {a->dh, a->dw};
    *blocks = 1;
    for (int i = 0; i < 2; i++) {
        bool sane = k[i] >= 1 && s[i] >= 1 && d[i] >= 1 && p[i] >= 0 && size[i] >= 0;
        int64_t most = INT32_MAX; /* no product of two of these overflows */
        if (!sane || k[i] > most || s[i] > most || d[i] > most || p[i] > most || size[i] > most)
            return fbi_op_fail(c, FB_E_ARG,
                               "%s: kernel %lld, stride %lld and dilation %lld are at least 1, "
                               "padding %lld and size %lld at least 0, all below 2^31",
                               sides[i], (long long)k[i], (long long)s[i], (long long)d[i],
                               (long long)p[i], (long long)size[i]);
        int64_t n = fbi_conv_size(size[i], k[i], s[i], p[i], d[i]);
        if (n < 1)
            return fbi_op_fail(c, FB_E_SHAPE,
                               "%s: a kernel of %lld with dilation %lld is larger than %lld with "
                               "padding %lld",
                               sides[i], (long long)k[i], (long long)d[i], (long long)size[i],
                               (long long)p[i]);
        *blocks *= n;
    }
    return FB_OK;
}

/* The same, of in[0] with or without its batch. */
static fb_status need_ndim(const fbi_call *c, int with, fb_shape *s)
{
    const fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    *s = fb_shape_of(x);
    if (!st && x->ndim != with && x->ndim != with - 1)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s must have %d dimensions, or %d without a batch",
                           fbi_text(x), with, with - 1);
    return st;
}

fb_status fbi_infer_im2col(fbi_call *c)
{
    fbi_attrs_im2col *a = (fbi_attrs_im2col *)c->attrs; /* infer completes it */
    fb_shape s;
    fb_status st = need_ndim(c, 4, &s);
    if (st)
        return st;
    a->w = s.d[s.n - 1];
    a->h = s.d[s.n - 2];
    int64_t blocks = 0, rows = 0;
    windows w = FIELDS(a);
    st = blocks_of(c, &w, &blocks);
    if (st)
        return st;
    s.n--;
    if (__builtin_mul_overflow(s.d[s.n - 2], a->kh * a->kw, &rows))
        rows = -1;
    s.d[s.n - 2] = rows;
    s.d[s.n - 1] = blocks;
    if (fb_shape_numel(s) < 0)
        return fbi_op_fail(c, FB_E_SHAPE, "the result %s is too large", fbi_shape_text(c->ctx, s));
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, s);
}

fb_status fbi_infer_fold(fbi_call *c)
{
    const fbi_attrs_fold *a = c->attrs;
    fb_shape s;
    int64_t blocks = 0;
    windows w = FIELDS(a);
    fb_status st = need_ndim(c, 3, &s);
    if (!st)
        st = blocks_of(c, &w, &blocks);
    if (st)
        return st;
    int64_t rows = s.d[s.n - 2];
    if (rows % (a->kh * a->kw) || s.d[s.n - 1] != blocks)
        return fbi_op_fail(c, FB_E_SHAPE,
                           "input %s must end in [a multiple of %lld, %lld], for images of %lld x "
                           "%lld",
                           fbi_text(c->in[0]), (long long)(a->kh * a->kw), (long long)blocks,
                           (long long)a->h, (long long)a->w);
    s.d[s.n - 2] = rows / (a->kh * a->kw);
    s.d[s.n - 1] = a->h;
    s.d[s.n++] = a->w;
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, s);
}

fb_status fbi_bwd_ops_im2col(fbi_bw *bw)
{
    const fbi_attrs_im2col *a = bw->attrs;
    fbi_attrs_fold b = FIELDS(a);
    return FBI_BW_APPLY(bw, 0, fold, &b, bw->grad[0]);
}

fb_status fbi_bwd_ops_fold(fbi_bw *bw)
{
    const fbi_attrs_fold *a = bw->attrs;
    fbi_attrs_im2col b = FIELDS(a);
    return FBI_BW_APPLY(bw, 0, im2col, &b, bw->grad[0]);
}

static windows windows_of(int64_t kh, int64_t kw, const fb_conv_options *opts)
{
    fbi_conv_opts o = fbi_conv_opts_of(opts, (const int64_t[]){1, 1});
    return (windows){
        kh, kw, o.stride[0], o.stride[1], o.padding[0], o.padding[1], o.dilation[0], o.dilation[1],
        0,  0};
}

fb_tensor *fb_im2col(fb_tensor *x, int64_t kh, int64_t kw, const fb_conv_options *opts)
{
    windows w = windows_of(kh, kw, opts);
    fbi_attrs_im2col a = FIELDS(&w);
    return FBI_RUN(im2col, &a, x);
}

fb_tensor *fb_fold(fb_tensor *x, int64_t oh, int64_t ow, int64_t kh, int64_t kw,
                   const fb_conv_options *opts)
{
    windows w = windows_of(kh, kw, opts);
    fbi_attrs_fold a = FIELDS(&w);
    a.h = oh;
    a.w = ow;
    return FBI_RUN(fold, &a, x);
}

#define IN(...) (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2})

void fbi_sample_im2col(fbi_samples *s)
{
    fbi_attrs_im2col a = {2, 3, 1, 2, 1, 0, 1, 1, 0, 0};
    fbi_sample_add(s, &a, 1, IN(2, 2, 3, 5));
    a = (fbi_attrs_im2col){2, 2, 1, 1, 0, 1, 2, 1, 0, 0};
    fbi_sample_add(s, &a, 1, IN(2, 4, 3));
    fbi_sample_bad(s, &a, 1, IN(2, 2, 3), FB_E_SHAPE,
                   "im2col: rows: a kernel of 2 with dilation 2 is larger than 2 with padding 0");
    fbi_sample_bad(s, &a, 1, IN(4, 3), FB_E_SHAPE, "im2col: input [4, 3] must have 4 dimensions");
    a.sw = 0;
    fbi_sample_bad(s, &a, 1, IN(2, 4, 3), FB_E_ARG, "columns: kernel 2, stride 0");
}

void fbi_sample_fold(fbi_samples *s)
{
    fbi_attrs_fold a = {2, 3, 1, 2, 1, 0, 1, 1, 3, 5};
    fbi_sample_add(s, &a, 1, IN(2, 12, 8));
    fbi_sample_bad(s, &a, 1, IN(2, 12, 9), FB_E_SHAPE,
                   "fold: input [2, 12, 9] must end in [a multiple of 6, 8], for images of 3 x 5");
    fbi_sample_bad(s, &a, 1, IN(2, 10, 8), FB_E_SHAPE, "fold: input [2, 10, 8] must end in");
    a = (fbi_attrs_fold){2, 2, 1, 1, 0, 1, 2, 1, 4, 3};
    fbi_sample_add(s, &a, 1, IN(8, 8));
}
