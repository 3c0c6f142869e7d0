/* Batches of samples of like length: those of some batches are sorted and dealt out again. */
#ifndef FLAMBEAU_IO_BUCKETS_PRIV_H
#define FLAMBEAU_IO_BUCKETS_PRIV_H

#include <flambeau/io/loader.h>

#include "io/dataset_priv.h"

typedef struct fbi_buckets fbi_buckets;

/* bucket_by gets its default. */
fb_status fbi_buckets_check(const fb_dataset *ds, fb_loader_options *o);
/* Collective over a group. NULL: error is set. */
fbi_buckets *fbi_buckets_open(fb_group *group, fb_dataset *ds, const fb_loader_options *o);
void fbi_buckets_close(fbi_buckets *b);
/* Another epoch begins. */
void fbi_buckets_begin(fbi_buckets *b);
/* The window of a position of the epoch's n: [begin, end). Room for the indices of its samples if
 * they have to be filled in and sorted first, or NULL. */
int64_t *fbi_buckets_window(fbi_buckets *b, int64_t position, int64_t n, int64_t *begin,
                            int64_t *end);
void fbi_buckets_sort(fbi_buckets *b, int64_t epoch);
/* The index at a position of the window that was filled last. */
int64_t fbi_buckets_at(const fbi_buckets *b, int64_t position);

#endif
