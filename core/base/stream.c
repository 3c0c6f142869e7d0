/* See stream_priv.h. */
#include "core/base/stream_priv.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>

enum { LEAST = 512 }; /* bytes from which going past the caches pays */

static void stream(char *to, const char *in, size_t n)
{
    size_t i = 0;
    const __m128i zero = _mm_setzero_si128();
    for (; i + sizeof(__m128i) <= n; i += sizeof(__m128i))
        _mm_stream_si128((__m128i *)(void *)(to + i),
                         in ? _mm_loadu_si128((const void *)(in + i)) : zero);
    if (in)
        memcpy(to + i, in + i, n - i);
    else
        memset(to + i, 0, n - i);
}

void fbi_stream(void *to, const void *from, size_t n)
{
    size_t head = n < LEAST ? n : -(uintptr_t)to % sizeof(__m128i);
    if (from)
        memcpy(to, from, head);
    else
        memset(to, 0, head);
    if (head < n)
        stream((char *)to + head, from ? (const char *)from + head : NULL, n - head);
}

void fbi_stream_end(void)
{
    _mm_sfence();
}
#else
void fbi_stream(void *to, const void *from, size_t n)
{
    if (from)
        memcpy(to, from, n);
    else
        memset(to, 0, n);
}

void fbi_stream_end(void) {}
#endif
