/* Names are paths of field names; everything that looks for parameters walks here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/nn/nn_priv.h"

const fb_field fbi_list_fields[] = {{FB_FIELD_END, NULL, 0}};

bool fbi_nn_next_child(fbi_children *it)
{
    fb_module *p = it->parent;
    if (fbi_nn_is_list(p)) {
        const fbi_list *list = p->self;
        while (it->at < list->n) {
            int64_t i = it->at++;
            if (!list->m[i])
                continue;
            snprintf(it->digits, sizeof it->digits, "%" PRId64, i);
            it->name = list->names ? list->names[i] : it->digits;
            it->child = list->m[i];
            return true;
        }
        return false;
    }
    for (const fb_field *f = p->type->fields; f && f[it->at].kind;) {
        const fb_field *at = &f[it->at++];
        fb_module *child =
            at->kind == FB_FIELD_CHILD ? *(fb_module **)(void *)fbi_nn_slot(p, at) : NULL;
        if (!child)
            continue;
        it->name = at->name;
        it->child = child;
        return true;
    }
    return false;
}

/* Appends ".name" (or "name") at `len`; the new length, or -1: too long. */
static int path_push(char *path, int len, const char *name)
{
    int n = snprintf(path + len, (size_t)(FBI_PATH_BYTES - len), "%s%s", len ? "." : "", name);
    return n < 0 || len + n >= FBI_PATH_BYTES ? -1 : len + n;
}

static fb_status too_long(fb_module *m, const char *path)
{
    return fbi_fail(m->ctx, FB_E_ARG, "a module's path is longer than %d characters: %.60s...",
                    FBI_PATH_BYTES - 1, path);
}

static fb_status each_module(fb_module *m, char *path, int len, fbi_module_visit fn, void *user)
{
    fb_status st = fn(path, m, user);
    fbi_children it = {.parent = m};
    while (!st && fbi_nn_next_child(&it)) {
        int n = path_push(path, len, it.name);
        st = n < 0 ? too_long(m, path) : each_module(it.child, path, n, fn, user);
        path[len] = '\0';
    }
    return st;
}

fb_status fbi_nn_each_module(fb_module *m, fbi_module_visit fn, void *user)
{
    char path[FBI_PATH_BYTES] = "";
    return each_module(m, path, 0, fn, user);
}

static void put_path(fb_module *m, char *text, size_t size)
{
    if (!m->parent) {
        snprintf(text, size, "%s", m->type->name);
        return;
    }
    put_path(m->parent, text, size);
    fbi_children it = {.parent = m->parent};
    while (fbi_nn_next_child(&it))
        if (it.child == m) {
            size_t n = strlen(text);
            snprintf(text + n, size - n, ".%s", it.name);
            return;
        }
}

void fbi_nn_path(const void *module, char *text, size_t size)
{
    put_path((fb_module *)(uintptr_t)module, text, size);
}

/* --- collecting --- */

typedef struct collect {
    fb_field_kind kind;
    bool once;
    fbi_named_list *out;
    const void **seen; /* open addressing, a power of two */
    size_t seen_n, seen_cap;
} collect;

