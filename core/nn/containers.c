/* Lists of modules, and the one that runs its list. */
#include <flambeau/core/nn/layers.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/nn/nn_priv.h"

static void list_free(void *self)
{
    fbi_list *list = self;
    for (int64_t i = 0; list->names && i < list->n; i++)
        free(list->names[i]);
    free(list->names);
    free(list->m);
}

/* The table of module i, an Embedding, for module i + 1, which reads it itself; NULL: it does not.
 */
static fb_tensor *table_for_next(const fbi_list *list, int64_t i, const fb_tensor *x)
{
    if (i + 1 >= list->n || !fbi_nn_is_plain(list->m[i]) || !fbi_nn_is_plain(list->m[i + 1]))
        return NULL;
    fb_tensor *table = fbi_nn_small_table(list->m[i], x);
    return table && fbi_nn_reads_table(list->m[i + 1], table, x) ? table : NULL;
}

static fb_tensor *sequential_forward(fb_module *m, fb_tensor *x)
{
    const fbi_list *list = m->self;
    fb_tensor *table;
    bool each = fbi_nn_root(m)->note != NULL; /* somebody wants to see every layer */
    for (int64_t i = 0; i < list->n; i++) {
        fb_activation act = i + 1 < list->n && !each ? fbi_nn_activation_of(list->m[i + 1]) : 0;
        if (act && !(fbi_nn_is_plain(list->m[i]) && fbi_nn_is_plain(list->m[i + 1])))
            act = 0;                             /* somebody looks at the result between them */
        if (act && fbi_nn_is_linear(list->m[i])) /* the next layer's work, too */
            x = fbi_nn_linear_act(list->m[i++], x, act);
        else if (act == FB_ACT_RELU && fbi_nn_is_conv2d(list->m[i]))
            x = fbi_nn_conv2d_relu(list->m[i++], x);
        else if (act == FB_ACT_RELU && fbi_nn_is_batch_norm(list->m[i]))
            x = fbi_nn_batch_norm_relu(list->m[i++], x);
        else if (!each && (table = table_for_next(list, i, x)))
            x = fbi_nn_recurrent_of(list->m[++i], table, x);
        else
            x = fb_nn_forward(list->m[i], x);
    }
    return x;
}

static const fb_module_type list_type = {
    .name = "List", .size = sizeof(fbi_list), .fields = fbi_list_fields, .free = list_free};
static const fb_module_type sequential_type = {.name = "Sequential",
                                               .size = sizeof(fbi_list),
                                               .fields = fbi_list_fields,
                                               .forward = sequential_forward,
                                               .free = list_free};

static fb_module *list_new(fb_context *ctx, const fb_module_type *type, int64_t n)
{
    if (!fbi_enter(ctx))
        return NULL;
    if (n < 0 || n > 1 << 24) {
        fbi_fail(ctx, FB_E_ARG, "%s: %" PRId64 " is no number of modules", type->name, n);
        return NULL;
    }
    fbi_list list = {.m = calloc((size_t)(n ? n : 1), sizeof(fb_module *)), .n = n};
    if (!list.m) {
        fbi_fail(ctx, FB_E_NOMEM, "%s: no memory for %" PRId64 " modules", type->name, n);
        return NULL;
    }
    fb_module *m = fb_nn_new(ctx, type, &list);
    if (!m)
        free(list.m);
    return m;
}

fb_module *fb_nn_list(fb_context *ctx, int64_t n)
{
    FBI_ENTRY(ctx);
    return list_new(ctx, &list_type, n);
}

fb_module *fb_nn_sequential_n(fb_context *ctx, fb_modules modules)
{
    FBI_ENTRY(ctx);
    fb_module *m = list_new(ctx, &sequential_type, modules.n);
    for (int i = 0; m && i < modules.n; i++) {
        if (modules.m[i]) {
            if (fb_nn_list_set(m, i, modules.m[i]))
                return NULL; /* the context frees it */
            continue;
        }
        fbi_fail(ctx, FB_E_ARG, "fb_nn_sequential: module %d is NULL", i);
        return NULL;
    }
    return m;
}

fb_status fb_nn_list_set(fb_module *list, int64_t i, fb_module *m)
{
    if (!list)
        return FB_E_ARG;
    fb_context *ctx = list->ctx;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return ctx->status;
    fbi_list *self = list->self;
    if (!fbi_nn_is_list(list) || i < 0 || i >= self->n)
        return fbi_fail(ctx, FB_E_ARG, "fb_nn_list_set: a %s has no place %" PRId64,
                        list->type->name, i);
    if (!m || self->m[i])
        return fbi_fail(ctx, FB_E_ARG, "fb_nn_list_set: %s %" PRId64 " %s",
                        m ? "place" : "the module for place", i, m ? "is taken" : "is NULL");
    if (fbi_nn_root(list)->ready)
        return fbi_fail(ctx, FB_E_STATE,
                        "fb_nn_list_set: the parameters are made; fill lists before the first use");
    char name[24];
    snprintf(name, sizeof name, "%" PRId64, i);
    fb_status st = fbi_nn_adopt_child(list, m, name);
    if (!st)
        self->m[i] = m;
    return st;
}

fb_module *fb_nn_list_at(fb_module *list, int64_t i)
{
    if (!fbi_nn_enter(list))
        return NULL;
    const fbi_list *self = list->self;
    if (fbi_nn_is_list(list) && i >= 0 && i < self->n && self->m[i])
        return self->m[i];
    fbi_fail(list->ctx, FB_E_ARG, "fb_nn_list_at: a %s has no module %" PRId64, list->type->name,
             i);
    return NULL;
}

