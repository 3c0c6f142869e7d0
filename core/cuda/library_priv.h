/* Libraries of NVIDIA's that are opened when they are first wanted, so that a machine without them
 * still trains: which file, which versions serve, and why there is none. */
#ifndef FLAMBEAU_CORE_CUDA_LIBRARY_PRIV_H
#define FLAMBEAU_CORE_CUDA_LIBRARY_PRIV_H

#include <stdbool.h>
#include <stddef.h>

typedef struct fbi_cuda_library {
    const char *what, *file;      /* "NCCL", "libnccl.so.2" */
    const char *setting;          /* environment: another file, or "off" */
    const char *version_function; /* its address goes to version_of */
    int (*version_of)(void (*function)(void));
    int oldest, before;  /* versions that serve; before is 0: any newer one */
    const char *without; /* what a run does without it */
} fbi_cuda_library;

/* A line for the user's log; set when the plug-in is opened. */
extern void (*fbi_cuda_logline)(const char *fmt, ...);

extern const fbi_cuda_library fbi_cuda_cudnn, fbi_cuda_nccl;

/* A function, and where in the caller's table its address goes. */
typedef struct fbi_cuda_symbol {
    const char *name;
    size_t at;
} fbi_cuda_symbol;
#define FBI_CUDA_SYMBOL(table, function)     \
    {                                        \
#function, offsetof(table, function) \
    }

/* Opened once and never closed. NULL: `why` says what is wrong and what to do. `version` (may be
 * NULL) gets e.g. 91900 for 9.19.0. */
void *fbi_cuda_library_open(const fbi_cuda_library *l, int *version, char *why, size_t size);
/* Open it, and fill a table of function pointers. False: `why` names what is missing. */
bool fbi_cuda_library_load(const fbi_cuda_library *l, void *table, const fbi_cuda_symbol *symbols,
                           int n, char *why, size_t size);
/* "9.19.0"; at least 16 bytes. */
const char *fbi_cuda_version_text(int version, char *text, size_t size);

#endif
