/* Hooks on modules. Those of backward hang on two nodes that pass the module's inputs and outputs
 * on and so see their gradients together. */
#include <flambeau/core/nn/hooks.h>

#include <stdlib.h>
#include <string.h>

#include "core/autograd/pass_priv.h"
#include "core/nn/nn_priv.h"

typedef enum hook_kind { HOOK_PRE, HOOK_FORWARD, HOOK_BACKWARD_PRE, HOOK_BACKWARD } hook_kind;

static const char *const kind_names[] = {"forward pre-hook", "forward hook", "backward pre-hook",
                                         "backward hook"};

struct fb_nn_hook {
    fb_module *m;
    hook_kind kind;
    bool gone; /* removed while hooks run */
    union {
        fb_nn_pre_hook_fn pre;
        fb_nn_forward_hook_fn forward;
        fb_nn_backward_pre_hook_fn backward_pre;
        fb_nn_backward_hook_fn backward;
    };
    void *user;
    fb_nn_hook *next;
};

/* --- the list --- */

fbi_nn_extra *fbi_nn_extra_of(fb_module *m)
{
    if (!m->extra)
        m->extra = calloc(1, sizeof *m->extra);
    if (!m->extra)
        fbi_fail(m->ctx, FB_E_NOMEM, "%s: no memory", m->type->name);
    return m->extra;
}

static void sweep(fbi_nn_extra *extra, bool all)
{
    for (fb_nn_hook **at = &extra->hooks; *at;) {
        fb_nn_hook *h = *at;
        if (!all && !h->gone) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        free(h);
    }
}

void fbi_nn_extra_free(fb_module *m)
{
    if (m->extra)
        sweep(m->extra, true);
    free(m->extra);
    m->extra = NULL;
}

static fb_nn_hook *add(fb_module *m, fb_nn_hook like, bool has_fn)
{
    if (!fbi_nn_enter(m))
        return NULL;
    if (!has_fn) {
        fbi_fail(m->ctx, FB_E_ARG, "%s: the function of a %s is NULL", m->type->name,
                 kind_names[like.kind]);
        return NULL;
    }
    fbi_nn_extra *extra = fbi_nn_extra_of(m);
    fb_nn_hook *h = extra ? malloc(sizeof *h) : NULL;
    if (!h) {
        fbi_fail(m->ctx, FB_E_NOMEM, "%s: no memory for a hook", m->type->name);
        return NULL;
    }
    *h = like;
    h->m = m;
    fb_nn_hook **end = &extra->hooks;
    while (*end)
        end = &(*end)->next;
    *end = h;
    return h;
}

fb_nn_hook *fb_nn_hook_forward_pre(fb_module *m, fb_nn_pre_hook_fn fn, void *user)
{
    FBI_ENTRY(fb_nn_context(m));
    return add(m, (fb_nn_hook){.kind = HOOK_PRE, .pre = fn, .user = user}, fn != NULL);
}

fb_nn_hook *fb_nn_hook_forward(fb_module *m, fb_nn_forward_hook_fn fn, void *user)
{
    FBI_ENTRY(fb_nn_context(m));
    return add(m, (fb_nn_hook){.kind = HOOK_FORWARD, .forward = fn, .user = user}, fn != NULL);
}

fb_nn_hook *fb_nn_hook_backward_pre(fb_module *m, fb_nn_backward_pre_hook_fn fn, void *user)
{
    FBI_ENTRY(fb_nn_context(m));
    return add(m, (fb_nn_hook){.kind = HOOK_BACKWARD_PRE, .backward_pre = fn, .user = user},
               fn != NULL);
}

fb_nn_hook *fb_nn_hook_backward(fb_module *m, fb_nn_backward_hook_fn fn, void *user)
{
    FBI_ENTRY(fb_nn_context(m));
    return add(m, (fb_nn_hook){.kind = HOOK_BACKWARD, .backward = fn, .user = user}, fn != NULL);
}

void fb_nn_hook_remove(fb_nn_hook *hook)
{
    if (!hook)
        return;
    hook->gone = true;
    if (!hook->m->extra->running)
        sweep(hook->m->extra, false);
}

/* --- running --- */

/* What a hook gets: some arrays of tensors, of which it may change the first. */
typedef struct seen {
    fb_tensor **own;
    int n_own;
    fb_tensors other;
} seen;

static fb_status call_hook(fb_nn_hook *h, const seen *s)
{
    switch (h->kind) {
    case HOOK_PRE:
        return h->pre(h->m, s->own, s->n_own, h->user);
    case HOOK_FORWARD:
        return h->forward(h->m, s->other, s->own, s->n_own, h->user);
    case HOOK_BACKWARD_PRE:
        return h->backward_pre(h->m, s->own, s->n_own, h->user);
    case HOOK_BACKWARD:
        return h->backward(h->m, s->own, s->n_own, s->other, h->user);
    }
    return FB_E_ARG;
}

