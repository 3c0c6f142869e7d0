#include "core/tensor/scope_priv.h"

#include <stdlib.h>

#include "core/tensor/slab_priv.h"

/* core/autograd lies above this room, so its header is not included here. */
void fbi_saver_unref(fbi_saver *saver);

/* Room for one more of `size` bytes; false: error is set. */
static bool grow(fb_context *ctx, void **items, uint32_t n, uint32_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    uint32_t more = *cap ? *cap * 2 : 64;
    void *p = realloc(*items, more * size);
    if (!p) {
        fbi_fail(ctx, FB_E_NOMEM, "memory: no room for a scope of %u handles", n);
        return false;
    }
    *items = p;
    *cap = more;
    return true;
}

bool fbi_arena_push(fb_context *ctx, fb_tensor *t)
{
    if (__builtin_expect(ctx->arena_n == ctx->arena_cap, 0)) {
        void *p = ctx->arena;
        if (!grow(ctx, &p, ctx->arena_n, &ctx->arena_cap, sizeof *ctx->arena))
            return false;
        ctx->arena = p;
    }
    t->slot = ctx->arena_n;
    ctx->arena[ctx->arena_n++] = t;
    return true;
}

bool fbi_scope_push(fb_context *ctx, const void *site)
{
    void *p = ctx->scopes;
    if (!grow(ctx, &p, ctx->scopes_n, &ctx->scopes_cap, sizeof *ctx->scopes))
        return false;
    ctx->scopes = p;
    ctx->scopes[ctx->scopes_n++] = (fbi_scope_mark){
        .serial = ++ctx->scope_serial,
        .begin = ctx->arena_n,
        .grad_on = ctx->grad_on,
        .anomaly = ctx->anomaly,
        .saver = ctx->saver,
        .autocast = ctx->autocast,
        .site = site,
    };
    return true;
}

/* Release the newest scope's handles; kept ones close ranks at its beginning, which is the end of
 * the scope above. */
static void pop(fb_context *ctx)
{
    fbi_scope_mark mark = ctx->scopes[ctx->scopes_n - 1];
    bool root = ctx->scopes_n == 1;
    uint32_t to = mark.begin;
    fbi_slab_releasing(ctx, mark.site);
    for (uint32_t i = mark.begin; i < ctx->arena_n; i++) {
        fb_tensor *t = ctx->arena[i];
        if (!t)
            continue;
        if ((t->flags & FBI_T_KEEP) && !root) {
            t->flags = (uint8_t)(t->flags & ~FBI_T_KEEP);
            t->slot = to;
            ctx->arena[to++] = t;
            continue;
        }
        t->flags = (uint8_t)(t->flags & ~FBI_T_KEEP);
        t->slot = FBI_NO_SLOT;
        fbi_tensor_unref(t); /* may run user code, but never opens a scope that stays */
    }
    fbi_slab_releasing(ctx, NULL);
    ctx->arena_n = to;
    ctx->grad_on = mark.grad_on;
    ctx->autocast = mark.autocast;
    if (ctx->casts.scope == ctx->scopes_n) {
        ctx->casts.forget(ctx);
        ctx->casts.scope = 0;
    }
    ctx->anomaly = mark.anomaly;
    fbi_saver *saver = ctx->saver;
    ctx->saver = mark.saver;
    ctx->scopes_n--;
    if (saver != mark.saver)
        fbi_saver_unref(saver); /* may run user code */
}

void fbi_scope_end_all(fb_context *ctx)
{
    while (ctx->scopes_n > 0)
        pop(ctx);
}

/* Index of an open scope, or -1. */
static int64_t find(const fb_context *ctx, uint64_t serial)
{
    for (int64_t i = (int64_t)ctx->scopes_n - 1; i >= 0; i--)
        if (ctx->scopes[i].serial == serial)
            return i;
    return -1;
}

FB_API fb_scope fb_scope_begin(fb_context *ctx)
{
    if (!ctx || !fbi_scope_push(ctx, FBI_SITE))
        return (fb_scope){ctx, 0};
    return (fb_scope){ctx, ctx->scope_serial};
}

FB_API void fb_scope_end(fb_scope *scope)
{
    if (!scope || !scope->ctx || scope->serial == 0)
        return;
    fb_context *ctx = scope->ctx;
    int64_t at = find(ctx, scope->serial);
    scope->serial = 0;
    while (at >= 1 && ctx->scopes_n > at) /* 0 is the root, which fb_context_close ends */
        pop(ctx);
}

FB_API fb_scope fb_scope_current(fb_context *ctx)
{
    uint64_t serial = ctx && ctx->scopes_n ? ctx->scopes[ctx->scopes_n - 1].serial : 0;
    return (fb_scope){ctx, serial};
}

