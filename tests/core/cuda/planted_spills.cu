/* For test_spills.py: a kernel that needs more than the 32 registers which its launch bounds leave
 * it, and one that does not. */
__global__ void __launch_bounds__(1024, 2) planted_spills(float *x)
{
    float v[96];
    for (int i = 0; i < 96; i++)
        v[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < 96; i++)
        x[i * 1024 + threadIdx.x] = v[i] * v[95 - i];
}

__global__ void planted_fits(float *x)
{
    x[threadIdx.x] *= 2;
}
