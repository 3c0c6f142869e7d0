/* See lapack_priv.h. LAPACK's matrices lie column by column; an item of a batch is copied there and
 * back. One thread: the library's BLAS may have threads of its own, which nobody asked for. */
#include "core/cpu/lapack_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu/dense_priv.h"

/* Fortran's interface: everything by address, the lengths of texts behind the rest. */
#define PROTOTYPES(x, T)                                                                           \
    void x##potrf_(const char *uplo, const int *n, T *a, const int *lda, int *info, size_t);       \
    void x##trsm_(const char *side, const char *uplo, const char *trans, const char *diag,         \
                  const int *m, const int *n, const T *alpha, const T *a, const int *lda, T *b,    \
                  const int *ldb, size_t, size_t, size_t, size_t);                                 \
    void x##getrf_(const int *m, const int *n, T *a, const int *lda, int *pivot, int *info);       \
    void x##getrs_(const char *trans, const int *n, const int *rhs, const T *a, const int *lda,    \
                   const int *pivot, T *b, const int *ldb, int *info, size_t);                     \
    void x##geqrf_(const int *m, const int *n, T *a, const int *lda, T *tau, T *work,              \
                   const int *lwork, int *info);                                                   \
    void x##orgqr_(const int *m, const int *n, const int *k, T *a, const int *lda, const T *tau,   \
                   T *work, const int *lwork, int *info);                                          \
    void x##syevd_(const char *jobz, const char *uplo, const int *n, T *a, const int *lda, T *w,   \
                   T *work, const int *lwork, int *iwork, const int *liwork, int *info, size_t,    \
                   size_t);                                                                        \
    void x##gesdd_(const char *jobz, const int *m, const int *n, T *a, const int *lda, T *s, T *u, \
                   const int *ldu, T *vt, const int *ldvt, T *work, const int *lwork, int *iwork,  \
                   int *info, size_t);

PROTOTYPES(s, float)
PROTOTYPES(d, double)

/* OpenBLAS with threads: told to use none. Other libraries do not have the function. */
extern void openblas_set_num_threads(int n) __attribute__((weak));

bool fbi_cpu_has_lapack(void)
{
    return true;
}

static void one_thread(void)
{
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
}

/* Matrices of a batch. */
static int64_t batch_of(const fb_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim - 2; i++)
        n *= t->size[i];
    return n;
}

static int rows_of(const fb_tensor *t)
{
    return (int)t->size[t->ndim - 2];
}

static int cols_of(const fb_tensor *t)
{
    return (int)t->size[t->ndim - 1];
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int most(int a, int b)
{
    return a > b ? a : b;
}

/* Where matrix b of a batch begins, in elements from the first. */
static int64_t offset_of(const fb_tensor *t, int64_t b)
{
    int64_t at = 0;
    for (int i = t->ndim - 3; i >= 0; i--) {
        at += b % t->size[i] * t->stride[i];
        b /= t->size[i];
    }
    return at;
}

/* What LAPACK says of item b of the batch. */
static fb_status bad_item(const fbi_call *c, int64_t b, const char *what, const char *by, int info)
{
    const fb_tensor *a = c->in[0];
    if (a->ndim == 2)
        return fbi_op_fail(c, FB_E_ARG, "the matrix %s %s (LAPACK's %s: info %d)", fbi_text(a),
                           what, by, info);
    return fbi_op_fail(c, FB_E_ARG, "item %lld of the batch %s %s (LAPACK's %s: info %d)",
                       (long long)b, fbi_text(a), what, by, info);
}

#define T     float
#define FN(x) x##_f32
#define LP(x) s##x##_
#include "core/cpu/lapack_t.h"
#undef T
#undef FN
#undef LP
#define T     double
#define FN(x) x##_f64
#define LP(x) d##x##_
#include "core/cpu/lapack_t.h"

#define BY_TYPE(name)                                                             \
    fb_status fbi_lapack_##name(const fbi_call *c)                                \
    {                                                                             \
        for (int i = 0; i < c->n_in; i++)                                         \
            for (int d = c->in[i]->ndim - 2; d < c->in[i]->ndim; d++)             \
                if (c->in[i]->size[d] > INT32_MAX / 8)                            \
                    return fbi_op_fail(c, FB_E_ARG, "%s is too large for LAPACK", \
                                       fbi_text(c->in[i]));                       \
        one_thread();                                                             \
        return c->in[0]->dtype == FB_F64 ? name##_f64(c) : name##_f32(c);         \
    }

BY_TYPE(cholesky)
BY_TYPE(solve_triangular)
BY_TYPE(solve)
BY_TYPE(inv)
BY_TYPE(det)
BY_TYPE(slogdet)
BY_TYPE(qr)
BY_TYPE(eigh)
BY_TYPE(svd)
BY_TYPE(pinv)
BY_TYPE(lu_factor)
