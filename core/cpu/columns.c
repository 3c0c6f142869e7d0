/* Column sums. Rows are cut into blocks that depend on the sizes only; the blocks' sums are added
 * in order, in double: the bits do not depend on the number of threads. */
#include <stdlib.h>

#include "core/cpu/columns_priv.h"
#include "core/cpu/dense_priv.h"
#include "core/cpu/doubles_priv.h"

/* Least rows of a block, most blocks; rows whose sums are made side by side, elements of a vector,
 * vectors of a strip of columns; bytes that are asked for ahead, of a line. */
enum { ROWS = 64, BLOCKS = 64 };
enum { GROUP = 4, STEP = FBI_VECTOR_BYTES / sizeof(double), STRIP = 4, AHEAD = 8 << 10, LINE = 64 };

#define T     float
#define FN(x) x##_f32
#include "core/cpu/columns_t.h"
#undef T
#undef FN
#define T     double
#define FN(x) x##_f64
#include "core/cpu/columns_t.h"
#undef T
#undef FN

fb_status fbi_cpu_row_blocks(const fbi_call *c, int64_t rows, int64_t cols, fbi_row_block fn,
                             const void *what, double *s0, double *s1)
{
    int64_t each = (rows + BLOCKS - 1) / BLOCKS;
    each = each < ROWS ? ROWS : each;
    int64_t blocks = (rows + each - 1) / each;
    int threads = rows * cols > FBI_PAR_MIN ? c->threads : 1;
    double *part = fbi_cpu_scratch(c, (size_t)(blocks * cols) * 2 * sizeof(double));
    if (!part)
        return c->ctx->status;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t q = 0; q < blocks; q++) {
        int64_t i0 = q * each, i1 = i0 + each < rows ? i0 + each : rows;
        double *at = part + q * 2 * cols;
        for (int64_t j = 0; j < 2 * cols; j++)
            at[j] = 0;
        fn(what, i0, i1, at, at + cols);
    }
    for (int64_t j = 0; j < cols; j++)
        s0[j] = 0;
    for (int64_t j = 0; s1 && j < cols; j++)
        s1[j] = 0;
    for (int64_t q = 0; q < blocks; q++) {
        const double *at = part + q * 2 * cols;
        for (int64_t j = 0; j < cols; j++)
            s0[j] += at[j];
        for (int64_t j = 0; s1 && j < cols; j++)
            s1[j] += at[cols + j];
    }
    free(part);
    return FB_OK;
}

typedef struct column_sums {
    fbi_column_kind kind;
    const fbi_columns *p;
} column_sums;

static void columns_block(const void *what, int64_t i0, int64_t i1, double *s0, double *s1)
{
    const column_sums *s = what;
    if (s->p->dtype == FB_F32)
        block_sums_f32(s->kind, s->p, i0, i1, s0, s1);
    else
        block_sums_f64(s->kind, s->p, i0, i1, s0, s1);
}

fb_status fbi_cpu_columns(const fbi_call *c, fbi_column_kind kind, const fbi_columns *p, double *s0,
                          double *s1)
{
    const column_sums s = {kind, p};
    return fbi_cpu_row_blocks(c, p->rows, p->cols, columns_block, &s, s0, s1);
}

fb_status fbi_cpu_column_sums(const fbi_call *c, fb_dtype dtype, const void *data, int64_t rows,
                              int64_t cols, int64_t row_stride, int64_t col_stride, void *out,
                              bool add)
{
    void *copy = NULL;
    if (col_stride != 1 || row_stride != cols) {
        size_t size = fb_dtype_size(dtype);
        char *to = copy = fbi_cpu_scratch(c, (size_t)(rows * cols) * size);
        if (!copy)
            return c->ctx->status;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++, to += size)
                memcpy(to, (const char *)data + (i * row_stride + j * col_stride) * (int64_t)size,
                       size);
        data = copy;
    }
    double *s = fbi_cpu_scratch(c, (size_t)cols * sizeof(double));
    fb_status st = c->ctx->status;
    if (s) {
        fbi_columns p = {.dtype = dtype, .rows = rows, .cols = cols, .a = data};
        st = fbi_cpu_columns(c, FBI_COL_SUM, &p, s, NULL);
    }
    for (int64_t j = 0; s && !st && j < cols; j++) {
        if (dtype == FB_F32) {
            float *o = (float *)out + j;
            *o = (float)(s[j] + (add ? (double)*o : 0));
        } else {
            double *o = (double *)out + j;
            *o = s[j] + (add ? *o : 0);
        }
    }
    free(s);
    free(copy);
    return st;
}
