/* Life of a module: made from a struct, owned by its parent or the user, freed with the last hold.
 */
#include <stdlib.h>
#include <string.h>

#include "core/nn/nn_priv.h"

static void module_closer(void *object)
{
    fbi_nn_unref(object);
}

bool fbi_nn_enter(const fb_module *m)
{
    return m && fbi_enter(m->ctx);
}

fb_module *fbi_nn_root(fb_module *m)
{
    while (m->parent)
        m = m->parent;
    return m;
}

fb_status fbi_nn_adopt_child(fb_module *parent, fb_module *child, const char *name)
{
    fb_context *ctx = parent->ctx;
    if (child->ctx != ctx)
        return fbi_fail(ctx, FB_E_ARG, "%s: child %s belongs to another context",
                        parent->type->name, name);
    if (child->parent)
        return fbi_fail(ctx, FB_E_ARG,
                        "%s: child %s (%s) is already a child of a %s; share parameters with "
                        "fb_nn_tie, or copy the module with fb_nn_clone",
                        parent->type->name, name, child->type->name, child->parent->type->name);
    if (child->reducer || child->adopted)
        return fbi_fail(ctx, FB_E_STATE,
                        "%s: child %s (%s) is attached to a group; build the whole model first, "
                        "then attach its root",
                        parent->type->name, name, child->type->name);
    fbi_context_forget(ctx, child);
    fbi_nn_flat_drop(child); /* the new root lays everything out again */
    child->ready = false;
    child->parent = parent;
    return FB_OK;
}

/* Declared tensors come in no scope and with the reference that the field keeps; others are shared.
 */
static fb_status take_field(fb_module *m, const fb_field *f)
{
    if (f->kind == FB_FIELD_CHILD) {
        fb_module **slot = (fb_module **)(void *)fbi_nn_slot(m, f), *child = *slot;
        *slot = NULL; /* until it is ours, so that a failure does not free it */
        if (!child)
            return FB_OK;
        fb_status st = fbi_nn_adopt_child(m, child, f->name);
        if (!st)
            *slot = child;
        return st;
    }
    fb_tensor **slot = fbi_nn_slot(m, f), *t = *slot;
    if (!t)
        return FB_OK;
    *slot = NULL;
    if (t->ctx != m->ctx)
        return fbi_fail(m->ctx, FB_E_ARG, "%s: %s belongs to another context", m->type->name,
                        f->name);
    if (t->storage && !fbi_tensor_check(m->ctx, t, m->type->name, f->name))
        return m->ctx->status;
    if (f->kind != FB_FIELD_SLOT && t->node && !(t->leaf && t->leaf->node == t->node))
        return fbi_fail(m->ctx, FB_E_ARG,
                        "%s: %s is the result of an operator, not a leaf; fb_detach it first",
                        m->type->name, f->name);
    *slot = t;
    if (!(t->flags & FBI_T_BORROWED) || t->storage)
        fbi_tensor_ref(t);
    if (f->kind == FB_FIELD_PARAM && t->storage) {
        fbi_leaf *leaf = fbi_leaf_of(t);
        if (!leaf)
            return m->ctx->status;
        leaf->required = true;
    }
    return FB_OK;
}

/* Release what the caller's struct declared: fb_nn_new owns it, however it ends. */
static void drop_declared(const fb_module_type *type, const void *self)
{
    for (const fb_field *f = type->fields; f && f->kind; f++) {
        if (f->kind == FB_FIELD_CHILD)
            continue;
        fb_tensor *t = *(fb_tensor *const *)(const void *)((const char *)self + f->offset);
        if (t && !t->storage && (t->flags & FBI_T_BORROWED))
            fbi_tensor_unref(t);
    }
}

fb_module *fb_nn_new(fb_context *ctx, const fb_module_type *type, const void *self)
{
    if (!ctx)
        return NULL;
    FBI_ENTRY(ctx);
    if (!type || (!self && type->size)) {
        if (fbi_enter(ctx))
            fbi_fail(ctx, FB_E_ARG, "fb_nn_new: %s is NULL", type ? "the module's struct" : "type");
        return NULL;
    }
    if (!fbi_enter(ctx)) {
        drop_declared(type, self);
        return NULL;
    }
    fb_module *m = calloc(1, sizeof *m);
    if (m)
        m->self = calloc(1, type->size ? type->size : 1);
    if (!m || !m->self) {
        free(m);
        drop_declared(type, self);
        fbi_fail(ctx, FB_E_NOMEM, "%s: no memory for the module", type->name);
        return NULL;
    }
    m->ctx = ctx;
    m->type = type;
    m->refs = 1;
    m->training = true;
    m->number = -1;
    if (type->size)
        memcpy(m->self, self, type->size);
    if (fbi_context_adopt(ctx, m, module_closer)) {
        drop_declared(type, self);
        free(m->self);
        free(m);
        return NULL;
    }
    fb_status st = FB_OK;
    for (const fb_field *f = type->fields; f && f->kind; f++) {
        if (!st) {
            st = take_field(m, f);
            continue;
        }
        fb_tensor **slot = fbi_nn_slot(m, f); /* after a failure nothing of the rest is held */
        if (f->kind != FB_FIELD_CHILD && *slot && !(*slot)->storage)
            fbi_tensor_unref(*slot);
        *slot = NULL;
    }
    if (!st)
        return m;
    fb_nn_close(m);
    return NULL;
}

