/* One save, from what it takes to its manifest. Files only: any one thread may do it. */
#ifndef FLAMBEAU_IO_SAVE_PRIV_H
#define FLAMBEAU_IO_SAVE_PRIV_H

#include "io/lease_priv.h"
#include "io/pieces_priv.h"
#include "io/snapshot_priv.h"

/* Called between pieces of work of a millisecond or so; NULL: never. */
typedef struct fbi_pace {
    void (*rest)(void *self);
    void *self;
} fbi_pace;

typedef enum fbi_save_end {
    FBI_SAVE_FAILED,  /* the text says why */
    FBI_SAVE_DONE,    /* it exists, or did already */
    FBI_SAVE_REPLACED /* another job has taken over the folder: the text says which */
} fbi_save_end;

typedef struct fbi_saving {
    const fbi_snapshot *snapshot;
    char dir[FBI_CHECKPOINT_PATH], path[FBI_CHECKPOINT_PATH]; /* path: of this checkpoint */
    int64_t step;
    int keep;
    bool best;
    json_t *run;         /* fbi_run_describe; given away */
    fbi_lease leases[2]; /* fbi_lease_copy */
    fbi_pace pace;
    int64_t files;   /* of values; 0: 1 */
    char digest[17]; /* of the snapshot; "": it is to be found */
    char text[512];
} fbi_saving;

/* Write it, the manifest last: a checkpoint that is there exists until then. Older ones go. */
fbi_save_end fbi_save_run(fbi_saving *s);
/* Say that it failed, and what becomes of the run. */
void fbi_save_warn(const fbi_saving *s);

/* --- the file with values (io/checkpoint_data.c) --- */

/* Which part of all values a file gets: number `number` of `of` equal ones. A tensor that is cut is
 * cut between rows if they are short, else anywhere. What is no tensor is in number 0. */
typedef struct fbi_share {
    int64_t number, of;
} fbi_share;

int64_t fbi_share_total(const fbi_snapshot *s); /* bytes of all tensors */
/* The piece of item i that is in a share; false: none. *at: bytes of tensors before it, moves on.
 */
bool fbi_share_piece(const fbi_snapshot *s, int64_t i, fbi_share share, int64_t total, int64_t *at,
                     fbi_file_piece *piece);
/* Where in the item's values a piece begins. */
size_t fbi_share_begin(const fbi_item *item, const fbi_file_piece *piece);

typedef struct fbi_data_file {
    int64_t bytes;
    char hash[17];          /* of what is not in pieces */
    char digest[17];        /* of the snapshot, if this is all of it */
    fbi_file_pieces pieces; /* one of an item at most, in order; `file` is the item's number */
} fbi_data_file;

/* Write a share of the snapshot to a file of HDF5, and wait until it is on the disk. */
bool fbi_save_data(fbi_saving *s, const char *path, fbi_share share, fbi_data_file *file);

#endif
