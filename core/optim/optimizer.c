/* Life of an optimizer, what it updates, and its settings. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/optim/optimizer_priv.h"

bool fbi_grow(void **v, int n, size_t size)
{
    void *grown = realloc(*v, (size_t)(n + 1) * size);
    if (!grown)
        return false;
    memset((char *)grown + (size_t)n * size, 0, size);
    *v = grown;
    return true;
}

void fbi_entry_free(fbi_entry *e)
{
    if (!e)
        return;
    for (int k = 0; k < FBI_STATES; k++)
        fbi_tensor_unref(e->state[k]);
    fbi_tensor_unref(e->step_view);
    fbi_tensor_unref(e->t);
    free(e->name);
    free(e);
}

static void optim_free(void *object)
{
    fb_optimizer *opt = object;
    fbi_plan_free(opt, &opt->plan);
    fbi_lbfgs_free(opt);
    for (int64_t i = 0; i < opt->n_entries; i++)
        fbi_entry_free(opt->entries[i]);
    for (int i = 0; i < opt->n_sources; i++) {
        fbi_nn_unref(opt->sources[i].m);
        free(opt->sources[i].prefix);
    }
    for (int i = 0; i < opt->n_rules; i++)
        free(opt->rules[i].glob);
    fbi_tally_unref(opt->ctx, opt->loose);
    free(opt->entries);
    free(opt->sources);
    free(opt->rules);
    free(opt);
}

bool fbi_bounds_hold(fb_context *ctx, const fbi_method *method, const fbi_bound *b)
{
    for (int i = 0; b[i].name; i++) {
        if (b[i].v >= b[i].low && b[i].v < (b[i].below > 0 ? b[i].below : INFINITY))
            continue;
        if (b[i].below > 0)
            fbi_fail(ctx, FB_E_ARG, "fb_optim_%s: %s is %g; it must lie in [%g, %g)", method->name,
                     b[i].name, b[i].v, b[i].low, b[i].below);
        else
            fbi_fail(ctx, FB_E_ARG, "fb_optim_%s: %s is %g; it must be finite and at least %g",
                     method->name, b[i].name, b[i].v, b[i].low);
        return false;
    }
    return true;
}

static double *momentum_of(fb_optimizer *opt)
{
    const fbi_method_numbers *m = &opt->numbers;
    if (opt->method == &fbi_lbfgs)
        return NULL;
    if (opt->method->composed && opt->method->composed->takes)
        return &opt->more.momentum;
    if (m->kind == FBI_UPDATE_SGD || m->kind == FBI_UPDATE_RMSPROP)
        return &opt->numbers.momentum;
    return m->beta1 > 0 && m->kind != FBI_UPDATE_RPROP ? &opt->numbers.beta1 : NULL;
}

fb_optimizer *fbi_optim_new(fb_context *ctx, const fbi_method *method, fb_module *model,
                            const fbi_method_numbers *numbers, double weight_decay)
{
    fb_optimizer *opt = calloc(1, sizeof *opt);
    if (!opt) {
        fbi_fail(ctx, FB_E_NOMEM, "fb_optim_%s: no memory", method->name);
        return NULL;
    }
    opt->ctx = ctx;
    opt->method = method;
    opt->numbers = *numbers;
    opt->lr = numbers->lr;
    opt->lr_ratio = 1;
    opt->scheduled_lr = NAN;
    opt->weight_decay = weight_decay;
    opt->momentum = momentum_of(opt);
    if (fbi_context_adopt(ctx, opt, optim_free)) {
        free(opt);
        return NULL;
    }
    if (model && fb_optim_add_module(opt, NULL, model)) {
        fb_optim_close(opt);
        return NULL;
    }
    return opt;
}

void fb_optim_close(fb_optimizer *opt)
{
    if (!opt)
        return;
    fbi_context_forget(opt->ctx, opt);
    optim_free(opt);
}

static fb_status no_memory(fb_optimizer *opt)
{
    return fbi_fail(opt->ctx, FB_E_NOMEM, "optimizer %s: no memory", opt->method->name);
}

fb_status fb_optim_add_module(fb_optimizer *opt, const char *prefix, fb_module *m)
{
    if (!opt)
        return FB_E_ARG;
    FBI_ENTRY(opt->ctx);
    if (!fbi_enter(opt->ctx))
        return opt->ctx->status;
    if (!m || m->ctx != opt->ctx)
        return fbi_fail(opt->ctx, FB_E_ARG, "fb_optim_add_module: the module %s",
                        m ? "belongs to another context" : "is NULL");
    char *copy = strdup(prefix ? prefix : "");
    if (!copy || !fbi_grow((void **)&opt->sources, opt->n_sources, sizeof *opt->sources)) {
        free(copy);
        return no_memory(opt);
    }
    fbi_nn_ref(m);
    opt->sources[opt->n_sources++] = (fbi_source){.m = m, .prefix = copy};
    return FB_OK;
}

fb_status fbi_optim_add_entry(fb_optimizer *opt, const char *prefix, const char *name, fb_tensor *t,
                              fb_module *of)
{
    for (int64_t i = 0; i < opt->n_entries; i++)
        if (opt->entries[i]->t == t)
            return FB_OK; /* tied across modules: updated once */
    if (opt->n_entries == opt->cap_entries) {
        int64_t cap = opt->cap_entries ? 2 * opt->cap_entries : 32;
        fbi_entry **v = realloc(opt->entries, (size_t)cap * sizeof *v);
        if (!v)
            return no_memory(opt);
        opt->entries = v;
        opt->cap_entries = cap;
    }
    size_t n = strlen(prefix) + strlen(name) + 2;
    fbi_entry *e = calloc(1, sizeof *e);
    if (e)
        e->name = malloc(n);
    if (!e || !e->name) {
        free(e);
        return no_memory(opt);
    }
    snprintf(e->name, n, "%s%s%s", prefix, *prefix ? "." : "", name);
    e->of = of;
    e->t = t;
    fbi_tensor_ref(t);
    opt->entries[opt->n_entries++] = e;
    opt->rules_changed = true;
    return FB_OK;
}

