/* Decompositions, inverses and determinants of matrices of F32 and F64, by LAPACK on the CPU.
 *
 * Leading dimensions are a batch. A card has no kernels for them: FB_E_UNSUPPORTED. A build without
 * LAPACK says so. Not enough memory, or a matrix larger than LAPACK's integers: an error. Errors
 * are NULL, or a status, and name the item of the batch and what LAPACK said. Local, not
 * collective. Source: the functions of these names of torch.linalg; derivatives: Giles, Collected
 * matrix derivative results for forward and reverse mode algorithmic differentiation (2008), and
 * where another is named. */
#ifndef FLAMBEAU_CORE_OPS_DECOMPOSE_H
#define FLAMBEAU_CORE_OPS_DECOMPOSE_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/**
 * The lower L of a = L L^T, or (upper) the upper U of a = U^T U.
 *
 * @param a [..., n, n], symmetric and positive definite; only that triangle is read, and the
 *          gradient is symmetric. Not positive definite: FB_E_ARG
 * Murray: Differentiation of the Cholesky decomposition, arXiv:1602.07527.
 */
FB_API FB_USE_RESULT fb_tensor *fb_cholesky(fb_tensor *a, bool upper);
/** The inverse of l l^T (upper: u^T u) from its factor [..., n, n]. */
FB_API FB_USE_RESULT fb_tensor *fb_cholesky_inverse(fb_tensor *l, bool upper);
/** x of l l^T x = b (upper: u^T u x = b); b [..., n, k], batches broadcast. */
FB_API FB_USE_RESULT fb_tensor *fb_cholesky_solve(fb_tensor *b, fb_tensor *l, bool upper);

/** How fb_solve_triangular reads its matrix. */
typedef struct fb_triangular_options {
    bool upper;         /**< else the lower triangle; the other one is not read */
    bool right;         /**< x a = b instead of a x = b */
    bool unitriangular; /**< the diagonal counts as 1 and is not read */
} fb_triangular_options;

/** x of a x = b for a triangle a [..., n, n] and b [..., n, k]; batches broadcast. A zero on the
 * diagonal gives infinities. opts NULL: lower. */
FB_API FB_USE_RESULT fb_tensor *fb_solve_triangular(fb_tensor *a, fb_tensor *b,
                                                    const fb_triangular_options *opts);
/** x of a x = b for a [..., n, n] and b [..., n, k], or b [..., n] where that is the shape of a
 * without its last dimension; batches broadcast. Singular: FB_E_ARG. */
FB_API FB_USE_RESULT fb_tensor *fb_solve(fb_tensor *a, fb_tensor *b);
/** The inverse of [..., n, n]. Singular: FB_E_ARG. */
FB_API FB_USE_RESULT fb_tensor *fb_inv(fb_tensor *a);
/** The n-th power of [..., m, m] by squaring; 0: identities, negative: of the inverse. Floats and
 * integers; negative powers of floats only. */
FB_API FB_USE_RESULT fb_tensor *fb_matrix_power(fb_tensor *a, int64_t n);
/** Determinants [...] of [..., n, n]. A singular matrix has one, but its gradient needs the
 * inverse: FB_E_ARG in backward. */
FB_API FB_USE_RESULT fb_tensor *fb_det(fb_tensor *a);
/** Sign and logarithm of the absolute value of determinants: of a singular matrix 0 and -infinity.
 * Either may be NULL. */
FB_API fb_status fb_slogdet(fb_tensor *a, fb_tensor **sign, fb_tensor **logabsdet);
/** Logarithm of determinants; NaN of negative ones. */
FB_API FB_USE_RESULT fb_tensor *fb_logdet(fb_tensor *a);

/**
 * a = Q R with columns of Q orthonormal and R upper: Q [..., m, k], R [..., k, n], k = min(m, n),
 * or (complete) m. Either may be NULL. With complete and m > n only R has a gradient.
 *
 * Walter, Lehmann: Algorithmic differentiation of linear algebra functions, arXiv:1009.6112.
 */
