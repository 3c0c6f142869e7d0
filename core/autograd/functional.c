/* Jacobians, Hessians and their products with vectors, all by backward. */
#include <flambeau/core/autograd/functional.h>

#include <stdlib.h>
#include <string.h>

#include "core/autograd/pass_priv.h"

/* A function at a point: x stands for the inputs, y is what it gave. */
typedef struct fbi_at {
    const char *who;
    fb_context *ctx;
    fb_scope home; /* the caller's: where results go */
    bool create, strict;
    bool placed; /* there is a place for results */
    int n_in, n_out;
    fb_tensor **x, **y; /* one block */
} fbi_at;

static fb_status fbi_at_input(fbi_at *at, fb_tensor *t, int i)
{
    fb_context *ctx = at->ctx;
    if (!t)
        return fbi_fail(ctx, FB_E_ARG, "%s: input %d is NULL", at->who, i);
    if (!fbi_tensor_check(ctx, t, at->who, "an input"))
        return ctx->status;
    if (!fb_dtype_is_float((fb_dtype)t->dtype))
        return fbi_fail(ctx, FB_E_DTYPE, "%s: input %d is %s, which has no derivative", at->who, i,
                        fb_dtype_name((fb_dtype)t->dtype));
    if (at->create && fb_needs_grad(t)) {
        at->x[i] = fbi_grad_scale(t, 1.0); /* a node of its own, behind which t stands */
        return ctx->status;
    }
    fb_tensor *a = fbi_tensor_alias(t);
    at->x[i] = a ? fb_requires_grad(a, true) : NULL;
    return ctx->status;
}

/* Call fn at a point, in a scope of ours that the caller has opened. */
static fb_status fbi_at_begin(fbi_at *at, fb_checkpoint_fn fn, void *user, fb_tensors in)
{
    fb_context *ctx = at->ctx;
    if (at->n_in < 1 || at->n_out < 1 || !fn)
        return fbi_fail(ctx, FB_E_ARG, "%s: %d inputs, %d outputs%s", at->who, at->n_in, at->n_out,
                        fn ? "" : ", and the function is NULL");
    if (!at->placed)
        return fbi_fail(ctx, FB_E_ARG, "%s: the place for results is NULL", at->who);
    at->x = calloc((size_t)at->n_in + (size_t)at->n_out, sizeof *at->x);
    if (!at->x)
        return fbi_fail(ctx, FB_E_NOMEM, "%s: no memory", at->who);
    at->y = at->x + at->n_in;
    fb_enable_grad(ctx);
    for (int i = 0; i < at->n_in; i++)
        if (fbi_at_input(at, in.t[i], i))
            return ctx->status;
    fb_status st = fn(user, (fb_tensors){at->x, at->n_in}, at->y);
    if (st && !ctx->status)
        fbi_fail(ctx, st, "%s: the function failed", at->who);
    for (int o = 0; o < at->n_out && !ctx->status; o++)
        if (!at->y[o])
            fbi_fail(ctx, FB_E_USER, "%s: the function left output %d empty", at->who, o);
        else
            fbi_tensor_check(ctx, at->y[o], at->who, "an output");
    return ctx->status;
}

static fb_status fbi_at_one_number(const fbi_at *at)
{
    if (at->y[0]->numel == 1)
        return FB_OK;
    return fbi_fail(at->ctx, FB_E_SHAPE, "%s: the function gave %s, not one element", at->who,
                    fbi_text(at->y[0]));
}

/* The vectors of a product, like `t`; n = 0: ones, for one tensor of one element. */
static fb_status fbi_at_vectors(const fbi_at *at, fb_tensors v, fb_tensor *const *t, int n,
                                const char *what, fb_tensor **out)
{
    fb_context *ctx = at->ctx;
    if (v.n == 0 && n == 1 && t[0]->numel == 1)
        out[0] = fbi_grad_full(t[0], 1);
    else if (v.n != n)
        return fbi_fail(ctx, FB_E_ARG, "%s: %d vectors for %d %ss", at->who, v.n, n, what);
    for (int i = 0; i < v.n && !ctx->status; i++) {
        out[i] = v.t[i];
        if (!fbi_tensor_check(ctx, v.t[i], at->who, "a vector"))
            return ctx->status;
        if (!fbi_same_shape(v.t[i], t[i]) || v.t[i]->dtype != t[i]->dtype)
            fbi_fail(ctx, FB_E_SHAPE, "%s: vector %d is %s %s, %s %d is %s %s", at->who, i,
                     fb_dtype_name((fb_dtype)v.t[i]->dtype), fbi_text(v.t[i]), what, i,
                     fb_dtype_name((fb_dtype)t[i]->dtype), fbi_text(t[i]));
    }
    return ctx->status;
}

