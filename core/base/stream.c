/* See stream_priv.h. */
#include "core/base/stream_priv.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

/* Bytes of a line, of a call and of an output from which going past the caches pays. */
enum { LINE = 64, LEAST = 512, LARGE = 32 << 20, PIECES = 1 << 20 };

/* What is left of n after whole pieces; `in` NULL: zeros. */
static void rest(char *to, const char *in, size_t n)
{
    if (in)
        memcpy(to, in, n);
    else
        memset(to, 0, n);
}

static void stream_pieces(char *to, const char *in, size_t n)
{
    size_t i = 0;
    const __m128i zero = _mm_setzero_si128();
    for (; i + sizeof zero <= n; i += sizeof zero)
        _mm_stream_si128((__m128i *)(void *)(to + i),
                         in ? _mm_loadu_si128((const void *)(in + i)) : zero);
    rest(to + i, in ? in + i : NULL, n - i);
}

__attribute__((target("avx512f"))) void fbi_stream_lines(void *to, const void *from, size_t n)
{
    char *at = to;
    for (size_t i = 0; i < n; i += LINE)
        _mm512_stream_si512((__m512i *)(void *)(at + i),
                            _mm512_loadu_si512((const char *)from + i));
}

static bool stores_lines(void)
{
    return __builtin_cpu_supports("avx512f");
}

bool fbi_streams(size_t bytes)
{
    return bytes >= LARGE && stores_lines();
}

bool fbi_streams_pieces(size_t bytes)
{
    return fbi_streams(bytes) || (bytes >= PIECES && !__builtin_cpu_is("intel"));
}

void fbi_stream(void *to, const void *from, size_t n)
{
    char *at = to;
    const char *in = from;
    size_t head = n < LEAST ? n : -(uintptr_t)to % LINE;
    rest(at, in, head);
    if (head == n)
        return;
    in = in ? in + head : NULL;
    size_t lines = in && stores_lines() ? (n - head) / LINE * LINE : 0;
    if (lines)
        fbi_stream_lines(at + head, in, lines);
    stream_pieces(at + head + lines, in ? in + lines : NULL, n - head - lines);
}

void fbi_stream_end(void)
{
    _mm_sfence();
}
#else
bool fbi_streams(size_t bytes)
{
    (void)bytes;
    return false;
}

bool fbi_streams_pieces(size_t bytes)
{
    return fbi_streams(bytes);
}

void fbi_stream_lines(void *to, const void *from, size_t n)
{
    memcpy(to, from, n);
}

void fbi_stream(void *to, const void *from, size_t n)
{
    if (from)
        memcpy(to, from, n);
    else
        memset(to, 0, n);
}

void fbi_stream_end(void) {}
#endif
