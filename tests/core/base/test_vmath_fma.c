/* test_vmath with multiply-and-add in one instruction, as kernels for x86-64-v3 and v4 have it. */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#endif
#define main all_tests
#include "tests/core/base/test_vmath.c"
#undef main

int main(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("fma"))
        return 0; /* such kernels do not run here either */
#endif
    every = 16411; /* test_vmath looks at more */
    return all_tests();
}
