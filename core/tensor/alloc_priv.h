/* The caching allocator: free lists of exact size classes on top of the backend's memory. */
#ifndef FLAMBEAU_CORE_TENSOR_ALLOC_PRIV_H
#define FLAMBEAU_CORE_TENSOR_ALLOC_PRIV_H

#include "core/tensor/context_priv.h"

fbi_alloc *fbi_alloc_new(void);       /* NULL: out of memory */
void fbi_alloc_free(fb_context *ctx); /* free blocks go back to the system; none may be in use */

/* A block for `bytes`; *klass says where it goes back. NULL: error is set. */
void *fbi_block_get(fb_context *ctx, size_t bytes, uint8_t *klass);
void fbi_block_put(fb_context *ctx, void *data, size_t bytes, uint8_t klass);
/* Bytes that a block for `bytes` really takes; 0: more than there can be. */
size_t fbi_block_bytes(size_t bytes);
/* Make the n-th block from now fail as if memory were short; 0: none. For tests. */
void fbi_alloc_fail_at(fb_context *ctx, int64_t n);

#endif