/* Gradients of <seed, y> by x; NULL where there is none. Outputs without a graph are left out. */
static fb_status fbi_at_gradients(const fbi_at *at, fb_tensor *const *y, fb_tensor *const *seed,
                                  int n_y, fb_tensors x, bool create, fb_tensor **g)
{
    fb_tensor **use = calloc(2 * (size_t)n_y, sizeof *use);
    if (!use)
        return fbi_fail(at->ctx, FB_E_NOMEM, "%s: no memory", at->who);
    int n = 0;
    for (int i = 0; i < n_y; i++)
        if (y[i] && fb_needs_grad(y[i])) {
            use[n] = y[i];
            use[n_y + n++] = seed[i];
        }
    memset(g, 0, (size_t)x.n * sizeof *g);
    fb_gradient_options o = {.seeds = {use + n_y, n},
                             .retain_graph = true,
                             .create_graph = create,
                             .allow_unused = true};
    fb_status st = n ? fb_gradients((fb_tensors){use, n}, x, &o, g) : FB_OK;
    free(use);
    return st;
}

/* What strict mode says of a derivative. */
static fb_status fbi_at_strict(const fbi_at *at, const fb_tensor *g, const char *of, int o, int i)
{
    if (!at->strict || (g && (!at->create || fb_needs_grad(g))))
        return FB_OK;
    return fbi_fail(at->ctx, FB_E_STATE, "%s: strict: %s %d does not depend on input %d", at->who,
                    g ? "the derivative of output" : of, o, i);
}

/* g, or zeros like t, as a result of its own. */
static fb_tensor *fbi_at_result(const fbi_at *at, fb_tensor *g, fb_tensor *like)
{
    fb_tensor *r = !g ? fbi_grad_full(like, 0) : at->create ? g : fb_detach(g);
    return r ? fb_keep_in(at->home, r) : NULL;
}

static fb_status fbi_at_results(const fbi_at *at, fb_tensor *const *g, fb_tensor *const *like,
                                int n, fb_tensor **out)
{
    for (int i = 0; i < n && !at->ctx->status; i++)
        out[i] = fbi_at_result(at, g[i], like[i]);
    return at->ctx->status;
}

static fb_status fbi_at_end(fbi_at *at, fb_tensor **results, int64_t n)
{
    free(at->x);
    for (int64_t i = 0; results && i < n && at->ctx->status; i++)
        results[i] = NULL;
    return at->ctx->status;
}

static fbi_at fbi_at_of(const char *who, fb_tensors in, int n_out, const fb_functional_options *o,
                        fb_tensor *const *results)
{
    fbi_at at = {.who = who, .n_in = in.n, .n_out = n_out, .placed = results != NULL};
    for (int i = 0; i < in.n && !at.ctx; i++)
        at.ctx = in.t[i] ? in.t[i]->ctx : NULL;
    at.home = fb_scope_current(at.ctx);
    at.create = o && o->create_graph;
    at.strict = o && o->strict;
    return at;
}

static void fbi_clear(fb_tensor **t, int64_t n)
{
    for (int64_t i = 0; t && i < n; i++)
        t[i] = NULL;
}

/* --- rows --- */

bool fbi_joined(fb_shape a, fb_shape b, fb_shape *shape)
{
    *shape = a;
    for (int d = 0; d < b.n && shape->n < FB_MAX_DIMS; d++)
        shape->d[shape->n++] = b.d[d];
    return a.n + b.n <= FB_MAX_DIMS;
}

fb_tensor *fbi_grad_row(fb_tensor *all, int64_t k, const fb_tensor *t)
{
    fb_shape size = fb_shape_of(t), stride = size;
    int64_t step = 1;
    for (int d = size.n - 1; d >= 0; d--) {
        stride.d[d] = step;
        step *= size.d[d];
    }
    return fbi_view(all, size, stride, all->offset + k * t->numel);
}

