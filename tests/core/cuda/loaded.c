/* Preloaded into a program under test: the kernel's part of NVIDIA's driver seems to be loaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

int access(const char *path, int mode)
{
    static int (*real)(const char *, int);
    if (!strcmp(path, "/proc/driver/nvidia/version"))
        return 0;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "access");
    return real(path, mode);
}
