#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "comm/group_priv.h"
#include "io/loader_priv.h"
#include "io/state_priv.h"

typedef enum item_kind {
    ITEM_MODULE,
    ITEM_OPTIMIZER,
    ITEM_SCHEDULE,
    ITEM_LOADER,
    ITEM_EMA,
    ITEM_SCALER,
    ITEM_METER,
    ITEM_TENSOR,
    ITEM_INT,
    ITEM_DOUBLE,
    ITEM_CUSTOM
} item_kind;

typedef struct item {
    item_kind kind;
    char name[128];
    void *object;
    fbi_custom custom;
} item;

struct fb_state {
    fb_context *ctx;
    item *items;
    int n;
};

static void state_free(void *object)
{
    fb_state *s = object;
    free(s->items);
    free(s);
}

fb_state *fb_state_open(fb_context *ctx)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_state *s = calloc(1, sizeof *s);
    if (!s || fbi_context_adopt(ctx, s, state_free)) {
        free(s);
        fbi_fail(ctx, FB_E_NOMEM, "state: no memory");
        return NULL;
    }
    s->ctx = ctx;
    return s;
}

void fb_state_close(fb_state *s)
{
    if (!s)
        return;
    fbi_context_forget(s->ctx, s);
    state_free(s);
}

static fb_status add(fb_state *s, const char *name, item_kind kind, void *object)
{
    if (!s)
        return FB_E_ARG;
    if (!fb_ok(s->ctx))
        return fb_status_of(s->ctx);
    if (!name || !*name || strlen(name) >= sizeof s->items->name || strchr(name, '/'))
        return fbi_fail(s->ctx, FB_E_ARG,
                        "state: a name of 1 to %d characters without '/' is needed",
                        (int)sizeof s->items->name - 1);
    if (!object)
        return fbi_fail(s->ctx, FB_E_ARG, "state: \"%s\" is NULL", name);
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->items[i].name, name))
            return fbi_fail(s->ctx, FB_E_ARG, "state: there is a \"%s\" already", name);
    item *items = realloc(s->items, sizeof *items * (size_t)(s->n + 1));
    if (!items)
        return fbi_fail(s->ctx, FB_E_NOMEM, "state: no memory");
    s->items = items;
    items[s->n] = (item){.kind = kind, .object = object};
    snprintf(items[s->n++].name, sizeof items->name, "%s", name);
    return FB_OK;
}

fb_status fb_state_add_module(fb_state *s, const char *name, fb_module *m)
{
    return add(s, name, ITEM_MODULE, m);
}
fb_status fb_state_add_optimizer(fb_state *s, const char *name, fb_optimizer *opt)
{
    return add(s, name, ITEM_OPTIMIZER, opt);
}
fb_status fb_state_add_schedule(fb_state *s, const char *name, fb_schedule *schedule)
{
    return add(s, name, ITEM_SCHEDULE, schedule);
}
fb_status fb_state_add_loader(fb_state *s, const char *name, fb_loader *loader)
{
    return add(s, name, ITEM_LOADER, loader);
}
fb_status fb_state_add_ema(fb_state *s, const char *name, fb_ema *ema)
{
    return add(s, name, ITEM_EMA, ema);
}
fb_status fb_state_add_scaler(fb_state *s, const char *name, fb_scaler *scaler)
{
    return add(s, name, ITEM_SCALER, scaler);
}
fb_status fb_state_add_meter(fb_state *s, const char *name, fb_meter *meter)
{
    return add(s, name, ITEM_METER, meter);
}
fb_status fb_state_add_tensor(fb_state *s, const char *name, fb_tensor *t)
{
    return add(s, name, ITEM_TENSOR, t);
}
fb_status fb_state_add_int(fb_state *s, const char *name, int64_t *value)
{
    return add(s, name, ITEM_INT, value);
}
fb_status fb_state_add_double(fb_state *s, const char *name, double *value)
{
    return add(s, name, ITEM_DOUBLE, value);
}

fb_status fb_state_add_custom(fb_state *s, const char *name, fb_state_save_fn save,
                              fb_state_load_fn load, void *user)
{
    /* Any non-NULL object will do: both callbacks are needed. */
    fb_status st = add(s, name, ITEM_CUSTOM, save && load ? s : NULL);
    if (!st)
        s->items[s->n - 1].custom = (fbi_custom){save, load, user};
    return st;
}

