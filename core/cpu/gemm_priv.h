/* Batched matrix product on the CPU: the one door that linear, matmul and attention go through. */
#ifndef FLAMBEAU_CORE_CPU_GEMM_PRIV_H
#define FLAMBEAU_CORE_CPU_GEMM_PRIV_H

#include "core/cpu/kernels_isa.h"
#include "core/cpu/dnn_priv.h"

/* By oneDNN where it can, else by the own kernel. Only the own kernel's bits are the same for every
 * thread count. */
fb_status FBI_K(fbi_cpu_gemm)(const fbi_call *c, const fbi_mm *g);
#define fbi_cpu_gemm FBI_K(fbi_cpu_gemm)

#endif
