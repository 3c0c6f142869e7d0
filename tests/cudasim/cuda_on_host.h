/* Force-included (-include) when a .cu is compiled by the host compiler for the
 * simulator. Kernels of one process run one at a time under the simulator's lock, so built-in
 * variables, shared memory and atomics are plain objects. clang++ puts __shared__ variables in one
 * section that is poisoned before every block; g++ cannot do that for templates and inline
 * functions (and AddressSanitizer wants ordinary globals), so there it is a plain static. */
#ifndef TESTS_CUDASIM_CUDA_ON_HOST_H
#define TESTS_CUDASIM_CUDA_ON_HOST_H
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUDASIM_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define CUDASIM_ASAN 1
#endif
#if defined(__clang__) && !defined(CUDASIM_ASAN)
#define __shared__ static __attribute__((section("cudasim_shared")))
#else
#define __shared__ static
#endif
#define __launch_bounds__(...)
#define __constant__
#include <cuda_runtime.h>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

namespace cudasim
{
extern unsigned char *dyn_shared;
struct arg {
    const void *p;
    int index;
    bool read_only, inside; /* inside: a word of a struct that may be a pointer */
};
struct call {
    const char *name;
    const void *func;
    void (*thread)(const void *);
    std::shared_ptr<const void> ctx;
    dim3 g, b;
    size_t smem;
};
void launch(call c, const std::vector<arg> &a, cudaStream_t s);
enum { SHFL, BALLOT, ANY, ALL, SYNC, ADD, MIN, MAX, AND, OR, MATCH };
unsigned lane_id();
uint64_t warp(unsigned mask, int kind, uint64_t v, int src, const char *file, int line);
int barrier(int kind, int pred, const char *file, int line);
int register_shared(char *lo, char *hi);
extern "C" {
extern char __start_cudasim_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cudasim_shared[] __attribute__((weak, visibility("hidden")));
}
static const int shared_registered __attribute__((unused)) =
    register_shared(__start_cudasim_shared, __stop_cudasim_shared);

/* Addresses of programs on x86-64 and Arm; the low half of a word is not the small int before a
 * gap. */
inline bool like_pointer(uint64_t w)
{
    return w >> 32 != 0 && w >> 47 == 0 && (uint32_t)w >= 4096;
}
template <class T> void add_arg(std::vector<arg> &a, int i, const T &v)
{
    if constexpr (std::is_pointer<T>::value &&
                  !std::is_function<typename std::remove_pointer<T>::type>::value)
        a.push_back(arg{(const void *)v, i,
                        std::is_const<typename std::remove_pointer<T>::type>::value, false});
#ifdef CUDASIM_STRUCTS /* the compiler leaves no old pointers in them */
    else if constexpr (std::is_class<T>::value)
        for (size_t at = 0; at + sizeof(uint64_t) <= sizeof v; at += sizeof(uint64_t)) {
            uint64_t w;
            memcpy(&w, (const char *)&v + at, sizeof w);
            if (like_pointer(w))
                a.push_back(arg{(const void *)(uintptr_t)w, i, false, true});
        }
#endif
    else
        (void)a, (void)i, (void)v;
}
template <class F, class... P, class... A>
void launch_kernel(const char *name, void (*k)(P...), F f, dim3 g, dim3 b, size_t smem,
                   cudaStream_t s, A &&...a)
{
    struct ctx {
        F f;
        std::tuple<P...> t;
    }; /* f calls the kernel by name, so that it is inlined into the thread loop */
    auto c = std::make_shared<ctx>(ctx{
        f, std::tuple<P...>(std::forward<A>(a)...)}); /* arguments are copied now, as by <<<>>> */
    std::vector<arg> args;
    int i = 0;
    std::apply([&](auto &...v) { (add_arg(args, i++, v), ...); }, c->t);
    launch(call{name, (const void *)k,
                [](const void *v) {
                    auto *x = (const ctx *)v;
                    std::apply(x->f, x->t);
                },
                c, g, b, smem},
           args, s);
}
template <class T> uint64_t bits(T v)
{
    static_assert(sizeof v <= 8, "shuffles move at most 8 bytes");
    uint64_t r = 0;
    memcpy(&r, &v, sizeof v);
    return r;
}
template <class T> T unbits(uint64_t r)
{
    T v;
    memcpy(&v, &r, sizeof v);
    return v;
}
template <class T> T shfl(unsigned m, T v, int src, const char *f, int l)
{
    return unbits<T>(warp(m, SHFL, bits(v), src, f, l));
}
} /* namespace cudasim */
#define CS_SITE const char *f = __builtin_FILE(), int l = __builtin_LINE()
inline void __syncthreads(CS_SITE)
{
    cudasim::barrier(cudasim::SYNC, 0, f, l);
}
inline int __syncthreads_count(int p, CS_SITE)
{
    return cudasim::barrier(cudasim::ADD, p, f, l);
}
inline int __syncthreads_and(int p, CS_SITE)
{
    return cudasim::barrier(cudasim::AND, p, f, l);
}
inline int __syncthreads_or(int p, CS_SITE)
{
    return cudasim::barrier(cudasim::OR, p, f, l);
}
inline void __syncwarp(unsigned m = ~0u, CS_SITE)
{
    cudasim::warp(m, cudasim::SYNC, 0, 0, f, l);
}
template <class T> T __shfl_sync(unsigned m, T v, int s, int w = 32, CS_SITE)
{
    int i = (int)cudasim::lane_id();
    return cudasim::shfl(m, v, (i & ~(w - 1)) | (s & (w - 1)), f, l);
}
template <class T> T __shfl_xor_sync(unsigned m, T v, int x, int w = 32, CS_SITE)
{
    int i = (int)cudasim::lane_id(), s = i ^ x;
    return cudasim::shfl(m, v, s < ((i & ~(w - 1)) + w) ? s : i, f, l);
}
template <class T> T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32, CS_SITE)
{
    int i = (int)cudasim::lane_id(), s = i + (int)d;
    return cudasim::shfl(m, v, s < ((i & ~(w - 1)) + w) ? s : i, f, l);
}
template <class T> T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32, CS_SITE)
{
    int i = (int)cudasim::lane_id(), s = i - (int)d;
    return cudasim::shfl(m, v, s >= (i & ~(w - 1)) ? s : i, f, l);
}
inline unsigned __ballot_sync(unsigned m, int p, CS_SITE)
{
    return (unsigned)cudasim::warp(m, cudasim::BALLOT, p != 0, 0, f, l);
}
inline int __any_sync(unsigned m, int p, CS_SITE)
{
    return (int)cudasim::warp(m, cudasim::ANY, p != 0, 0, f, l);
}
inline int __all_sync(unsigned m, int p, CS_SITE)
{
    return (int)cudasim::warp(m, cudasim::ALL, p != 0, 0, f, l);
}
template <class T> unsigned __match_any_sync(unsigned m, T v, CS_SITE)
{
    return (unsigned)cudasim::warp(m, cudasim::MATCH, cudasim::bits(v), 0, f, l);
}
inline unsigned __reduce_add_sync(unsigned m, unsigned v, CS_SITE)
{
    return (unsigned)cudasim::warp(m, cudasim::ADD, v, 0, f, l);
}
inline unsigned __reduce_min_sync(unsigned m, unsigned v, CS_SITE)
{
    return (unsigned)cudasim::warp(m, cudasim::MIN, v, 0, f, l);
}
inline unsigned __reduce_max_sync(unsigned m, unsigned v, CS_SITE)
{
    return (unsigned)cudasim::warp(m, cudasim::MAX, v, 0, f, l);
}
inline unsigned __activemask()
{
    return 1u << cudasim::lane_id();
} /* any set with the caller is allowed: the smallest finds most mistakes */
#undef CS_SITE
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}
template <class T> T __ldg(const T *p)
{
    return *p;
}
template <class T> T __ldcs(const T *p)
{
    return *p;
}
template <class T> T __ldcg(const T *p)
{
    return *p;
}
template <class T> void __stcs(T *p, T v)
{
    *p = v;
}
template <class T> void __stcg(T *p, T v)
{
    *p = v;
}
/* clang-format off */
#define CS_ATOMIC(name, expr)                                             \
    template <class T> T name(T *p, typename std::common_type<T>::type v) \
    {                                                                     \
        T o = *p;                                                         \
        *p = T(expr);                                                     \
        return o;                                                         \
    }
