/* HDF5 behind one lock: site builds need not be thread-safe. Errors come back as values. */
#ifndef FLAMBEAU_IO_H5_PRIV_H
#define FLAMBEAU_IO_H5_PRIV_H

#include <hdf5.h>

#include <flambeau/core/tensor/dtype.h>
#include <flambeau/core/tensor/shape.h>

/* Hold the lock around every use of HDF5; the first taker also silences HDF5's own error prints. */
void fbi_h5_lock(void);
void fbi_h5_unlock(void);

/* Native type of a dtype in memory and in our files. BOOL is U8, F16 and BF16 are 16-bit opaque
 * U16. */
hid_t fbi_h5_type(fb_dtype dtype);
/* The dtype that a file's type means, or FB_DTYPE_DEFAULT; `tag` is the dtype attribute, may be "".
 */
fb_dtype fbi_h5_dtype(hid_t type, const char *tag);

/* Attributes. Reading returns false if absent or of another kind. */
bool fbi_h5_put_text(hid_t where, const char *name, const char *value);
bool fbi_h5_put_int(hid_t where, const char *name, int64_t value);
bool fbi_h5_put_double(hid_t where, const char *name, double value);
bool fbi_h5_put_ints(hid_t where, const char *name, int n, const int64_t *values);
bool fbi_h5_get_text(hid_t where, const char *name, char *out, size_t size);
bool fbi_h5_get_int(hid_t where, const char *name, int64_t *out);
bool fbi_h5_get_double(hid_t where, const char *name, double *out);
int fbi_h5_get_ints(hid_t where, const char *name, int max, int64_t *out); /* count, -1 if absent */

/* A contiguous, early-allocated, unfiltered dataset of [n, sample shape] (n < 0: of `shape`). */
hid_t fbi_h5_create(hid_t file, const char *name, fb_dtype dtype, int64_t n, fb_shape shape);
/* A new file in memory. Files are written by ourselves (fbi_h5_save): HDF5 1.10 does not survive a
 * write that fails, it crashes when the process ends. */
hid_t fbi_h5_memory(void);
/* Write a file that fbi_h5_memory made to `path`, durably, and close it, whatever comes of it.
 * Sealed: fbi_file_write_sealed. Takes the lock itself. Size and XXH3-64 of what HDF5 sees (hex) go
 * to `bytes` and `hex`. false: errno says why, or is 0. */
bool fbi_h5_save(hid_t file, const char *path, bool sealed, int64_t *bytes, char hex[17]);
/* Open for reading without file locking, which fails on some parallel file systems. */
hid_t fbi_h5_open(const char *path);

#endif
