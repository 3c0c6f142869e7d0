/* What the plug-in shows: its stamp, its backend, and why there is no card or which there are. */
#include "core/ops/plugin_priv.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cuda/cuda_priv.h"
#include "core/cuda/dnn_priv.h"
#include "core/cuda/library_priv.h"

void (*fbi_cuda_logline)(const char *fmt, ...);

static void listen(void (*logline)(const char *fmt, ...))
{
    fbi_cuda_logline = logline;
}

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

/* Whether a card of this compute capability runs one of the kernels here: those of its major
 * version that are not newer, those with a letter on exactly theirs; the last as PTX on all later.
 */
static bool has_kernels(int capability)
{
    bool found = false;
    for (const char *at = FBI_CUDA_ARCHITECTURES; *at;) {
        char *end;
        int one = (int)strtol(at, &end, 10);
        bool letter = *end && *end != ' ';
        bool last = !strchr(end, ' ');
        found |= one == capability;
        if (!letter && one <= capability)
            found |= last || one / 10 == capability / 10;
        at = end + strcspn(end, " ");
        at += strspn(at, " ");
    }
    return found;
}

static int count(char *why, size_t size)
{
    int n = 0, major = 0, minor = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess || n == 0) {
        explain(e == cudaSuccess ? cudaErrorNoDevice : e, why, size);
        return 0;
    }
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0) != cudaSuccess ||
        has_kernels(major * 10 + minor))
        return n;
    snprintf(why, size,
             "this build has kernels for sm_%s, the first card is sm_%d%d: configure with "
             "-DFLAMBEAU_CUDA_ARCHITECTURES=%d%d, or choose another card with CUDA_VISIBLE_DEVICES",
             FBI_CUDA_ARCHITECTURES, major, minor, major, minor);
    return 0;
}

/* Of its UUID, which parts of a card have, too. */
static uint64_t name_of(int i)
{
    struct cudaDeviceProp p;
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) {
        (void)cudaGetLastError(); /* opening the card says it */
        return (uint64_t)i + 1;
    }
    for (size_t k = 0; k < sizeof p.uuid.bytes; k++)
        h = (h ^ (uint8_t)p.uuid.bytes[k]) * 1099511628211u;
    return h;
}

/* A line at the end of text: '+' in front if all is well, else '-'. */
static void add(char *text, size_t size, bool good, const char *fmt, ...) FB_PRINTF(4, 5);

static void add(char *text, size_t size, bool good, const char *fmt, ...)
{
    size_t used = strlen(text);
    va_list args;
    if (used + 3 > size)
        return;
    text[used++] = good ? '+' : '-';
    va_start(args, fmt);
    vsnprintf(text + used, size - used - 1, fmt, args);
    va_end(args);
    strcat(text + used, "\n");
}

/* "; linked to 1, 2": cards that copy to each other without the host. */
static void links_of(int i, int n, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int k = 0; k < n && used < size; k++) {
        int can = 0;
        if (k != i && cudaDeviceCanAccessPeer(&can, i, k) == cudaSuccess && can)
            used +=
                (size_t)snprintf(text + used, size - used, "%s%d", used ? ", " : "; linked to ", k);
    }
    if (!used && n > 1)
        snprintf(text, size, "; linked to no other: data between cards pass through the host");
}

/* Opens the card, as a context would, and lets it go. */
static void describe_card(int i, int n, char *text, size_t size)
{
    struct cudaDeviceProp p;
    char links[128];
    size_t unused = 0, total = 0;
    cudaError_t e = cudaGetDeviceProperties(&p, i);
    if (e != cudaSuccess) {
        add(text, size, false, "%s:%d cannot be asked: %s (%s)", FBI_CUDA_NAME, i,
            cudaGetErrorName(e), cudaGetErrorString(e));
        return;
    }
    links_of(i, n, links, sizeof links);
    e = cudaSetDevice(i);
    e = e == cudaSuccess ? cudaMemGetInfo(&unused, &total) : e;
    if (e != cudaSuccess)
        add(text, size, false, "%s:%d %s, sm_%d%d, cannot be used: %s (%s): %s", FBI_CUDA_NAME, i,
            p.name, p.major, p.minor, cudaGetErrorName(e), cudaGetErrorString(e),
            *fbi_cuda_advice(e) ? fbi_cuda_advice(e) : "look at nvidia-smi");
    else if (!has_kernels(p.major * 10 + p.minor))
        add(text, size, false, "%s:%d %s, sm_%d%d: this build has no kernels for it", FBI_CUDA_NAME,
            i, p.name, p.major, p.minor);
    else
        add(text, size, true, "%s:%d %s, sm_%d%d, %.1f of %.1f GiB free%s", FBI_CUDA_NAME, i,
            p.name, p.major, p.minor, (double)unused / (1 << 30), (double)total / (1 << 30), links);
    (void)cudaGetLastError(); /* it is told */
}

static void describe_library(const fbi_cuda_library *l, char *text, size_t size)
{
    char why[512], found[32], oldest[32];
    int version = 0;
    if (fbi_cuda_library_open(l, &version, why, sizeof why))
        add(text, size, true, "%s %s, %s or newer is needed", l->what,
            fbi_cuda_version_text(version, found, sizeof found),
            fbi_cuda_version_text(l->oldest, oldest, sizeof oldest));
    else
        add(text, size, false, "%s", why);
}

static void describe(char *text, size_t size)
{
    int driver = 0, n = 0;
    char why[512], found[32], built[32];
    int blas = (int)cublasLtGetVersion();
    text[0] = '\0';
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0)
        add(text, size, driver / 1000 >= CUDART_VERSION / 1000,
            "the driver serves CUDA %d.%d, this build needs %d.%d", driver / 1000,
            driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    add(text, size, true, "built with CUDA %d.%d, kernels for sm_%s", CUDART_VERSION / 1000,
        CUDART_VERSION % 1000 / 10, FBI_CUDA_ARCHITECTURES);
    add(text, size, blas >= CUBLAS_VERSION, "cuBLASLt %s, built with %s%s",
        fbi_cuda_version_text(blas, found, sizeof found),
        fbi_cuda_version_text(CUBLAS_VERSION, built, sizeof built),
        blas >= CUBLAS_VERSION ? ""
                               : ": an older one may lack products that this build asks for: "
                                 "install that one or a newer");
    if (fbi_dnn_built)
        describe_library(&fbi_cuda_cudnn, text, size);
    else
        add(text, size, false,
            "cuDNN is not used: this build has found no cudnn.h: install cuDNN's headers and build "
            "again; without it %s",
            fbi_cuda_cudnn.without);
    describe_library(&fbi_cuda_nccl, text, size);
    n = count(why, sizeof why);
    for (int i = 0; i < n; i++)
        describe_card(i, n, text, size);
    if (n == 0)
        add(text, size, false, "no card is used: %s", why);
}

extern const fbi_plugin fbi_plugin_symbol __attribute__((visibility("default")));
const fbi_plugin fbi_plugin_symbol = {FBI_STAMP_HERE, &fbi_cuda_backend, listen,
                                      count,          name_of,           describe};
