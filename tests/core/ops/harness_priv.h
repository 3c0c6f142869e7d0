/* Walking the table of operators: inputs from samples, calls, results in double. */
#ifndef FLAMBEAU_TESTS_CORE_OPS_HARNESS_PRIV_H
#define FLAMBEAU_TESTS_CORE_OPS_HARNESS_PRIV_H

#include "tests/core/ops/ops_test_priv.h"

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/sample_priv.h"

enum { HARNESS_OUT = 16, HARNESS_RESULTS = HARNESS_OUT + FBI_SAMPLE_INPUTS };

typedef struct row_call {
    const fbi_opdef *op;
    const fbi_sample *sample;
    fb_context *ctx;
} row_call;

/* A tensor of the sample's values in its dtype, or in `floats` where it has none. */
static inline fb_tensor *harness_input(fb_context *ctx, const fbi_sample_in *in, fb_dtype floats,
                                       uint32_t *seed)
{
    fb_dtype d = in->dtype ? in->dtype : floats;
    int64_t n = fb_shape_numel(in->shape);
    double *v = calloc((size_t)n + 1, sizeof *v);
    assert_non_null(v);
    fbi_sample_values(in, fb_dtype_is_float(d), v, seed);
    fb_tensor *t = fb_from(ctx, FB_F64, in->shape, v);
    free(v);
    FB_SCOPE(ctx);
    fb_no_grad(ctx);
    t = fb_keep(fb_to(t, d));
    assert_non_null(t);
    return t;
}

static inline void harness_inputs(fb_context *ctx, const fbi_sample *s, fb_dtype floats,
                                  fb_tensor **in)
{
    const char *other = getenv("FLAMBEAU_TEST_SEED"); /* tests/long/seeds */
    uint32_t seed = other ? (uint32_t)atol(other) : 1;
    for (int i = 0; i < s->n_in; i++)
        in[i] = s->in[i].absent ? NULL : harness_input(ctx, &s->in[i], floats, &seed);
}

static inline fb_status harness_call(void *user, fb_tensors in, fb_tensor **out)
{
    const row_call *r = user;
    fb_tensor *arg[FBI_SAMPLE_INPUTS];
    for (int i = 0; i < in.n; i++) {
        char matrix = r->sample->in[i].matrix;
        arg[i] = in.t[i];
        bool square = matrix && fb_size(in.t[i], -1) == fb_size(in.t[i], -2);
        if (square && matrix != 'r') /* with differences too: rows read one triangle */
            arg[i] = fb_mul_scalar(fb_add(in.t[i], fb_transpose(in.t[i], -2, -1)), 0.5);
    }
    return fbi_run(r->ctx, r->op->op, r->sample->attrs, arg, in.n, out);
}

/* Whether FLAMBEAU_TEST_OPS, a list of names with commas, is not set or has this one. */
static inline bool harness_wanted(const char *name)
{
    const char *list = getenv("FLAMBEAU_TEST_OPS");
    size_t n = strlen(name);
    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == n && !strncmp(at, name, n))
            return true;
    return !list || !*list;
}

/* Run `each` for every good (or bad) sample of every row, in a scope of its own. */
typedef void (*harness_each)(fb_context *ctx, const row_call *r);

static inline void harness_for_each(fb_context *ctx, bool good, harness_each each)
{
    fbi_samples *s = malloc(sizeof *s);
    assert_non_null(s);
    for (int k = 0; k < FBI_OP_COUNT; k++) {
        const fbi_opdef *d = &fbi_opdefs[k];
        bool runs = (d->flags & FBI_VIEW) || d->compose || fbi_has_kernel(ctx, d->op);
        if (d->flags & FBI_LAPACK)
            runs = fbi_cpu_has_lapack() && fbi_has_kernel(ctx, FBI_OP_svd);
        if (!d->sample || !runs ||
            !harness_wanted(d->name)) /* what this device has no kernel for is composed */
            continue;
        memset(s, 0, sizeof *s);
        s->op = d;
        d->sample(s);
        assert_true(s->n > 0);
        for (int i = 0; i < s->n; i++) {
            FB_SCOPE(ctx);
            row_call r = {d, &s->s[i], ctx};
            if ((r.sample->status == FB_OK) == good)
                each(ctx, &r);
        }
    }
    free(s);
}

/* Mark inputs of dtype `floats` that have a gradient; false if there are none. */
static inline bool harness_mark(const row_call *r, fb_dtype floats, fb_tensor **in)
{
    bool any = false;
    if (!r->op->bwd_ops && (!r->op->compose || (r->op->flags & FBI_NO_GRADIENT)))
        return false;
    for (int i = 0; i < r->sample->n_in; i++)
        if (in[i] && fb_dtype_of(in[i]) == floats && !r->sample->in[i].constant) {
            fb_requires_grad(in[i], true);
            any = true;
        }
    return any;
}