fb_status fb_optim_add_tensor(fb_optimizer *opt, const char *name, fb_tensor *leaf)
{
    if (!opt)
        return FB_E_ARG;
    FBI_ENTRY(opt->ctx);
    if (!name && fbi_enter(opt->ctx))
        return fbi_fail(opt->ctx, FB_E_ARG, "fb_optim_add_tensor: the name is NULL");
    if (!fbi_enter(opt->ctx) || !fbi_tensor_check(opt->ctx, leaf, "fb_optim_add_tensor", name))
        return opt->ctx->status;
    if (!leaf->leaf || !leaf->leaf->required)
        return fbi_fail(opt->ctx, FB_E_ARG,
                        "fb_optim_add_tensor: %s is no leaf that requires a gradient; call "
                        "fb_requires_grad(t, true) first",
                        name);
    if (!fbi_contiguous(leaf))
        return fbi_fail(opt->ctx, FB_E_ARG, "fb_optim_add_tensor: %s must be contiguous", name);
    if (!opt->loose)
        opt->loose = fbi_tally_new(opt->ctx);
    if (!opt->loose)
        return opt->ctx->status;
    if (!leaf->leaf->tally)
        fbi_tally_set(opt->ctx, leaf->leaf, opt->loose);
    return fbi_optim_add_entry(opt, "", name, leaf, NULL);
}

fb_status fb_optim_rule(fb_optimizer *opt, const char *glob, const fb_group_options *opts)
{
    if (!opt)
        return FB_E_ARG;
    FBI_ENTRY(opt->ctx);
    if (!fbi_enter(opt->ctx))
        return opt->ctx->status;
    if (!glob)
        return fbi_fail(opt->ctx, FB_E_ARG, "fb_optim_rule: the pattern of names is NULL");
    char *copy = strdup(glob);
    if (!copy || !fbi_grow((void **)&opt->rules, opt->n_rules, sizeof *opt->rules)) {
        free(copy);
        return no_memory(opt);
    }
    opt->rules[opt->n_rules++] =
        (fbi_rule){.glob = copy, .o = opts ? *opts : (fb_group_options){0}};
    opt->rules_changed = true;
    return FB_OK;
}

static void apply_rules(fb_optimizer *opt, fbi_entry *e)
{
    e->lr_scale = 1;
    e->weight_decay = opt->weight_decay;
    e->frozen = false;
    const fbi_composed *c = opt->method->composed;
    e->composed = c && (!c->takes || c->takes(e));
    for (int i = opt->n_rules - 1; i >= 0; i--) { /* the last match wins, whole */
        const fb_group_options *o = &opt->rules[i].o;
        if (!fbi_glob_match(opt->rules[i].glob, e->name) || (o->only_1d && e->t->ndim > 1))
            continue;
        e->lr_scale = o->lr_scale == 0 ? 1 : o->lr_scale;
        e->weight_decay = o->no_decay            ? 0
                          : o->weight_decay == 0 ? opt->weight_decay
                                                 : o->weight_decay;
        e->frozen = o->frozen;
        e->composed = e->composed && !(c->takes && o->adamw);
        return;
    }
}