/* A live handle of a scope, for `op`; errors are set. */
static bool scoped(fb_tensor *t, const char *op)
{
    if (!(t->flags & FBI_T_LIVE)) {
        fbi_stale(t, op, "the tensor");
        return false;
    }
    return t->slot != FBI_NO_SLOT;
}

FB_API fb_tensor *fb_keep(fb_tensor *t)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    fb_context *ctx = t->ctx;
    /* What an outer scope holds outlives this one anyway: returning an argument is fine. */
    if (scoped(t, "keep") && t->slot >= ctx->scopes[ctx->scopes_n - 1].begin)
        t->flags |= FBI_T_KEEP;
    return t;
}

/* Swap t with the first handle of its scope and move the boundary behind it: one scope up. */
static void one_up(fb_context *ctx, fb_tensor *t, uint32_t scope)
{
    uint32_t first = ctx->scopes[scope].begin++;
    fb_tensor *other = ctx->arena[first];
    ctx->arena[t->slot] = other;
    if (other)
        other->slot = t->slot;
    ctx->arena[first] = t;
    t->slot = first;
}

FB_API fb_tensor *fb_keep_in(fb_scope scope, fb_tensor *t)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    fb_context *ctx = t->ctx;
    if (!scoped(t, "keep_in"))
        return t;
    int64_t target = scope.ctx == ctx ? find(ctx, scope.serial) : -1;
    if (target < 0) {
        fbi_fail(ctx, FB_E_ARG, "keep_in: the scope has ended or is another context's");
        return t;
    }
    for (uint32_t s = ctx->scopes_n - 1; s > target; s--)
        if (t->slot >= ctx->scopes[s].begin)
            one_up(ctx, t, s);
    t->flags = (uint8_t)(t->flags & ~FBI_T_KEEP);
    return t;
}

FB_API void fb_drop(fb_tensor *t)
{
    if (!t)
        return;
    FBI_ENTRY(t->ctx);
    if (!(t->flags & FBI_T_LIVE)) {
        fbi_stale(t, "drop", "the tensor");
    } else if (t->slot == FBI_NO_SLOT) {
        fbi_fail(t->ctx, FB_E_STATE,
                 "drop: no scope holds the tensor %s: it belongs to a module, "
                 "a slot or a graph",
                 fbi_text(t));
    } else {
        t->ctx->arena[t->slot] = NULL;
        t->slot = FBI_NO_SLOT;
        t->flags = (uint8_t)(t->flags & ~FBI_T_KEEP);
        fbi_tensor_unref(t);
    }
}

FB_API fb_tensor *fb_retain(fb_tensor *t)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    if (!(t->flags & FBI_T_LIVE)) {
        fbi_stale(t, "retain", "the tensor");
    } else if (t->retains == UINT16_MAX) {
        fbi_fail(t->ctx, FB_E_STATE, "retain: retained %d times already", UINT16_MAX);
    } else {
        t->retains++;
        t->refs++;
    }
    return t;
}

FB_API void fb_release(fb_tensor *t)
{
    if (!t)
        return;
    FBI_ENTRY(t->ctx);
    if (!(t->flags & FBI_T_LIVE)) {
        fbi_stale(t, "release", "the tensor");
    } else if (t->retains == 0) {
        fbi_fail(t->ctx, FB_E_STATE, "release: the tensor %s was not retained", fbi_text(t));
    } else {
        t->retains--;
        fbi_tensor_unref(t);
    }
}

FB_API void fb_set(fb_tensor **slot, fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : slot && *slot ? (*slot)->ctx : NULL);
    if (!slot) {
        if (t && fbi_enter(t->ctx))
            fbi_fail(t->ctx, FB_E_ARG, "set: slot is NULL: it is where the tensor is held");
        return;
    }
    fb_tensor *old = *slot;
    if (t && !(t->flags & FBI_T_LIVE)) { /* the slot keeps what it has */
        fbi_stale(t, "set", "the tensor");
        return;
    }
    fb_retain(t);
    *slot = t;
    fb_release(old);
}

FB_API void fb_no_grad(fb_context *ctx)
{
    if (ctx)
        ctx->grad_on = false;
}

FB_API void fb_enable_grad(fb_context *ctx)
{
    if (ctx)
        ctx->grad_on = true;
}

FB_API void fb_detect_anomaly(fb_context *ctx)
{
    if (ctx)
        ctx->anomaly = true;
}

FB_API bool fb_is_grad_enabled(const fb_context *ctx)
{
    return ctx && ctx->grad_on;
}
