/* Kernels of im2col and fold. An element adds its columns kernel row by kernel row, in any number
 * of threads. */
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/ops/window_priv.h"

/* out [planes, kh, kw, oh, ow] from x [planes, h, w] */
#define COLUMNS(T)                                                                        \
    static void columns_##T(const fbi_attrs_im2col *a, const T *x, T *out, int64_t row,   \
                            int64_t oh, int64_t ow)                                       \
    {                                                                                     \
        int64_t j = row % a->kw, i = row / a->kw % a->kh;                                 \
        const T *plane = x + row / a->kw / a->kh * a->h * a->w;                           \
        T *to = out + row * oh * ow;                                                      \
        for (int64_t p = 0; p < oh; p++) {                                                \
            int64_t y = p * a->sh - a->ph + i * a->dh;                                    \
            for (int64_t q = 0; q < ow; q++) {                                            \
                int64_t z = q * a->sw - a->pw + j * a->dw;                                \
                bool in = y >= 0 && y < a->h && z >= 0 && z < a->w;                       \
                *to++ = in ? plane[y * a->w + z] : 0;                                     \
            }                                                                             \
        }                                                                                 \
    }                                                                                     \
    /* x [planes, h, w] += from [planes, kh, kw, oh, ow], of one plane */                 \
    static void images_##T(const fbi_attrs_fold *a, const T *from, T *out, int64_t plane, \
                           int64_t oh, int64_t ow)                                        \
    {                                                                                     \
        T *to = out + plane * a->h * a->w;                                                \
        memset(to, 0, (size_t)(a->h * a->w) * sizeof *to);                                \
        from += plane * a->kh * a->kw * oh * ow;                                          \
        for (int64_t row = 0; row < a->kh * a->kw; row++)                                 \
            for (int64_t p = 0; p < oh; p++) {                                            \
                int64_t y = p * a->sh - a->ph + row / a->kw * a->dh;                      \
                for (int64_t q = 0; q < ow; q++, from++) {                                \
                    int64_t z = q * a->sw - a->pw + row % a->kw * a->dw;                  \
                    if (y >= 0 && y < a->h && z >= 0 && z < a->w)                         \
                        to[y * a->w + z] += *from;                                        \
                }                                                                         \
            }                                                                             \
    }
COLUMNS(float)
COLUMNS(double)

fb_status FBI_KERNEL(im2col)(const fbi_call *c)
{
    const fbi_attrs_im2col *a = c->attrs;
    fb_tensor *o = c->out[0];
    fbi_flat x;
    if (o->numel == 0)
        return FB_OK;
    if (!fbi_flat_of(c, c->in[0], &x))
        return FB_E_NOMEM;
    int64_t oh = fbi_conv_size(a->h, a->kh, a->sh, a->ph, a->dh);
    int64_t ow = fbi_conv_size(a->w, a->kw, a->sw, a->pw, a->dw), rows = o->numel / (oh * ow);
    bool wide = o->dtype == FB_F64;
    int team = fbi_team(c, o->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t row = 0; row < rows; row++) {
        if (wide)
            columns_double(a, x.p, fbi_ptr(o), row, oh, ow);
        else
            columns_float(a, x.p, fbi_ptr(o), row, oh, ow);
    }
    fbi_flat_free(&x);
    return FB_OK;
}

fb_status FBI_KERNEL(fold)(const fbi_call *c)
{
    const fbi_attrs_fold *a = c->attrs;
    fb_tensor *o = c->out[0];
    fbi_flat x;
    if (o->numel == 0)
        return FB_OK;
    if (!fbi_flat_of(c, c->in[0], &x))
        return FB_E_NOMEM;
    int64_t oh = fbi_conv_size(a->h, a->kh, a->sh, a->ph, a->dh);
    int64_t ow = fbi_conv_size(a->w, a->kw, a->sw, a->pw, a->dw), planes = o->numel / (a->h * a->w);
    bool wide = o->dtype == FB_F64;
    int team = fbi_team(c, c->in[0]->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t plane = 0; plane < planes; plane++) {
        if (wide)
            images_double(a, x.p, fbi_ptr(o), plane, oh, ow);
        else
            images_float(a, x.p, fbi_ptr(o), plane, oh, ow);
    }
    fbi_flat_free(&x);
    return FB_OK;
}