fb_status fbi_optim_expand(fb_optimizer *opt)
{
    fb_status st = FB_OK;
    for (int i = 0; i < opt->n_sources && !st; i++) {
        fbi_source *s = &opt->sources[i];
        st = fb_nn_materialize(s->m); /* again if the module became part of a larger one */
        if (st || s->expanded)
            continue;
        fbi_named_list list;
        st = fbi_nn_collect(s->m, FB_FIELD_PARAM, true, &list);
        for (int64_t k = list.n - 1; k >= 0 && !st; k--)
            st = fbi_optim_add_entry(opt, s->prefix, list.v[k].name, list.v[k].t, s->m);
        fbi_named_free(&list);
        s->expanded = !st;
    }
    for (int64_t i = 0; i < opt->n_entries && !st && opt->rules_changed; i++)
        apply_rules(opt, opt->entries[i]);
    opt->rules_changed = opt->rules_changed && st;
    return st;
}

fb_status fb_optim_zero_grad(fb_optimizer *opt)
{
    if (!opt)
        return FB_E_ARG;
    FBI_ENTRY(opt->ctx);
    fb_status st = fbi_enter(opt->ctx) ? fbi_optim_expand(opt) : opt->ctx->status;
    for (int64_t i = 0; i < opt->n_entries && !st; i++) {
        fbi_leaf *leaf = opt->entries[i]->t->leaf;
        leaf->state = FBI_GRAD_NONE;
        if (leaf->tally)
            leaf->tally->spent = true;
        fbi_tensor_unref(leaf->linked);
        leaf->linked = NULL;
    }
    for (int s = 0; s < opt->n_sources && !st; s++) {
        fbi_reducer *r = fbi_optim_reducer(opt, s);
        if (r && r->zeroed)
            r->zeroed(r->self);
    }
    return st;
}

void fb_optim_keep_grad(fb_optimizer *opt, bool keep)
{
    if (opt)
        opt->keep_grad = keep;
}

fb_status fb_optim_clip_norm(fb_optimizer *opt, double max_norm)
{
    if (!opt)
        return FB_E_ARG;
    if (!(max_norm >= 0))
        return fbi_fail(opt->ctx, FB_E_ARG, "fb_optim_clip_norm: max_norm is %g", max_norm);
    opt->max_norm = max_norm;
    return FB_OK;
}

fb_status fb_optim_clip_value(fb_optimizer *opt, double limit)
{
    if (!opt)
        return FB_E_ARG;
    if (!(limit >= 0))
        return fbi_fail(opt->ctx, FB_E_ARG, "fb_optim_clip_value: limit is %g", limit);
    opt->numbers.limit = limit;
    return FB_OK;
}

double fb_optim_grad_norm(fb_optimizer *opt)
{
    return opt && !fbi_optim_settle(opt) ? opt->grad_norm : NAN;
}
double fb_optim_lr(const fb_optimizer *opt)
{
    return opt ? opt->lr : NAN;
}

fb_status fb_optim_set_lr(fb_optimizer *opt, double lr)
{
    if (!opt)
        return FB_E_ARG;
    if (!(lr >= 0))
        return fbi_fail(opt->ctx, FB_E_ARG, "fb_optim_set_lr: lr is %g", lr);
    opt->lr = lr;
    return FB_OK;
}

double fb_optim_momentum(const fb_optimizer *opt)
{
    return opt && opt->momentum ? *opt->momentum : NAN;
}

fb_status fb_optim_set_momentum(fb_optimizer *opt, double momentum)
{
    if (!opt)
        return FB_E_ARG;
    if (!opt->momentum)
        return fbi_fail(opt->ctx, FB_E_UNSUPPORTED, "fb_optim_set_momentum: %s has no momentum",
                        opt->method->name);
    if (!(momentum >= 0 && momentum < 1))
        return fbi_fail(opt->ctx, FB_E_ARG,
                        "fb_optim_set_momentum: momentum is %g; it must lie in [0, 1)", momentum);
    *opt->momentum = momentum;
    return FB_OK;
}

fbi_method_numbers fbi_numbers_now(const fb_optimizer *opt)
{
    fbi_method_numbers m = opt->numbers;
    m.lr = opt->lr * opt->lr_ratio;
    return m;
}

int64_t fb_optim_steps(const fb_optimizer *opt)
{
    if (opt) /* what is not settled is no part of what `const` promises */
        fbi_optim_settle((fb_optimizer *)(uintptr_t)opt);
    return opt ? opt->steps : 0;
}

fb_status fbi_optim_settle_all(fb_context *ctx)
{
    fb_status st = FB_OK;
    for (uint32_t i = 0; i < ctx->closers_n && !st; i++)
        if (ctx->closers[i].close == optim_free)
            st = fbi_optim_settle(ctx->closers[i].object);
    return st;
}
