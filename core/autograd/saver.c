/* Hooks on saved tensors: the mode, packing and unpacking; keeping them in host memory. */
#include "core/autograd/saver_priv.h"

#include <stdlib.h>
#include <string.h>

#include "core/tensor/access_priv.h"
#include "core/tensor/device_priv.h"

/* --- the mode --- */

void fbi_saver_unref(fbi_saver *saver)
{
    if (!saver || --saver->refs > 0)
        return;
    if (saver->hooks.close)
        saver->hooks.close(saver->hooks.user);
    free(saver);
}

fb_status fb_saved_tensors_hooks(fb_context *ctx, const fb_saved_hooks *hooks)
{
    if (!fbi_enter(ctx))
        return ctx ? ctx->status : FB_E_ARG;
    FBI_ENTRY(ctx);
    if (hooks && (!hooks->pack || !hooks->unpack))
        return fbi_fail(ctx, FB_E_ARG, "fb_saved_tensors_hooks: %s is NULL",
                        hooks->pack ? "unpack" : "pack");
    fbi_saver *saver = hooks ? malloc(sizeof *saver) : NULL;
    if (hooks && !saver)
        return fbi_fail(ctx, FB_E_NOMEM, "fb_saved_tensors_hooks: no memory");
    if (saver)
        *saver = (fbi_saver){.refs = 1, .ctx = ctx, .hooks = *hooks};
    fbi_saver *before = ctx->saver;
    ctx->saver = saver;
    if (before != ctx->scopes[ctx->scopes_n - 1].saver) /* set in this very scope */
        fbi_saver_unref(before);
    return FB_OK;
}

/* --- packing --- */

/* Callbacks run without modes: what they do is nobody's to record, look at or pack. */
static void plain_modes(fb_context *ctx)
{
    fb_no_grad(ctx);
    ctx->anomaly = false;
    ctx->saver = NULL;
}

static fb_status run_pack(fbi_saver *saver, fbi_node *n, fb_tensor *t, void **packed)
{
    fb_context *ctx = t->ctx;
    FB_SCOPE(ctx);
    plain_modes(ctx);
    uint32_t version = t->storage->version;
    fb_tensor *view = fbi_tensor_alias(t); /* without node: whoever keeps it makes no cycle */
    fb_status st = view ? saver->hooks.pack(saver->hooks.user, view, packed) : ctx->status;
    if (st && !ctx->status)
        fbi_fail(ctx, st, "saved-tensor hook: pack failed for a tensor %s %s that %s saves",
                 fb_dtype_name((fb_dtype)t->dtype), fbi_text(t), fbi_node_name(n));
    if (!ctx->status && t->storage->version != version)
        fbi_fail(ctx, FB_E_STATE,
                 "saved-tensor hook: pack changed the tensor %s that %s saves in place",
                 fbi_text(t), fbi_node_name(n));
    return ctx->status;
}

fb_status fbi_save_packed(fbi_node *n, int slot, fb_tensor *t)
{
    fb_context *ctx = t->ctx;
    fbi_saver *saver = ctx->saver;
    fbi_saved *s = &fbi_saves(n)[slot];
    bool own = s->flags & FBI_SAVED_OUTPUT;
    if (saver->hooks.keep_leaves && !own && t->leaf && t->leaf->required)
        return FB_OK;
    fbi_packed *p = calloc(1, sizeof *p);
    if (!p)
        return fbi_fail(ctx, FB_E_NOMEM, "saved-tensor hook: no memory");
    fbi_storage *storage = t->storage;
    int32_t held = storage->refs;
    fb_status st = run_pack(saver, n, t, &p->packed);
    if (st || !p->packed) {
        free(p);
        return st;
    }
    p->saver = saver;
    saver->refs++;
    p->aliased = storage->refs > held ? storage : NULL;
    p->dtype = t->dtype;
    p->shape = fb_shape_of(t);
    p->node = own ? NULL : fbi_node_of(t);
    if (p->node) {
        p->node->refs++;
        p->out_index = t->node ? t->out_index : 0;
    }
    s->packed = p;
    s->flags |= FBI_SAVED_PACKED;
    n->flags |= FBI_NODE_PACKED;
    return FB_OK;
}

static fb_tensor *run_unpack(fb_context *ctx, fbi_node *n, const fbi_packed *p)
{
    FB_SCOPE(ctx);
    plain_modes(ctx);
    fb_tensor *t = p->saver->hooks.unpack(p->saver->hooks.user, ctx, p->packed);
    const char *like = fbi_shape_text(ctx, p->shape);
    if (ctx->status)
        return NULL;
    if (!t)
        fbi_fail(ctx, FB_E_USER, "saved-tensor hook: unpack gave no tensor %s for backward of %s",
                 like, fbi_node_name(n));
    else if (!fbi_tensor_check(ctx, t, "saved-tensor hook", "what unpack gave"))
        return NULL;
    else if (t->dtype != p->dtype || !fb_shape_equal(fb_shape_of(t), p->shape))
        fbi_fail(ctx, FB_E_SHAPE,
                 "saved-tensor hook: unpack gave %s %s for backward of %s, which saved %s %s",
                 fb_dtype_name((fb_dtype)t->dtype), fbi_text(t), fbi_node_name(n),
                 fb_dtype_name((fb_dtype)p->dtype), like);
    fb_tensor *a = ctx->status ? NULL : fbi_tensor_alias(t);
    if (a)
        fbi_tensor_ref(a);
    return a;
}