fb_context *fbi_state_context(fb_state *s)
{
    return s->ctx;
}

bool fbi_state_has_custom(const fb_state *s)
{
    for (int i = 0; i < s->n; i++)
        if (s->items[i].kind == ITEM_CUSTOM)
            return true;
    return false;
}

/* --- entries --- */

typedef struct walk {
    const item *item;
    fbi_state_visit fn;
    void *user;
    bool steady; /* of the tensor that comes */
    fbi_state_entry entry;
} walk;

static fb_status visit(walk *w, const char *name, fb_tensor *t, int64_t *i, double *f)
{
    fbi_state_entry *e = &w->entry;
    if (name)
        snprintf(e->key, sizeof e->key, "%s/%s", w->item->name, name);
    else
        snprintf(e->key, sizeof e->key, "%s", w->item->name);
    e->t = t;
    e->i = i;
    e->f = f;
    e->custom = w->item->kind == ITEM_CUSTOM ? &w->item->custom : NULL;
    e->steady = w->steady;
    return w->fn(e, w->user);
}

static fb_status visit_tensor(const char *name, fb_tensor *t, void *user)
{
    return visit(user, name, t, NULL, NULL);
}

/* A parameter, or a state or average of one: see fbi_changing. */
static fb_status visit_steady(const char *name, fb_tensor *t, void *user)
{
    walk *w = user;
    w->steady = true;
    fb_status st = visit(w, name, t, NULL, NULL);
    w->steady = false;
    return st;
}

static fb_status visit_scalars(walk *w, const fbi_scalar *scalars, int n)
{
    fb_status st = FB_OK;
    for (int i = 0; !st && i < n; i++)
        st = visit(w, scalars[i].name, NULL, scalars[i].i, scalars[i].f);
    return st;
}

static fb_status visit_module(walk *w, fb_module *m)
{
    fb_status st = fb_nn_materialize(m);
    if (!st)
        st = fb_nn_each_param(m, visit_steady, w);
    return st ? st : fb_nn_each_buffer(m, visit_tensor, w);
}

static int scalars_of(const walk *w, fbi_scalar *out, int n)
{
    void *object = w->item->object;
    return w->item->kind == ITEM_METER ? fbi_meter_scalars(object, out, n)
                                       : fbi_schedule_scalars(object, out, n);
}

/* A meter has two scalars for each leaf, a schedule those of all that it is made of. */
static fb_status visit_many(walk *w)
{
    int n = scalars_of(w, NULL, 0);
    fbi_scalar *scalars = malloc((size_t)(n + 1) * sizeof *scalars);
    if (!scalars)
        return FB_E_NOMEM;
    fb_status st = visit_scalars(w, scalars, scalars_of(w, scalars, n));
    free(scalars);
    return st;
}

static fb_status visit_loader(walk *w, fb_loader *l)
{
    fb_status st = visit(w, "epoch", NULL, &l->epoch, NULL);
    st = st ? st : visit(w, "position", NULL, &l->position, NULL);
    st = st ? st : visit(w, "step", NULL, &l->step, NULL);
    for (int i = 0; i < FBI_SAMPLER_FACTS && !st; i++)
        if (l->facts[i]) /* of a plain loader none: names are part of digests */
            st = visit(w, fbi_sampler_fact_names[i], NULL, &l->kept[i], NULL);
    return st;
}

