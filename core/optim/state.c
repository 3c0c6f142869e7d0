/* State of an optimizer: memory for it, and its names for checkpoints. */
#include <stdio.h>
#include <string.h>

#include "core/optim/optimizer_priv.h"
#include "core/tensor/device_priv.h"

enum { STATE_ALIGN = 256 }; /* bytes, as the flat parameters, so that runs stay long */

/* Elements of state k, as they lie in their block. */
static int64_t padded(const fb_optimizer *opt, const fbi_entry *e, int k)
{
    int64_t align = STATE_ALIGN / (int64_t)fb_dtype_size(e->t->dtype), n = 1;
    fb_shape shape = {0};
    fbi_state_shape(opt, e, k, &shape);
    for (int i = 0; i < shape.n; i++)
        n *= shape.d[i];
    return (n + align - 1) / align * align;
}

bool fbi_state_shape(const fb_optimizer *opt, const fbi_entry *e, int k, fb_shape *shape)
{
    const fbi_composed *c = e->composed ? opt->method->composed : NULL;
    *shape = fb_shape_of(e->t);
    if (k == FBI_MASTER)
        return fbi_is_half(e->t->dtype);
    if (!c)
        return k < opt->method->n_states(opt);
    return c->state_names[k] && (!c->shape || c->shape(e, k, shape));
}

const char *fbi_state_name(const fb_optimizer *opt, const fbi_entry *e, int k)
{
    return k == FBI_MASTER ? "master"
           : e->composed   ? opt->method->composed->state_names[k]
                           : opt->method->state_names[k];
}

static fb_dtype state_dtype(fb_dtype parameters)
{
    return fbi_is_half((int)parameters) ? FB_F32 : parameters;
}

static bool lacks(const fb_optimizer *opt, const fbi_entry *e, fb_dtype dtype, int k,
                  bool (*wanted)(const fbi_entry *))
{
    fb_shape shape;
    return e->t->dtype == dtype && !e->state[k] && wanted(e) && fbi_state_shape(opt, e, k, &shape);
}

/* One zeroed block, and in it state k of each new entry of the dtype. */
static fb_status allocate_block(fb_optimizer *opt, fb_dtype dtype, int64_t n, int k,
                                bool (*wanted)(const fbi_entry *))
{
    fb_context *ctx = opt->ctx;
    size_t bytes = (size_t)n * fb_dtype_size(state_dtype(dtype));
    fbi_storage *s = fbi_storage_new(ctx, bytes);
    if (!s)
        return ctx->status;
    fb_status st = ctx->backend->fill_zero(ctx, s->data, bytes);
    int64_t at = 0;
    for (int64_t i = 0; i < opt->n_entries && !st; i++) {
        fbi_entry *e = opt->entries[i];
        fb_shape shape;
        if (!lacks(opt, e, dtype, k, wanted))
            continue;
        fbi_state_shape(opt, e, k, &shape);
        fb_tensor *v = fbi_tensor_new_owned(ctx);
        if (!v) {
            st = ctx->status;
            break;
        }
        fbi_set_shape(v, state_dtype(dtype), shape);
        v->storage = s;
        s->refs++;
        v->offset = at;
        v->flags |= FBI_T_VIEW;
        at += padded(opt, e, k);
        e->state[k] = v;
    }
    fbi_storage_unref(ctx, s);
    return st;
}

/* Of parameters of one dtype. The master of a half is zero at first, and so differs from it: then
 * the update takes the half over. */
static fb_status allocate(fb_optimizer *opt, fb_dtype dtype, bool (*wanted)(const fbi_entry *))
{
    fb_status st = FB_OK;
    for (int k = 0; k < FBI_STATES && !st; k++) {
        int64_t n = 0;
        for (int64_t i = 0; i < opt->n_entries; i++)
            if (lacks(opt, opt->entries[i], dtype, k, wanted))
                n += padded(opt, opt->entries[i], k);
        if (n)
            st = allocate_block(opt, dtype, n, k, wanted);
    }
    return st;
}

fb_status fbi_optim_allocate(fb_optimizer *opt, bool (*wanted)(const fbi_entry *))
{
    static const uint8_t dtypes[] = {FB_F32, FB_F64, FB_F16, FB_BF16};
    fb_status st = FB_OK;
    for (size_t i = 0; i < sizeof dtypes && !st; i++)
        st = allocate(opt, (fb_dtype)dtypes[i], wanted);
    return st;
}

/* --- by name --- */

static bool may_have_state(const fbi_entry *e)
{
    return !e->frozen && e->t->leaf && e->t->leaf->required;
}

static void keep_data(fbi_storage *s)
{
    (void)s;
}

static fb_tensor *step_view(fbi_entry *e)
{
    if (e->step_view)
        return e->step_view;
    fb_context *ctx = e->t->ctx;
    fb_tensor *v = fbi_tensor_new_owned(ctx);
    if (!v)
        return NULL;
    fbi_set_shape(v, FB_I64, FB_SCALAR);
    v->storage = fbi_storage_wrap(ctx, &e->step, sizeof e->step, keep_data, NULL, false);
    if (!v->storage) {
        fbi_tensor_unref(v);
        return NULL;
    }
    v->storage->flags |= FBI_S_HOST;
    return e->step_view = v;
}

static fb_status visit(fbi_entry *e, const char *part, fb_tensor *t, fbi_tensor_visit fn,
                       void *user)
{
    char name[FBI_PATH_BYTES + 32];
    snprintf(name, sizeof name, "%s.%s", e->name, part);
    return fn(name, t, user);
}

static fb_status visit_entry(const fb_optimizer *opt, fbi_entry *e, fbi_tensor_visit fn, void *user)
{
    bool any = false;
    fb_status st = FB_OK;
    for (int k = 0; k < FBI_STATES && !st; k++) {
        if (!e->state[k]) /* all of them: frozen from the beginning */
            continue;
        fbi_leaf *leaf = fbi_leaf_of(e->state[k]);
        if (leaf && e->t->leaf &&
            fbi_same_shape(e->state[k], e->t)) /* lies where its parameter lies */
            leaf->place = e->t->leaf->place;
        any = true;
        st = visit(e, fbi_state_name(opt, e, k), e->state[k], fn, user);
    }
    fb_tensor *step = any && !st ? step_view(e) : NULL;
    if (any && !st)
        st = step ? visit(e, "step", step, fn, user) : opt->ctx->status;
    return st;
}

fb_status fbi_optim_each_state(fb_optimizer *opt, fbi_tensor_visit fn, void *user)
{
    fb_status st = fbi_optim_expand(opt);
    if (!st && opt->lbfgs)
        return fbi_lbfgs_each_state(opt, fn, user);
    if (!st)
        st = fbi_judge_fetch(opt);
    if (!st)
        st = fbi_optim_allocate(opt, may_have_state);
    for (int64_t i = 0; i < opt->n_entries && !st; i++)
        st = visit_entry(opt, opt->entries[i], fn, user);
    return st;
}

int fbi_optim_scalars(fb_optimizer *opt, fbi_scalar *out, int n)
{
    fbi_optim_settle(opt);
    const fbi_scalar all[] = {{.name = "step", .i = &opt->steps},
                              {.name = "lr", .f = &opt->lr},
                              {.name = "momentum", .f = opt->momentum}};
    int own = opt->cycles_momentum ? 3 : 2;
    for (int i = 0; i < n && i < own; i++)
        out[i] = all[i];
    return opt->lbfgs ? fbi_lbfgs_scalars(opt, out, own, n) : own;
}
