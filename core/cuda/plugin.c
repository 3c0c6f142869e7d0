/* What the plug-in shows: its stamp, its backend, and why there is no card or which there are. */
#include "core/ops/plugin_priv.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/cuda/cuda_priv.h"

/* Whether the kernel's part of the driver is loaded (also under WSL), and its library is there. */
static bool has_driver(void)
{
    return access("/proc/driver/nvidia/version", F_OK) == 0 ||
           access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0;
}

static bool has_driver_library(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (library)
        dlclose(library);
    return library != NULL;
}

static void explain(cudaError_t e, char *why, size_t size)
{
    int driver = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess)
        driver = 0;
    if (driver == 0 && !has_driver())
        snprintf(why, size,
                 "no NVIDIA driver is loaded: install it, or start the container with its cards");
    else if (driver == 0 && !has_driver_library())
        snprintf(why, size,
                 "the driver is loaded, but libcuda.so.1 is not found: install the driver's user "
                 "part, or start the container with --gpus all");
    else if (e == cudaErrorInsufficientDriver)
        snprintf(why, size,
                 "the driver serves CUDA %d.%d, this build needs %d.%d: install a newer driver",
                 driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                 CUDART_VERSION % 1000 / 10);
    else
        snprintf(why, size, "%s (%s): %s", cudaGetErrorName(e), cudaGetErrorString(e),
                 *fbi_cuda_advice(e) ? fbi_cuda_advice(e) : "look at nvidia-smi");
}

static int count(char *why, size_t size)
{
    int n = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaSuccess && n > 0)
        return n;
    explain(e == cudaSuccess ? cudaErrorNoDevice : e, why, size);
    return 0;
}

/* printf at the end of text. */
static void add(char *text, size_t size, const char *fmt, ...) FB_PRINTF(3, 4);

static void add(char *text, size_t size, const char *fmt, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, fmt);
    vsnprintf(text + used, size - used, fmt, args);
    va_end(args);
}

static void describe_card(int i, int n, char *text, size_t size)
{
    struct cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, i);
    if (e != cudaSuccess) {
        add(text, size, "%s:%d cannot be asked: %s\n", FBI_CUDA_NAME, i, cudaGetErrorString(e));
        return;
    }
    add(text, size, "%s:%d %s, sm_%d%d, %.0f GiB", FBI_CUDA_NAME, i, p.name, p.major, p.minor,
        (double)p.totalGlobalMem / (1 << 30));
    const char *links = ", linked to";
    for (int k = 0; k < n; k++) {
        int can = 0;
        if (k == i || cudaDeviceCanAccessPeer(&can, i, k) != cudaSuccess || !can)
            continue;
        add(text, size, "%s %d", links, k);
        links = "";
    }
    add(text, size, "\n");
}

static void describe(char *text, size_t size)
{
    int driver = 0, runtime = 0, n = 0;
    char why[512];
    text[0] = '\0';
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0)
        add(text, size, "driver for CUDA %d.%d\n", driver / 1000, driver % 1000 / 10);
    if (cudaRuntimeGetVersion(&runtime) == cudaSuccess)
        add(text, size, "runtime %d.%d, built with %d.%d, kernels for %s\n", runtime / 1000,
            runtime % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10,
            FBI_CUDA_ARCHITECTURES);
    add(text, size, "cuBLASLt %zu, built with %d\n", cublasLtGetVersion(), CUBLAS_VERSION);
    n = count(why, sizeof why);
    for (int i = 0; i < n; i++)
        describe_card(i, n, text, size);
}

extern const fbi_plugin fbi_plugin_symbol __attribute__((visibility("default")));
const fbi_plugin fbi_plugin_symbol = {FBI_STAMP_HERE, &fbi_cuda_backend, count, describe};
