#include "core/cuda/library_priv.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* size_t cudnnGetVersion(void) */
static int version_of_cudnn(void (*function)(void))
{
    return (int)((size_t(*)(void))function)();
}

/* ncclResult_t ncclGetVersion(int *) */
static int version_of_nccl(void (*function)(void))
{
    int version = 0;
    return ((int (*)(int *))function)(&version) == 0 ? version : 0;
}

const fbi_cuda_library fbi_cuda_cudnn = {
    .what = "cuDNN",
    .file = "libcudnn.so.9",
    .setting = "FLAMBEAU_CUDNN",
    .version_function = "cudnnGetVersion",
    .version_of = version_of_cudnn,
    .oldest = 90700, /* the first for every architecture that we compile for */
    .before = 100000,
    .without = "convolutions and attention run on Flambeau's own, slower kernels",
};

const fbi_cuda_library fbi_cuda_nccl = {
    .what = "NCCL",
    .file = "libnccl.so.2",
    .setting = "FLAMBEAU_NCCL",
    .version_function = "ncclGetVersion",
    .version_of = version_of_nccl,
    /* ncclCommSplit. It may be older than the header of the build: of ncclConfig_t it reads what it
     * knows, and every function that we call is as old. */
    .oldest = 21800,
    .before = 30000,
    .without = "sums over ranks go through host memory, which is slower",
};

/* 10000 a major version and 100 a minor one; before NCCL 2.9 it was 1000. */
const char *fbi_cuda_version_text(int version, char *text, size_t size)
{
    int major = version < 10000 ? version / 1000 : version / 10000;
    int minor = version < 10000 ? version % 1000 / 100 : version % 10000 / 100;
    snprintf(text, size, "%d.%d.%d", major, minor, version % 100);
    return text;
}

/* "2.18.0 or newer, but older than 3.0.0" */
static const char *range(const fbi_cuda_library *l, char *text, size_t size)
{
    char oldest[32], before[32];
    fbi_cuda_version_text(l->oldest, oldest, sizeof oldest);
    if (l->before)
        snprintf(text, size, "%s or newer, but older than %s", oldest,
                 fbi_cuda_version_text(l->before, before, sizeof before));
    else
        snprintf(text, size, "%s or newer", oldest);
    return text;
}

/* Where a library was found, or its plain name. */
static const char *path_of(const fbi_cuda_library *l, void *symbol)
{
    Dl_info info;
    return dladdr(symbol, &info) && info.dli_fname ? info.dli_fname : l->file;
}

void *fbi_cuda_library_open(const fbi_cuda_library *l, int *version, char *why, size_t size)
{
    char needed[80], found[32];
    range(l, needed, sizeof needed);
    const char *asked = getenv(l->setting), *file = asked && *asked ? asked : l->file;
    if (!strcmp(file, "off")) {
        snprintf(why, size, "%s is not used: %s=off; without it %s", l->what, l->setting,
                 l->without);
        return NULL;
    }
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        snprintf(why, size,
                 "%s is not used: %s: install %s %s, or name its %s in %s; without it %s", l->what,
                 dlerror(), l->what, needed, l->file, l->setting, l->without);
        return NULL;
    }
    void *symbol = dlsym(library, l->version_function);
    void (*function)(void) = NULL;
    memcpy(&function, &symbol, sizeof symbol);
    int have = function ? l->version_of(function) : 0;
    if (have >= l->oldest && (!l->before || have < l->before)) {
        if (version)
            *version = have;
        return library;
    }
    if (have)
        snprintf(why, size, "%s is not used: %s is version %s: install %s; without it %s", l->what,
                 path_of(l, symbol), fbi_cuda_version_text(have, found, sizeof found), needed,
                 l->without);
    else
        snprintf(why, size,
                 "%s is not used: %s does not tell its version: install %s; without it %s", l->what,
                 l->file, needed, l->without);
    dlclose(library);
    return NULL;
}

bool fbi_cuda_library_load(const fbi_cuda_library *l, void *table, const fbi_cuda_symbol *symbols,
                           int n, char *why, size_t size)
{
    int version = 0;
    char found[32];
    void *library = fbi_cuda_library_open(l, &version, why, size);
    for (int i = 0; library && i < n; i++) {
        void *symbol = dlsym(library, symbols[i].name);
        memcpy((char *)table + symbols[i].at, &symbol, sizeof symbol);
        if (symbol)
            continue;
        snprintf(why, size,
                 "%s is not used: version %s has no %s: install a newer one; without it %s",
                 l->what, fbi_cuda_version_text(version, found, sizeof found), symbols[i].name,
                 l->without);
        return false;
    }
    return library != NULL;
}
