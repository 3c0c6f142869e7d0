/* Activation checkpointing of modules, by their paths. */
#include <stdlib.h>
#include <string.h>

#include "core/autograd/pass_priv.h"
#include "core/nn/nn_priv.h"

/* --- the rule --- */

typedef struct rule {
    const char *glob;
    bool on, any;
} rule;

static bool below_marked(const fb_module *m)
{
    for (const fb_module *p = m->parent; p; p = p->parent)
        if (p->extra && p->extra->checkpoint)
            return true;
    return false;
}

/* Parents come first: what lies below a marked one loses its mark. */
static fb_status apply(const char *path, fb_module *m, void *user)
{
    rule *r = user;
    bool runs = m->type->forward || m->type->forward_n;
    bool match = *path ? fbi_glob_match(r->glob, path) : *r->glob == '\0';
    bool marked = m->extra && m->extra->checkpoint;
    bool wanted = runs && match ? r->on : marked;
    r->any = r->any || (match && runs);
    wanted = wanted && !below_marked(m);
    if (wanted == marked)
        return FB_OK;
    fbi_nn_extra *extra = fbi_nn_extra_of(m);
    if (!extra)
        return m->ctx->status;
    extra->checkpoint = wanted;
    return FB_OK;
}

fb_status fb_nn_checkpoint(fb_module *root, const char *glob, bool on)
{
    if (!root)
        return FB_E_ARG;
    if (!fbi_nn_enter(root))
        return root->ctx->status;
    FBI_ENTRY(root->ctx);
    if (!glob)
        return fbi_fail(root->ctx, FB_E_ARG, "fb_nn_checkpoint: the glob is NULL");
    rule r = {.glob = glob, .on = on};
    fb_status st = fbi_nn_each_module(root, apply, &r);
    if (!st && !r.any)
        st =
            fbi_fail(root->ctx, FB_E_NOT_FOUND,
                     "fb_nn_checkpoint: no module of %s that has a forward function matches \"%s\"",
                     root->type->name, glob);
    return st;
}

/* --- a call --- */

typedef struct segment {
    fb_module *m; /* counted */
    fbi_nn_inner inner;
    int n_out;
    _Alignas(16) char args[];
} segment;

static void segment_drop(void *user)
{
    segment *s = user;
    fbi_nn_unref(s->m);
    free(s);
}

static fb_status segment_run(void *user, fb_tensors in, fb_tensor **out)
{
    segment *s = user;
    fb_context *ctx = s->m->ctx;
    if (!s->m->training)
        return fbi_fail(ctx, FB_E_STATE,
                        "fb_nn_checkpoint: %s was put into eval mode between its forward and its "
                        "backward, which runs it again",
                        s->m->type->name);
    fb_tensor ***places = malloc((size_t)s->n_out * sizeof *places);
    if (!places)
        return fbi_fail(ctx, FB_E_NOMEM, "%s: no memory", s->m->type->name);
    for (int i = 0; i < s->n_out; i++)
        places[i] = &out[i];
    fb_status st = s->inner(s->m, s->args, in, (fb_outs){places, s->n_out});
    free(places);
    return st;
}

static bool any_tensor(fb_tensors in)
{
    for (int i = 0; i < in.n; i++)
        if (in.t[i])
            return true;
    return false;
}

fb_status fbi_nn_kept(fb_module *m, fbi_nn_inner inner, void *args, size_t bytes, fb_tensors in,
                      fb_outs out)
{
    bool marked = m->extra && m->extra->checkpoint;
    if (!marked || !m->training || !m->ctx->grad_on || !any_tensor(in))
        return inner(m, args, in, out);
    segment *s = malloc(sizeof *s + bytes);
    fb_tensor **y = calloc((size_t)out.n + 1, sizeof *y);
    if (!s || !y) {
        free(s);
        free(y);
        return fbi_fail(m->ctx, FB_E_NOMEM, "%s: no memory", m->type->name);
    }
    fbi_nn_ref(m);
    *s = (segment){.m = m, .inner = inner, .n_out = out.n};
    if (bytes)
        memcpy(s->args, args, bytes);
    fb_status st = fbi_checkpoint_call(segment_run, s, segment_drop, in, out.n, y);
    for (int i = 0; i < out.n; i++)
        *out.t[i] = st ? NULL : y[i];
    free(y);
    return st;
}
