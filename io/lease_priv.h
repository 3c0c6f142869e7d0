/* The lease of a run directory or a folder of checkpoints: who may write there. A job that begins
 * takes it with the next generation; one that holds an older generation has been replaced, even if
 * it does not know yet. */
#ifndef FLAMBEAU_IO_LEASE_PRIV_H
#define FLAMBEAU_IO_LEASE_PRIV_H

#include "io/checkpoint_priv.h"

#define FBI_LEASE_FILE "lease.json"
#define FBI_SAVED_FILE "saved.json" /* in a run directory: the newest checkpoint of its job */
/* What `flambeau run` tells its ranks: the run directory, and "GENERATION ID" of its lease. */
#define FBI_RUN_DIR   "FLAMBEAU_RUN_DIR"
#define FBI_RUN_LEASE "FLAMBEAU_RUN_LEASE"
#define FBI_RUN_AGAIN "FLAMBEAU_RUN_AGAIN" /* set: this job has run before, and goes on */

typedef struct fbi_lease {
    char dir[FBI_CHECKPOINT_PATH];
    int64_t generation;
    char id[17];    /* tells two jobs apart that took it at the same moment */
    char first[17]; /* id of the first job in this folder: it is another folder if that differs */
} fbi_lease;

/* Take the lease of a folder, which is made if need be. false: errno says why not. */
bool fbi_lease_take(const char *dir, fbi_lease *lease);
/* false: another job has taken over; `text` says which. A lease that cannot be read counts as held:
 * a file system that hesitates ends no job. */
bool fbi_lease_held(const fbi_lease *lease, char *text, size_t size);
/* Id of the first job in a folder. false: none has ever begun there. */
bool fbi_lease_first(const char *dir, char first[17]);
/* Note in a run directory that a checkpoint exists; and the step of the newest, -1: none. */
void fbi_lease_note_saved(const char *run, int64_t step, const char *path);
int64_t fbi_lease_saved(const char *run);

/* --- for ranks (rank 0 of a world; nothing happens on others) --- */

/* Take the lease of a folder of checkpoints, unless this job has done so before. One that cannot be
 * taken is none: what is written there will fail, and say so. */
void fbi_lease_enter(fb_world *world, const char *folder);
/* FB_OK, or FB_E_STATE: another job has taken over the run directory or this folder (may be NULL).
 */
fb_status fbi_lease_guard(fb_world *world, const char *folder);
/* What this job has entered; NULL: that folder could not be taken. */
const fbi_lease *fbi_lease_of(const fb_world *world, const char *folder);
/* Note it in the run directory, if there is one. */
void fbi_lease_saved_here(fb_world *world, int64_t step, const char *path);
/* The leases that fbi_lease_guard looks at, for other threads: of the run directory and of the
 * folder. One without a folder is none. */
void fbi_lease_copy(fb_world *world, const char *folder, fbi_lease out[2]);

#endif
