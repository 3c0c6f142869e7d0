/* Who owns a handle: the innermost scope, unless it was kept, retained or stored in a slot. */
#ifndef FLAMBEAU_CORE_TENSOR_SCOPE_H
#define FLAMBEAU_CORE_TENSOR_SCOPE_H

#include <flambeau/core/tensor/context.h>
#include <flambeau/core/tensor/shape.h>

FB_BEGIN

typedef struct fb_scope {
    fb_context *ctx;
    uint64_t serial;
} fb_scope;

/** Open a scope: handles made from here on belong to it. */
FB_API fb_scope fb_scope_begin(fb_context *ctx);
/** Release everything made in the scope and in scopes within it; modes return to what they were. */
FB_API void fb_scope_end(fb_scope *scope);
/** The innermost open scope. */
FB_API fb_scope fb_scope_current(fb_context *ctx);

/** A scope that ends with the enclosing braces, by break, continue, return or goto too. */
#define FB_SCOPE(ctx)                                                                      \
    fb_scope FBI_CAT(fb_scope_, __LINE__) __attribute__((cleanup(fb_scope_end), unused)) = \
        fb_scope_begin(ctx)

/** Move the handle one scope up: for returning it. NULL in gives NULL out. @return t */
FB_API fb_tensor *fb_keep(fb_tensor *t);
/** Move the handle to an outer, still open scope. @return t */
FB_API fb_tensor *fb_keep_in(fb_scope scope, fb_tensor *t);
/** Release the handle now instead of at the end of its scope. */
FB_API void fb_drop(fb_tensor *t);
/** Hold the handle beyond all scopes, for bindings; pair with fb_release. @return t */
FB_API fb_tensor *fb_retain(fb_tensor *t);
/** Undo one fb_retain; without one it is an error, never a double free. */
FB_API void fb_release(fb_tensor *t);
/** Store in a slot: retain t, release what was there, store. t may be NULL. */
FB_API void fb_set(fb_tensor **slot, fb_tensor *t);

FB_END
#endif