/* Zeros like y with a 1 at element k. */
static fb_tensor *fbi_unit(fb_tensor *y, int64_t k)
{
    fb_tensor *e = fbi_grad_full(y, 0);
    fb_tensor *one = e ? fbi_view(e, FB_SCALAR, FB_SCALAR, k) : NULL;
    return one && !fbi_grad_fill(one, 1) ? e : NULL;
}

static fb_status fbi_put_row(fb_tensor *all, int64_t k, fb_tensor *g, const fb_tensor *like)
{
    fb_tensor *row = like->numel ? fbi_grad_row(all, k, like) : NULL;
    if (!row)
        return all->ctx->status;
    return g ? fbi_grad_copy(all->ctx, row, g) : fbi_grad_fill(row, 0);
}

/* Derivatives of y (output o) by every input, without a graph: rows are written as they come. */
static fb_status fbi_rows_plain(const fbi_at *at, fb_tensor *y, int o, fb_tensor **g,
                                fb_tensor **jac)
{
    fb_context *ctx = at->ctx;
    for (int i = 0; i < at->n_in && !ctx->status; i++) {
        fb_shape shape;
        fbi_joined(fb_shape_of(y), fb_shape_of(at->x[i]), &shape);
        jac[i] = fbi_empty(ctx, (fb_dtype)at->x[i]->dtype, shape);
        if (jac[i])
            fb_keep_in(at->home, jac[i]);
    }
    for (int64_t k = 0; k < y->numel && !ctx->status; k++) {
        FB_SCOPE(ctx);
        fb_tensor *seed = fbi_unit(y, k);
        if (!seed || fbi_at_gradients(at, &y, &seed, 1, (fb_tensors){at->x, at->n_in}, false, g))
            break;
        for (int i = 0; i < at->n_in && !ctx->status; i++)
            if (!fbi_at_strict(at, g[i], "output", o, i))
                fbi_put_row(jac[i], k, g[i], at->x[i]);
    }
    return ctx->status;
}

/* The same with a graph: rows are kept and joined. */
static fb_status fbi_rows_linked(const fbi_at *at, fb_tensor *y, int o, fb_tensor **g,
                                 fb_tensor **jac)
{
    fb_context *ctx = at->ctx;
    int64_t n = y->numel;
    fb_tensor **rows = calloc((size_t)(n * at->n_in + 1), sizeof *rows); /* [n_in][n] */
    if (!rows || n > INT32_MAX) {
        free(rows);
        return fbi_fail(ctx, FB_E_NOMEM, "%s: no memory", at->who);
    }
    for (int64_t k = 0; k < n && !ctx->status; k++) {
        fb_tensor *seed = fbi_unit(y, k);
        if (!seed || fbi_at_gradients(at, &y, &seed, 1, (fb_tensors){at->x, at->n_in}, true, g))
            break;
        for (int i = 0; i < at->n_in && !fbi_at_strict(at, g[i], "output", o, i); i++)
            rows[i * n + k] = g[i] ? g[i] : fbi_grad_full(at->x[i], 0);
    }
    for (int i = 0; i < at->n_in && !ctx->status; i++) {
        fb_shape shape;
        fbi_joined(fb_shape_of(y), fb_shape_of(at->x[i]), &shape);
        jac[i] = n ? fbi_grad_stack(rows + i * n, (int)n, shape)
                   : fbi_empty(ctx, (fb_dtype)at->x[i]->dtype, shape);
        if (jac[i])
            fb_keep_in(at->home, jac[i]);
    }
    free(rows);
    return ctx->status;
}

/* Derivatives of n_y tensors by the inputs: out[o * n_in + i]. */
static fb_status fbi_rows(const fbi_at *at, fb_tensor *const *y, int n_y, fb_tensor **out)
{
    fb_context *ctx = at->ctx;
    fb_tensor **g = calloc((size_t)at->n_in, sizeof *g);
    if (!g)
        return fbi_fail(ctx, FB_E_NOMEM, "%s: no memory", at->who);
    for (int o = 0; o < n_y && !ctx->status; o++) {
        fb_shape shape;
        for (int i = 0; i < at->n_in && !ctx->status; i++)
            if (!fbi_joined(fb_shape_of(y[o]), fb_shape_of(at->x[i]), &shape))
                fbi_fail(ctx, FB_E_SHAPE, "%s: %s by %s has more than %d dimensions", at->who,
                         fbi_text(y[o]), fbi_text(at->x[i]), FB_MAX_DIMS);
        if (!ctx->status)
            (at->create ? fbi_rows_linked : fbi_rows_plain)(at, y[o], o, g, out + o * at->n_in);
    }
    free(g);
    return ctx->status;
}

