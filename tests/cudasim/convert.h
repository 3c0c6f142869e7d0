/* Element conversion shared by the matrix product and the collectives */
#ifndef TESTS_CUDASIM_CONVERT_H
#define TESTS_CUDASIM_CONVERT_H
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cstdint>
namespace sim
{
template <class A, class T> inline A up(T v)
{
    return (A)v;
}
template <> inline float up<float, __half>(__half v)
{
    return __half2float(v);
}
template <> inline double up<double, __half>(__half v)
{
    return __half2float(v);
}
template <> inline float up<float, __nv_bfloat16>(__nv_bfloat16 v)
{
    return __bfloat162float(v);
}
template <> inline double up<double, __nv_bfloat16>(__nv_bfloat16 v)
{
    return __bfloat162float(v);
}
template <class T, class A> inline T down(A v)
{
    return (T)v;
}
template <> inline __half down<__half, float>(float v)
{
    return __float2half(v);
}
template <> inline __half down<__half, double>(double v)
{
    return __double2half(v);
}
template <> inline __nv_bfloat16 down<__nv_bfloat16, float>(float v)
{
    return __float2bfloat16(v);
}
template <> inline __nv_bfloat16 down<__nv_bfloat16, double>(double v)
{
    return __double2bfloat16(v);
}
} /* namespace sim */
#endif