static size_t pointer_slot(const collect *c, const void *p)
{
    size_t i =
        (size_t)(((uintptr_t)p >> 6) * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (c->seen_cap - 1);
    while (c->seen[i] && c->seen[i] != p)
        i = (i + 1) & (c->seen_cap - 1);
    return i;
}

/* 1: new, 0: seen, -1: no memory. */
static int remember(collect *c, const void *p)
{
    if (2 * (c->seen_n + 1) > c->seen_cap) {
        collect bigger = *c;
        bigger.seen_cap = c->seen_cap ? 2 * c->seen_cap : 64;
        bigger.seen = calloc(bigger.seen_cap, sizeof *bigger.seen);
        if (!bigger.seen)
            return -1;
        for (size_t i = 0; i < c->seen_cap; i++)
            if (c->seen[i])
                bigger.seen[pointer_slot(&bigger, c->seen[i])] = c->seen[i];
        free(c->seen);
        *c = bigger;
    }
    size_t i = pointer_slot(c, p);
    if (c->seen[i])
        return 0;
    c->seen[i] = p;
    c->seen_n++;
    return 1;
}

static fb_status append(fb_module *m, fbi_named_list *list, fbi_named item)
{
    if (list->n == list->cap) {
        int64_t cap = list->cap ? 2 * list->cap : 32;
        fbi_named *v = realloc(list->v, (size_t)cap * sizeof *v);
        if (!v)
            return fbi_fail(m->ctx, FB_E_NOMEM, "no memory for the names of a module");
        list->v = v;
        list->cap = cap;
    }
    item.name = strdup(item.name);
    if (!item.name)
        return fbi_fail(m->ctx, FB_E_NOMEM, "no memory for the names of a module");
    list->v[list->n++] = item;
    return FB_OK;
}

static fb_status collect_module(const char *path, fb_module *m, void *user)
{
    collect *c = user;
    for (const fb_field *f = m->type->fields; f && f->kind; f++) {
        fb_tensor **slot = f->kind == c->kind ? fbi_nn_slot(m, f) : NULL;
        if (!slot || !*slot)
            continue;
        int fresh = c->once ? remember(c, *slot) : 1;
        if (fresh < 0)
            return fbi_fail(m->ctx, FB_E_NOMEM, "no memory for the names of a module");
        if (!fresh)
            continue;
        char name[FBI_PATH_BYTES];
        int n = snprintf(name, sizeof name, "%s%s%s", path, *path ? "." : "", f->name);
        if (n < 0 || n >= FBI_PATH_BYTES)
            return too_long(m, path);
        fb_status st =
            append(m, c->out, (fbi_named){.name = name, .t = *slot, .slot = slot, .owner = m});
        if (st)
            return st;
    }
    return FB_OK;
}

fb_status fbi_nn_collect(fb_module *m, fb_field_kind kind, bool once, fbi_named_list *out)
{
    *out = (fbi_named_list){0};
    collect c = {.kind = kind, .once = once, .out = out};
    fb_status st = fbi_nn_each_module(m, collect_module, &c);
    free(c.seen);
    if (st)
        fbi_named_free(out);
    return st;
}

void fbi_named_free(fbi_named_list *list)
{
    for (int64_t i = 0; i < list->n; i++)
        free(list->v[i].name);
    free(list->v);
    *list = (fbi_named_list){0};
}

/* --- finding --- */

static fb_module *child_of(fb_module *m, const char *name, size_t n)
{
    fbi_children it = {.parent = m};
    while (fbi_nn_next_child(&it))
        if (strlen(it.name) == n && memcmp(it.name, name, n) == 0)
            return it.child;
    return NULL;
}

fb_module *fb_nn_find(fb_module *root, const char *path)
{
    if (!fbi_nn_enter(root))
        return NULL;
    if (!path) {
        fbi_fail(root->ctx, FB_E_ARG, "fb_nn_find: the path is NULL");
        return NULL;
    }
    fb_module *m = root;
    for (const char *p = path; m && *p;) {
        size_t n = strcspn(p, ".");
        m = child_of(m, p, n);
        p += n + (p[n] == '.');
    }
    if (!m)
        fbi_fail(root->ctx, FB_E_NOT_FOUND, "fb_nn_find: %s has no module \"%s\"", root->type->name,
                 path);
    return m;
}

fb_tensor *fb_nn_param(fb_module *root, const char *path)
{
    if (!fbi_nn_enter(root) || (!fbi_nn_root(root)->ready && fb_nn_materialize(root)))
        return NULL;
    if (!path) {
        fbi_fail(root->ctx, FB_E_ARG, "fb_nn_param: the path is NULL");
        return NULL;
    }
    const char *dot = strrchr(path, '.');
    fb_module *m = root;
    for (const char *p = path; m && dot && p < dot;) {
        size_t n = strcspn(p, ".");
        m = child_of(m, p, n);
        p += n + 1;
    }
    const char *leaf = dot ? dot + 1 : path;
    for (const fb_field *f = m ? m->type->fields : NULL; f && f->kind; f++)
        if (f->kind != FB_FIELD_CHILD && strcmp(f->name, leaf) == 0 && *fbi_nn_slot(m, f))
            return *fbi_nn_slot(m, f);
    fbi_fail(root->ctx, FB_E_NOT_FOUND, "fb_nn_param: %s has no parameter or buffer \"%s\"",
             root->type->name, path);
    return NULL;
}

static fb_status each(fb_module *root, fb_field_kind kind, fb_nn_visit fn, void *user)
{
    if (!root)
        return FB_E_ARG;
    if (!fbi_nn_enter(root) || (!fbi_nn_root(root)->ready && fb_nn_materialize(root)))
        return root->ctx->status;
    if (!fn)
        return fbi_fail(root->ctx, FB_E_ARG, "fb_nn_each: the function is NULL");
    fbi_named_list list;
    fb_status st = fbi_nn_collect(root, kind, true, &list);
    for (int64_t i = 0; i < list.n && !st; i++)
        st = fn(list.v[i].name, list.v[i].t, user);
    fbi_named_free(&list);
    return st;
}

fb_status fb_nn_each_param(fb_module *root, fb_nn_visit fn, void *user)
{
    return each(root, FB_FIELD_PARAM, fn, user);
}

fb_status fb_nn_each_buffer(fb_module *root, fb_nn_visit fn, void *user)
{
    return each(root, FB_FIELD_BUFFER, fn, user);
}

int64_t fb_nn_param_count(fb_module *root)
{
    fbi_named_list list;
    if (!fbi_nn_enter(root) || fbi_nn_collect(root, FB_FIELD_PARAM, true, &list))
        return 0;
    int64_t n = 0;
    for (int64_t i = 0; i < list.n; i++)
        n += list.v[i].t->numel;
    fbi_named_free(&list);
    return n;
}

bool fbi_glob_match(const char *glob, const char *name)
{
    const char *star = NULL, *from = NULL; /* the last * and where it began to match */
    while (*name) {
        if (*glob == '*') {
            star = glob++;
            from = name;
        } else if (*glob == '?' || *glob == *name) {
            glob++;
            name++;
        } else if (star) {
            glob = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*glob == '*')
        glob++;
    return !*glob;
}

static fb_status print_module(const char *path, fb_module *m, void *user)
{
    (void)user;
    int depth = *path ? 1 : 0;
    for (const char *p = path; *p; p++)
        depth += *p == '.';
    const char *dot = strrchr(path, '.');
    printf("%*s%s%s%s", 2 * depth, "", dot ? dot + 1 : path, *path ? ": " : "", m->type->name);
    for (const fb_field *f = m->type->fields; f && f->kind; f++)
        if (f->kind == FB_FIELD_PARAM && *fbi_nn_slot(m, f))
            printf(" %s%s", f->name, fbi_text(*fbi_nn_slot(m, f)));
    printf("\n");
    return FB_OK;
}

fb_status fb_nn_print(fb_module *root)
{
    if (!root)
        return FB_E_ARG;
    if (!fbi_nn_enter(root))
        return root->ctx->status;
    fb_status st = fbi_nn_each_module(root, print_module, NULL);
    printf("%" PRId64 " parameters\n", fb_nn_param_count(root));
    return st;
}
