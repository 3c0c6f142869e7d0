/* Sums over the rows of a matrix, column by column: bias gradients, statistics of norms. */
#ifndef FLAMBEAU_CORE_CPU_COLUMNS_PRIV_H
#define FLAMBEAU_CORE_CPU_COLUMNS_PRIV_H

#include "core/cpu/kernels_isa.h"

/* out[j] (+)= sum over i of data[i, j]. */
fb_status FBI_K(fbi_cpu_column_sums)(const fbi_call *c, fb_dtype dtype, const void *data,
                                     int64_t rows, int64_t cols, int64_t row_stride,
                                     int64_t col_stride, void *out, bool add);
#define fbi_cpu_column_sums FBI_K(fbi_cpu_column_sums)

/* What is summed, for dense a and b [rows, cols]. */
typedef enum fbi_column_kind {
    FBI_COL_SUM,     /* s0 = sum a */
    FBI_COL_MOMENTS, /* s0 = sum (a - shift[j]), s1 = sum (a - shift[j])^2 */
    FBI_COL_DOT,     /* s0 = sum a, s1 = sum a (b - shift[j]) */
    FBI_COL_OPEN_DOT /* the same of what a ReLU with the result y lets through of a */
} fbi_column_kind;

typedef struct fbi_columns {
    fb_dtype dtype;
    int64_t rows, cols;
    const void *a, *b, *y;
    void *open;          /* receives what is let through, may be a; NULL: not wanted */
    const double *shift; /* [cols] */
} fbi_columns;

/* Sums in double: s0, s1 [cols]; s1 may be NULL where it is not used. */
fb_status FBI_K(fbi_cpu_columns)(const fbi_call *c, fbi_column_kind kind, const fbi_columns *p,
                                 double *s0, double *s1);
#define fbi_cpu_columns FBI_K(fbi_cpu_columns)

/* What a kernel does with rows i0 .. i1 - 1; two sums of each column, zeros before, are added to.
 */
typedef void (*fbi_row_block)(const void *what, int64_t i0, int64_t i1, double *s0, double *s1);

/* The same in blocks of rows: s0, s1 [cols] are the blocks' sums, added in order. */
fb_status FBI_K(fbi_cpu_row_blocks)(const fbi_call *c, int64_t rows, int64_t cols, fbi_row_block fn,
                                    const void *what, double *s0, double *s1);
#define fbi_cpu_row_blocks FBI_K(fbi_cpu_row_blocks)

#endif
