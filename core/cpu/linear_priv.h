/* The kernels linear and linear_dx with something done to their results while they are in the
 * cache. */
#ifndef FLAMBEAU_CORE_CPU_LINEAR_PRIV_H
#define FLAMBEAU_CORE_CPU_LINEAR_PRIV_H

#include "core/cpu/gemm_priv.h"

/* See fbi_mm.finish; NULL: nothing is done. */
fb_status FBI_K(fbi_linear_then)(const fbi_call *c, fbi_mm_finish finish, void *with);
fb_status FBI_K(fbi_linear_dx_then)(const fbi_call *c, fbi_mm_finish finish, void *with);
#define fbi_linear_then    FBI_K(fbi_linear_then)
#define fbi_linear_dx_then FBI_K(fbi_linear_dx_then)

#endif
