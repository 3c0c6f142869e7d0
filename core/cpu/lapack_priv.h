/* Decompositions by LAPACK, one function a row; compiled once. lapack_none_plain.c stands for
 * builds without it. */
#ifndef FLAMBEAU_CORE_CPU_LAPACK_PRIV_H
#define FLAMBEAU_CORE_CPU_LAPACK_PRIV_H

#include "core/ops/op_priv.h"

fb_status fbi_lapack_cholesky(const fbi_call *c);
fb_status fbi_lapack_solve_triangular(const fbi_call *c);
fb_status fbi_lapack_solve(const fbi_call *c);
fb_status fbi_lapack_inv(const fbi_call *c);
fb_status fbi_lapack_det(const fbi_call *c);
fb_status fbi_lapack_slogdet(const fbi_call *c);
fb_status fbi_lapack_qr(const fbi_call *c);
fb_status fbi_lapack_eigh(const fbi_call *c);
fb_status fbi_lapack_svd(const fbi_call *c);
fb_status fbi_lapack_pinv(const fbi_call *c);
fb_status fbi_lapack_lu_factor(const fbi_call *c);

#endif
