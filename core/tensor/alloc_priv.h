/* The caching allocator: free lists of exact size classes on top of the backend's memory. */
#ifndef FLAMBEAU_CORE_TENSOR_ALLOC_PRIV_H
#define FLAMBEAU_CORE_TENSOR_ALLOC_PRIV_H

#include "core/tensor/context_priv.h"
#include "core/tensor/queue_priv.h"

typedef struct fbi_use fbi_use;

fbi_alloc *fbi_alloc_new(void);       /* NULL: out of memory */
void fbi_alloc_free(fb_context *ctx); /* free blocks go back to the system; none may be in use */

/* A block for the s->bytes of s, in the order of s->queue: its data, klass and reuses. False: error
 * is set. */
bool fbi_block_get(fb_context *ctx, fbi_storage *s);
/* Takes the memory of s, and what other queues still do with it. */
void fbi_block_put(fb_context *ctx, fbi_storage *s);
/* Remember that `queue` uses memory of queue `home` until `event`. */
fb_status fbi_uses_add(fb_context *ctx, fbi_queue home, fbi_use **uses, fbi_queue queue,
                       void *event);
/* `home` waits for all of them; the list is gone. */
void fbi_uses_settle(fb_context *ctx, fbi_queue home, fbi_use *uses);
/* The error of a block that cannot be had: who wanted it, and who has the memory (report.c). */
void fbi_out_of_memory(fb_context *ctx, size_t bytes, const fb_memory_stats *stats);
/* Bytes that a block for `bytes` really takes; 0: more than there can be. */
size_t fbi_block_bytes(size_t bytes);
/* Whether blocks have the size asked for and go back at once (fbi_backend.exact_memory); false
 * keeps them as on a card. For tests. */
void fbi_alloc_exact(fb_context *ctx, bool exact);
/* Make the n-th block from now fail as if memory were short; 0: none. For tests. */
void fbi_alloc_fail_at(fb_context *ctx, int64_t n);

#endif
