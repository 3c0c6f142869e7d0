/* Images with other sizes: `resample`, one dimension at a time. */
#include <math.h>

#include <flambeau/core/ops/interpolate.h>

#include "core/ops/half_priv.h"

#include <flambeau/core/ops/pool.h>
#include <flambeau/core/ops/view.h>

enum { MODES = FB_AREA + 1 };

/* --- resample --- */

/* A result like in[0] with another size in one dimension, whose order in memory it keeps. */
static fb_status line_out(fbi_call *c, int d, int64_t size)
{
    const fb_tensor *x = c->in[0];
    fb_shape s = fb_shape_of(x);
    s.d[d] = size;
    return fbi_dense(x) ? fbi_out_order(c, 0, (fb_dtype)x->dtype, s, x)
                        : fbi_out(c, 0, (fb_dtype)x->dtype, s);
}

fb_status fbi_infer_resample(fbi_call *c)
{
    fbi_attrs_resample *a = (fbi_attrs_resample *)(uintptr_t)c->attrs; /* infer completes it */
    fb_status st = fbi_need_float(c, 0);
    int d = st ? -1 : fbi_dim_of(c, a->dim);
    if (d < 0)
        return st ? st : c->ctx->status;
    if (a->out < 1 || c->in[0]->size[d] < 1)
        return fbi_op_fail(c, FB_E_ARG, "%lld elements from dimension %d of %s", (long long)a->out,
                           d, fbi_text(c->in[0]));
    if (a->mode < 0 || a->mode > FB_CUBIC || (a->antialias && a->mode < FB_LINEAR))
        return fbi_op_fail(c, FB_E_ARG, "mode %lld%s", (long long)a->mode,
                           a->antialias ? " antialiased" : "");
    a->dim = d;
    a->in = c->in[0]->size[d];
    if (a->align_corners)
        a->scale = a->out > 1 ? (double)(a->in - 1) / (double)(a->out - 1) : 0;
    else if (!(a->scale > 0))
        a->scale = (double)a->in / (double)a->out;
    return line_out(c, d, a->out);
}

fb_status fbi_bwd_ops_resample(fbi_bw *bw)
{
    return FBI_BW_APPLY(bw, 0, resample_bwd, bw->attrs, bw->grad[0]);
}

fb_status fbi_infer_resample_bwd(fbi_call *c)
{
    const fbi_attrs_resample_bwd *a = c->attrs;
    return line_out(c, (int)a->dim, a->in);
}

fb_status fbi_bwd_ops_resample_bwd(fbi_bw *bw)
{
    return FBI_BW_APPLY(bw, 0, resample, bw->attrs, bw->grad[0]);
}

void fbi_sample_resample(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(2, 5, 3), .lo = -1, .hi = 1};
    for (int mode = 0; mode <= FB_CUBIC; mode++)
        for (int64_t out = 3; out <= 8; out += 5) {
            fbi_sample_add(s, &(fbi_attrs_resample){1, out, 0, mode, 0, 0, 0}, 1, &in);
            if (mode < FB_LINEAR)
                continue;
            fbi_sample_add(s, &(fbi_attrs_resample){1, out, 0, mode, 1, 0, 0}, 1, &in);
            fbi_sample_add(s, &(fbi_attrs_resample){1, out, 0, mode, 0, 1, 0}, 1, &in);
        }
    fbi_sample_add(s, &(fbi_attrs_resample){-1, 7, 0.4, FB_LINEAR, 0, 0, 0}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_resample){1, 0, 0, 0, 0, 0, 0}, 1, &in, FB_E_ARG,
                   "resample: 0 elements from dimension 1 of [2, 5, 3]");
    fbi_sample_bad(s, &(fbi_attrs_resample){1, 3, 0, 0, 0, 1, 0}, 1, &in, FB_E_ARG,
                   "resample: mode 0 antialiased");
}

/* --- interpolate --- */

/* What of mode, rank and options does not go together; NULL: all does. */
static const char *refused(int nd, const fbi_attrs_interpolate *a)
{
    if (a->mode < 0 || a->mode >= MODES)
        return "there is no such mode";
    bool smooth = a->mode == FB_LINEAR || a->mode == FB_CUBIC;
    if (a->mode == FB_CUBIC && nd != 2)
        return "cubic is of images [N, C, H, W]";
    if (a->align_corners && !smooth)
        return "align_corners is of linear and cubic";
    if (a->antialias && !(smooth && nd == 2))
        return "antialias is of linear and cubic images [N, C, H, W]";
    return NULL;
}

/* Sizes of the result and, where they are asked for, factors of places. */
static fb_status target(const fbi_call *c, int nd, fb_shape *size, double step[3])
{
    const fbi_attrs_interpolate *a = c->attrs;
    const fb_tensor *x = c->in[0];
    double scale[3] = {a->scale0, a->scale1, a->scale2};
    *size = a->size;
    if (size->n != 0 && size->n != nd)
        return fbi_op_fail(c, FB_E_ARG, "a size %s has not %d numbers",
                           fbi_shape_text(c->ctx, a->size), nd);
    for (int d = 0; d < nd; d++) {
        double s = scale[d] != 0 ? scale[d] : scale[0], in = (double)x->size[2 + d];
        step[d] = 0;
        if (!a->size.n) {
            if (!(s > 0) || !(floor(in * s) < (double)INT32_MAX))
                return fbi_op_fail(c, FB_E_ARG, "a scale of %g", s);
            size->d[d] = (int64_t)floor(in * s);
            step[d] = a->recompute_scale ? 0 : 1 / s;
        }
        if (size->d[d] < 1 || x->size[2 + d] < 1)
            return fbi_op_fail(c, FB_E_ARG, "%lld elements from dimension %d of %s",
                               (long long)size->d[d], d + 2, fbi_text(x));
    }
    size->n = nd;
    return FB_OK;
}