fb_tensor *fbi_unpacked(fb_context *ctx, fbi_node *n, int slot, bool linked)
{
    fbi_saved *s = &fbi_saves(n)[slot];
    fbi_packed *p = s->packed;
    if (p->now)
        return p->now;
    fb_tensor *t = run_unpack(ctx, n, p);
    if (!t)
        return NULL;
    if (t->storage == p->aliased && t->storage->version != s->version) {
        fbi_saved_changed(ctx, n, s, t);
        fbi_tensor_unref(t);
        return NULL;
    }
    if (linked && p->node) {
        t->node = p->node;
        t->node->refs++;
        t->out_index = p->out_index;
    }
    p->now = t;
    return t;
}

void fbi_unpacked_forget(fbi_node *n)
{
    for (int i = 0; i < n->n_saved; i++) {
        fbi_saved *s = &fbi_saves(n)[i];
        if (!(s->flags & FBI_SAVED_PACKED))
            continue;
        fbi_tensor_unref(s->packed->now);
        s->packed->now = NULL;
    }
}

void fbi_packed_free(fbi_packed *p)
{
    fbi_saver *saver = p->saver;
    fbi_tensor_unref(p->now);
    fbi_node_unref(saver->ctx, p->node);
    if (saver->hooks.drop)
        saver->hooks.drop(saver->hooks.user, p->packed);
    fbi_saver_unref(saver);
    free(p);
}

/* --- images --- */

fbi_image fbi_image_of(const fb_tensor *t)
{
    fbi_image im = {.dtype = (fb_dtype)t->dtype, .size = fb_shape_of(t)};
    im.bytes = (size_t)t->numel * fbi_dtype_bytes[t->dtype];
    im.stride = fbi_strides_of(t);
    if (fbi_dense(t) && !(t->storage->flags & FBI_S_HOST))
        return im;
    int64_t step = 1;
    for (int d = im.size.n - 1; d >= 0; d--) {
        im.stride.d[d] = step;
        step *= im.size.d[d];
    }
    return im;
}

fb_status fbi_image_read(const fbi_image *im, fb_tensor *t, void *dst)
{
    fb_context *ctx = t->ctx;
    if (!im->bytes)
        return FB_OK;
    bool as_it_lies =
        fb_shape_equal(im->stride, fbi_strides_of(t)) && !(t->storage->flags & FBI_S_HOST);
    fb_status st = as_it_lies ? ctx->backend->copy_out(ctx, dst, fbi_ptr(t), im->bytes)
                              : fbi_copy_to_host(t, dst);
    return st && !ctx->status
               ? fbi_fail(ctx, st, "copying %zu bytes from %s failed", im->bytes, ctx->device_name)
               : st;
}

fb_tensor *fbi_image_make(fb_context *ctx, const fbi_image *im, const void *src)
{
    fb_tensor *t = fbi_empty(ctx, im->dtype, im->size);
    if (!t)
        return NULL;
    for (int d = 0; d < im->size.n; d++)
        t->stride[d] = im->stride.d[d];
    fb_status st = im->bytes ? ctx->backend->copy_in(ctx, fbi_ptr(t), src, im->bytes) : FB_OK;
    if (!st)
        return t;
    fbi_fail(ctx, st, "copying %zu bytes to %s failed", im->bytes, ctx->device_name);
    return NULL;
}

/* --- in host memory --- */

typedef struct on_host {
    fbi_image image;
    _Alignas(64) char bytes[];
} on_host;

static fb_status host_pack(void *user, fb_tensor *t, void **packed)
{
    (void)user;
    fbi_image im = fbi_image_of(t);
    size_t room = (sizeof(on_host) + im.bytes + 63) / 64 * 64;
    on_host *h = aligned_alloc(64, room);
    if (!h)
        return fbi_fail(t->ctx, FB_E_NOMEM, "fb_save_on_cpu: the host has no %zu bytes for %s %s",
                        im.bytes, fb_dtype_name(im.dtype), fbi_text(t));
    h->image = im;
    fb_status st = fbi_image_read(&im, t, h->bytes);
    if (st)
        free(h);
    else
        *packed = h;
    return st;
}

static fb_tensor *host_unpack(void *user, fb_context *ctx, void *packed)
{
    (void)user;
    const on_host *h = packed;
    return fbi_image_make(ctx, &h->image, h->bytes);
}

static void host_drop(void *user, void *packed)
{
    (void)user;
    free(packed);
}

fb_status fb_save_on_cpu(fb_context *ctx)
{
    FBI_ENTRY(ctx);
    return fb_saved_tensors_hooks(
        ctx, &(fb_saved_hooks){
                 .pack = host_pack, .unpack = host_unpack, .drop = host_drop, .keep_leaves = true});
}
