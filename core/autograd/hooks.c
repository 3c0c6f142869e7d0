/* Hooks on the gradient of a tensor, and hooks on whole passes. */
#include <stdlib.h>

#include "core/autograd/pass_priv.h"

struct fb_hook {
    fbi_node *node; /* not counted: the hook goes with it */
    uint32_t out_index;
    fb_grad_fn fn;
    void *user;
    fb_hook *next;
};

struct fbi_hook_list {
    fb_hook *first;
    char *note; /* owned */
};

fb_hook *fb_hook_grad(fb_tensor *t, fb_grad_fn fn, void *user)
{
    if (!t || !fbi_enter(t->ctx))
        return NULL;
    FBI_ENTRY(t->ctx);
    if (!fn || !fb_needs_grad(t)) {
        fbi_fail(t->ctx, FB_E_ARG, "fb_hook_grad: %s",
                 fn ? "the tensor needs no gradient" : "the function is NULL");
        return NULL;
    }
    fbi_node *n = fbi_node_of(t);
    fb_hook *h = calloc(1, sizeof *h);
    if (n && !n->hooks)
        n->hooks = calloc(1, sizeof *n->hooks);
    if (!n || !h || !n->hooks) {
        free(h);
        fbi_fail(t->ctx, FB_E_NOMEM, "fb_hook_grad: no memory");
        return NULL;
    }
    *h = (fb_hook){n, t->node ? t->out_index : 0, fn, user, NULL};
    fb_hook **end = &n->hooks->first;
    while (*end)
        end = &(*end)->next;
    *end = h;
    return h;
}

void fb_hook_remove(fb_hook *hook)
{
    if (!hook)
        return;
    fb_hook **at = &hook->node->hooks->first;
    while (*at && *at != hook)
        at = &(*at)->next;
    if (*at)
        *at = hook->next;
    free(hook);
}

void fbi_hooks_free(fbi_node *n)
{
    if (!n->hooks)
        return;
    for (fb_hook *h = n->hooks->first, *next; h; h = next) {
        next = h->next;
        free(h);
    }
    free(n->hooks->note);
    free(n->hooks);
    n->hooks = NULL;
}

void fbi_node_set_note(fbi_node *n, char *text)
{
    if (!n->hooks)
        n->hooks = calloc(1, sizeof *n->hooks);
    if (!n->hooks || n->hooks->note) {
        free(text);
        return;
    }
    n->hooks->note = text;
}

const char *fbi_node_note(const fbi_node *n)
{
    return n->hooks ? n->hooks->note : NULL;
}

fb_status fbi_hooks_run(fb_context *ctx, fbi_node *n, uint32_t out_index, fb_tensor **grad)
{
    for (fb_hook *h = n->hooks ? n->hooks->first : NULL, *next; h && *grad; h = next) {
        next = h->next; /* a hook may remove itself */
        if (h->out_index != out_index)
            continue;
        fb_tensor *other = h->fn(*grad, h->user);
        if (ctx->status)
            return ctx->status;
        if (!other || other == *grad)
            continue;
        if (!fbi_same_shape(other, *grad) || other->dtype != (*grad)->dtype)
            return fbi_fail(ctx, FB_E_SHAPE, "gradient hook of %s: returned %s, the gradient is %s",
                            fbi_node_name(n), fbi_text(other), fbi_text(*grad));
        fbi_tensor_ref(other);
        fbi_tensor_unref(*grad);
        *grad = other;
    }
    return FB_OK;
}

fb_status fbi_backward_hook_add(fb_context *ctx, fbi_backward_hook *hook)
{
    fbi_backward_hook **end = &ctx->backward_hooks;
    while (*end)
        end = &(*end)->next;
    hook->next = NULL;
    *end = hook;
    return FB_OK;
}

void fbi_backward_hook_remove(fb_context *ctx, fbi_backward_hook *hook)
{
    fbi_backward_hook **at = &ctx->backward_hooks;
    while (*at && *at != hook)
        at = &(*at)->next;
    if (*at)
        *at = hook->next;
}
