/* Calling modules: each call is a scope that keeps its outputs only. */
#include "core/nn/nn_priv.h"

typedef struct call_scope {
    fb_scope scope;
    uint32_t begin; /* first handle of the scope in the arena */
} call_scope;

static bool call_begin(fb_module *m, call_scope *s)
{
    if (!fbi_nn_enter(m))
        return false;
    fb_module *root = fbi_nn_root(m);
    if (!root->ready && fb_nn_materialize(root))
        return false;
    s->scope = fb_scope_begin(m->ctx);
    s->begin = m->ctx->arena_n;
    if (m->ctx->status)
        return false;
    if (m->ctx->trace)
        fbi_trace_begin(m->ctx, (fbi_trace_span){FBI_SPAN_MODULE, m->type->name, m, fbi_nn_path});
    return true;
}

static void call_close(fb_module *m, call_scope *s)
{
    if (m->ctx->trace)
        fbi_trace_end(m->ctx);
    fb_scope_end(&s->scope);
}

/* Results made in the scope leave it; a result that was there before (an input) stays where it is.
 */
static void call_keep(const call_scope *s, fb_tensor *y)
{
    if (y && y->slot != FBI_NO_SLOT && y->slot >= s->begin)
        (void)fb_keep(y);
}

static void tell(fb_module *m, const fb_tensor *x, const fb_tensor *y)
{
    const fbi_call_note *note = fbi_nn_root(m)->note;
    if (note && y)
        note->called(note->self, m, x, y);
}

static fb_tensor *call_end(fb_module *m, call_scope *s, const fb_tensor *x, fb_tensor *y)
{
    if (m->ctx->status)
        y = NULL;
    else if (!y)
        fbi_fail(m->ctx, FB_E_USER, "%s: forward returned NULL", m->type->name);
    tell(m, x, y);
    call_keep(s, y);
    call_close(m, s);
    return y;
}

fb_tensor *fb_nn_forward(fb_module *m, fb_tensor *x)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    if (m && (!m->type->forward || m->extra)) {
        fb_tensor *y = NULL;
        return fb_nn_forward_n(m, FB_TENSORS(x), FB_OUTS(&y)) ? NULL : y;
    }
    call_scope s;
    if (!call_begin(m, &s))
        return NULL;
    return call_end(m, &s, x, m->type->forward(m, x));
}

/* inner(m, args, in, out) as a call, between the hooks that there are. */
static fb_status call_n(fb_module *m, fbi_nn_inner inner, void *args, fb_tensors in, fb_outs out)
{
    for (int i = 0; i < out.n; i++)
        *out.t[i] = NULL;
    call_scope s;
    if (!call_begin(m, &s))
        return m ? m->ctx->status : FB_E_ARG;
    fb_status st = m->extra ? fbi_nn_hooked(m, inner, args, in, out) : inner(m, args, in, out);
    if (!st && out.n > 0)
        tell(m, m->type->forward && in.n == 1 ? in.t[0] : NULL, *out.t[0]);
    for (int i = 0; i < out.n; i++) {
        if (st)
            *out.t[i] = NULL;
        call_keep(&s, *out.t[i]);
    }
    call_close(m, &s);
    return st;
}

typedef struct typed_call {
    fb_tensor *(*fn)(fb_module *m, void *args);
    void *args;
} typed_call;

static fb_status run_typed(fb_module *m, void *args, fb_tensors in, fb_outs out)
{
    (void)in;
    const typed_call *c = args;
    *out.t[0] = c->fn(m, c->args);
    if (!*out.t[0] && !m->ctx->status)
        fbi_fail(m->ctx, FB_E_USER, "%s: forward returned NULL", m->type->name);
    return m->ctx->status;
}

fb_tensor *fb_nn_call(fb_module *m, fb_tensor *(*fn)(fb_module *m, void *args), void *args)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    if (!fn && fbi_nn_enter(m))
        fbi_fail(m->ctx, FB_E_ARG, "fb_nn_call: the function is NULL");
    fb_tensor *y = NULL;
    typed_call c = {fn, args};
    return call_n(m, run_typed, &c, (fb_tensors){0}, FB_OUTS(&y)) ? NULL : y;
}

static fb_status all_there(fb_module *m, fb_outs out)
{
    for (int i = 0; i < out.n && !m->ctx->status; i++)
        if (!*out.t[i])
            fbi_fail(m->ctx, FB_E_USER, "%s: forward left output %d NULL", m->type->name, i);
    return m->ctx->status;
}

typedef struct free_call {
    void (*fn)(fb_module *m, void *args, fb_outs out);
    void *args;
} free_call;

static fb_status run_free(fb_module *m, void *args, fb_tensors in, fb_outs out)
{
    (void)in;
    const free_call *c = args;
    c->fn(m, c->args, out);
    return all_there(m, out);
}

fb_status fbi_nn_call_n(fb_module *m, void (*fn)(fb_module *m, void *args, fb_outs out), void *args,
                        fb_outs out)
{
    return call_n(m, run_free, &(free_call){fn, args}, (fb_tensors){0}, out);
}

typedef struct known_call {
    fbi_nn_inner inner;
    void *args;
    size_t bytes;
} known_call;

static fb_status run_known(fb_module *m, void *args, fb_tensors in, fb_outs out)
{
    const known_call *c = args;
    return fbi_nn_kept(m, c->inner, c->args, c->bytes, in, out);
}

fb_status fbi_nn_call_with(fb_module *m, fbi_nn_inner inner, const void *args, size_t bytes,
                           fb_tensors in, fb_outs out)
{
    known_call c = {inner, (void *)(uintptr_t)args, bytes};
    return call_n(m, run_known, &c, in, out);
}

/* The function of the type. */
static fb_status run_type(fb_module *m, void *args, fb_tensors in, fb_outs out)
{
    (void)args;
    if (m->type->forward_n)
        m->type->forward_n(m, in, out);
    else if (m->type->forward && in.n == 1 && out.n == 1)
        *out.t[0] = m->type->forward(m, in.t[0]);
    else
        fbi_fail(m->ctx, FB_E_ARG, "%s: called with %d inputs and %d outputs; it has %s",
                 m->type->name, in.n, out.n,
                 m->type->forward ? "one of each" : "no forward function");
    return all_there(m, out);
}

fb_status fb_nn_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    return fbi_nn_call_with(m, run_type, NULL, 0, in, out);
}