CS_ATOMIC(atomicAdd, o + v)
CS_ATOMIC(atomicSub, o - v)
CS_ATOMIC(atomicExch, v)
CS_ATOMIC(atomicMax, o > v ? o : v)
CS_ATOMIC(atomicMin, o < v ? o : v)
CS_ATOMIC(atomicAnd, o &v)
CS_ATOMIC(atomicOr, o | v) CS_ATOMIC(atomicXor, o ^ v) CS_ATOMIC(atomicInc, o >= v ? 0 : o + 1)
    CS_ATOMIC(atomicDec, o == 0 || o > v ? v : o - 1)
#undef CS_ATOMIC
    /* clang-format on */
    template <class T>
    T atomicCAS(T *p, typename std::common_type<T>::type c, typename std::common_type<T>::type v)
{
    T o = *p;
    if (o == c)
        *p = v;
    return o;
}

/* the C++ forms of API calls that cuda_runtime.h only gives to nvcc */
template <class T>
cudaError_t cudaMemcpyToSymbol(const T &y, const void *s, size_t n, size_t o = 0,
                               cudaMemcpyKind k = cudaMemcpyHostToDevice)
{
    return cudaMemcpyToSymbol((const void *)&y, s, n, o, k);
}
template <class T>
cudaError_t cudaMemcpyToSymbolAsync(const T &y, const void *s, size_t n, size_t o, cudaMemcpyKind k,
                                    cudaStream_t q)
{
    return cudaMemcpyToSymbolAsync((const void *)&y, s, n, o, k, q);
}
template <class T> cudaError_t cudaFuncSetAttribute(T *f, cudaFuncAttribute a, int v)
{
    return cudaFuncSetAttribute((const void *)f, a, v);
}

