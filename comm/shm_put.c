#include <string.h>

#include "comm/shm_priv.h"

#if defined(__x86_64__)
#include <emmintrin.h>

enum { LEAST = 512 }; /* bytes from which going past the caches pays */

void fbi_shm_put(char *to, const void *from, size_t n)
{
    const char *in = from;
    size_t head = -(uintptr_t)to % sizeof(__m128i);
    if (n < LEAST) {
        memcpy(to, in, n);
        return;
    }
    memcpy(to, in, head);
    size_t i = head;
    for (; i + sizeof(__m128i) <= n; i += sizeof(__m128i))
        _mm_stream_si128((__m128i *)(void *)(to + i), _mm_loadu_si128((const void *)(in + i)));
    memcpy(to + i, in + i, n - i);
    _mm_sfence(); /* streamed bytes are not ordered by the arrival that follows */
}
#else
void fbi_shm_put(char *to, const void *from, size_t n)
{
    memcpy(to, from, n);
}
#endif
