/* The products of recurrent layers on the tiles of AMX: see amx_priv.h and recurrent_priv.h. */
#include "core/cpu/recurrent_priv.h"

#if defined __AVX512F__
#include "core/cpu/amx_priv.h"

enum { LINES = FBI_AMX_LINES, CHUNK = FBI_AMX_CHUNK, WIDTH = FBI_PANEL_f32 };

/* n of 16 floats, the others 0. */
static __m512 some_of(const float *p, int64_t n)
{
    __mmask16 there = (__mmask16)(n >= LINES ? 0xffff : n > 0 ? (1 << n) - 1 : 0);
    return _mm512_maskz_loadu_ps(there, p);
}

static void pack_rows(int64_t m, int64_t k, const float *a, int64_t lda, char *to)
{
    for (int64_t i = 0; i < m; i++, a += lda) {
        char *line = to + i / LINES * FBI_AMX_TILE + i % LINES * FBI_AMX_LINE;
        for (int64_t q = 0; q < k; q += CHUNK, line += FBI_AMX_PANEL)
            fbi_amx_put_line(line, some_of(a + q, k - q), some_of(a + q + LINES, k - q - LINES),
                             false);
    }
}

void fbi_amx_pack_panel(int64_t k, const void *b, void *to)
{
    const float *from = b;
    char *tile = to;
    for (int64_t q = 0; q < k; q += CHUNK, tile += FBI_AMX_PANEL)
        for (int64_t l = 0; l < CHUNK; l++) {
            int64_t half = l / LINES * LINES, x = q + l % LINES, y = x + LINES;
            fbi_amx_put_line(tile + l / LINES * FBI_AMX_TILE + l % LINES * FBI_AMX_LINE,
                             some_of(from + x * WIDTH + half, x < k ? LINES : 0),
                             some_of(from + y * WIDTH + half, y < k ? LINES : 0), false);
        }
}

void fbi_amx_panels(int64_t m, int64_t k, const void *a, int64_t lda, int64_t panels, const void *b,
                    void *c, void *packed)
{
    int64_t chunks = (k + CHUNK - 1) / CHUNK;
    fbi_amx_block t = {.a = packed, .b = b, .chunks = chunks, .to = c, .to_row = WIDTH};
    pack_rows(m, k, a, lda, packed);
    fbi_amx_begin();
    for (int64_t i = 0; i < panels; i++) {
        fbi_amx_run(m, WIDTH, &t);
        t.b += chunks * FBI_AMX_PANEL;
        t.to += fbi_amx_rows_of(m) * WIDTH;
    }
    fbi_amx_end();
}

#else /* a level without AMX: the file is empty */
typedef int fbi_amx_none;
#endif
