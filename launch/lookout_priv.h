/* The launcher's server of the control plane: it outlives every rank. */
#ifndef FLAMBEAU_LAUNCH_LOOKOUT_PRIV_H
#define FLAMBEAU_LAUNCH_LOOKOUT_PRIV_H

#include "launch/run_priv.h"

typedef struct fbi_lookout fbi_lookout;

/* For the next attempt, if its ranks are on several nodes: listens, and puts what ranks need to
 * know into the environment. NULL: there is none (FLAMBEAU_CONTROL=off, too), and rank 0 serves. */
fbi_lookout *fbi_lookout_open(const fbi_job *job);
/* Serve, by a thread, until it is closed. */
void fbi_lookout_start(fbi_lookout *c);
/* Seconds since it gave or heard the verdict on this attempt; 0: there is none. */
double fbi_lookout_judged(const fbi_lookout *c);
void fbi_lookout_close(fbi_lookout *c);

#endif
