/* Stores past the caches, for memory that other cores have read: a plain store to a line that
 * another core holds waits for its invalidation, 25 to 55 ns each where measured; a streaming
 * one 1.4 ns. */
#ifndef FLAMBEAU_CORE_BASE_STREAM_PRIV_H
#define FLAMBEAU_CORE_BASE_STREAM_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether an output of so many bytes goes past the caches: who reads it finds little of it in the
 * last one, about 32 MiB, and a plain store would read each line before it writes it. Only where
 * whole lines are stored at once (AVX-512): pieces of lines wait for each other. */
bool fbi_streams(size_t bytes);
/* The same for an output that is written in lines here and there, for whose reading the processor
 * waits: from 1 MiB on, but not on Intel's, where it reads ahead well enough and who uses the
 * output next would wait for the memory. */
bool fbi_streams_pieces(size_t bytes);
/* Where that is so: copy n bytes, whole lines, to the beginning of one. */
void fbi_stream_lines(void *to, const void *from, size_t n);
/* Copy n bytes, or write zeros if `from` is NULL. */
void fbi_stream(void *to, const void *from, size_t n);
/* What was streamed is seen by others before anything that this thread writes from now on. */
void fbi_stream_end(void);

/* Before n bytes at `to` are streamed: pages that come soon are looked up, for which such stores
 * would wait. Beyond an array this does nothing. */
static inline void fbi_stream_ahead(const void *to, size_t n)
{
    enum { PAGE = 4096 };
    const char *first = (const char *)to + (-(uintptr_t)to & (PAGE - 1));
    for (const char *page = first; page < (const char *)to + n; page += PAGE)
        __builtin_prefetch(page + 2 * PAGE);
}

#endif
