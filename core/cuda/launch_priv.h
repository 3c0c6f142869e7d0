/* The two spellings in which kernel sources differ from plain CUDA C++: launches and dynamic shared
 * memory. A host compiler cannot parse <<<>>>, and nvcc has no macro to intercept it. */
#ifndef FLAMBEAU_CORE_CUDA_LAUNCH_PRIV_H
#define FLAMBEAU_CORE_CUDA_LAUNCH_PRIV_H

#ifdef __CUDACC__
#define LAUNCH(kernel, grid, block, smem, stream, ...) \
    (kernel)<<<(grid), (block), (smem), (stream)>>>(__VA_ARGS__)
#else /* tests/cudasim */
#define LAUNCH(kernel, grid, block, smem, stream, ...)                                        \
    ::cudasim::launch_kernel(                                                                 \
        #kernel, kernel, [=](auto... fbi_a) { (kernel)(fbi_a...); }, (grid), (block), (smem), \
        (stream), __VA_ARGS__)
#endif

#endif
