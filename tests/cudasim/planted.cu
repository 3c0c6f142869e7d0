/* Kernels with mistakes, and launches of them for test_simulator.c. */
#include "core/cuda/launch_priv.h"

__global__ void add_one(float *x, int n)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n)
        x[i] += 1;
}

/* Reads its neighbour's value without a barrier. */
__global__ void no_barrier(float *x)
{
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = s[(threadIdx.x + 33) % 64];
}

__global__ void two_barriers(float *x)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    x[threadIdx.x] = 0;
}

__global__ void not_in_mask(float *x)
{
    x[threadIdx.x] = __shfl_xor_sync(0xffff0000u, x[threadIdx.x], 1);
}

struct hidden {
    int n;
    float *x;
};
__global__ void add_one_inside(hidden h)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < h.n)
        h.x[i] += 1;
}

__global__ void misaligned(float *x)
{
    ((float4 *)(x + 1))->x = 0;
}

/* A register that was never written, as far as the compiler can tell: k. */
__global__ void unwritten(float *x, int k)
{
    float v[2];
    v[0] = 1;
    x[0] = ((volatile float *)v)[k];
}

__global__ void nothing(float *) {}

extern "C" {
void planted_add_one_inside(float *x, int n, cudaStream_t s)
{
    LAUNCH(add_one_inside, (unsigned)(n + 63) / 64, 64, 0, s, hidden{n, x});
}
void planted_misaligned(float *x)
{
    LAUNCH(misaligned, 1, 1, 0, nullptr, x);
}
void planted_unwritten(float *x, int k)
{
    LAUNCH(unwritten, 1, 1, 0, nullptr, x, k);
}
void planted_launch(float *x, const unsigned grid[3], const unsigned block[3], size_t shared)
{
    dim3 g(grid[0], grid[1], grid[2]), b(block[0], block[1], block[2]);
    LAUNCH(nothing, g, b, shared, nullptr, x);
}
void planted_add_one(float *x, int n, cudaStream_t s)
{
    LAUNCH(add_one, (unsigned)(n + 63) / 64, 64, 0, s, x, n);
}
void planted_no_barrier(float *x)
{
    LAUNCH(no_barrier, 1, 64, 0, nullptr, x);
}
void planted_two_barriers(float *x)
{
    LAUNCH(two_barriers, 1, 64, 0, nullptr, x);
}
void planted_not_in_mask(float *x)
{
    LAUNCH(not_in_mask, 1, 32, 0, nullptr, x);
}
}