/* --- the public side --- */

fb_status fb_jacobian(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out,
                      const fb_functional_options *opts, fb_tensor **jac)
{
    fbi_at at = fbi_at_of("fb_jacobian", in, n_out, opts, jac);
    int64_t n = in.n > 0 && n_out > 0 ? (int64_t)in.n * n_out : 0;
    fbi_clear(jac, n);
    if (!fbi_enter(at.ctx))
        return at.ctx ? at.ctx->status : FB_E_ARG;
    FBI_ENTRY(at.ctx);
    FB_SCOPE(at.ctx);
    if (!fbi_at_begin(&at, fn, user, in))
        fbi_rows(&at, at.y, n_out, jac);
    return fbi_at_end(&at, jac, n);
}

/* First gradients, by which second ones are made; those that are missing are zeros. */
static fb_status fbi_at_first(fbi_at *at, fb_tensor **g)
{
    fb_tensor *one = fbi_at_one_number(at) ? NULL : fbi_grad_full(at->y[0], 1);
    if (!one || fbi_at_gradients(at, at->y, &one, 1, (fb_tensors){at->x, at->n_in}, true, g))
        return at->ctx->status;
    for (int i = 0; i < at->n_in && !at->ctx->status; i++) {
        if (at->strict && !g[i])
            fbi_fail(at->ctx, FB_E_STATE, "%s: strict: output 0 does not depend on input %d",
                     at->who, i);
        else if (!g[i])
            g[i] = fbi_grad_full(at->x[i], 0);
    }
    return at->ctx->status;
}

fb_status fb_hessian(fb_checkpoint_fn fn, void *user, fb_tensors in,
                     const fb_functional_options *opts, fb_tensor **hes)
{
    fbi_at at = fbi_at_of("fb_hessian", in, 1, opts, hes);
    int64_t n = in.n > 0 ? (int64_t)in.n * in.n : 0;
    fbi_clear(hes, n);
    if (!fbi_enter(at.ctx))
        return at.ctx ? at.ctx->status : FB_E_ARG;
    FBI_ENTRY(at.ctx);
    FB_SCOPE(at.ctx);
    fb_tensor **g = calloc((size_t)in.n + 1, sizeof *g);
    if (!g)
        fbi_fail(at.ctx, FB_E_NOMEM, "fb_hessian: no memory");
    else if (!fbi_at_begin(&at, fn, user, in) && !fbi_at_first(&at, g))
        fbi_rows(&at, g, in.n, hes);
    free(g);
    return fbi_at_end(&at, hes, n);
}

fb_status fb_vjp(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out, fb_tensors v,
                 const fb_functional_options *opts, fb_tensor **out, fb_tensor **grads)
{
    fbi_at at = fbi_at_of("fb_vjp", in, n_out, opts, grads);
    fbi_clear(grads, in.n);
    fbi_clear(out, n_out);
    if (!fbi_enter(at.ctx))
        return at.ctx ? at.ctx->status : FB_E_ARG;
    FBI_ENTRY(at.ctx);
    FB_SCOPE(at.ctx);
    int room = n_out > 0 ? n_out : 0;
    fb_tensor **seed = calloc((size_t)room + (size_t)in.n + 1, sizeof *seed), **g = seed + room;
    if (!seed)
        fbi_fail(at.ctx, FB_E_NOMEM, "fb_vjp: no memory");
    else if (!fbi_at_begin(&at, fn, user, in) &&
             !fbi_at_vectors(&at, v, at.y, n_out, "output", seed))
        fbi_at_gradients(&at, at.y, seed, n_out, (fb_tensors){at.x, in.n}, at.create, g);
    for (int i = 0; i < in.n && !at.ctx->status; i++)
        if (at.strict && !g[i])
            fbi_fail(at.ctx, FB_E_STATE, "fb_vjp: strict: no output depends on input %d", i);
    if (!at.ctx->status)
        fbi_at_results(&at, g, at.x, in.n, grads);
    if (!at.ctx->status && out)
        fbi_at_results(&at, at.y, at.y, n_out, out);
    free(seed);
    fbi_at_end(&at, out, out ? n_out : 0);
    fbi_clear(grads, at.ctx->status ? in.n : 0);
    return at.ctx->status;
}

