/* Stores past the caches, for memory that other cores have read: a plain store to a line that
 * another core holds waits for its invalidation, 25 to 55 ns each where measured; a streaming
 * one 1.4 ns. */
#ifndef FLAMBEAU_CORE_BASE_STREAM_PRIV_H
#define FLAMBEAU_CORE_BASE_STREAM_PRIV_H

#include <stddef.h>

/* Copy n bytes, or write zeros if `from` is NULL. */
void fbi_stream(void *to, const void *from, size_t n);
/* What was streamed is seen by others before anything that this thread writes from now on. */
void fbi_stream_end(void);

#endif
