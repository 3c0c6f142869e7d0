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

enum { FBI_SAVE_TOKEN = 40 };

typedef struct fbi_saving {
    const fbi_snapshot *snapshot;
    char dir[FBI_CHECKPOINT_PATH], path[FBI_CHECKPOINT_PATH]; /* path: of this checkpoint */
    int64_t step;
    int keep;
    bool best;
    json_t *run;         /* fbi_run_describe; given away */
    fbi_lease leases[2]; /* fbi_lease_copy */
    fbi_pace pace;
    int64_t files;             /* of values; 0: 1 */
    struct fbi_spread *spread; /* others write all but the first (io/spread.c); NULL: nobody does */
    char token[FBI_SAVE_TOKEN]; /* in names of what is being written; "": the process's number */
    bool opened, whole;         /* fbi_save_open; whole: there is one of the same step */
    char digest[17];            /* of the snapshot; "": it is to be found */
    char text[512];
} fbi_saving;

/* Look at what there is, and make the folder. false: there is nothing to write, *end says why.
 * Called by fbi_save_run, unless it was before. */
bool fbi_save_open(fbi_saving *s, fbi_save_end *end);
/* Write it, the manifest last: a checkpoint that is there exists until then. Older ones go. */
fbi_save_end fbi_save_run(fbi_saving *s);
/* Say that it failed, and what becomes of the run. */
void fbi_save_warn(const fbi_saving *s);

/* A file beside its name until it may take it. */
typedef struct fbi_save_part {
    char name[FBI_CHECKPOINT_PATH + 32], part[FBI_CHECKPOINT_PATH + 96];
} fbi_save_part;

/* File `number` of those of a kind ("data", "index"): data.h5, data.1.h5, ... */
void fbi_save_name(fbi_save_part *p, const fbi_saving *s, const char *what, int64_t number);

/* --- the file with values (io/checkpoint_data.c) --- */

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