/* What a hook has put in the place of tensor i. */
static fb_status check_new(fb_nn_hook *h, int i, const fb_tensor *old, const fb_tensor *now)
{
    fb_context *ctx = h->m->ctx;
    const char *name = h->m->type->name, *kind = kind_names[h->kind];
    bool gradient = h->kind >= HOOK_BACKWARD_PRE;
    if (old == now || (!now && h->kind != HOOK_FORWARD))
        return FB_OK;
    if (!now)
        return fbi_fail(ctx, FB_E_USER, "%s: a %s left output %d NULL", name, kind, i);
    if (!fbi_tensor_check(ctx, now, name, "what a hook gave"))
        return ctx->status;
    if (gradient && !old)
        return fbi_fail(ctx, FB_E_ARG, "%s: a %s gave gradient %d, where none is wanted", name,
                        kind, i);
    if (gradient && (!fbi_same_shape(old, now) || old->dtype != now->dtype))
        return fbi_fail(ctx, FB_E_SHAPE, "%s: a %s gave gradient %d as %s %s, it is %s %s", name,
                        kind, i, fb_dtype_name((fb_dtype)now->dtype), fbi_text(now),
                        fb_dtype_name((fb_dtype)old->dtype), fbi_text(old));
    return FB_OK;
}

static fb_status run_hook(fb_nn_hook *h, const seen *s, fb_tensor **before)
{
    fb_context *ctx = h->m->ctx;
    if (s->n_own)
        memcpy(before, s->own, (size_t)s->n_own * sizeof *before);
    fb_status st = call_hook(h, s);
    if (st && !ctx->status)
        fbi_fail(ctx, st, "%s: a %s failed", h->m->type->name, kind_names[h->kind]);
    for (int i = 0; i < s->n_own && !ctx->status; i++)
        check_new(h, i, before[i], s->own[i]);
    return ctx->status;
}

/* All hooks of a kind. */
static fb_status run_hooks(fb_module *m, hook_kind kind, seen s)
{
    fbi_nn_extra *extra = m->extra;
    fb_tensor **before = malloc(((size_t)s.n_own + 1) * sizeof *before);
    if (!before)
        return fbi_fail(m->ctx, FB_E_NOMEM, "%s: no memory", m->type->name);
    extra->running++;
    for (fb_nn_hook *h = extra->hooks; h && !m->ctx->status; h = h->next)
        if (h->kind == kind && !h->gone)
            run_hook(h, &s, before);
    if (--extra->running == 0)
        sweep(extra, false);
    free(before);
    return m->ctx->status;
}

static bool has_hooks(const fb_module *m, hook_kind kind)
{
    for (const fb_nn_hook *h = m->extra->hooks; h; h = h->next)
        if (h->kind == kind && !h->gone)
            return true;
    return false;
}

/* --- backward --- */

/* A call whose gradients are watched; counted by it and by its two nodes. */
typedef struct watch {
    int refs;
    fb_module *m; /* counted */
    bool inputs;  /* there is a node at the inputs, too */
    int n_in, n_out;
    fb_tensor **grad_out; /* [n_out] counted, for the node at the inputs */
} watch;

static void forget_gradients(watch *w)
{
    for (int i = 0; i < w->n_out; i++) {
        fbi_tensor_unref(w->grad_out[i]);
        w->grad_out[i] = NULL;
    }
}

static void watch_unref(void *self)
{
    watch *w = self;
    if (!w || --w->refs > 0)
        return;
    forget_gradients(w);
    fbi_nn_unref(w->m);
    free(w->grad_out);
    free(w);
}

/* Pass gradients on to the edges that want them. */
static void pass_on(fbi_node *n, fb_tensor *const *g, fb_tensor **in_grad)
{
    for (int i = 0; i < n->n_in; i++) {
        if (!g[i] || !fbi_edges(n)[i].to)
            continue;
        fbi_tensor_ref(g[i]);
        in_grad[i] = g[i];
    }
}

static fb_tensor **copy_of(fb_module *m, fb_tensor *const *t, int n)
{
    fb_tensor **copy = calloc((size_t)n + 1, sizeof *copy);
    if (!copy)
        fbi_fail(m->ctx, FB_E_NOMEM, "%s: no memory", m->type->name);
    for (int i = 0; copy && t && i < n; i++)
        copy[i] = t[i];
    return copy;
}

