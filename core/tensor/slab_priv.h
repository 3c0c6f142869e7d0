/* Slabs of handles, storages and nodes: fixed-size pieces of chunks that the context owns. */
#ifndef FLAMBEAU_CORE_TENSOR_SLAB_PRIV_H
#define FLAMBEAU_CORE_TENSOR_SLAB_PRIV_H

#include "core/tensor/context_priv.h"

fbi_slabs *fbi_slabs_new(void); /* NULL: out of memory */
void fbi_slabs_free(fbi_slabs *slabs);

fbi_storage *fbi_slab_storage(fb_context *ctx); /* zeroed; NULL: error is set */
void fbi_slab_storage_free(fb_context *ctx, fbi_storage *s);

/* Call fn for every live handle; fn may free handles. */
void fbi_slab_each_handle(fb_context *ctx, void (*fn)(fb_tensor *t, void *arg), void *arg);

/* Site of the scope that is ending (NULL: none): a handle that goes remembers it. */
void fbi_slab_releasing(fb_context *ctx, const void *site);
/* Where a stale handle was released; NULL: not by the end of a scope. */
const void *fbi_slab_released_at(const fb_tensor *t);

#endif
