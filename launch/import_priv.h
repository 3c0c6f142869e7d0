/* Conversions of other formats into datasets. */
#ifndef FLAMBEAU_LAUNCH_IMPORT_PRIV_H
#define FLAMBEAU_LAUNCH_IMPORT_PRIV_H

#include <flambeau/comm/group.h>
#include <flambeau/io/dataset.h>

#include "launch/progress_priv.h"

enum { FBI_IMPORT_NAMES = 64 };

/* Names that an option gave, which may be there several times. */
typedef struct fbi_names {
    const char *name[FBI_IMPORT_NAMES];
    int n;
} fbi_names;

/* What the command line says; NULL and 0: nothing. */
typedef struct fbi_import {
    const char *out;
    char **inputs; /* files or folders before OUT.h5 */
    int n_inputs;
    const char *input, *target; /* a file, an array's name, or a column's */
    double scale, shift;        /* of images */
    bool float_target;          /* csv: F32 instead of I64 */
    fbi_names category, ignore; /* csv: columns */
    const char *missing;        /* csv: error, nan, mean, skip */
    const char *separator;      /* csv */
    int64_t height, width;      /* images */
    bool crop;                  /* images: keep the ratio of the sides */
    int64_t channels;           /* images, sound */
    double seconds;             /* sound */
    const char *vocab, *merges; /* text */
    const char *documents;      /* text: file, line, blank */
    int64_t length;             /* text: tokens of a sample */
    fbi_names fields;           /* hdf5, npz: NAME=PATH */
    int64_t shard_samples, shard_bytes;
    bool append; /* to the dataset that is there */

    fb_group *group; /* NULL: one process */
    int rank, ranks;
    fbi_progress *progress;
} fbi_import;

/* `flambeau data import FORMAT ...`; argv[0] is the format. */
int fbi_cmd_import(int argc, char **argv);
extern const char fbi_import_usage[];

/* Each returns 0; otherwise the error is set on ctx. */
int fbi_import_idx(const fbi_import *job, fb_context *ctx);
int fbi_import_csv(const fbi_import *job, fb_context *ctx);
int fbi_import_npy(const fbi_import *job, fb_context *ctx);
int fbi_import_images(const fbi_import *job, fb_context *ctx);
int fbi_import_sound(const fbi_import *job, fb_context *ctx);
int fbi_import_text(const fbi_import *job, fb_context *ctx);
int fbi_import_hdf5(const fbi_import *job, fb_context *ctx);

/* This rank's part of n things. */
void fbi_import_range(const fbi_import *job, int64_t n, int64_t *begin, int64_t *end);
/* The dataset that is made, with the options of the command line. On every rank, also where an
 * error is set: NULL then, on all of them. */
fb_dataset *fbi_import_create(const fbi_import *job, fb_context *ctx,
                              const fb_dataset_field *fields, int n_fields);
/* Finish it, unless an error is set on some rank, and close it. 0: good. */
int fbi_import_finish(fb_dataset *ds);

/* Files of folders, one for each class. */
typedef struct fbi_files {
    char **paths;
    int64_t *classes, n;
    char **names; /* of the classes */
    int64_t n_classes;
} fbi_files;
/* Those of FOLDER/CLASS whose names end with one of `endings` (NULL-terminated, any case), by the
 * alphabet. false: the error is set. */
bool fbi_files_find(fbi_files *files, fb_context *ctx, const char *folder,
                    const char *const *endings);
void fbi_files_free(fbi_files *files);
/* All of a file, malloc'ed; NULL: the error is set. */
char *fbi_read_file(fb_context *ctx, const char *path, size_t *bytes);

#endif