/* device math: float intrinsics are computed in full precision */
inline float rsqrtf(float x)
{
    return 1.f / std::sqrt(x);
}
inline double rsqrt(double x)
{
    return 1. / std::sqrt(x);
}
inline float __expf(float x)
{
    return std::exp(x);
}
inline float __exp10f(float x)
{
    return std::pow(10.f, x);
}
inline float __logf(float x)
{
    return std::log(x);
}
inline float __log2f(float x)
{
    return std::log2(x);
}
inline float __powf(float x, float y)
{
    return std::pow(x, y);
}
inline float __sinf(float x)
{
    return std::sin(x);
}
inline float __cosf(float x)
{
    return std::cos(x);
}
inline float __tanhf(float x)
{
    return std::tanh(x);
}
inline float __fdividef(float a, float b)
{
    return a / b;
}
inline float __frcp_rn(float x)
{
    return 1.f / x;
}
inline float __fsqrt_rn(float x)
{
    return std::sqrt(x);
}
inline float __frsqrt_rn(float x)
{
    return 1.f / std::sqrt(x);
}
inline float __fmaf_rn(float a, float b, float c)
{
    return std::fma(a, b, c);
}
inline float __fadd_rn(float a, float b)
{
    return a + b;
}
inline float __fmul_rn(float a, float b)
{
    return a * b;
}
inline float __saturatef(float x)
{
    return x > 0.f ? (x < 1.f ? x : 1.f) : 0.f;
}
inline int __float_as_int(float x)
{
    return cudasim::unbits<int>(cudasim::bits(x));
}
inline unsigned __float_as_uint(float x)
{
    return cudasim::unbits<unsigned>(cudasim::bits(x));
}
inline float __int_as_float(int x)
{
    return cudasim::unbits<float>(cudasim::bits(x));
}
inline float __uint_as_float(unsigned x)
{
    return cudasim::unbits<float>(cudasim::bits(x));
}
inline int __float2int_rn(float x)
{
    return (int)std::nearbyint(x);
}
inline int __float2int_rz(float x)
{
    return (int)x;
}
inline int __float2int_rd(float x)
{
    return (int)std::floor(x);
}
inline float __int2float_rn(int x)
{
    return (float)x;
}
inline float __uint2float_rn(unsigned x)
{
    return (float)x;
}
inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}
inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
inline uint64_t __umul64hi(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)(((wide)a * b) >> 64);
}
inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)(((uint64_t)a * b) >> 32);
}
inline int __mulhi(int a, int b)
{
    return (int)(((int64_t)a * b) >> 32);
}
inline unsigned __brev(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r |= ((x >> i) & 1u) << (31 - i);
    return r;
}
#define CS_MINMAX(T)          \
    inline T min(T a, T b)    \
    {                         \
        return a < b ? a : b; \
    }                         \
    inline T max(T a, T b)    \
    {                         \
        return a > b ? a : b; \
    }
CS_MINMAX(int)
CS_MINMAX(unsigned)
CS_MINMAX(long)
CS_MINMAX(unsigned long)
CS_MINMAX(long long)
CS_MINMAX(unsigned long long)
#undef CS_MINMAX
inline float min(float a, float b)
{
    return std::fmin(a, b);
}
inline float max(float a, float b)
{
    return std::fmax(a, b);
}
inline double min(double a, double b)
{
    return std::fmin(a, b);
}
inline double max(double a, double b)
{
    return std::fmax(a, b);
}
using std::isfinite;
using std::isinf;
using std::isnan;
#endif
