/* The arena of handles behind the scopes. */
#ifndef FLAMBEAU_CORE_TENSOR_SCOPE_PRIV_H
#define FLAMBEAU_CORE_TENSOR_SCOPE_PRIV_H

#include "core/tensor/context_priv.h"

/* Give the innermost scope the caller's reference. False: error is set, nothing changed. */
bool fbi_arena_push(fb_context *ctx, fb_tensor *t);
/* Open a scope on behalf of `site`. False: error is set. */
bool fbi_scope_push(fb_context *ctx, const void *site);
/* End every scope, the root's too. */
void fbi_scope_end_all(fb_context *ctx);
/* Record FB_E_STALE for a handle that is not live (core/tensor/handle.c). */
void fbi_stale(const fb_tensor *t, const char *op, const char *what);

#endif
