/* NumPy's arrays as bytes, which files and the members of .npz are. */
#ifndef FLAMBEAU_IO_NPY_PRIV_H
#define FLAMBEAU_IO_NPY_PRIV_H

#include <stdio.h>

#include <flambeau/core/tensor/tensor.h>

enum { FBI_NPY_HEAD = 1 << 12 }; /* bytes that a head has at most */

/* What a head says of an array. */
typedef struct fbi_npy {
    fb_dtype dtype;
    char kind;     /* of NumPy: f, i, u, b */
    size_t stored; /* bytes of an element in the file */
    bool swapped;  /* the other byte order */
    bool fortran;
    fb_shape shape;
    size_t at, bytes; /* of the data */
} fbi_npy;

/* Read the head of `n` bytes, which may be cut behind it. false: the error is set. */
bool fbi_npy_head(fb_context *ctx, const char *path, const void *bytes, size_t n, fbi_npy *a);
/* Whether `have` bytes of a file hold the data, too; sets the error if not. */
bool fbi_npy_fits(fb_context *ctx, const char *path, const fbi_npy *a, size_t have);
/* The elements are as a tensor has them. */
bool fbi_npy_is_plain(const fbi_npy *a);
/* A tensor with a copy of the data; NULL: the error is set. */
fb_tensor *fbi_npy_tensor(fb_context *ctx, const char *path, const fbi_npy *a, const void *data);
/* Strides of its data in elements. */
void fbi_npy_strides(const fbi_npy *a, int64_t *strides);

/* The head of what is written for a tensor, and its dtype there. Gives the number of bytes. */
size_t fbi_npy_write_head(fb_tensor *t, char head[512], fb_dtype *written);
/* The data that is written, malloc'ed; NULL: the error is set. */
void *fbi_npy_data(fb_tensor *t, const char *path, fb_dtype written);

#endif
