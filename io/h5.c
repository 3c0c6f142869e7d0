#include "io/h5_priv.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "io/file_priv.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* HDF5's library is one for the process */

void fbi_h5_lock(void)
{
    pthread_mutex_lock(&lock);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void fbi_h5_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

hid_t fbi_h5_type(fb_dtype dtype)
{
    switch (dtype) {
    case FB_F32:
        return H5T_NATIVE_FLOAT;
    case FB_F64:
        return H5T_NATIVE_DOUBLE;
    case FB_F16:
    case FB_BF16:
    case FB_U16:
        return H5T_NATIVE_UINT16;
    case FB_I32:
        return H5T_NATIVE_INT32;
    case FB_I64:
        return H5T_NATIVE_INT64;
    case FB_U8:
    case FB_BOOL:
        return H5T_NATIVE_UINT8;
    case FB_I8:
        return H5T_NATIVE_INT8;
    case FB_I16:
        return H5T_NATIVE_INT16;
    case FB_DTYPE_DEFAULT:
    case FB_DTYPE_COUNT:
        break;
    }
    return H5I_INVALID_HID;
}

fb_dtype fbi_h5_dtype(hid_t type, const char *tag)
{
    for (int d = FB_F32; d < FB_DTYPE_COUNT; d++) {
        if (H5Tequal(type, fbi_h5_type((fb_dtype)d)) <= 0)
            continue;
        if (!*tag || !strcmp(tag, fb_dtype_name((fb_dtype)d)))
            return (fb_dtype)d;
    }
    return FB_DTYPE_DEFAULT;
}

static bool put(hid_t where, const char *name, hid_t type, hid_t space, const void *value)
{
    hid_t attr = H5Acreate2(where, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool good = attr >= 0 && H5Awrite(attr, type, value) >= 0;
    if (attr >= 0)
        H5Aclose(attr);
    H5Sclose(space);
    return good;
}

bool fbi_h5_put_text(hid_t where, const char *name, const char *value)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(value) + 1);
    bool good = put(where, name, type, H5Screate(H5S_SCALAR), value);
    H5Tclose(type);
    return good;
}

bool fbi_h5_put_int(hid_t where, const char *name, int64_t value)
{
    return put(where, name, H5T_NATIVE_INT64, H5Screate(H5S_SCALAR), &value);
}

bool fbi_h5_put_double(hid_t where, const char *name, double value)
{
    return put(where, name, H5T_NATIVE_DOUBLE, H5Screate(H5S_SCALAR), &value);
}

bool fbi_h5_put_ints(hid_t where, const char *name, int n, const int64_t *values)
{
    hsize_t count = (hsize_t)n;
    return put(where, name, H5T_NATIVE_INT64, H5Screate_simple(1, &count, NULL), values);
}

/* An attribute, or a negative id; asking first keeps HDF5's error stack out of it. */
static hid_t open_attribute(hid_t where, const char *name)
{
    return H5Aexists(where, name) > 0 ? H5Aopen(where, name, H5P_DEFAULT) : H5I_INVALID_HID;
}

bool fbi_h5_get_text(hid_t where, const char *name, char *out, size_t size)
{
    hid_t attr = open_attribute(where, name);
    if (attr < 0)
        return false;
    hid_t type = H5Aget_type(attr);
    bool good = H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
                H5Tget_size(type) <= size && H5Aread(attr, type, out) >= 0;
    if (good)
        out[H5Tget_size(type) - 1] = '\0';
    H5Tclose(type);
    H5Aclose(attr);
    return good;
}

static bool get(hid_t where, const char *name, hid_t type, void *out)
{
    hid_t attr = open_attribute(where, name);
    if (attr < 0)
        return false;
    hid_t space = H5Aget_space(attr);
    bool good = H5Sget_simple_extent_npoints(space) == 1 && H5Aread(attr, type, out) >= 0;
    H5Sclose(space);
    H5Aclose(attr);
    return good;
}

bool fbi_h5_get_int(hid_t where, const char *name, int64_t *out)
{
    return get(where, name, H5T_NATIVE_INT64, out);
}

bool fbi_h5_get_double(hid_t where, const char *name, double *out)
{
    return get(where, name, H5T_NATIVE_DOUBLE, out);
}

int fbi_h5_get_ints(hid_t where, const char *name, int max, int64_t *out)
{
    hid_t attr = open_attribute(where, name);
    if (attr < 0)
        return -1;
    hid_t space = H5Aget_space(attr);
    hssize_t n = H5Sget_simple_extent_npoints(space);
    bool good = n >= 0 && n <= max && H5Aread(attr, H5T_NATIVE_INT64, out) >= 0;
    H5Sclose(space);
    H5Aclose(attr);
    return good ? (int)n : -1;
}

hid_t fbi_h5_create(hid_t file, const char *name, fb_dtype dtype, int64_t n, fb_shape shape)
{
    hsize_t dims[FB_MAX_DIMS + 1];
    int rank = 0;
    if (n >= 0)
        dims[rank++] = (hsize_t)n;
    for (int i = 0; i < shape.n; i++)
        dims[rank++] = (hsize_t)shape.d[i];
    hid_t space = rank ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t link = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(link, 1);
    H5Pset_layout(create, H5D_CONTIGUOUS);
    H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
    hid_t data = H5Dcreate2(file, name, fbi_h5_type(dtype), space, link, create, H5P_DEFAULT);
    H5Pclose(link);
    H5Pclose(create);
    H5Sclose(space);
    return data;
}

hid_t fbi_h5_open(const char *path)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, false, true);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    return file;
}

hid_t fbi_h5_memory(void)
{
    enum { STEP = 1 << 20 };
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_core(access, STEP, false);
    /* Metadata with checksums. From V110 on a file would also remember that it is open. */
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110);
    hid_t file = H5Fcreate("memory", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    return file;
}

bool fbi_h5_save(hid_t file, const char *path, bool sealed, int64_t *bytes, char hex[17])
{
    void **image = NULL; /* HDF5's own buffer: no second copy of a large file */
    hsize_t size = 0;
    fbi_h5_lock();
    errno = 0;
    bool good = file >= 0 && H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0 &&
                H5Fget_filesize(file, &size) >= 0 &&
                H5Fget_vfd_handle(file, H5P_DEFAULT, (void **)&image) >= 0;
    if (good) {
        *bytes = (int64_t)size;
        fbi_hash_hex(*image, size, hex);
        good = (sealed ? fbi_file_write_sealed : fbi_file_write)(path, *image, size);
    }
    int why = errno;
    if (file >= 0)
        H5Fclose(file);
    errno = why;
    fbi_h5_unlock();
    return good;
}
