/* Copies of trees: own parameters and buffers, ties kept. */
#include <stdlib.h>
#include <string.h>

#include "core/nn/nn_priv.h"

typedef struct pair {
    fb_tensor *from, *to;
} pair;

typedef struct copies {
    pair *v;
    int64_t n, cap;
} copies;

/* The copy of t, one reference for the caller; made at its first occurrence. */
static fb_tensor *copy_of(copies *c, fb_tensor *t)
{
    for (int64_t i = c->n - 1; i >= 0; i--) {
        if (c->v[i].from != t)
            continue;
        fbi_tensor_ref(c->v[i].to);
        return c->v[i].to;
    }
    if (c->n == c->cap) {
        int64_t cap = c->cap ? 2 * c->cap : 32;
        pair *v = realloc(c->v, (size_t)cap * sizeof *v);
        if (!v) {
            fbi_fail(t->ctx, FB_E_NOMEM, "fb_nn_clone: no memory");
            return NULL;
        }
        c->v = v;
        c->cap = cap;
    }
    fb_tensor *to = fbi_nn_copy_of(t);
    fbi_leaf *leaf = to ? fbi_leaf_of(to) : NULL;
    if (!leaf) {
        fbi_tensor_unref(to);
        return NULL;
    }
    if (t->leaf) {
        leaf->required = t->leaf->required;
        leaf->frozen = t->leaf->frozen;
        leaf->draw = t->leaf->draw;
    }
    c->v[c->n++] = (pair){.from = t, .to = to};
    return to;
}

static fb_module *clone(copies *c, fb_module *m);

static fb_status clone_list(copies *c, fb_module *copy, const fb_module *m)
{
    const fbi_list *from = m->self;
    fbi_list *to = copy->self;
    size_t n = (size_t)(from->n ? from->n : 1);
    to->m = calloc(n, sizeof(fb_module *));
    to->names = from->names ? calloc(n, sizeof(char *)) : NULL;
    if (!to->m || (from->names && !to->names))
        return fbi_fail(m->ctx, FB_E_NOMEM, "fb_nn_clone: no memory");
    to->n = from->n;
    for (int64_t i = 0; i < from->n; i++) {
        if (from->names && !(to->names[i] = strdup(from->names[i])))
            return fbi_fail(m->ctx, FB_E_NOMEM, "fb_nn_clone: no memory");
        if (!from->m[i])
            continue;
        to->m[i] = clone(c, from->m[i]);
        if (!to->m[i])
            return m->ctx->status;
        to->m[i]->parent = copy;
    }
    return FB_OK;
}

static fb_status clone_field(copies *c, fb_module *copy, const fb_module *m, const fb_field *f)
{
    if (f->kind == FB_FIELD_CHILD) {
        fb_module *from = *(fb_module **)(void *)fbi_nn_slot(m, f);
        fb_module *to = from ? clone(c, from) : NULL;
        *(fb_module **)(void *)fbi_nn_slot(copy, f) = to;
        if (to)
            to->parent = copy;
        return from && !to ? m->ctx->status : FB_OK;
    }
    fb_tensor *t = *fbi_nn_slot(m, f);
    if (!t)
        return FB_OK;
    if (f->kind == FB_FIELD_SLOT) {
        fbi_tensor_ref(t); /* carried state is replaced, never written: both may hold it */
        *fbi_nn_slot(copy, f) = t;
        return FB_OK;
    }
    *fbi_nn_slot(copy, f) = copy_of(c, t);
    return *fbi_nn_slot(copy, f) ? FB_OK : m->ctx->status;
}

static void clear_fields(fb_module *copy)
{
    for (const fb_field *f = copy->type->fields; f && f->kind; f++)
        *fbi_nn_slot(copy, f) = NULL;
    if (fbi_nn_is_list(copy))
        *(fbi_list *)copy->self = (fbi_list){0};
}

/* A copy in no registry yet: parents own their children. */
static fb_module *clone(copies *c, fb_module *m)
{
    if (m->type->free && !fbi_nn_is_list(m)) {
        fbi_fail(m->ctx, FB_E_UNSUPPORTED,
                 "fb_nn_clone: %s holds more than its fields (it has a free function)",
                 m->type->name);
        return NULL;
    }
    fb_module *copy = calloc(1, sizeof *copy);
    void *self = calloc(1, m->type->size ? m->type->size : 1);
    if (!copy || !self) {
        free(copy);
        free(self);
        fbi_fail(m->ctx, FB_E_NOMEM, "fb_nn_clone: no memory");
        return NULL;
    }
    memcpy(self, m->self, m->type->size);
    if (m->own)
        m->own->refs++;
    *copy = (fb_module){.ctx = m->ctx,
                        .type = m->type,
                        .own = m->own,
                        .self = self,
                        .refs = 1,
                        .training = m->training,
                        .frozen = m->frozen,
                        .number = -1};
    clear_fields(copy);
    fb_status st = fbi_nn_is_list(m) ? clone_list(c, copy, m) : FB_OK;
    if (m->extra && m->extra->checkpoint) { /* hooks are not copied: they are somebody's */
        fbi_nn_extra *extra = fbi_nn_extra_of(copy);
        if (extra)
            extra->checkpoint = true;
        st = extra ? st : m->ctx->status;
    }
    for (const fb_field *f = m->type->fields; f && f->kind && !st; f++)
        st = clone_field(c, copy, m, f);
    if (!st)
        return copy;
    fbi_nn_unref(copy);
    return NULL;
}

static void clone_closer(void *object)
{
    fbi_nn_unref(object);
}

fb_module *fb_nn_clone(fb_module *m)
{
    if (!fbi_nn_enter(m))
        return NULL;
    FBI_ENTRY(m->ctx);
    if (fb_nn_materialize(m))
        return NULL;
    copies c = {0};
    fb_module *copy = clone(&c, m);
    free(c.v);
    if (copy && fbi_context_adopt(m->ctx, copy, clone_closer)) {
        fbi_nn_unref(copy);
        return NULL;
    }
    return copy;
}
