/* A dataset as the loader sees it. */
#ifndef FLAMBEAU_IO_DATASET_PRIV_H
#define FLAMBEAU_IO_DATASET_PRIV_H

#include <stdatomic.h>

#include <flambeau/io/dataset.h>

#include "core/tensor/context_priv.h"

enum { FBI_DATASET_FORMAT = 1, FBI_NAME_BYTES = 128, FBI_PATH_BYTES = 4096 };

typedef struct fbi_shard {
    char name[FBI_NAME_BYTES]; /* beside the head */
    char hash[17];             /* XXH3-64 of the whole file, hex */
    int64_t begin, n, bytes;   /* first sample, samples, file size */
    atomic_int fd;             /* -1: not open, or not kept open */
    int64_t at[FB_MAX_FIELDS]; /* file offset of each field's first byte */
    char *held[FB_MAX_FIELDS]; /* all of it, of fields that are small; NULL: read by sample */
} fbi_shard;

typedef struct fbi_dataset_writer fbi_dataset_writer;

struct fb_dataset {
    fb_context *ctx;
    char path[FBI_PATH_BYTES];
    char id[17];
    int64_t size;
    int n_fields;
    fb_dataset_field fields[FB_MAX_FIELDS];
    char names[FB_MAX_FIELDS][FBI_NAME_BYTES];
    size_t bytes[FB_MAX_FIELDS]; /* of one stored sample */
    fbi_shard *shards;
    int n_shards, max_open;
    atomic_int n_open;    /* shards kept open, at most max_open */
    fb_dataset_read read; /* custom */
    void *user;
    fbi_dataset_writer *writer;
};

/* A dataset with these fields, checked and copied, adopted by the context. NULL: error is set. */
fb_dataset *fbi_dataset_new(fb_context *ctx, const char *path, const fb_dataset_field *fields,
                            int n_fields);
void fbi_dataset_free(void *ds);
/* Free the writer of a dataset that has one; if it was not finished, remove the shards written. */
void fbi_dataset_writer_free(fb_dataset *ds);
/* Open for reading on this process alone. NULL: error is set. */
fb_dataset *fbi_dataset_open_here(fb_context *ctx, const char *path);
/* Read the fields of up to 64 MiB into memory: a system call costs more than a sample's bytes. */
fb_status fbi_dataset_hold(fb_dataset *ds);
/* Path of a file beside the head. */
void fbi_dataset_beside(const fb_dataset *ds, const char *name, char *out);

/* Samples as stored, of a field with a scale, to F32. */
void fbi_dataset_convert(const fb_dataset_field *field, const void *stored, int64_t samples,
                         float *out);

/* Read sample `index` of every field. Thread-safe, touches no context. On failure returns a status
 * and leaves a message in text. */
fb_status fbi_dataset_fetch(fb_dataset *ds, int64_t index, void *const *out, char *text,
                            size_t size);
/* Shape that the loader delivers for a field. */
fb_shape fbi_dataset_deliver_shape(const fb_dataset_field *field);

#endif
