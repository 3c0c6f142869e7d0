/* The first error stays; after it the context is off until someone takes it. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/tensor/context_priv.h"

fb_status fbi_vfail(fb_context *ctx, fb_status status, const char *fmt, va_list args)
{
    if (!ctx || ctx->status != FB_OK)
        return status;
    status = status == FB_OK ? FB_E_USER : status;
    ctx->status = status;
    ctx->off = true;
    ctx->error_site = ctx->depth ? ctx->site : NULL;
    memcpy(ctx->error_label, ctx->label, sizeof ctx->error_label);
    vsnprintf(ctx->message, sizeof ctx->message, fmt, args);
    if (ctx->hooks.error)
        ctx->hooks.error(ctx->hooks.self, ctx);
    return status;
}

fb_status fbi_fail(fb_context *ctx, fb_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    status = fbi_vfail(ctx, status, fmt, args);
    va_end(args);
    return status;
}

FB_API fb_status fb_fail(fb_context *ctx, fb_status status, const char *fmt, ...)
{
    FBI_ENTRY(ctx);
    va_list args;
    va_start(args, fmt);
    status = fbi_vfail(ctx, status, fmt, args);
    va_end(args);
    return status;
}

void fbi_context_poison(fb_context *ctx, fb_status status, const char *message)
{
    int none = 0; /* -1 while the message is being written: the first thread wins */
    if (!atomic_compare_exchange_strong(&ctx->poison, &none, -1))
        return;
    snprintf(ctx->poison_message, sizeof ctx->poison_message, "%s", message);
    atomic_store_explicit(&ctx->poison, (int)status, memory_order_release);
}

bool fbi_enter(fb_context *ctx)
{
    if (!ctx)
        return false;
    if (__builtin_expect(ctx->owner != (unsigned long)pthread_self(), 0)) {
        fbi_context_poison(ctx, FB_E_STATE,
                           "context: used by a second thread: open one context per thread");
        return false;
    }
    int poison = atomic_load_explicit(&ctx->poison, memory_order_acquire);
    if (__builtin_expect(poison > 0, 0) && !ctx->off)
        fbi_fail(ctx, (fb_status)poison, "%s", ctx->poison_message);
    return !ctx->off;
}

const char *fbi_site_text(const void *site, char *buf, size_t size)
{
    Dl_info info;
    if (!site || !dladdr(site, &info) || !info.dli_fname) {
        snprintf(buf, size, site ? "%p" : "an unknown place", site);
        return buf;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    const char *file = slash ? slash + 1 : info.dli_fname;
    if (info.dli_sname)
        snprintf(buf, size, "%s+0x%zx", info.dli_sname,
                 (size_t)((const char *)site - (const char *)info.dli_saddr));
    else /* a static function: what addr2line wants */
        snprintf(buf, size, "%s+0x%zx", file,
                 (size_t)((const char *)site - (const char *)info.dli_fbase));
    return buf;
}

FB_API bool fb_ok(const fb_context *ctx)
{
    return ctx && ctx->status == FB_OK &&
           atomic_load_explicit(&ctx->poison, memory_order_acquire) <= 0;
}

FB_API fb_status fb_status_of(const fb_context *ctx)
{
    if (!ctx)
        return FB_E_ARG;
    int poison = atomic_load_explicit(&ctx->poison, memory_order_acquire);
    return ctx->status != FB_OK || poison <= 0 ? ctx->status : (fb_status)poison;
}

FB_API const char *fb_error_message(const fb_context *ctx)
{
    if (!ctx)
        return "context: NULL";
    if (ctx->status != FB_OK)
        return ctx->message;
    bool poisoned = atomic_load_explicit(&ctx->poison, memory_order_acquire) > 0;
    return poisoned ? ctx->poison_message : "";
}

FB_API fb_status fb_error_take(fb_context *ctx, char *msg, size_t size)
{
    fb_status status = fb_status_of(ctx);
    if (msg && size)
        snprintf(msg, size, "%s", fb_error_message(ctx));
    if (!ctx)
        return status;
    ctx->status = FB_OK;
    ctx->off = false;
    ctx->message[0] = '\0';
    ctx->error_label[0] = '\0';
    ctx->error_site = NULL;
    if (atomic_load_explicit(&ctx->poison, memory_order_acquire) > 0)
        atomic_store_explicit(&ctx->poison, 0, memory_order_release);
    return status;
}

FB_API void fb_context_label(fb_context *ctx, const char *label)
{
    if (ctx)
        snprintf(ctx->label, sizeof ctx->label, "%s", label ? label : "");
}
