/* A checkpoint on the disk, read by one process: of any format, every value compared with its
 * checksum. */
#ifndef FLAMBEAU_IO_STORED_PRIV_H
#define FLAMBEAU_IO_STORED_PRIV_H

#include "io/checkpoint_priv.h"
#include "io/pieces_priv.h"

typedef struct fbi_stored {
    const char *path;
    json_t *root; /* its manifest; borrowed */
    bool pieced;  /* format 2 and above; below, data.h5 has all values under their names */
    hid_t h5;     /* that file */
    fbi_file_pieces pieces;
    int *fds; /* of the manifest's files; -1: not open yet */
    int n_files;
    char *text; /* what is wrong */
    size_t size;
} fbi_stored;

/* Of a manifest that was loaded. HDF5 opens a file only if its checksum is right. false: `text`. */
bool fbi_stored_open(fbi_stored *s, const char *path, json_t *root, char *text, size_t size);
void fbi_stored_close(fbi_stored *s);
/* All values of a tensor, row-major, into room for t->bytes. */
bool fbi_stored_read(fbi_stored *s, const char *key, const fbi_stored_tensor *t, void *data);
/* Compare every byte of every file with its checksum. */
bool fbi_stored_verify(fbi_stored *s);

#endif
