/* Batched matrix product on the CPU: the one door that linear, matmul and convolutions go through.
 *
 * Each element is one sum in order of k, cut into blocks of at most FBI_MM_K whose sums are added
 * in order; with few rows or columns it is a dot product with 64 bytes of lanes, and a long sum of
 * a small result has pieces. Only the sizes decide: bits do not depend on the number of threads,
 * nor on v3 or v4 (v2 has no fused multiply-add; the tiles of AMX have bits of their own). */
#ifndef FLAMBEAU_CORE_CPU_GEMM_PRIV_H
#define FLAMBEAU_CORE_CPU_GEMM_PRIV_H

#include "core/cpu/kernels_isa.h"

typedef struct fbi_mm fbi_mm;

/* Called when rows m0 .. m1 of columns n0 .. n1 of c are complete, by the thread that made them and
 * has them in its cache. m0 is a multiple of fbi_mm_panel, as is m1 but at the end. */
typedef void (*fbi_mm_finish)(const fbi_mm *g, int64_t m0, int64_t m1, int64_t n0, int64_t n1);

/* c[i, m, n] = beta * c + sum over k of a[i, m, k] * b[i, k, n] + bias[n]; strides in elements. */
struct fbi_mm {
    fb_dtype dtype; /* F32 F64 I64 */
    bool bf16;      /* a and b are BF16, dtype is F32; FB_E_UNSUPPORTED: not for these sizes */
    int64_t batch, m, n, k;
    int64_t a_b, a_m, a_k; /* batch stride 0: the same matrix for the whole batch */
    int64_t b_b, b_k, b_n;
    int64_t c_b, c_m;         /* columns of c are adjacent */
    const void *a, *b, *bias; /* bias may be NULL */
    void *c;
    float beta;           /* 0 or 1 */
    fbi_mm_finish finish; /* NULL: none. batch is 1 */
    void *with;           /* of finish */
};

fb_status FBI_K(fbi_cpu_gemm)(const fbi_call *c, const fbi_mm *g);
#define fbi_cpu_gemm FBI_K(fbi_cpu_gemm)

/* --- of one thread (gemm_fused.c) --- */

/* Rows of the tile of results that registers hold, beside two vectors of columns. Not more than the
 * ways of a first-level cache, where rows may lie a multiple of 4096 bytes apart. */
#if defined __AVX512F__
enum { FBI_MM_ROWS = 12 };
#else
enum { FBI_MM_ROWS = 6 };
#endif
/* Largest blocks. M x K of a, and what they make of N columns, stay in the second-level cache while
 * a panel of b at a time passes; of b ALL_K x N is packed at a time, not more than B elements. */
enum { FBI_MM_M = 144, FBI_MM_N = 2048, FBI_MM_K = 512, FBI_MM_ALL_K = 2048, FBI_MM_B = 3 << 19 };

/* Rows of c that a panel has: m is cut evenly. */
static inline int64_t fbi_mm_panel(int64_t m)
{
    int64_t panels = (m + FBI_MM_ROWS - 1) / FBI_MM_ROWS;
    return panels ? (m + panels - 1) / panels : 1;
}

/* Rows m0 .. m1 and columns n0 .. n1 of c in one item of the batch; n0 is a multiple of two
 * vectors. */
typedef struct fbi_mm_part {
    int64_t batch, m0, m1, n0, n1;
} fbi_mm_part;

void FBI_K(fbi_mm_part_f32)(const fbi_mm *g, const fbi_mm_part *p, void *work);
void FBI_K(fbi_mm_part_f64)(const fbi_mm *g, const fbi_mm_part *p, void *work);
void FBI_K(fbi_mm_part_i64)(const fbi_mm *g, const fbi_mm_part *p, void *work);
#define fbi_mm_part_f32 FBI_K(fbi_mm_part_f32)
#define fbi_mm_part_f64 FBI_K(fbi_mm_part_f64)
#define fbi_mm_part_i64 FBI_K(fbi_mm_part_i64)

/* Bytes of work that a part of `rows` x `cols` needs. */
size_t FBI_K(fbi_mm_work)(const fbi_mm *g, int64_t rows, int64_t cols);
#define fbi_mm_work FBI_K(fbi_mm_work)

/* --- of one thread, on the tiles of AMX (gemm_amx.c, v4 alone) --- */

/* Rows and columns of a block of results in tiles; rows of a that are packed at a time. */
enum { FBI_AMX_SIDE = 32, FBI_AMX_M = 288 };

/* Rows that parts are multiples of. */
static inline int64_t fbi_amx_rows(const fbi_mm *g)
{
    return g->finish ? fbi_mm_panel(g->m) : FBI_AMX_SIDE;
}

/* Whether a product is made there, on a processor that has it: the sizes decide. */
bool FBI_K(fbi_amx_takes)(const fbi_mm *g);
void FBI_K(fbi_amx_part)(const fbi_mm *g, const fbi_mm_part *p, void *work);
size_t FBI_K(fbi_amx_work)(const fbi_mm *g, int64_t rows, int64_t cols);
#define fbi_amx_takes FBI_K(fbi_amx_takes)
#define fbi_amx_part  FBI_K(fbi_amx_part)
#define fbi_amx_work  FBI_K(fbi_amx_work)

#endif
