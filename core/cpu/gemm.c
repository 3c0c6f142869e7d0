/* Matrix products: oneDNN's where there is one, else ours. */
#include <string.h>

#include "core/cpu/kernels_isa.h"
#include "core/cpu/gemm_priv.h"
#include "core/cpu/dnn_priv.h"

/* Sizes of a tile of C, a block of K and the rows of the innermost kernel (multiples of each
 * other). */
enum { FBI_MB = 48, FBI_NB = 64, FBI_KB = 128, FBI_MR = 6 };

#define T     float
#define FN(x) x##_f32
#include "core/cpu/gemm_t.h"
#undef T
#undef FN
#define T     double
#define FN(x) x##_f64
#include "core/cpu/gemm_t.h"
#undef T
#undef FN
#define T     uint64_t /* of I64 too: modulo 2^64 both are the same */
#define FN(x) x##_i64
#include "core/cpu/gemm_t.h"

fb_status fbi_cpu_gemm(const fbi_call *c, const fbi_mm *g)
{
    if (g->batch * g->m * g->n == 0)
        return FB_OK;
    bool large = (double)g->batch * (double)g->m * (double)g->n * (double)g->k > 32768;
    int threads = large ? c->threads : 1;
    if (g->dtype == FB_F32) {
        fb_status st = g->k ? fbi_dnn_matmul(c, g) : FB_E_UNSUPPORTED;
        if (st != FB_E_UNSUPPORTED)
            return st;
        gemm_f32(g, threads);
        return FB_OK;
    }
    if (g->dtype == FB_F64)
        gemm_f64(g, threads);
    else
        gemm_i64(g, threads);
    return FB_OK;
}
