/* Pieces of tensors, and where in a checkpoint's files they are. */
#ifndef FLAMBEAU_IO_PIECES_PRIV_H
#define FLAMBEAU_IO_PIECES_PRIV_H

#include <jansson.h>

#include <flambeau/core/tensor/shape.h>

#include "io/h5_priv.h"

/* A box of a tensor, or a range of its elements in row-major order. */
typedef struct fbi_file_piece {
    int64_t file;          /* its number among the manifest's files */
    int64_t offset, bytes; /* in the file, row-major, native */
    uint64_t hash;         /* XXH3-64 of them */
    bool flat;             /* a range: begin.d[0], count.d[0] alone count */
    fb_shape begin, count;
} fbi_file_piece;

typedef struct fbi_file_pieces {
    fbi_file_piece *v;
    int64_t n, cap;
} fbi_file_pieces;

/* A tensor as the manifest describes it. */
typedef struct fbi_stored_tensor {
    const char *kind; /* name of a dtype, or FBI_CHECKPOINT_BYTES */
    fb_dtype dtype;
    fb_shape shape;
    int64_t numel, bytes;
    int64_t first, n; /* its pieces */
} fbi_stored_tensor;

/* false: no memory. */
bool fbi_pieces_add(fbi_file_pieces *p, fbi_file_piece piece);
void fbi_pieces_free(fbi_file_pieces *p);
/* The whole of a tensor. */
fbi_file_piece fbi_piece_whole(fb_shape shape);
int64_t fbi_piece_numel(const fbi_file_piece *p);

/* Write them to an HDF5 file, and wait until it is on the disk; its size and XXH3-64. false: errno
 * says why, or is 0. */
bool fbi_pieces_save(const fbi_file_pieces *p, const char *path, int64_t *bytes, char hex[17]);
/* Read what fbi_pieces_save wrote, from a file that was found to be whole. false: `text`. */
bool fbi_pieces_load(fbi_file_pieces *p, const char *path, char *text, size_t size);

/* An entry of the manifest's "tensors"; false: it makes no sense. */
bool fbi_stored_tensor_of(json_t *entry, fbi_stored_tensor *t);
/* Whether the pieces of t lie within it, do not overlap, and leave nothing out. */
bool fbi_pieces_cover(const fbi_file_pieces *p, const fbi_stored_tensor *t);
/* Put the values of a piece at their place in the whole tensor. */
void fbi_piece_place(const fbi_file_piece *p, const fbi_stored_tensor *t, const char *values,
                     char *whole);
/* The reverse. */
void fbi_piece_take(const fbi_file_piece *p, const fbi_stored_tensor *t, const char *whole,
                    char *values);

#endif