void fbi_nn_drop_declared(fb_tensor *const *t, int n)
{
    for (int i = 0; i < n; i++)
        if (t[i] && !t[i]->storage && (t[i]->flags & FBI_T_BORROWED))
            fbi_tensor_unref(t[i]);
}

/* The type of fbi_nn_new_named, without references. */
static fbi_own_type *make_type(const fb_module_type *base, int n, const char *const *names)
{
    size_t count = (size_t)n + 1, text = 0;
    for (int i = 0; i < n; i++)
        text += strlen(names[i]) + 1;
    fbi_own_type *own = calloc(1, sizeof *own + count * sizeof(fb_field) + text);
    if (!own)
        return NULL;
    char *at = (char *)(own->fields + count);
    for (int i = 0; i < n; i++) {
        size_t bytes = strlen(names[i]) + 1;
        memcpy(at, names[i], bytes);
        own->fields[i] =
            (fb_field){FB_FIELD_PARAM, at, base->size + (size_t)i * sizeof(fb_tensor *)};
        at += bytes;
    }
    own->type = *base;
    own->type.fields = own->fields;
    own->type.size = base->size + (size_t)n * sizeof(fb_tensor *);
    return own;
}

fb_module *fbi_nn_new_named(fb_context *ctx, const fb_module_type *base, const void *self, int n,
                            const char *const *names, fb_tensor *const *params)
{
    fbi_own_type *own = make_type(base, n, names);
    char *whole = own ? malloc(own->type.size) : NULL;
    if (!whole) {
        fbi_nn_drop_declared(params, n);
        free(own);
        fbi_fail(ctx, FB_E_NOMEM, "%s: no memory for the module", base->name);
        return NULL;
    }
    memcpy(whole, self, base->size);
    if (n > 0)
        memcpy(whole + base->size, params, (size_t)n * sizeof *params);
    fb_module *m = fb_nn_new(ctx, &own->type, whole);
    free(whole);
    if (!m) {
        free(own);
        return NULL;
    }
    own->refs = 1;
    m->own = own;
    return m;
}

void *fb_nn_self(fb_module *m)
{
    return m ? m->self : NULL;
}
fb_context *fb_nn_context(const fb_module *m)
{
    return m ? m->ctx : NULL;
}

void fbi_nn_ref(fb_module *m)
{
    m->refs++;
}

void fbi_nn_unref(fb_module *m)
{
    if (!m || --m->refs > 0)
        return;
    while (m->adopted) { /* before the parameters go: they are told of the end */
        fbi_adopted *a = m->adopted;
        m->adopted = a->next;
        a->close(a->object);
        free(a);
    }
    fbi_children it = {.parent = m};
    while (fbi_nn_next_child(&it)) {
        it.child->parent = NULL;
        fbi_nn_unref(it.child);
    }
    for (const fb_field *f = m->type->fields; f && f->kind; f++)
        if (f->kind != FB_FIELD_CHILD)
            fbi_tensor_unref(*fbi_nn_slot(m, f));
    if (m->type->free)
        m->type->free(m->self);
    fbi_nn_flat_drop(m);
    if (m->own && --m->own->refs == 0)
        free(m->own);
    fbi_nn_extra_free(m);
    for (const fbi_trace *t = m->ctx->trace; t; t = t->next)
        if (t->gone)
            t->gone(t->self, m);
    free(m->self);
    free(m);
}

void fb_nn_close(fb_module *m)
{
    if (!m || m->parent)
        return;
    fbi_context_forget(m->ctx, m);
    fbi_nn_unref(m);
}

fb_status fbi_nn_adopt(fb_module *root, void *object, void (*close)(void *))
{
    fbi_adopted *a = malloc(sizeof *a);
    if (!a)
        return fbi_fail(root->ctx, FB_E_NOMEM, "%s: no memory", root->type->name);
    *a = (fbi_adopted){.object = object, .close = close, .next = root->adopted};
    root->adopted = a;
    return FB_OK;
}

static fb_tensor *declare(fb_context *ctx, fb_dtype dtype, fb_shape shape, fb_init init,
                          bool required)
{
    if (!fbi_enter(ctx))
        return NULL;
    if (fb_shape_numel(shape) < 0) {
        fbi_fail(ctx, FB_E_SHAPE, "fb_nn_declare: %s is no shape", fbi_shape_text(ctx, shape));
        return NULL;
    }
    dtype = dtype ? dtype : FB_F32;
    if (required && !fb_dtype_is_float(dtype)) {
        fbi_fail(ctx, FB_E_DTYPE, "fb_nn_declare_param: %s cannot be trained; F32 F64 F16 BF16 can",
                 fb_dtype_name(dtype));
        return NULL;
    }
    fb_tensor *t = fbi_tensor_new_owned(ctx);
    if (!t)
        return NULL;
    fbi_set_shape(t, dtype, shape);
    fbi_leaf *leaf = fbi_leaf_of(t);
    if (!leaf) {
        fbi_tensor_unref(t);
        return NULL;
    }
    leaf->required = required;
    fbi_nn_set_draw(leaf, init);
    return t;
}

fb_tensor *fb_nn_declare_param(fb_context *ctx, fb_dtype dtype, fb_shape shape, fb_init init)
{
    return declare(ctx, dtype, shape, init, true);
}

fb_tensor *fb_nn_declare_buffer(fb_context *ctx, fb_dtype dtype, fb_shape shape, fb_init init)
{
    return declare(ctx, dtype, shape, init, false);
}