static fb_tensor *area(fb_tensor *x, const int64_t *size, int nd)
{
    return nd == 1   ? fb_adaptive_avg_pool1d(x, size[0])
           : nd == 2 ? fb_adaptive_avg_pool2d(x, size[0], size[1])
                     : fb_adaptive_avg_pool3d(x, size[0], size[1], size[2]);
}

fb_status fbi_compose_interpolate(fbi_call *c)
{
    const fbi_attrs_interpolate *a = c->attrs;
    fb_tensor *x = c->in[0], *y;
    int nd = x->ndim - 2;
    fb_shape size;
    double step[3];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (nd < 1 || nd > 3)
        return fbi_op_fail(c, FB_E_SHAPE, "input 0 has %d dimensions %s; needs 3, 4 or 5", x->ndim,
                           fbi_text(x));
    const char *why = refused(nd, a);
    if (why)
        return fbi_op_fail(c, FB_E_ARG, "%s: mode %lld of input %s", why, (long long)a->mode,
                           fbi_text(x));
    st = target(c, nd, &size, step);
    if (st)
        return st;
    if (a->mode == FB_AREA)
        return fbi_composed(c, area(x, size.d, nd));
    y = fbi_exact(x);
    for (int d = 0; d < nd && y; d++) {
        fbi_attrs_resample r = {2 + d,        size.d[d], step[d], a->mode, a->align_corners,
                                a->antialias, 0};
        y = FBI_RUN(resample, &r, y);
    }
    return fbi_composed(c, y ? fb_to(y, (fb_dtype)x->dtype) : NULL);
}

void fbi_sample_interpolate(fbi_samples *s)
{
    const fbi_attrs_interpolate ok[] = {
        {.size = FB_SHAPE(3, 9), .mode = FB_NEAREST},
        {.size = FB_SHAPE(7, 4), .mode = FB_LINEAR},
        {.size = FB_SHAPE(7, 4), .mode = FB_LINEAR, .align_corners = 1},
        {.size = FB_SHAPE(7, 3), .mode = FB_CUBIC},
        {.size = FB_SHAPE(2, 3), .mode = FB_CUBIC, .antialias = 1},
        {.size = FB_SHAPE(2, 3), .mode = FB_AREA},
        {.mode = FB_LINEAR, .scale0 = 1.7},
        {.mode = FB_LINEAR, .scale0 = 1.7, .scale1 = 0.6, .recompute_scale = 1}};
    fbi_sample_in in = {.shape = FB_SHAPE(1, 2, 4, 5), .lo = -1, .hi = 1};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++)
        fbi_sample_add(s, &ok[i], 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_interpolate){.size = FB_SHAPE(3)}, 1, &in, FB_E_ARG,
                   "interpolate: a size [3] has not 2 numbers");
    fbi_sample_bad(s, &(fbi_attrs_interpolate){.size = FB_SHAPE(3, 0)}, 1, &in, FB_E_ARG,
                   "interpolate: 0 elements from dimension 3 of [1, 2, 4, 5]");
    fbi_sample_bad(s, &(fbi_attrs_interpolate){.size = FB_SHAPE(3, 3), .antialias = 1}, 1, &in,
                   FB_E_ARG, "interpolate: antialias is of linear and cubic images");
    fbi_sample_bad(s, &(fbi_attrs_interpolate){.scale0 = -1}, 1, &in, FB_E_ARG,
                   "interpolate: a scale of -1");
    in.shape = FB_SHAPE(2, 2, 5);
    fbi_sample_add(s, &(fbi_attrs_interpolate){.size = FB_SHAPE(8), .mode = FB_LINEAR}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_interpolate){.size = FB_SHAPE(8), .mode = FB_CUBIC}, 1, &in,
                   FB_E_ARG, "interpolate: cubic is of images [N, C, H, W]: mode 3 of input");
    in.shape = FB_SHAPE(1, 2, 2, 3, 2);
    fbi_sample_add(s, &(fbi_attrs_interpolate){.size = FB_SHAPE(3, 2, 4), .mode = FB_LINEAR}, 1,
                   &in);
    in.shape = FB_SHAPE(2, 2);
    fbi_sample_bad(s, &(fbi_attrs_interpolate){.size = FB_SHAPE(3)}, 1, &in, FB_E_SHAPE,
                   "interpolate: input 0 has 2 dimensions [2, 2]; needs 3, 4 or 5");
}

fb_tensor *fb_interpolate(fb_tensor *x, fb_shape size, const fb_interpolate_options *opts)
{
    static const fb_interpolate_options none;
    const fb_interpolate_options *o = opts ? opts : &none;
    fbi_attrs_interpolate a = {size,        o->mode,     o->align_corners, o->antialias,
                               o->scale[0], o->scale[1], o->scale[2],      o->recompute_scale};
    return FBI_RUN(interpolate, &a, x);
}
