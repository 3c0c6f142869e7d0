#include "io/frame_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Folders in memory, as a rule. */
static const char *const folders[] = {"/dev/shm", P_tmpdir};

/* An open file with a name: HDF5 follows links such as /proc/self/fd/7 and finds nothing. */
static int open_named(char *path, size_t size)
{
    int fd = -1;
    for (size_t i = 0; fd < 0 && i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, size, "%s/flambeau-frame-XXXXXX", folders[i]);
        fd = mkostemp(path, O_CLOEXEC);
    }
    return fd;
}

bool fbi_frame_begin(fbi_frame *f)
{
    char path[64];
    *f = (fbi_frame){.fd = open_named(path, sizeof path), .file = H5I_INVALID_HID};
    if (f->fd < 0)
        return false;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, false, true);
    /* Metadata with checksums. From V110 on a file would also remember that it is open. */
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110);
    f->file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    unlink(path);
    return f->file >= 0;
}

int64_t fbi_frame_offset(hid_t set)
{
    haddr_t at = H5Dget_offset(set);
    return at == HADDR_UNDEF ? -1 : (int64_t)at;
}

bool fbi_frame_end(fbi_frame *f)
{
    struct stat info;
    bool good = H5Fclose(f->file) >= 0 && fstat(f->fd, &info) == 0 && info.st_size > 0;
    f->file = H5I_INVALID_HID;
    if (!good)
        return false;
    void *image = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, f->fd, 0);
    if (image == MAP_FAILED)
        return false;
    f->image = image;
    f->bytes = info.st_size;
    return true;
}

void fbi_frame_free(fbi_frame *f)
{
    int why = errno;
    if (f->file >= 0) {
        fbi_h5_lock();
        H5Fclose(f->file);
        fbi_h5_unlock();
    }
    if (f->image)
        munmap((void *)(uintptr_t)f->image, (size_t)f->bytes);
    if (f->fd >= 0)
        close(f->fd);
    *f = (fbi_frame){.fd = -1, .file = H5I_INVALID_HID};
    errno = why;
}
