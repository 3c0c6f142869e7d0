/* Training and eval, frozen and trained, one parameter under two names. */
#include <string.h>

#include "core/nn/nn_priv.h"

static fb_status set_training(const char *path, fb_module *m, void *user)
{
    (void)path;
    m->training = *(const bool *)user && !m->frozen;
    return FB_OK;
}

void fb_nn_train(fb_module *m)
{
    bool on = true;
    if (m)
        (void)fbi_nn_each_module(m, set_training, &on);
}

void fb_nn_eval(fb_module *m)
{
    bool on = false;
    if (m)
        (void)fbi_nn_each_module(m, set_training, &on);
}

bool fb_nn_is_training(const fb_module *m)
{
    return m && m->training;
}

/* --- requires_grad and freezing --- */

typedef enum grad_change { CHANGE_GRAD, CHANGE_FREEZE } grad_change;

static void freeze_norm(fb_module *owner, bool frozen)
{
    if (!fbi_nn_is_norm(owner))
        return;
    owner->frozen = frozen;
    owner->training = !frozen && (!owner->parent || owner->parent->training);
}

static fb_status change(fb_module *root, const char *glob, grad_change what, bool on,
                        const char *function)
{
    if (!root)
        return FB_E_ARG;
    if (!fbi_nn_enter(root))
        return root->ctx->status;
    FBI_ENTRY(root->ctx);
    bool any = false;
    fb_status st =
        glob ? FB_OK : fbi_fail(root->ctx, FB_E_ARG, "%s: the pattern of names is NULL", function);
    for (int k = 0; k < 2 && !st; k++) { /* buffers count for norm layers without parameters */
        fbi_named_list list;
        st = fbi_nn_collect(root, k ? FB_FIELD_BUFFER : FB_FIELD_PARAM, false, &list);
        for (int64_t i = 0; i < list.n && !st; i++) {
            fbi_named *p = &list.v[i];
            if (!fbi_glob_match(glob, p->name))
                continue;
            any = true;
            fbi_leaf *leaf = k ? NULL : fbi_leaf_of(p->t);
            if (leaf) {
                leaf->required = on;
                leaf->frozen = what == CHANGE_FREEZE ? !on : leaf->frozen;
            }
            if (what == CHANGE_FREEZE)
                freeze_norm(p->owner, !on);
        }
        fbi_named_free(&list);
    }
    if (!st && !any)
        st = fbi_fail(root->ctx, FB_E_NOT_FOUND, "%s: no parameter of %s matches \"%s\"", function,
                      root->type->name, glob);
    return st;
}

fb_status fb_nn_requires_grad(fb_module *root, const char *glob, bool required)
{
    return change(root, glob, CHANGE_GRAD, required, "fb_nn_requires_grad");
}

fb_status fb_nn_freeze(fb_module *root, const char *glob)
{
    return change(root, glob, CHANGE_FREEZE, false, "fb_nn_freeze");
}

fb_status fb_nn_unfreeze(fb_module *root, const char *glob)
{
    return change(root, glob, CHANGE_FREEZE, true, "fb_nn_unfreeze");
}

fb_status fb_nn_zero_grad(fb_module *root)
{
    if (!root)
        return FB_E_ARG;
    fbi_named_list list;
    fb_status st =
        fbi_nn_enter(root) ? fbi_nn_collect(root, FB_FIELD_PARAM, true, &list) : root->ctx->status;
    if (st)
        return st;
    for (int64_t i = 0; i < list.n; i++) {
        fbi_leaf *leaf = list.v[i].t->leaf;
        if (!leaf)
            continue;
        leaf->state = FBI_GRAD_NONE;
        fbi_tensor_unref(leaf->linked);
        leaf->linked = NULL;
    }
    fbi_named_free(&list);
    return FB_OK;
}

/* --- tying --- */

static fbi_named *by_name(fbi_named_list *list, const char *name)
{
    for (int64_t i = 0; i < list->n; i++)
        if (strcmp(list->v[i].name, name) == 0)
            return &list->v[i];
    return NULL;
}

static fb_status tie(fb_module *root, fbi_named_list *list, const char *path, const char *to)
{
    fbi_named *a = by_name(list, path), *b = by_name(list, to);
    if (!a || !b)
        return fbi_fail(root->ctx, FB_E_NOT_FOUND, "fb_nn_tie: %s has no parameter \"%s\"",
                        root->type->name, a ? to : path);
    if (!fbi_same_shape(a->t, b->t) || a->t->dtype != b->t->dtype)
        return fbi_fail(root->ctx, FB_E_SHAPE, "fb_nn_tie: %s is %s %s but %s is %s %s", path,
                        fb_dtype_name(a->t->dtype), fbi_text(a->t), to, fb_dtype_name(b->t->dtype),
                        fbi_text(b->t));
    if (a->t == b->t)
        return FB_OK;
    fbi_tensor_ref(b->t);
    *a->slot = b->t;
    fbi_tensor_unref(a->t);
    return FB_OK;
}

fb_status fb_nn_tie(fb_module *m, const char *path, const char *to)
{
    if (!m)
        return FB_E_ARG;
    if (!fbi_nn_enter(m))
        return m->ctx->status;
    FBI_ENTRY(m->ctx);
    if (!path || !to)
        return fbi_fail(m->ctx, FB_E_ARG, "fb_nn_tie: a path is NULL");
    if (fbi_nn_root(m)->ready)
        return fbi_fail(m->ctx, FB_E_STATE,
                        "fb_nn_tie: the parameters of %s are made; tie before the first use",
                        m->type->name);
    fbi_named_list list;
    fb_status st = fbi_nn_collect(m, FB_FIELD_PARAM, false, &list);
    if (!st)
        st = tie(m, &list, path, to);
    fbi_named_free(&list);
    return st;
}
