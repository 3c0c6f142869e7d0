/* Custom functions: a node whose backward is user code. */
#include <flambeau/core/autograd/function.h>

#include <stdlib.h>
#include <string.h>

#include "core/autograd/pass_priv.h"

enum { FBI_CALL_SLOTS = 8 };

/* What an output is like, for a gradient of zeros. */
typedef struct fbi_like {
    fb_dtype dtype;
    fb_shape shape;
} fbi_like;

struct fb_call {
    fb_context *ctx;
    fb_function fn;
    fbi_node *node;                   /* while backward runs, and after forward */
    fb_tensor *saved[FBI_CALL_SLOTS]; /* during forward: counted */
    fbi_like *like;                   /* [n_out], after forward */
    bool linked;
    bool needs[32];
    int n_in;
    _Alignas(16) char attrs[];
};

static void fbi_call_drop(void *self)
{
    fb_call *call = self;
    for (int i = 0; i < FBI_CALL_SLOTS; i++)
        fbi_tensor_unref(call->saved[i]);
    free(call->like);
    free(call);
}

static fb_status fbi_call_backward(void *self, fbi_pass *pass, fbi_node *n, fb_tensor *const *grad,
                                   fb_tensor **in_grad)
{
    fb_call *call = self;
    fb_context *ctx = pass->ctx;
    if (pass->linked && call->fn.once_differentiable)
        return fbi_fail(ctx, FB_E_UNSUPPORTED,
                        "%s: can be differentiated once only; create_graph needs more",
                        call->fn.name);
    if (n->n_in > 32)
        return fbi_fail(ctx, FB_E_ARG, "%s: more than 32 inputs", call->fn.name);
    fb_tensor *full[16], *given[32] = {0};
    for (int i = 0; i < n->n_out; i++) {
        full[i] = grad[i];
        if (!full[i]) { /* user code always sees a gradient */
            full[i] = fbi_grad_const(ctx, call->like[i].dtype, call->like[i].shape, 0);
            if (!full[i])
                return ctx->status;
        }
    }
    for (int i = 0; i < n->n_in; i++)
        call->needs[i] = fbi_edges(n)[i].to != NULL;
    call->node = n;
    call->linked = pass->linked;
    fb_status st = call->fn.backward(call, (fb_tensors){full, n->n_out}, given);
    if (st)
        return ctx->status ? ctx->status
                           : fbi_fail(ctx, st, "%s: its backward failed", call->fn.name);
    for (int i = 0; i < n->n_in && !ctx->status; i++) {
        if (!fbi_edges(n)[i].to)
            continue;
        if (!given[i])
            return fbi_fail(ctx, FB_E_USER, "%s: backward gave no gradient of input %d",
                            call->fn.name, i);
        fbi_tensor_ref(given[i]);
        in_grad[i] = given[i];
    }
    return ctx->status;
}

static fb_status fbi_call_record(fb_call *call, fb_tensors in, fb_tensor **out)
{
    fb_context *ctx = call->ctx;
    int n_out = call->fn.n_out;
    fbi_node *n = fbi_node_new(ctx, 0, in.n, n_out, FBI_CALL_SLOTS, sizeof(fbi_custom));
    call->like = malloc((size_t)n_out * sizeof *call->like);
    if (!n || !call->like) {
        fbi_node_unref(ctx, n);
        fbi_fail(ctx, FB_E_NOMEM, "%s: no memory", call->fn.name);
        fbi_call_drop(call);
        return ctx->status;
    }
    if (ctx->anomaly)
        fbi_anomaly_note(ctx, n, in.t, in.n);
    fbi_custom custom = {call->fn.name, call, fbi_call_backward, fbi_call_drop};
    memcpy(fbi_attrs(n), &custom, sizeof custom);
    n->flags |= FBI_NODE_CUSTOM;
    for (int i = 0; i < in.n; i++) {
        fbi_node *to = in.t[i] ? fbi_node_of(in.t[i]) : NULL;
        if (!to)
            continue;
        to->refs++;
        fbi_edges(n)[i] = (fbi_edge){to, in.t[i]->node ? in.t[i]->out_index : 0};
    }
    for (int i = 0; i < n_out; i++) {
        if (out[i]->node || out[i]->leaf || out[i]->refs > 1) { /* an input, handed through */
            out[i] = fbi_tensor_alias(out[i]);
            if (!out[i]) {
                fbi_node_unref(ctx, n);
                return ctx->status;
            }
        }
        out[i]->node = n;
        out[i]->out_index = (uint8_t)i;
        n->refs++;
        call->like[i] = (fbi_like){(fb_dtype)out[i]->dtype, fb_shape_of(out[i])};
    }
    fb_status st = FB_OK;
    for (int k = 0; k < FBI_CALL_SLOTS && !st; k++) {
        fb_tensor *t = call->saved[k];
        if (!t)
            continue;
        bool own = false;
        for (int i = 0; i < n_out; i++)
            own = own || t == out[i];
        st = fbi_save(n, k, t, own ? FBI_SAVE_OUTPUT : FBI_SAVE_INPUT);
        fbi_tensor_unref(t);
        call->saved[k] = NULL;
    }
    fbi_node_unref(ctx, n);
    return st;
}