/* The gradients of the outputs have come. */
static fb_status at_outputs(void *self, fbi_pass *pass, fbi_node *n, fb_tensor *const *grad,
                            fb_tensor **in_grad)
{
    (void)pass;
    watch *w = self;
    fb_tensor **g = copy_of(w->m, grad, n->n_out);
    fb_status st = g ? run_hooks(w->m, HOOK_BACKWARD_PRE, (seen){g, n->n_out, {0}}) : FB_E_NOMEM;
    forget_gradients(w);
    for (int i = 0; i < w->n_out && !st && w->inputs; i++) {
        if (g[i])
            fbi_tensor_ref(g[i]);
        w->grad_out[i] = g[i];
    }
    if (!st && !w->inputs) {
        fb_tensor **none = copy_of(w->m, NULL, w->n_in);
        st = none ? run_hooks(w->m, HOOK_BACKWARD, (seen){none, w->n_in, {g, w->n_out}})
                  : FB_E_NOMEM;
        free(none);
    }
    if (!st)
        pass_on(n, g, in_grad);
    free(g);
    return st;
}

/* Those of the inputs have. */
static fb_status at_inputs(void *self, fbi_pass *pass, fbi_node *n, fb_tensor *const *grad,
                           fb_tensor **in_grad)
{
    (void)pass;
    watch *w = self;
    fb_tensor **g = copy_of(w->m, grad, n->n_out);
    seen s = {g, n->n_out, {w->grad_out, w->n_out}};
    fb_status st = g ? run_hooks(w->m, HOOK_BACKWARD, s) : FB_E_NOMEM;
    if (!st)
        pass_on(n, g, in_grad);
    forget_gradients(w);
    free(g);
    return st;
}

static bool any_needs(fb_tensor *const *t, int n)
{
    for (int i = 0; i < n; i++)
        if (t[i] && fb_needs_grad(t[i]))
            return true;
    return false;
}

/* Let a node of w stand behind the tensors that need a gradient. */
static fb_status put_node(watch *w,
                          fb_status (*backward)(void *, fbi_pass *, fbi_node *, fb_tensor *const *,
                                                fb_tensor **),
                          fb_tensor **t, int n)
{
    fbi_custom custom = {"module hooks", w, backward, watch_unref};
    w->refs++;
    fb_status st = fbi_relay(w->m->ctx, &custom, t, n);
    if (st)
        w->refs--;
    return st;
}

static watch *watch_new(fb_module *m, int n_in, int n_out)
{
    watch *w = calloc(1, sizeof *w);
    fb_tensor **grad_out = calloc((size_t)n_out + 1, sizeof *grad_out);
    if (!w || !grad_out) {
        free(w);
        free(grad_out);
        fbi_fail(m->ctx, FB_E_NOMEM, "%s: no memory", m->type->name);
        return NULL;
    }
    fbi_nn_ref(m);
    *w = (watch){.refs = 1, .m = m, .n_in = n_in, .n_out = n_out, .grad_out = grad_out};
    return w;
}

/* --- a call --- */

static fb_status hooked(fb_module *m, fbi_nn_inner inner, void *args, fb_tensor **x, int n_in,
                        fb_outs out, fb_tensor **y)
{
    fb_context *ctx = m->ctx;
    if (run_hooks(m, HOOK_PRE, (seen){x, n_in, {0}}))
        return ctx->status;
    watch *w = NULL;
    if (ctx->grad_on && (has_hooks(m, HOOK_BACKWARD) || has_hooks(m, HOOK_BACKWARD_PRE))) {
        w = watch_new(m, n_in, out.n);
        if (w && any_needs(x, n_in)) {
            w->inputs = true;
            put_node(w, at_inputs, x, n_in);
        }
    }
    fb_tensors in = {x, n_in};
    fb_status st = ctx->status ? ctx->status : inner(m, args, in, out);
    for (int i = 0; i < out.n; i++)
        y[i] = *out.t[i];
    if (!st)
        st = run_hooks(m, HOOK_FORWARD, (seen){y, out.n, in});
    if (!st && w && any_needs(y, out.n))
        st = put_node(w, at_outputs, y, out.n);
    watch_unref(w);
    return st;
}

fb_status fbi_nn_hooked(fb_module *m, fbi_nn_inner inner, void *args, fb_tensors in, fb_outs out)
{
    if (!m->extra->hooks)
        return inner(m, args, in, out);
    fb_tensor **x = calloc((size_t)in.n + (size_t)out.n + 1, sizeof *x), **y = x + in.n;
    if (!x)
        return fbi_fail(m->ctx, FB_E_NOMEM, "%s: no memory", m->type->name);
    for (int i = 0; i < in.n; i++)
        x[i] = in.t[i];
    fb_status st = hooked(m, inner, args, x, in.n, out, y);
    for (int i = 0; i < out.n; i++)
        *out.t[i] = st ? NULL : y[i];
    free(x);
    return st;
}
