/* Products of F32 on the tiles of AMX, which multiply BF16 and add in F32, sixteen times as many as
 * vectors do: for files of level v4.
 *
 * An F32 is the sum of three BF16, which have 8 bits each: x = x0 + x1 + x2, without an error but
 * for what is below 2^-126. Of the nine products of a and b the six largest are added; what is left
 * out, a1 b2 + a2 b1 + a2 b2, is at most 2^-24 of a b, as much as an F32 is rounded by. 32 products
 * are added before their sum is rounded to what the tile has, so that errors are smaller than those
 * of a sum in order of k: tests/core/cpu/test_amx.c compares them. (Henry, Tang, Heinecke:
 * Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations,
 * 2019.)
 *
 * The tiles take denormals for zero and give none. An infinity has no x1: its products are NaN. */
#ifndef FLAMBEAU_CORE_CPU_AMX_PRIV_H
#define FLAMBEAU_CORE_CPU_AMX_PRIV_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

/* A tile: 16 lines of 16 pairs of BF16, of k p and p + 16 of a chunk of 32; or of 16 F32. A panel:
 * the tiles of 32 rows of a, or columns of b, for each chunk one after the other: two tiles of the
 * parts x0, two of x1, two of x2. In bytes. */
enum {
    FBI_AMX_LINES = 16,
    FBI_AMX_CHUNK = 32,
    FBI_AMX_LINE = 64,
    FBI_AMX_TILE = FBI_AMX_LINES * FBI_AMX_LINE,
    FBI_AMX_PART = 2 * FBI_AMX_TILE,
    FBI_AMX_PANEL = 3 * FBI_AMX_PART /* of a chunk */
};

/* --- packing --- */

/* x to 8 bits, as an F32; what is left of it is x. */
static inline __m512 fbi_amx_part_of(__m512 *x)
{
    const __m512i half = _mm512_set1_epi32(0x8000), high = _mm512_set1_epi32((int)0xffff0000u);
    __m512i bits = _mm512_add_epi32(_mm512_castps_si512(*x), half);
    __m512 part = _mm512_castsi512_ps(_mm512_and_si512(bits, high));
    *x = _mm512_sub_ps(*x, part);
    return part;
}

/* The upper halves of x and y, in pairs; `past` the caches, if other cores will read them. */
static inline void fbi_amx_put_pairs(char *to, __m512 x, __m512 y, bool past)
{
    __m512i low = _mm512_srli_epi32(_mm512_castps_si512(x), 16);
    __m512i pairs = _mm512_mask_blend_epi16(0xaaaaaaaau, low, _mm512_castps_si512(y));
    if (past)
        _mm512_stream_si512((void *)to, pairs);
    else
        _mm512_store_si512(to, pairs);
}

/* One line of the tiles of all parts: x for k 0 to 15 of a chunk, y for 16 to 31. Returns the lanes
 * that have infinities. */
static inline __mmask16 fbi_amx_put_line(char *to, __m512 x, __m512 y, bool past)
{
    enum { INFINITIES = 0x18 };
    __m512 x0 = fbi_amx_part_of(&x), y0 = fbi_amx_part_of(&y);
    fbi_amx_put_pairs(to, x0, y0, past);
    __m512 x1 = fbi_amx_part_of(&x), y1 = fbi_amx_part_of(&y);
    fbi_amx_put_pairs(to + FBI_AMX_PART, x1, y1, past);
    fbi_amx_put_pairs(to + 2 * FBI_AMX_PART, x, y, past);
    return _mm512_fpclass_ps_mask(x0, INFINITIES) | _mm512_fpclass_ps_mask(y0, INFINITIES);
}

/* --- tiles --- */

/* A block of results of 32 x 32 at most: registers 0 1 2 3 are its tiles, 4 5 those of a, 6 7 those
 * of b. */
typedef struct fbi_amx_block {
    const char *a, *b;
    int64_t chunks;
    const float *from; /* the sums begin at this row; NULL: at zero */
    float *to;
    int64_t to_row;
    const float *next; /* a block of results that comes to the caches; NULL: none */
    int64_t next_row;
} fbi_amx_block;

