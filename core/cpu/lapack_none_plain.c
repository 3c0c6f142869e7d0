/* A build without LAPACK. */
#include "core/cpu/lapack_priv.h"

bool fbi_cpu_has_lapack(void)
{
    return false;
}

#define NONE(name)                                                                            \
    fb_status fbi_lapack_##name(const fbi_call *c)                                            \
    {                                                                                         \
        return fbi_op_fail(c, FB_E_UNSUPPORTED,                                               \
                           "this build has no LAPACK: install liblapack-dev, then configure " \
                           "and build again");                                                \
    }

NONE(cholesky)
NONE(solve_triangular)
NONE(solve)
NONE(inv)
NONE(det)
NONE(slogdet)
NONE(qr)
NONE(eigh)
NONE(svd)
NONE(pinv)
NONE(lu_factor)