/* u stands for what backward begins with: x's gradients are linear in it, and its factors are J v.
 */
static fb_status fbi_at_tangents(fbi_at *at, fb_tensor *const *v, fb_tensor **u, fb_tensor **g,
                                 fb_tensor **tangents)
{
    for (int o = 0; o < at->n_out; o++) {
        bool has = fb_dtype_is_float((fb_dtype)at->y[o]->dtype);
        u[o] = has ? fbi_grad_full(at->y[o], 0) : NULL;
        if (has && (!u[o] || !fb_requires_grad(u[o], true)))
            return at->ctx->status;
    }
    fb_tensors x = {at->x, at->n_in}, outs = {u, at->n_out};
    if (fbi_at_gradients(at, at->y, u, at->n_out, x, true, g))
        return at->ctx->status;
    return fbi_at_gradients(at, g, v, at->n_in, outs, at->create, tangents);
}

fb_status fb_jvp(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out, fb_tensors v,
                 const fb_functional_options *opts, fb_tensor **out, fb_tensor **tangents)
{
    fbi_at at = fbi_at_of("fb_jvp", in, n_out, opts, tangents);
    fbi_clear(tangents, n_out);
    fbi_clear(out, n_out);
    if (!fbi_enter(at.ctx))
        return at.ctx ? at.ctx->status : FB_E_ARG;
    FBI_ENTRY(at.ctx);
    FB_SCOPE(at.ctx);
    size_t ins = (size_t)in.n, outs = n_out > 0 ? (size_t)n_out : 0;
    fb_tensor **vs = calloc(2 * ins + 2 * outs + 1, sizeof *vs), **g = vs + ins, **u = g + ins,
              **t = u + outs;
    if (!vs)
        fbi_fail(at.ctx, FB_E_NOMEM, "fb_jvp: no memory");
    else if (!fbi_at_begin(&at, fn, user, in) && !fbi_at_vectors(&at, v, at.x, in.n, "input", vs))
        fbi_at_tangents(&at, vs, u, g, t);
    for (int o = 0; o < n_out && !at.ctx->status; o++)
        if (at.strict && !t[o])
            fbi_fail(at.ctx, FB_E_STATE, "fb_jvp: strict: output %d depends on no input", o);
    if (!at.ctx->status)
        fbi_at_results(&at, t, at.y, n_out, tangents);
    if (!at.ctx->status && out)
        fbi_at_results(&at, at.y, at.y, n_out, out);
    free(vs);
    fbi_at_end(&at, out, out ? n_out : 0);
    fbi_clear(tangents, at.ctx->status ? n_out : 0);
    return at.ctx->status;
}

fb_status fb_hvp(fb_checkpoint_fn fn, void *user, fb_tensors in, fb_tensors v,
                 const fb_functional_options *opts, fb_tensor **out, fb_tensor **hv)
{
    fbi_at at = fbi_at_of("fb_hvp", in, 1, opts, hv);
    fbi_clear(hv, in.n);
    fbi_clear(out, 1);
    if (!fbi_enter(at.ctx))
        return at.ctx ? at.ctx->status : FB_E_ARG;
    FBI_ENTRY(at.ctx);
    FB_SCOPE(at.ctx);
    size_t n = (size_t)in.n;
    fb_tensor **vs = calloc(3 * n + 1, sizeof *vs), **g = vs + n, **h = g + n;
    fb_tensors x = {NULL, in.n};
    if (!vs)
        fbi_fail(at.ctx, FB_E_NOMEM, "fb_hvp: no memory");
    else if (!fbi_at_begin(&at, fn, user, in) && !fbi_at_first(&at, g) &&
             !fbi_at_vectors(&at, v, at.x, in.n, "input", vs)) {
        x.t = at.x;
        fbi_at_gradients(&at, g, vs, in.n, x, at.create, h);
    }
    if (!at.ctx->status)
        fbi_at_results(&at, h, at.x, in.n, hv);
    if (!at.ctx->status && out)
        fbi_at_results(&at, at.y, at.y, 1, out);
    free(vs);
    fbi_at_end(&at, out, out ? 1 : 0);
    fbi_clear(hv, at.ctx->status ? in.n : 0);
    return at.ctx->status;
}
