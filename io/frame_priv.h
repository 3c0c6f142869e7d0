/* HDF5 files whose values we write ourselves. HDF5 lays the file out in memory of ours that has
 * pages only where it has written; then it is closed, and nothing that fails later is HDF5's (1.10
 * crashes when the process ends after a write of its own that failed). */
#ifndef FLAMBEAU_IO_FRAME_PRIV_H
#define FLAMBEAU_IO_FRAME_PRIV_H

#include "io/h5_priv.h"

typedef struct fbi_frame {
    hid_t driver, file; /* file: until fbi_frame_end */
    char *image;        /* the file's bytes, zero where values are to be */
    int64_t bytes;      /* of the file */
    size_t room;        /* of the image */
} fbi_frame;

/* A new file at f->file. With the lock of HDF5 held, as all but the last. false: errno. */
bool fbi_frame_begin(fbi_frame *f);
/* Where the values of a data set will be in the file; -1: it has none. */
int64_t fbi_frame_offset(hid_t set);
/* The file is closed and can be read at f->image. */
bool fbi_frame_end(fbi_frame *f);
/* What newer versions of HDF5 want to know of a driver (an H5FD_class_t). */
void fbi_frame_class(void *class);
/* What begin has made, whatever became of it; without the lock. */
void fbi_frame_free(fbi_frame *f);

#endif
