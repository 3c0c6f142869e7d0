/* A save whose values several nodes write: the first rank of each writes a share, rank 0 the first,
 * and rank 0 makes a checkpoint of them. */
#ifndef FLAMBEAU_IO_SPREAD_PRIV_H
#define FLAMBEAU_IO_SPREAD_PRIV_H

#include <pthread.h>

#include "io/save_priv.h"

typedef struct fbi_spread {
    fb_world *world;
    int64_t writers;                 /* of the present save; below 2 it is not spread */
    bool now;                        /* the ranks meet while it is being written */
    bool differs;                    /* others have been found to have other values than rank 0 */
    char alone[FBI_CHECKPOINT_PATH]; /* a folder that not all nodes see; "": none */
    /* of two threads of rank 0, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    double deadline;  /* for what is not there yet; 0: the others may be writing still */
    bool told;        /* all others have ended */
    char failed[512]; /* one without success: which, and why */
} fbi_spread;

bool fbi_spread_open(fbi_spread *d, fb_world *world);
void fbi_spread_close(fbi_spread *d);
/* Decide who writes: so many at most (0: as many as are worth it), and only nodes that see the
 * folder. `ready`: rank 0 has something to save. On the others s gets the step, the names and the
 * number of files. Collective. */
fb_status fbi_spread_agree(fbi_spread *d, fbi_saving *s, bool ready, int64_t files);
/* Number of this rank's share; -1: it writes none. */
int64_t fbi_spread_number(const fbi_spread *d);
/* Write a share other than the first, and a report of it. Any one thread. false: s->text. */
bool fbi_spread_write(fbi_saving *s, int64_t number);
/* All have written, or have failed for the reason given (NULL: none). Collective. */
fb_status fbi_spread_meet(fbi_spread *d, const char *failed);
/* Of rank 0, any one thread: wait for the reports of the others, good or not. false: s->text, if
 * `good`. */
bool fbi_spread_wait(fbi_spread *d, fbi_saving *s, bool good);
/* What the writer of a share has reported. false: s->text. */
bool fbi_spread_report(fbi_saving *s, int64_t number, fbi_data_file *out);
/* Others have other values: say so, once. */
void fbi_spread_differs(fbi_spread *d, const fbi_saving *s, int64_t number, const char *key);

#endif
