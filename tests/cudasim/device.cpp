/* Devices, versions, and the texts of errors. */
#include "tests/cudasim/sim.h"

#include <cstdio>

using namespace sim;
typedef cudaError_t E;

extern "C" {
E cudaGetDeviceCount(int *n)
{
    if (E e = injected("cudaGetDeviceCount"))
        return ret(e);
    *n = S().ndev;
    return S().ndev ? cudaSuccess : ret(cudaErrorNoDevice);
}
E cudaSetDevice(int d)
{
    if (E e = injected("cudaSetDevice"))
        return ret(e);
    if (d < 0 || d >= S().ndev)
        return ret(cudaErrorInvalidDevice);
    t_dev = d;
    return cudaSuccess;
}
E cudaGetDevice(int *d)
{
    *d = t_dev;
    return cudaSuccess;
}
E cudaGetDeviceProperties(cudaDeviceProp *p, int d)
{
    if (d < 0 || d >= S().ndev)
        return ret(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "cudasim device");
    p->major = S().capability / 10;
    p->minor = S().capability % 10;
    p->totalGlobalMem = S().capacity;
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = 227 << 10;
    p->regsPerBlock = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->multiProcessorCount = 132;
    p->maxThreadsPerMultiProcessor = 2048;
    p->sharedMemPerMultiprocessor = 228 << 10;
    p->l2CacheSize = 50 << 20;
    p->unifiedAddressing = p->asyncEngineCount = p->memoryPoolsSupported = p->concurrentKernels = 1;
    p->pciBusID = S().first + d;
    memcpy(p->uuid.bytes, &p->pciBusID, sizeof p->pciBusID);
    return cudaSuccess;
}
E cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int d)
{
    cudaDeviceProp p;
    E e = cudaGetDeviceProperties(&p, d);
    if (e)
        return e;
    switch ((int)a) {
    case cudaDevAttrMultiProcessorCount:
        *v = p.multiProcessorCount;
        break;
    case cudaDevAttrMaxThreadsPerBlock:
        *v = 1024;
        break;
    case cudaDevAttrWarpSize:
        *v = 32;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *v = p.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *v = p.minor;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *v = 227 << 10;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *v = 48 << 10;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *v = 2048;
        break;
    case cudaDevAttrMemoryPoolsSupported:
        *v = 1;
        break;
    default:
        *v = 0;
    }
    return cudaSuccess;
}
E cudaDriverGetVersion(int *v)
{
    *v = CUDART_VERSION;
    return cudaSuccess;
}
E cudaRuntimeGetVersion(int *v)
{
    *v = CUDART_VERSION;
    return cudaSuccess;
}
E cudaDeviceCanAccessPeer(int *v, int, int)
{
    *v = 1;
    return cudaSuccess;
}
E cudaDeviceEnablePeerAccess(int peer, unsigned)
{
    Lock lk(S().mu);
    return S().peers.insert({t_dev, peer}).second ? cudaSuccess
                                                  : ret(cudaErrorPeerAccessAlreadyEnabled);
}
E cudaGetLastError(void)
{
    E e = t_last;
    t_last = cudaSuccess;
    return e ? e : S().sticky;
}
E cudaPeekAtLastError(void)
{
    return t_last ? t_last : S().sticky;
}
/* clang-format off */
#define ERRS(X)                                                                                    \
    X(cudaSuccess, "no error")                                                                     \
    X(cudaErrorInvalidValue, "invalid argument")                                                   \
    X(cudaErrorMemoryAllocation, "out of memory")                                                  \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                             \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                            \
    X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version") \
    X(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable")            \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                   \
    X(cudaErrorNotReady, "device not ready")                                                       \
    X(cudaErrorIllegalAddress, "an illegal memory access was encountered")                         \
        X(cudaErrorLaunchFailure, "unspecified launch failure")                                    \
            X(cudaErrorLaunchTimeout, "the launch timed out and was terminated")                   \
                X(cudaErrorNotPermitted, "operation not permitted")                                \
                    X(cudaErrorNoDevice, "no CUDA-capable device is detected")                     \
                        X(cudaErrorNotSupported, "operation not supported") X(                     \
                            cudaErrorStreamCaptureUnsupported,                                     \
                            "operation not permitted when stream is capturing")                    \
                            X(cudaErrorStreamCaptureInvalidated,                                   \
                              "operation failed due to a previous error during capture")           \
                                X(cudaErrorStreamCaptureUnjoined,                                  \
                                  "capturing stream has unjoined work")                            \
                                    X(cudaErrorStreamCaptureIsolation,                             \
                                      "dependency created on uncaptured work in another stream")   \
                                        X(cudaErrorStreamCaptureImplicit,                          \
                                          "operation would make the legacy stream depend on a "    \
                                          "capturing blocking stream")                             \
                                            X(cudaErrorCapturedEvent,                              \
                                              "operation not permitted on an event last recorded " \
                                              "in a capturing stream")
/* clang-format on */
const char *cudaGetErrorString(E e)
{
#define X(c, s) \
    if (e == c) \
        return s;
    ERRS(X)
#undef X
    return "unrecognized error code";
}
const char *cudaGetErrorName(E e)
{
#define X(c, s) \
    if (e == c) \
        return #c;
    ERRS(X)
#undef X
    return "cudaError";
}
}
