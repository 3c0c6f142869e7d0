/* Opening and closing a context, and the list of what it closes. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log_priv.h"
#include "core/tensor/alloc_priv.h"
#include "core/tensor/device_priv.h"
#include "core/tensor/scope_priv.h"
#include "core/tensor/slab_priv.h"

FB_API int fb_version(void)
{
    return FB_VERSION;
}

bool fbi_option_wanted(bool option, const char *name)
{
    const char *asked = getenv(name);
    return option || (asked && strcmp(asked, "1") == 0);
}

/* Everything that does not need the device. */
static fb_context *blank_context(const fb_context_options *options)
{
    fb_context *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return NULL;
    ctx->slabs = fbi_slabs_new();
    ctx->alloc = fbi_alloc_new();
    if (!ctx->slabs || !ctx->alloc) {
        fbi_slabs_free(ctx->slabs);
        free(ctx->alloc);
        free(ctx);
        return NULL;
    }
    atomic_init(&ctx->poison, 0);
    ctx->owner = (unsigned long)pthread_self();
    ctx->grad_on = true;
    ctx->seed = options->seed;
    ctx->flush_denormals = options->flush_denormals;
    ctx->exact_conv = options->exact_conv;
    ctx->allow_tf32 = fbi_option_wanted(options->allow_tf32, "FLAMBEAU_TF32");
    ctx->tune = fbi_option_wanted(options->tune, "FLAMBEAU_TUNE");
    ctx->hooks.shards = ctx->hooks.n_leaves = 1;
    return ctx;
}

static void free_context(fb_context *ctx)
{
    fbi_alloc_free(ctx);
    if (ctx->backend)
        ctx->backend->close(ctx);
    fbi_slabs_free(ctx->slabs);
    free(ctx->arena);
    free(ctx->scopes);
    free(ctx->closers);
    free(ctx);
}

/* "cpu", or "cuda:0" with the number of the device. */
static void name_device(fb_context *ctx, const char *wanted)
{
    const char *name = ctx->backend->name;
    if (ctx->device_name[0])
        return;
    if (ctx->backend->host_memory)
        snprintf(ctx->device_name, sizeof ctx->device_name, "%s", name);
    else if (wanted && strchr(wanted, ':'))
        snprintf(ctx->device_name, sizeof ctx->device_name, "%s", wanted);
    else
        snprintf(ctx->device_name, sizeof ctx->device_name, "%s:0", name);
}

FB_API fb_context *fb_context_open_v(const fb_context_options *options, int version)
{
    const fb_context_options none = {0};
    const fb_context_options *o = options ? options : &none;
    if (version != FB_VERSION) {
        fbi_logline(
            "context_open: the program was compiled with headers of version %d, the library "
            "is version %d: compile it again",
            version, FB_VERSION);
        return NULL;
    }
    if (o->threads < 0) {
        fbi_logline("context_open: threads is %d: use 0 for all cores, or more", o->threads);
        return NULL;
    }
    fb_context *ctx = blank_context(o);
    if (!ctx) {
        fbi_logline("context_open: out of memory");
        return NULL;
    }
    fb_status st = fbi_device_open(ctx, o);
    if (st == FB_OK && fbi_scope_push(ctx, FBI_SITE)) {
        name_device(ctx, o->device);
        return ctx;
    }
    const char *text = ctx->message[0] ? ctx->message : fb_status_name(st);
    fbi_logline("context_open: device %s: %s", o->device ? o->device : "(default)", text);
    if (st != FB_OK)
        ctx->backend = NULL; /* it did not open: there is nothing to close */
    free_context(ctx);
    return NULL;
}

/* --- closing --- */

static void print_error(const fb_context *ctx)
{
    char where[160];
    fb_status st = fb_status_of(ctx);
    if (st == FB_OK)
        return;
    if (ctx->error_label[0])
        fbi_logline("%s (at %s)", fb_error_message(ctx), ctx->error_label);
    else if (ctx->error_site)
        fbi_logline("%s (at %s)", fb_error_message(ctx),
                    fbi_site_text(ctx->error_site, where, sizeof where));
    else
        fbi_logline("%s", fb_error_message(ctx));
}

static void undo_retains(fb_tensor *t, void *arg)
{
    int *count = arg;
    *count += t->retains > 0;
    for (uint16_t n = t->retains; n > 0; n--)
        fbi_tensor_unref(t);
}

/* A handle that some object forgot: its memory goes back all the same. */
static void free_leftover(fb_tensor *t, void *arg)
{
    (void)arg;
    fbi_storage_unref(t->ctx, t->storage);
    t->storage = NULL;
}

FB_API fb_status fb_context_close(fb_context *ctx)
{
    if (!ctx)
        return FB_E_ARG;
    if (ctx->is_worlds)
        return FB_E_STATE;
    fb_status st = fb_status_of(ctx);
    print_error(ctx);
    if (ctx->backend)
        ctx->backend->sync(ctx);
    while (ctx->closers_n > 0) {
        fbi_closer c = ctx->closers[--ctx->closers_n];
        c.close(c.object);
    }
    fbi_scope_end_all(ctx);
    int retained = 0;
    fbi_slab_each_handle(ctx, undo_retains, &retained);
    if (retained > 0)
        fbi_logline("context_close: %d tensor%s still retained: pair fb_retain with fb_release, "
                    "empty slots with fb_set(&slot, NULL)",
                    retained, retained > 1 ? "s were" : " was");
    fbi_slab_each_handle(ctx, free_leftover, NULL);
    free_context(ctx);
    return st;
}

/* --- registry --- */

fb_status fbi_context_adopt(fb_context *ctx, void *object, void (*close)(void *))
{
    if (ctx->closers_n == ctx->closers_cap) {
        uint32_t cap = ctx->closers_cap ? ctx->closers_cap * 2 : 16;
        fbi_closer *p = realloc(ctx->closers, cap * sizeof *p);
        if (!p)
            return fbi_fail(ctx, FB_E_NOMEM, "context: no memory to remember %u objects", cap);
        ctx->closers = p;
        ctx->closers_cap = cap;
    }
    ctx->closers[ctx->closers_n++] = (fbi_closer){object, close};
    return FB_OK;
}

void fbi_context_forget(fb_context *ctx, void *object)
{
    for (uint32_t i = ctx->closers_n; i-- > 0;) {
        if (ctx->closers[i].object != object)
            continue;
        uint32_t after = ctx->closers_n - i - 1;
        memmove(&ctx->closers[i], &ctx->closers[i + 1], after * sizeof *ctx->closers);
        ctx->closers_n--;
        return;
    }
}

/* --- getters --- */

FB_API fb_status fb_context_sync(fb_context *ctx)
{
    if (!ctx)
        return FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    fb_status st = ctx->backend->sync(ctx);
    return st == FB_OK ? st : fbi_fail(ctx, st, "context_sync: %s failed", ctx->device_name);
}

FB_API const char *fb_context_device(const fb_context *ctx)
{
    return ctx ? ctx->device_name : "";
}

FB_API fb_status fb_context_allow_tf32(fb_context *ctx, bool on)
{
    if (!ctx)
        return FB_E_ARG;
    FBI_ENTRY(ctx);
    if (fbi_enter(ctx))
        ctx->allow_tf32 = on;
    return fb_status_of(ctx);
}

FB_API bool fb_context_allows_tf32(const fb_context *ctx)
{
    return ctx && ctx->allow_tf32;
}

FB_API int fb_context_threads(const fb_context *ctx)
{
    return ctx ? ctx->threads : 0;
}
