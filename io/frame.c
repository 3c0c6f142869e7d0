#include "io/frame_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FIRST_ROOM = 1 << 20 };

/* --- a driver of HDF5 ("virtual file driver") whose file is a frame's image --- */

typedef struct opened {
    H5FD_t base; /* HDF5's part, first */
    fbi_frame *frame;
    haddr_t used; /* addresses that HDF5 has given away */
} opened;

static bool grow(fbi_frame *f, size_t bytes)
{
    size_t room = f->room ? f->room : FIRST_ROOM;
    while (room < bytes)
        room *= 2;
    if (room == f->room)
        return true;
    /* Only what is written takes memory: of values there is nothing but their addresses. */
    void *image = f->image ? mremap(f->image, f->room, room, MREMAP_MAYMOVE)
                           : mmap(NULL, room, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (image == MAP_FAILED)
        return false;
    f->image = image;
    f->room = room;
    return true;
}

static H5FD_t *open_image(const char *name, unsigned flags, hid_t access, haddr_t most)
{
    (void)name;
    (void)flags;
    (void)most;
    fbi_frame *const *frame = H5Pget_driver_info(access);
    opened *o = frame ? calloc(1, sizeof *o) : NULL;
    if (!o)
        return NULL;
    o->frame = *frame;
    return &o->base;
}

static herr_t close_image(H5FD_t *file)
{
    free(file);
    return 0;
}

static herr_t features(const H5FD_t *file, unsigned long *flags)
{
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t get_eoa(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const opened *)file)->used;
}

static herr_t set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t address)
{
    (void)type;
    opened *o = (opened *)file;
    if (!grow(o->frame, (size_t)address))
        return -1;
    o->used = address;
    return 0;
}

static haddr_t get_eof(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return (haddr_t)((const opened *)file)->frame->bytes;
}

static herr_t read_image(H5FD_t *file, H5FD_mem_t type, hid_t how, haddr_t at, size_t n, void *to)
{
    (void)type;
    (void)how;
    const opened *o = (const opened *)file;
    if (at + n > o->used)
        return -1;
    memcpy(to, o->frame->image + at, n);
    return 0;
}

static herr_t write_image(H5FD_t *file, H5FD_mem_t type, hid_t how, haddr_t at, size_t n,
                          const void *from)
{
    (void)type;
    (void)how;
    const opened *o = (const opened *)file;
    if (at + n > o->used)
        return -1;
    memcpy(o->frame->image + at, from, n);
    return 0;
}

/* The file ends where addresses do. */
static herr_t truncate_image(H5FD_t *file, hid_t how, hbool_t closing)
{
    (void)how;
    (void)closing;
    const opened *o = (const opened *)file;
    o->frame->bytes = (int64_t)o->used;
    return 0;
}

static const H5FD_class_t driver = {
    .name = "flambeau-frame",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_WEAK,
    .fapl_size = sizeof(fbi_frame *),
    .open = open_image,
    .close = close_image,
    .query = features,
    .get_eoa = get_eoa,
    .set_eoa = set_eoa,
    .get_eof = get_eof,
    .read = read_image,
    .write = write_image,
    .truncate = truncate_image,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

/* --- a frame --- */

bool fbi_frame_begin(fbi_frame *f)
{
    H5FD_class_t class = driver;
    fbi_frame_class(&class);
    *f = (fbi_frame){.driver = H5FDregister(&class), .file = H5I_INVALID_HID};
    if (f->driver < 0)
        return false;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_driver(access, f->driver, &f);
    /* Metadata with checksums. From V110 on a file would also remember that it is open. */
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110);
    f->file = H5Fcreate("frame", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    return f->file >= 0;
}

int64_t fbi_frame_offset(hid_t set)
{
    haddr_t at = H5Dget_offset(set);
    return at == HADDR_UNDEF ? -1 : (int64_t)at;
}

bool fbi_frame_end(fbi_frame *f)
{
    bool good = H5Fclose(f->file) >= 0 && f->bytes > 0;
    f->file = H5I_INVALID_HID;
    return good;
}

void fbi_frame_free(fbi_frame *f)
{
    int why = errno;
    fbi_h5_lock();
    if (f->file >= 0)
        H5Fclose(f->file);
    if (f->driver > 0)
        H5FDunregister(f->driver);
    fbi_h5_unlock();
    if (f->image)
        munmap(f->image, f->room);
    *f = (fbi_frame){.file = H5I_INVALID_HID};
    errno = why;
}