static inline void harness_ok(fb_context *ctx, const row_call *r, fb_status st, const char *what)
{
    char msg[1024];
    if (st || !fb_ok(ctx)) {
        fb_error_take(ctx, msg, sizeof msg);
        fail_msg("%s of %s: %s", what, r->op->name, msg);
    }
}

/* --- results in double: outputs first, then gradients of the inputs --- */

typedef struct harness_value {
    fb_dtype dtype; /* 0: there is none */
    int64_t n;
    double *v;
} harness_value;

typedef struct harness_results {
    harness_value at[HARNESS_RESULTS];
} harness_results;

static inline void harness_free(harness_results *r)
{
    for (int i = 0; i < HARNESS_RESULTS; i++)
        free(r->at[i].v);
}

static inline harness_value harness_read(fb_tensor *t)
{
    harness_value v = {0};
    if (!t)
        return v;
    v.dtype = fb_dtype_of(t);
    v.n = fb_numel(t);
    v.v = calloc((size_t)v.n + 1, sizeof *v.v);
    assert_non_null(v.v);
    FB_SCOPE(fb_context_of(t));
    fb_no_grad(fb_context_of(t));
    assert_int_equal(fb_read(fb_to(t, FB_F64), v.v, (size_t)v.n * sizeof *v.v), FB_OK);
    return v;
}

typedef fb_tensor *(*harness_layout)(fb_tensor *t);

/* Outputs, and the gradients of the marked inputs with small integers as seeds; those in the layout
 * that `layout` makes (NULL: row-major). linked: by the backward that records. */
static inline void harness_run(fb_context *ctx, const row_call *r, fb_tensor **in, bool linked,
                               harness_layout layout, harness_results *res)
{
    FB_SCOPE(ctx);
    fb_tensor *out[HARNESS_OUT] = {0}, *y[HARNESS_OUT], *seeds[HARNESS_OUT];
    fb_tensor *g[FBI_SAMPLE_INPUTS] = {0};
    int n = 0;
    memset(res, 0, sizeof *res);
    harness_ok(ctx, r, harness_call((void *)(uintptr_t)r, (fb_tensors){in, r->sample->n_in}, out),
               "forward");
    for (int k = 0; k < r->op->n_out; k++) {
        res->at[k] = harness_read(out[k]);
        if (!out[k] || !fb_needs_grad(out[k]))
            continue;
        double *small = malloc((size_t)(fb_numel(out[k]) + 1) * sizeof *small);
        assert_non_null(small);
        for (int64_t i = 0; i < fb_numel(out[k]); i++)
            small[i] = 1 + (double)((i + k) % 5);
        seeds[n] = fb_to(fb_from(ctx, FB_F64, fb_shape_of(out[k]), small), fb_dtype_of(out[k]));
        free(small);
        seeds[n] = layout ? layout(seeds[n]) : seeds[n];
        y[n++] = out[k];
    }
    if (!n)
        return;
    fb_gradient_options o = {.seeds = {seeds, n}, .create_graph = linked, .allow_unused = true};
    harness_ok(ctx, r, fb_gradients((fb_tensors){y, n}, (fb_tensors){in, r->sample->n_in}, &o, g),
               "gradients");
    for (int i = 0; i < r->sample->n_in; i++)
        res->at[HARNESS_OUT + i] = harness_read(g[i]);
}

/* Every result of `a` is that of `b` within atol + rtol |b|, where rtol and atol are those of
 * outputs or of gradients. */
typedef struct harness_tolerance {
    double out_r, out_a, grad_r, grad_a;
} harness_tolerance;

static inline void harness_compare(const row_call *r, const harness_results *a,
                                   const harness_results *b, harness_tolerance tol)
{
    for (int k = 0; k < HARNESS_RESULTS; k++) {
        const harness_value *x = &a->at[k], *y = &b->at[k];
        bool grad = k >= HARNESS_OUT;
        double rtol = grad ? tol.grad_r : tol.out_r, atol = grad ? tol.grad_a : tol.out_a;
        int place = grad ? k - HARNESS_OUT : k;
        const char *what = grad ? "gradient" : "output";
        if (!x->v != !y->v || x->n != y->n)
            fail_msg("%s: %s %d is missing or has another size", r->op->name, what, place);
        if (x->v && !fb_dtype_is_float(x->dtype))
            rtol = atol = 0;
        for (int64_t i = 0; i < x->n; i++) {
            double p = x->v[i], q = y->v[i];
            if (!(p == q || (p != p && q != q) || fabs(p - q) <= atol + rtol * fabs(q)))
                fail_msg("%s: %s %d[%lld] is %.17g, not %.17g", r->op->name, what, place,
                         (long long)i, p, q);
        }
    }
}

#endif
