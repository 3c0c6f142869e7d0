/* Whole files: written durably, hashed. Failures leave the reason in errno. */
#ifndef FLAMBEAU_IO_FILE_PRIV_H
#define FLAMBEAU_IO_FILE_PRIV_H

#include <flambeau/core/base/status.h>

/* Create or replace a file and wait until it is on the disk. */
bool fbi_file_write(const char *path, const void *data, size_t bytes);
/* All of the bytes from `at`. false, and errno 0: the file ends before them. */
bool fbi_file_read_at(int fd, void *out, size_t bytes, int64_t at);
bool fbi_file_write_at(int fd, const void *data, size_t bytes, int64_t at);
/* Wait until a file or folder is on the disk. */
bool fbi_file_sync(const char *path);
/* Like fbi_file_write, and the data's checksum behind it. Who opens the file as HDF5 does not see
 * that. */
bool fbi_file_write_sealed(const char *path, const void *data, size_t bytes);
typedef enum fbi_seal {
    FBI_SEAL_NONE, /* there is no checksum behind the data, or no file */
    FBI_SEAL_HOLDS,
    FBI_SEAL_BROKEN /* the data have another */
} fbi_seal;
fbi_seal fbi_file_seal(const char *path);
/* XXH3-64 of a file as hex. */
bool fbi_file_hash(const char *path, char hex[17]);
/* A folder and those above it: mkdir -p. */
bool fbi_make_folder(const char *path);
/* Now, as 2026-01-31T23:59:59Z. */
void fbi_utc_time(char out[32]);
/* XXH3-64 of memory as hex. */
void fbi_hash_hex(const void *data, size_t bytes, char hex[17]);

#endif