fb_status fb_function_apply(fb_context *ctx, const fb_function *fn, const void *attrs,
                            size_t attrs_size, fb_tensors in, fb_tensor **out)
{
    for (int i = 0; fn && out && i < fn->n_out; i++)
        out[i] = NULL;
    if (!fbi_enter(ctx))
        return ctx ? ctx->status : FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!fn || !out || !fn->forward || (!attrs && attrs_size))
        return fbi_fail(ctx, FB_E_ARG,
                        "function_apply: a function with a forward, out, and attributes of the "
                        "size that is said are needed");
    if (fn->n_out < 1 || fn->n_out > 16 || in.n > 32)
        return fbi_fail(ctx, FB_E_ARG, "%s: 1 to 16 outputs and at most 32 inputs", fn->name);
    bool record = false;
    for (int i = 0; i < in.n; i++) {
        if (in.t[i] && !fbi_tensor_check(ctx, in.t[i], fn->name, "an input"))
            return ctx->status;
        record = record || (ctx->grad_on && fb_needs_grad(in.t[i]));
    }
    fb_call *call = calloc(1, sizeof *call + attrs_size);
    if (!call)
        return fbi_fail(ctx, FB_E_NOMEM, "%s: no memory", fn->name);
    call->ctx = ctx;
    call->fn = *fn;
    call->n_in = in.n;
    if (attrs_size)
        memcpy(call->attrs, attrs, attrs_size);
    for (int i = 0; i < in.n; i++)
        call->needs[i] = ctx->grad_on && fb_needs_grad(in.t[i]);
    FB_SCOPE(ctx);
    fb_scope inner = fb_scope_begin(ctx);
    fb_no_grad(ctx);
    fb_status st = fn->forward(call, in, out);
    for (int i = 0; i < fn->n_out && !st; i++)
        if (out[i])
            fb_keep(out[i]);
        else
            st = ctx->status ? ctx->status : FB_E_USER;
    if (st && !ctx->status)
        fbi_fail(ctx, st, "%s: its forward failed", fn->name);
    fb_scope_end(&inner);
    st = ctx->status;
    if (!st && record)
        st = fbi_call_record(call, in, out);
    else
        fbi_call_drop(call);
    for (int i = 0; i < fn->n_out; i++)
        if (st)
            out[i] = NULL;
        else
            fb_keep(out[i]);
    return st;
}

const void *fb_call_attrs(fb_call *call)
{
    return call ? call->attrs : NULL;
}

fb_context *fb_call_context(fb_call *call)
{
    return call ? call->ctx : NULL;
}

fb_status fb_call_save(fb_call *call, int slot, fb_tensor *t)
{
    if (!call)
        return FB_E_ARG;
    if (slot < 0 || slot >= FBI_CALL_SLOTS)
        return fbi_fail(call->ctx, FB_E_ARG, "fb_call_save: slot %d; there are %d", slot,
                        FBI_CALL_SLOTS);
    if (t)
        fbi_tensor_ref(t);
    fbi_tensor_unref(call->saved[slot]);
    call->saved[slot] = t;
    return FB_OK;
}

fb_tensor *fb_call_saved(fb_call *call, int slot)
{
    if (!call)
        return NULL;
    if (slot < 0 || slot >= FBI_CALL_SLOTS) {
        fbi_fail(call->ctx, FB_E_ARG, "fb_call_saved: slot %d; there are %d", slot, FBI_CALL_SLOTS);
        return NULL;
    }
    return call->node ? fbi_unpack(call->ctx, call->node, slot, call->linked) : call->saved[slot];
}

bool fb_call_needs(const fb_call *call, int input)
{
    return call && input >= 0 && input < call->n_in && call->needs[input];
}
