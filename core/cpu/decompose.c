/* The rows that LAPACK does: the same for every instruction set. */
#include "core/cpu/kernels_isa.h"
#include "core/cpu/lapack_priv.h"

#define BY_LAPACK(name)                           \
    fb_status FBI_KERNEL(name)(const fbi_call *c) \
    {                                             \
        return fbi_lapack_##name(c);              \
    }

BY_LAPACK(cholesky)
BY_LAPACK(solve_triangular)
BY_LAPACK(solve)
BY_LAPACK(inv)
BY_LAPACK(det)
BY_LAPACK(slogdet)
BY_LAPACK(qr)
BY_LAPACK(eigh)
BY_LAPACK(svd)
BY_LAPACK(pinv)
BY_LAPACK(lu_factor)
