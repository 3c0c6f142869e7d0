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
    return m->ctx->status == FB_OK;
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
    fb_scope_end(&s->scope);
    return y;
}

fb_tensor *fb_nn_forward(fb_module *m, fb_tensor *x)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    if (m && !m->type->forward) {
        fb_tensor *y = NULL;
        return fb_nn_forward_n(m, FB_TENSORS(x), FB_OUTS(&y)) ? NULL : y;
    }
    call_scope s;
    if (!call_begin(m, &s))
        return NULL;
    return call_end(m, &s, x, m->type->forward(m, x));
}

fb_tensor *fb_nn_call(fb_module *m, fb_tensor *(*fn)(fb_module *m, void *args), void *args)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    if (!fn && fbi_nn_enter(m))
        fbi_fail(m->ctx, FB_E_ARG, "fb_nn_call: the function is NULL");
    call_scope s;
    if (!call_begin(m, &s))
        return NULL;
    return call_end(m, &s, NULL, fn(m, args));
}

/* fb_nn_forward_n's function: args are the inputs. */
static void forward_n(fb_module *m, void *args, fb_outs out)
{
    fb_tensors in = *(const fb_tensors *)args;
    if (m->type->forward_n)
        m->type->forward_n(m, in, out);
    else if (m->type->forward && in.n == 1 && out.n == 1)
        *out.t[0] = m->type->forward(m, in.t[0]);
    else
        fbi_fail(m->ctx, FB_E_ARG, "%s: called with %d inputs and %d outputs; it has %s",
                 m->type->name, in.n, out.n,
                 m->type->forward ? "one of each" : "no forward function");
}

fb_status fbi_nn_call_n(fb_module *m, void (*fn)(fb_module *m, void *args, fb_outs out), void *args,
                        fb_outs out)
{
    for (int i = 0; i < out.n; i++)
        *out.t[i] = NULL;
    call_scope s;
    if (!call_begin(m, &s))
        return m ? m->ctx->status : FB_E_ARG;
    fn(m, args, out);
    for (int i = 0; i < out.n && !m->ctx->status; i++)
        if (!*out.t[i])
            fbi_fail(m->ctx, FB_E_USER, "%s: forward left output %d NULL", m->type->name, i);
    if (!m->ctx->status && out.n > 0)
        tell(m, NULL, *out.t[0]);
    for (int i = 0; i < out.n; i++) {
        if (m->ctx->status)
            *out.t[i] = NULL;
        call_keep(&s, *out.t[i]);
    }
    fb_status st = m->ctx->status;
    fb_scope_end(&s.scope);
    return st;
}

fb_status fb_nn_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    return fbi_nn_call_n(m, forward_n, &in, out);
}
