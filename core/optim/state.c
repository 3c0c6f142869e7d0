/* State of an optimizer: memory for it, and its names for checkpoints. */
#include <stdio.h>
#include <string.h>

#include "core/optim/optimizer_priv.h"
#include "core/tensor/device_priv.h"

enum { STATE_ALIGN = 256 }; /* bytes, as the flat parameters, so that runs stay long */

static int64_t padded(const fb_tensor *t)
{
    int64_t align = STATE_ALIGN / (int64_t)fb_dtype_size(t->dtype);
    return (t->numel + align - 1) / align * align;
}

static fb_status no_half(const fbi_entry *e)
{
    return fbi_fail(e->t->ctx, FB_E_DTYPE, "optimizer: parameter %s is %s; F32 and F64 are updated",
                    e->name, fb_dtype_name(e->t->dtype));
}

/* One zeroed block, and in it a state tensor for each new entry of the dtype. */
static fb_status allocate_block(fb_optimizer *opt, fb_dtype dtype, int64_t n, int k,
                                bool (*wanted)(const fbi_entry *))
{
    fb_context *ctx = opt->ctx;
    size_t bytes = (size_t)n * fb_dtype_size(dtype);
    fbi_storage *s = fbi_storage_new(ctx, bytes);
    if (!s)
        return ctx->status;
    fb_status st = ctx->backend->fill_zero(ctx, s->data, bytes);
    int64_t at = 0;
    for (int64_t i = 0; i < opt->n_entries && !st; i++) {
        fbi_entry *e = opt->entries[i];
        if (e->state[k] || e->t->dtype != dtype || !wanted(e))
            continue;
        fb_tensor *v = fbi_tensor_new_owned(ctx);
        if (!v) {
            st = ctx->status;
            break;
        }
        fbi_set_shape(v, dtype, fb_shape_of(e->t));
        v->storage = s;
        s->refs++;
        v->offset = at;
        v->flags |= FBI_T_VIEW;
        at += padded(e->t);
        e->state[k] = v;
    }
    fbi_storage_unref(ctx, s);
    return st;
}

fb_status fbi_optim_allocate(fb_optimizer *opt, bool (*wanted)(const fbi_entry *))
{
    int n_states = opt->method->n_states(opt);
    int64_t n32 = 0, n64 = 0;
    for (int64_t i = 0; i < opt->n_entries; i++) {
        const fbi_entry *e = opt->entries[i];
        if (!wanted(e))
            continue;
        if (e->t->dtype != FB_F32 && e->t->dtype != FB_F64)
            return no_half(e);
        if (n_states && !e->state[n_states - 1])
            *(e->t->dtype == FB_F32 ? &n32 : &n64) += padded(e->t);
    }
    fb_status st = FB_OK;
    for (int k = 0; k < n_states && !st; k++) {
        if (n32)
            st = allocate_block(opt, FB_F32, n32, k, wanted);
        if (n64 && !st)
            st = allocate_block(opt, FB_F64, n64, k, wanted);
    }
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

fb_status fbi_optim_each_state(fb_optimizer *opt, fbi_tensor_visit fn, void *user)
{
    fb_status st = fbi_optim_expand(opt);
    if (!st)
        st = fbi_judge_fetch(opt);
    if (!st)
        st = fbi_optim_allocate(opt, may_have_state);
    int n_states = opt->method->n_states(opt);
    for (int64_t i = 0; i < opt->n_entries && n_states && !st; i++) {
        fbi_entry *e = opt->entries[i];
        if (!e->state[0]) /* frozen from the beginning */
            continue;
        for (int k = 0; k < n_states && !st; k++) {
            fbi_leaf *leaf = fbi_leaf_of(e->state[k]);
            if (leaf && e->t->leaf) /* lies where its parameter lies */
                leaf->place = e->t->leaf->place;
            st = visit(e, opt->method->state_names[k], e->state[k], fn, user);
        }
        fb_tensor *step = st ? NULL : step_view(e);
        st = st ? st : step ? visit(e, "step", step, fn, user) : opt->ctx->status;
    }
    return st;
}

int fbi_optim_scalars(fb_optimizer *opt, fbi_scalar *out, int n)
{
    fbi_optim_settle(opt);
    const fbi_scalar all[] = {{.name = "step", .i = &opt->steps}, {.name = "lr", .f = &opt->lr}};
    for (int i = 0; i < n && i < 2; i++)
        out[i] = all[i];
    return 2;
}
