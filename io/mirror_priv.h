/* A mirror: a copy of a state in a file of /dev/shm, which outlives the processes of its node. No
 * world here. */
#ifndef FLAMBEAU_IO_MIRROR_PRIV_H
#define FLAMBEAU_IO_MIRROR_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where mirrors are kept: FLAMBEAU_MEMORY_DIR, else /dev/shm. */
#define FBI_MEMORY_DIR "FLAMBEAU_MEMORY_DIR"
const char *fbi_mirror_folder(void);

/* Whose it is: the folder of checkpoints (a hash of its path, and the first job in it), the
 * generation of the job, and the rank that writes. */
typedef struct fbi_mirror_owner {
    uint64_t folder, first;
    int64_t generation;
    int32_t rank;
} fbi_mirror_owner;

/* What stands before the contents; written last, so that a mirror that is half written is none. */
typedef struct fbi_mirror_head {
    uint64_t magic;
    fbi_mirror_owner owner;
    int64_t step, bytes;   /* bytes: of the contents */
    uint64_t layout, xxh3; /* layout: which entries these are; xxh3: of the contents */
    uint64_t own;          /* XXH3 of what is above */
} fbi_mirror_head;

/* One that is being written, over and over again. */
typedef struct fbi_mirror {
    char *base; /* NULL: there is none yet */
    size_t room;
    char path[512];
} fbi_mirror;

/* Room for `bytes` of contents, in mirror `slot` of its owner; what it held before is none from now
 * on. NULL: errno says why (ENOSPC: *room has what the folder could still take). */
char *fbi_mirror_begin(fbi_mirror *m, const fbi_mirror_owner *owner, int slot, size_t bytes,
                       size_t *room);
/* The contents are there: now it is one. */
void fbi_mirror_publish(fbi_mirror *m, fbi_mirror_head *head);
void fbi_mirror_close(fbi_mirror *m);

/* The newest whole mirror of this machine that belongs to the folder (`first`, too; of any
 * generation and rank), and its contents, malloc'ed. false: there is none. */
bool fbi_mirror_newest(const fbi_mirror_owner *folder, fbi_mirror_head *head, char **contents);
/* Remove those of the folder that no job can use any more: of another first job, and of generations
 * before `owner`'s, except (unless NULL) the one of `keep`. */
void fbi_mirror_sweep(const fbi_mirror_owner *owner, const fbi_mirror_head *keep);

#endif
