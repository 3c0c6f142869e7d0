/* Analytic gradients against central differences, in F64. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/autograd/pass_priv.h"

typedef struct fbi_check {
    fb_context *ctx;
    fb_checkpoint_fn fn;
    void *user;
    fb_tensors in;
    int n_out;
    double eps, atol, rtol;
    bool second; /* fn is the first gradient of `inner_fn` */
    fb_checkpoint_fn inner_fn;
    void *inner_user;
    int inner_out;
} fbi_check;

/* A fixed weight for element i, so that errors cannot cancel. */
static double fbi_weight(int64_t i, int out)
{
    uint64_t h = ((uint64_t)i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    h += (uint64_t)out * UINT64_C(0xBF58476D1CE4E5B9);
    h ^= h >> 31;
    return 0.5 + (double)(h % 1000) / 1000.0;
}

static fb_tensor *fbi_weights(fb_tensor *like, int out)
{
    double *w = malloc((size_t)(like->numel + 1) * sizeof *w);
    if (!w)
        return NULL;
    for (int64_t i = 0; i < like->numel; i++)
        w[i] = fbi_weight(i, out);
    fb_tensor *t = fb_from(like->ctx, FB_F64, fb_shape_of(like), w);
    free(w);
    return t;
}

/* sum of weight * output, over floating outputs that depend on the inputs */
static fb_status fbi_value(const fbi_check *c, double *value)
{
    FB_SCOPE(c->ctx);
    fb_tensor *out[16] = {0};
    *value = 0;
    fb_status st = c->fn(c->user, c->in, out);
    for (int k = 0; k < c->n_out && !st; k++) {
        if (!out[k] || out[k]->dtype != FB_F64)
            continue;
        if (k && !c->second && !fb_needs_grad(out[k])) /* a by-product, and known as such */
            continue;
        size_t bytes = (size_t)out[k]->numel * sizeof(double);
        double *v = malloc(bytes + 1);
        st = v ? fb_read(out[k], v, bytes) : FB_E_NOMEM;
        for (int64_t i = 0; i < out[k]->numel && !st; i++)
            *value += fbi_weight(i, k) * v[i];
        free(v);
    }
    return st ? st : c->ctx->status;
}

static fb_status fbi_analytic(const fbi_check *c, fb_tensor **grads)
{
    fb_tensor *out[16] = {0}, *use[16], *seed[16];
    fb_status st = c->fn(c->user, c->in, out);
    int n = 0;
    for (int k = 0; k < c->n_out && !st; k++) {
        if (!out[k] || out[k]->dtype != FB_F64 || !fb_needs_grad(out[k]))
            continue;
        use[n] = out[k];
        seed[n] = fbi_weights(out[k], k);
        if (!seed[n++])
            return FB_E_NOMEM;
    }
    if (st || !n)
        return st ? st : c->ctx->status;
    fb_gradient_options o = {.seeds = {seed, n}, .allow_unused = true};
    return fb_gradients((fb_tensors){use, n}, c->in, &o, grads);
}

static fb_status fbi_compare(const fbi_check *c, int input, fb_tensor *grad)
{
    fb_tensor *t = c->in.t[input];
    size_t bytes = (size_t)t->numel * sizeof(double);
    double *g = calloc(1, bytes + 1), *x = malloc(bytes + 1);
    fb_status st = g && x ? FB_OK : fbi_fail(c->ctx, FB_E_NOMEM, "gradcheck: no memory");
    if (!st && grad)
        st = fb_read(grad, g, bytes);
    if (!st)
        st = fb_read(t, x, bytes);
    for (int64_t i = 0; i < t->numel && !st; i++) {
        double at = x[i], hi, lo;
        x[i] = at + c->eps;
        st = fb_write(t, x, bytes);
        st = st ? st : fbi_value(c, &hi);
        x[i] = at - c->eps;
        st = st ? st : fb_write(t, x, bytes);
        st = st ? st : fbi_value(c, &lo);
        x[i] = at;
        st = st ? st : fb_write(t, x, bytes);
        double numeric = st ? 0 : (hi - lo) / (2 * c->eps);
        if (!st && !(fabs(numeric - g[i]) <= c->atol + c->rtol * fabs(numeric)))
            st = fbi_fail(c->ctx, FB_E_USER,
                          "%s: input %d, element %lld: gradient %.9g, central difference %.9g",
                          c->second ? "gradgradcheck" : "gradcheck", input, (long long)i, g[i],
                          numeric);
    }
    free(g);
    free(x);
    return st;
}

static fb_status fbi_check_run(const fbi_check *c)
{
    for (int i = 0; i < c->in.n; i++)
        if (c->in.t[i] && fb_needs_grad(c->in.t[i]) && c->in.t[i]->dtype != FB_F64)
            return fbi_fail(c->ctx, FB_E_DTYPE, "gradcheck: input %d is %s; needs F64", i,
                            fb_dtype_name((fb_dtype)c->in.t[i]->dtype));
    FB_SCOPE(c->ctx);
    fb_tensor **grads = calloc((size_t)c->in.n + 1, sizeof *grads);
    fb_status st = grads ? fbi_analytic(c, grads) : FB_E_NOMEM;
    for (int i = 0; i < c->in.n && !st; i++)
        if (c->in.t[i] && fb_needs_grad(c->in.t[i]))
            st = fbi_compare(c, i, grads[i]);
    free(grads);
    return st ? st : c->ctx->status;
}

static fbi_check fbi_check_of(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out,
                              const fb_gradcheck_options *o)
{
    fbi_check c = {
        .fn = fn, .user = user, .in = in, .n_out = n_out, .eps = 1e-6, .atol = 1e-5, .rtol = 1e-3};
    for (int i = 0; i < in.n && !c.ctx; i++)
        c.ctx = in.t[i] ? in.t[i]->ctx : NULL;
    if (o && o->eps > 0)
        c.eps = o->eps;
    if (o && o->atol > 0)
        c.atol = o->atol;
    if (o && o->rtol > 0)
        c.rtol = o->rtol;
    return c;
}

static fb_status fbi_check_ok(const fbi_check *c)
{
    if (!fbi_enter(c->ctx))
        return c->ctx ? c->ctx->status : FB_E_ARG;
    if (!c->fn)
        return fbi_fail(c->ctx, FB_E_ARG, "gradcheck: the function is NULL");
    if (c->n_out < 1 || c->n_out > 16 || c->in.n > 16)
        return fbi_fail(c->ctx, FB_E_ARG, "gradcheck: 1 to 16 outputs, at most 16 inputs");
    return FB_OK;
}

fb_status fb_gradcheck(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out,
                       const fb_gradcheck_options *opts)
{
    fbi_check c = fbi_check_of(fn, user, in, n_out, opts);
    FBI_ENTRY(c.ctx);
    fb_status st = fbi_check_ok(&c);
    return st ? st : fbi_check_run(&c);
}

/* The function whose outputs are the first gradients; absent ones stay NULL. */
static fb_status fbi_first_gradients(void *user, fb_tensors in, fb_tensor **out)
{
    const fbi_check *c = user;
    fb_tensor *grads[16] = {0};
    fbi_check inner = *c;
    inner.fn = c->inner_fn;
    inner.user = c->inner_user;
    inner.n_out = c->inner_out;
    fb_tensor *y[16] = {0}, *use[16], *seed[16];
    fb_status st = inner.fn(inner.user, in, y);
    int n = 0;
    for (int k = 0; k < inner.n_out && !st; k++) {
        if (!y[k] || y[k]->dtype != FB_F64 || !fb_needs_grad(y[k]))
            continue;
        use[n] = y[k];
        seed[n] = fbi_weights(y[k], k);
        if (!seed[n++])
            return FB_E_NOMEM;
    }
    if (st || !n)
        return st ? st : c->ctx->status;
    fb_gradient_options o = {.seeds = {seed, n}, .allow_unused = true, .create_graph = true};
    st = fb_gradients((fb_tensors){use, n}, in, &o, grads);
    for (int i = 0; i < in.n; i++)
        out[i] = grads[i];
    return st;
}

fb_status fb_gradgradcheck(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out,
                           const fb_gradcheck_options *opts)
{
    fbi_check c = fbi_check_of(fn, user, in, n_out, opts);
    FBI_ENTRY(c.ctx);
    fb_status st = fbi_check_ok(&c);
    if (st)
        return st;
    fbi_check outer = c;
    outer.inner_fn = fn;
    outer.inner_user = user;
    outer.inner_out = n_out;
    outer.second = true;
    outer.fn = fbi_first_gradients;
    outer.user = &outer;
    outer.n_out = in.n;
    return fbi_check_run(&outer);
}
