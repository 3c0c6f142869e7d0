/* Conversions of other formats into datasets with the fields `input` and `target`. */
#ifndef FLAMBEAU_LAUNCH_IMPORT_PRIV_H
#define FLAMBEAU_LAUNCH_IMPORT_PRIV_H

#include <flambeau/io/dataset.h>

typedef struct fbi_import {
    const char *input, *target, *out; /* target: a file, or for csv a column's name */
    double scale, shift;              /* of images */
    bool float_target;                /* csv: F32 instead of I64 */
    int64_t shard_samples;
} fbi_import;

/* Each returns 0; otherwise the error is set on ctx. */
int fbi_import_idx(const fbi_import *job, fb_context *ctx);
int fbi_import_csv(const fbi_import *job, fb_context *ctx);
int fbi_import_npy(const fbi_import *job, fb_context *ctx);

#endif