FB_API fb_status fb_qr(fb_tensor *a, bool complete, fb_tensor **q, fb_tensor **r);
/**
 * a = U diag(S) Vh, S falling: U [..., m, k], S [..., k], Vh [..., k, n], k = min(m, n), or (full)
 * U
 * [..., m, m] and Vh [..., n, n]. Any may be NULL.
 *
 * U and Vh are unique only up to signs, and their gradients need singular values that differ, as do
 * those of fb_eigh. Gradients of full matrices are those of their first k columns and rows. Values
 * that are not finite: FB_E_ARG.
 */
FB_API fb_status fb_svd(fb_tensor *a, bool full, fb_tensor **u, fb_tensor **s, fb_tensor **vh);
/** Singular values alone. */
FB_API FB_USE_RESULT fb_tensor *fb_svdvals(fb_tensor *a);
/** Eigenvalues [..., n], rising, and orthonormal eigenvectors [..., n, n] (columns) of symmetric
 * matrices, of which one triangle is read. Either may be NULL. The gradient is that of a symmetric
 * matrix. */
FB_API fb_status fb_eigh(fb_tensor *a, bool upper, fb_tensor **values, fb_tensor **vectors);
/** Eigenvalues alone. */
FB_API FB_USE_RESULT fb_tensor *fb_eigvalsh(fb_tensor *a, bool upper);
/** The inverse of Moore and Penrose [..., n, m] of [..., m, n]; singular values up to rtol times
 * the largest count as 0. rtol 0: max(m, n) times the dtype's epsilon. Golub, Pereyra (1973). */
FB_API FB_USE_RESULT fb_tensor *fb_pinv(fb_tensor *a, double rtol);
/** I64: singular values [...] that are larger than rtol (0: as in fb_pinv) times the largest. */
FB_API FB_USE_RESULT fb_tensor *fb_matrix_rank(fb_tensor *a, double rtol);
/** x [..., n, k] with the smallest |a x - b|, and of those the smallest x, by QR: a [..., m, n] has
 * full rank, b is [..., m, k]; batches broadcast. The solution of torch.linalg.lstsq. */
FB_API FB_USE_RESULT fb_tensor *fb_lstsq(fb_tensor *a, fb_tensor *b);

/** p a = l u by Gaussian elimination with the largest pivots, both factors in one matrix [..., m,
 * n] (the ones of l are not there) and I32 pivots [..., min(m, n)]: row i was swapped with row
 * pivots[i], from 1. A singular matrix has factors, too. Either may be NULL. */
FB_API fb_status fb_lu_factor(fb_tensor *a, fb_tensor **lu, fb_tensor **pivots);
/** a = P L U apart: P [..., m, m], L [..., m, k], U [..., k, n], k = min(m, n). Any may be NULL. */
FB_API fb_status fb_lu(fb_tensor *a, fb_tensor **p, fb_tensor **l, fb_tensor **u);
/** x of a x = b (right: x a = b; adjoint: with a^T) from fb_lu_factor of a [..., n, n]; batches are
 * equal. */
FB_API FB_USE_RESULT fb_tensor *fb_lu_solve(fb_tensor *lu, fb_tensor *pivots, fb_tensor *b,
                                            bool right, bool adjoint);

/** Norms of matrices: of an order, or with a name. */
typedef enum fb_norm_kind { FB_NORM_ORDER = 0, FB_NORM_FROBENIUS, FB_NORM_NUCLEAR } fb_norm_kind;
/** Norms of [..., m, n]. Orders: 1 and infinity: the largest sum of a column, of a row; 2: the
 * largest singular value; negative ones: the smallest. */
FB_API FB_USE_RESULT fb_tensor *fb_matrix_norm(fb_tensor *a, fb_norm_kind kind, double order,
                                               bool keepdim);
/** How much errors grow in a x = b: for orders 2 and -2 by singular values, else the norm times
 * that of the inverse (singular: FB_E_ARG). PyTorch's default is order 2. */
FB_API FB_USE_RESULT fb_tensor *fb_cond(fb_tensor *a, fb_norm_kind kind, double order);
/** The inverse of a as a matrix whose rows are its first `ind` dimensions. */
FB_API FB_USE_RESULT fb_tensor *fb_tensorinv(fb_tensor *a, int ind);
/** x with tensordot(a, x, the dimensions of x) = b, for a of sizes [b..., x...]. */
FB_API FB_USE_RESULT fb_tensor *fb_tensorsolve(fb_tensor *a, fb_tensor *b);

FB_END
#endif