int64_t fb_nn_list_size(const fb_module *list)
{
    return list && fbi_nn_is_list(list) ? ((const fbi_list *)list->self)->n : 0;
}

/* --- modules with names --- */

static const fb_module_type dict_type = {
    .name = "Dict", .size = sizeof(fbi_list), .fields = fbi_list_fields, .free = list_free};

static bool is_name(const char *name)
{
    return name && *name && !strchr(name, '.');
}

static int64_t place_of(const fbi_list *list, const char *name)
{
    for (int64_t i = 0; i < list->n; i++)
        if (!strcmp(list->names[i], name))
            return i;
    return -1;
}

fb_module *fb_nn_dict(fb_context *ctx)
{
    FBI_ENTRY(ctx);
    return fb_nn_new(ctx, &dict_type, &(fbi_list){.n = 0});
}

/* One place more, for `name`. False: no memory. */
static bool grow(fbi_list *list, const char *name)
{
    size_t n = (size_t)list->n + 1;
    char *copy = strdup(name);
    fb_module **m = realloc(list->m, n * sizeof *m);
    list->m = m ? m : list->m;
    char **names = realloc(list->names, n * sizeof *names);
    list->names = names ? names : list->names;
    if (!copy || !m || !names) {
        free(copy);
        return false;
    }
    list->m[list->n] = NULL;
    list->names[list->n++] = copy;
    return true;
}

fb_status fb_nn_dict_set(fb_module *dict, const char *name, fb_module *m)
{
    if (!dict)
        return FB_E_ARG;
    fb_context *ctx = dict->ctx;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return ctx->status;
    if (dict->type != &dict_type)
        return fbi_fail(ctx, FB_E_ARG, "fb_nn_dict_set: a %s is no Dict", dict->type->name);
    fbi_list *self = dict->self;
    if (!is_name(name))
        return fbi_fail(ctx, FB_E_ARG, "fb_nn_dict_set: \"%s\" is no name: not empty, without dots",
                        name ? name : "");
    if (!m || place_of(self, name) >= 0)
        return fbi_fail(ctx, FB_E_ARG, "fb_nn_dict_set: %s%s %s", m ? "" : "the module ", name,
                        m ? "is there already" : "is NULL");
    if (fbi_nn_root(dict)->ready)
        return fbi_fail(ctx, FB_E_STATE,
                        "fb_nn_dict_set: the parameters are made; fill dicts before the first use");
    if (!grow(self, name))
        return fbi_fail(ctx, FB_E_NOMEM, "fb_nn_dict_set: no memory");
    fb_status st = fbi_nn_adopt_child(dict, m, name);
    if (st)
        free(self->names[--self->n]);
    else
        self->m[self->n - 1] = m;
    return st;
}

fb_module *fb_nn_dict_at(fb_module *dict, const char *name)
{
    if (!fbi_nn_enter(dict))
        return NULL;
    const fbi_list *self = dict->self;
    int64_t i = dict->type == &dict_type && name ? place_of(self, name) : -1;
    if (i >= 0)
        return self->m[i];
    fbi_fail(dict->ctx, FB_E_NOT_FOUND, "fb_nn_dict_at: a %s has no module \"%s\"",
             dict->type->name, name ? name : "");
    return NULL;
}

/* --- parameters by themselves --- */

typedef struct parameters {
    int64_t n;
} parameters;

static const fb_module_type parameters_type = {.name = "Parameters", .size = sizeof(parameters)};

/* False: the error is set. */
static bool parameters_fit(fb_context *ctx, const char *const *names, fb_tensors params)
{
    if (params.n > 0 && (!names || !params.t)) {
        fbi_fail(ctx, FB_E_ARG, "fb_nn_parameter_dict: the list of %s is NULL",
                 names ? "parameters" : "names");
        return false;
    }
    for (int i = 0; i < params.n; i++) {
        if (!params.t[i]) {
            fbi_fail(ctx, FB_E_ARG, "fb_nn_parameter: parameter %d is NULL", i);
            return false;
        }
        bool twice = false;
        for (int j = 0; j < i && is_name(names[i]); j++)
            twice |= !strcmp(names[i], names[j]);
        if (is_name(names[i]) && !twice)
            continue;
        fbi_fail(ctx, FB_E_ARG, "fb_nn_parameter: \"%s\" %s", names[i] ? names[i] : "",
                 twice ? "is there already" : "is no name: not empty, without dots");
        return false;
    }
    return true;
}

fb_module *fb_nn_parameter_dict(fb_context *ctx, const char *const *names, fb_tensors params)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx) || !parameters_fit(ctx, names, params)) {
        fbi_nn_drop_declared(params.t, params.n);
        return NULL;
    }
    return fbi_nn_new_named(ctx, &parameters_type, &(parameters){params.n}, params.n, names,
                            params.t);
}

fb_module *fb_nn_parameter_list(fb_context *ctx, fb_tensors params)
{
    FBI_ENTRY(ctx);
    size_t n = params.n > 0 ? (size_t)params.n : 1;
    const char **names = calloc(n, sizeof *names);
    char(*text)[24] = calloc(n, sizeof *text);
    fb_module *m = NULL;
    if (names && text) {
        for (int i = 0; i < params.n; i++) {
            snprintf(text[i], sizeof text[i], "%d", i);
            names[i] = text[i];
        }
        m = fb_nn_parameter_dict(ctx, names, params);
    } else {
        fbi_nn_drop_declared(params.t, params.n);
        fbi_fail(ctx, FB_E_NOMEM, "fb_nn_parameter_list: no memory");
    }
    free(names);
    free(text);
    return m;
}
