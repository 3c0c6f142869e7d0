/* Work that may crash or never end, in a child process of its own. */
#ifndef FLAMBEAU_IO_LIMITED_PRIV_H
#define FLAMBEAU_IO_LIMITED_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fbi_limits {
    int seconds;   /* of processor time; three times as many by the clock */
    int64_t bytes; /* of memory beside what this process has */
} fbi_limits;

/* Call work(arg) in a child of this process, with no file to write to and no core file. @return
 * whether it came back; *result: what with. false: `text` says how it ended. */
bool fbi_limited(bool (*work)(void *arg), void *arg, fbi_limits limits, bool *result, char *text,
                 size_t size);

/* Look at all that a file of HDF5 has, but values, in such a child: HDF5 may crash on a damaged or
 * hostile file, or never return. false: `text` says so. A file that HDF5 merely refuses is for the
 * caller, who will be told the same. */
bool fbi_h5_probe(const char *path, char *text, size_t size);

#endif