/* Adds the product of a part of a and a part of b, of which `new_a` or `new_b` is not there yet. */
#define FBI_AMX_MULTIPLY(part_a, new_a, part_b, new_b)                    \
    do {                                                                  \
        if (new_a)                                                        \
            _tile_loadd(4, a + (part_a)*FBI_AMX_PART, 64);                \
        if (new_b)                                                        \
            _tile_loadd(6, b + (part_b)*FBI_AMX_PART, 64);                \
        _tile_dpbf16ps(0, 4, 6);                                          \
        if (across == 2 && (new_b))                                       \
            _tile_loadd(7, b + (part_b)*FBI_AMX_PART + FBI_AMX_TILE, 64); \
        if (across == 2)                                                  \
            _tile_dpbf16ps(1, 4, 7);                                      \
        if (down == 2 && (new_a))                                         \
            _tile_loadd(5, a + (part_a)*FBI_AMX_PART + FBI_AMX_TILE, 64); \
        if (down == 2)                                                    \
            _tile_dpbf16ps(2, 5, 6);                                      \
        if (down == 2 && across == 2)                                     \
            _tile_dpbf16ps(3, 5, 7);                                      \
    } while (0)

static inline __attribute__((always_inline)) void fbi_amx_block_of(const int down, const int across,
                                                                   const fbi_amx_block *t)
{
    /* A tile is stored after so many chunks, for nothing: after 2000 cycles without a store the
     * next one takes 900 (an Intel processor of 2024), a fifth of the time of 256 k. */
    enum { AWAKE = 4 };
    _Alignas(64) char awake[FBI_AMX_TILE];
    const char *a = t->a, *b = t->b;
    if (t->from) {
        _tile_loadd(0, t->from, 0);
        if (across == 2)
            _tile_loadd(1, t->from + FBI_AMX_LINES, 0);
        if (down == 2)
            _tile_loadd(2, t->from, 0);
        if (down == 2 && across == 2)
            _tile_loadd(3, t->from + FBI_AMX_LINES, 0);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int i = 0; t->next && i < down * FBI_AMX_LINES; i++) {
        __builtin_prefetch(t->next + i * t->next_row, 1);
        __builtin_prefetch(t->next + i * t->next_row + FBI_AMX_LINES, 1);
    }
    /* The order is that of fewest loads; it is the same for all elements. */
    for (int64_t q = 0; q < t->chunks; q++, a += FBI_AMX_PANEL, b += FBI_AMX_PANEL) {
        if (q % AWAKE == AWAKE - 1)
            _tile_stored(4, awake, 64);
        FBI_AMX_MULTIPLY(0, true, 2, true);
        FBI_AMX_MULTIPLY(0, false, 1, true);
        FBI_AMX_MULTIPLY(0, false, 0, true);
        FBI_AMX_MULTIPLY(2, true, 0, false);
        FBI_AMX_MULTIPLY(1, true, 0, false);
        FBI_AMX_MULTIPLY(1, false, 1, true);
    }
    int64_t row = t->to_row * (int64_t)sizeof(float);
    float *below = t->to + FBI_AMX_LINES * t->to_row;
    _tile_stored(0, t->to, row);
    if (across == 2)
        _tile_stored(1, t->to + FBI_AMX_LINES, row);
    if (down == 2)
        _tile_stored(2, below, row);
    if (down == 2 && across == 2)
        _tile_stored(3, below + FBI_AMX_LINES, row);
}

/* The compiler does not know what tiles read and write. */
static inline void fbi_amx_settle(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Rows and columns up to a multiple of 16 are written. */
static inline void fbi_amx_run(int64_t rows, int64_t cols, const fbi_amx_block *t)
{
    fbi_amx_settle();
    if (rows > FBI_AMX_LINES && cols > FBI_AMX_LINES)
        fbi_amx_block_of(2, 2, t);
    else if (rows > FBI_AMX_LINES)
        fbi_amx_block_of(2, 1, t);
    else if (cols > FBI_AMX_LINES)
        fbi_amx_block_of(1, 2, t);
    else
        fbi_amx_block_of(1, 1, t);
    fbi_amx_settle();
}

/* Before a thread's blocks, whose tiles have 16 lines of 64 bytes; after them. */
static inline void fbi_amx_begin(void)
{
    struct {
        uint8_t palette, start, unused[14];
        uint16_t bytes[16];
        uint8_t lines[16];
    } tiles = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        tiles.bytes[i] = FBI_AMX_LINE;
        tiles.lines[i] = FBI_AMX_LINES;
    }
    fbi_amx_settle();
    _tile_loadconfig(&tiles);
}

static inline void fbi_amx_end(void)
{
    _tile_release();
}

#endif