static fb_status visit_item(walk *w)
{
    enum { MAX_SCALARS = 16 };
    fbi_scalar scalars[MAX_SCALARS];
    void *object = w->item->object;
    fb_status st;
    switch (w->item->kind) {
    case ITEM_MODULE:
        return visit_module(w, object);
    case ITEM_OPTIMIZER:
        st = fbi_optim_each_state(object, visit_steady, w);
        return st ? st : visit_scalars(w, scalars, fbi_optim_scalars(object, scalars, MAX_SCALARS));
    case ITEM_LOADER:
        return visit_loader(w, object);
    case ITEM_EMA:
        st = fbi_ema_each_state(object, visit_steady, w);
        return st ? st : visit_scalars(w, scalars, fbi_ema_scalars(object, scalars, MAX_SCALARS));
    case ITEM_SCALER:
        return visit_scalars(w, scalars, fbi_scaler_scalars(object, scalars, MAX_SCALARS));
    case ITEM_SCHEDULE:
    case ITEM_METER:
        return visit_many(w);
    case ITEM_TENSOR:
        return visit(w, NULL, object, NULL, NULL);
    case ITEM_INT:
        return visit(w, NULL, NULL, object, NULL);
    case ITEM_DOUBLE:
        return visit(w, NULL, NULL, NULL, object);
    case ITEM_CUSTOM:
        return visit(w, NULL, NULL, NULL, NULL);
    }
    return FB_OK;
}

fb_status fbi_state_each(fb_state *s, fbi_state_visit fn, void *user)
{
    fb_status st = FB_OK;
    for (int i = 0; !st && i < s->n; i++) {
        walk w = {.item = &s->items[i], .fn = fn, .user = user};
        st = visit_item(&w);
    }
    return st;
}

fb_status fbi_state_share(fb_state *s, fb_group *group)
{
    fb_status st = FB_OK;
    for (int i = 0; !st && i < s->n; i++) {
        if (s->items[i].kind == ITEM_MODULE)
            st = fb_nn_materialize(s->items[i].object);
        if (s->items[i].kind != ITEM_METER)
            continue;
        double *values = fbi_meter_values(s->items[i].object);
        st = values ? fbi_group_leaf_gather(group, "meter", values, FBI_METER_PAIR, values)
                    : fb_status_of(s->ctx);
    }
    return st;
}

int64_t fbi_state_step(fb_state *s)
{
    for (int i = 0; i < s->n; i++)
        if (s->items[i].kind == ITEM_LOADER)
            return ((fb_loader *)s->items[i].object)->step;
    for (int i = 0; i < s->n; i++)
        if (s->items[i].kind == ITEM_OPTIMIZER)
            return fb_optim_steps(s->items[i].object);
    return -1;
}

/* --- digest --- */

struct digest {
    fb_context *ctx;
    XXH3_state_t *hash;
};

void *fbi_custom_bytes(const fbi_custom *custom, size_t *bytes)
{
    size_t room = custom->save(custom->user, NULL, 0);
    void *data = room < SIZE_MAX ? malloc(room + 1) : NULL;
    *bytes = data ? custom->save(custom->user, data, room) : SIZE_MAX;
    if (data && *bytes <= room)
        return data;
    free(data);
    return NULL;
}

static void *tensor_bytes(fb_tensor *t, size_t *bytes)
{
    *bytes = (size_t)fb_numel(t) * fb_dtype_size(fb_dtype_of(t));
    void *data = malloc(*bytes + 1);
    if (data && !fb_read(t, data, *bytes))
        return data;
    free(data);
    return NULL;
}

static fb_status digest_entry(const fbi_state_entry *e, void *user)
{
    struct digest *d = user;
    XXH3_64bits_update(d->hash, e->key, strlen(e->key));
    if (e->i)
        XXH3_64bits_update(d->hash, e->i, sizeof *e->i);
    if (e->f)
        XXH3_64bits_update(d->hash, e->f, sizeof *e->f);
    if (!e->t && !e->custom)
        return FB_OK;
    size_t bytes;
    void *data = e->t ? tensor_bytes(e->t, &bytes) : fbi_custom_bytes(e->custom, &bytes);
    if (!data)
        return fbi_fail(d->ctx, FB_E_NOMEM, "digest: cannot have a copy of %s", e->key);
    XXH3_64bits_update(d->hash, data, bytes);
    free(data);
    return FB_OK;
}

const char *fb_state_digest(fb_state *s, char hex[17])
{
    hex[0] = '\0';
    struct digest d = {.ctx = s ? s->ctx : NULL, .hash = s ? XXH3_createState() : NULL};
    if (!d.hash)
        return hex;
    XXH3_64bits_reset(d.hash);
    if (!fbi_state_each(s, digest_entry, &d))
        snprintf(hex, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(d.hash));
    XXH3_freeState(d.hash);
    return hex;
}
