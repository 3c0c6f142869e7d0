/* The part of one thread in a matrix product; see gemm_priv.h. Files named _fused are compiled with
 * fused multiply-adds where the level has them: from their second-level cache tiles reach 99 % of
 * the peak of a Zen 5 core (AVX-512), 95 % of that of an Intel one. */
#include <string.h>

#include "core/cpu/gemm_priv.h"
#include "core/cpu/lanes_priv.h"

/* What is read at most IN_PLACE times, for so many panels of the other operand, is not packed: a,
 * and b if its columns are adjacent. */
enum { MR = FBI_MM_ROWS, IN_PLACE = 2 };

/* Products with at most FEW_ROWS or FEW_COLUMNS may be dot products, DOTS x DOTS of them at a time:
 * with few columns, tiles need no transposed copy of what is large. */
enum { FEW_ROWS = 8, FEW_COLUMNS = 4, DOTS = FBI_VECTOR_BYTES == 64 ? 4 : 2 };

static bool are_dots(const fbi_mm *g)
{
    return g->a_k == 1 && g->b_k == 1 && g->k >= 32 && (g->m <= FEW_ROWS || g->n <= FEW_COLUMNS);
}

/* One line for each height of a panel. */
#if defined __AVX512F__
#define EACH_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#else
#define EACH_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Size of equal blocks of n, at most `most` and a multiple of `unit`, which divides `most`. */
static int64_t block_of(int64_t n, int64_t most, int64_t unit)
{
    int64_t blocks = n > most ? (n + most - 1) / most : 1;
    return ((n + blocks - 1) / blocks + unit - 1) / unit * unit;
}

/* Rows, columns and k of a block; columns and k of what is packed of b at a time. */
typedef struct blocks {
    int64_t m, n, k, all_k;
} blocks;

static blocks blocks_of(const fbi_mm *g, int64_t rows, int64_t cols, int64_t wide)
{
    blocks r = {.m = block_of(rows, FBI_MM_M, fbi_mm_panel(g->m)), .k = 1, .all_k = 1};
    if (g->k) {
        r.all_k = block_of(g->k, FBI_MM_ALL_K, 1);
        r.k = block_of(r.all_k, FBI_MM_K, 1);
    }
    int64_t most = FBI_MM_B / r.all_k / wide * wide;
    r.n = block_of(cols, most < FBI_MM_N ? most : FBI_MM_N, wide);
    return r;
}

/* Lines of all panels of a that are packed at a time; squares of b that are asked for before they
 * are; steps of k in the body of a loop: an Intel core computes addresses where it multiplies, and
 * with one step in a body loses a tenth. */
enum { LINES = 8, AHEAD = 4, UNROLL = 4 };

/* Elements from one packed panel of a to the next: a line of the cache more, or lines of all would
 * meet in the same places of it. */
static int64_t apart_of(int64_t panel, int64_t k)
{
    enum { LINE = 16 };
    return ((panel * k - 1) / LINE + 2) * LINE;
}

static int64_t size_of_a(int64_t m, int64_t panel, int64_t k)
{
    return (m + panel - 1) / panel * apart_of(panel, k);
}

size_t fbi_mm_work(const fbi_mm *g, int64_t rows, int64_t cols)
{
    int64_t size = (int64_t)fb_dtype_size(g->dtype), wide = 2 * FBI_VECTOR_BYTES / size;
    int64_t most_rows = least(rows, FBI_MM_M + MR), most_cols = least(cols, FBI_MM_N);
    blocks r = blocks_of(g, rows, cols, wide);
    int64_t b = least((most_cols + wide) * r.all_k, FBI_MM_B + wide * r.all_k);
    return (size_t)((size_of_a(most_rows, fbi_mm_panel(g->m), r.k) + b) * size);
}

#define T     float
#define MASK  int32_t
#define FN(x) x##_f32
#include "core/cpu/gemm_t.h"
#undef T
#undef MASK
#undef FN
#define T     double
#define MASK  int64_t
#define FN(x) x##_f64
#include "core/cpu/gemm_t.h"
#undef T
#undef FN
#define T     uint64_t /* of I64 too: modulo 2^64 both are the same */
#define FN(x) x##_i64
#include "core/cpu/gemm_t.h"
