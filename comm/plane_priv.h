/* The control plane of a world of several nodes: `flambeau run` serves, or else a thread of rank 0;
 * one of each rank (that is not on rank 0's node) tells the server what its rank does. No MPI. They
 * touch the page, and nothing else that the main thread writes. */
#ifndef FLAMBEAU_COMM_PLANE_PRIV_H
#define FLAMBEAU_COMM_PLANE_PRIV_H

#include "comm/world_priv.h"

/* Start it where it is needed. Collective. Without it, and a line says so, only waiting ranks
 * notice. */
void fbi_plane_open(fb_world *world);
/* There is a verdict on the page: do not wait for the next beat to tell. */
void fbi_plane_wake(fb_world *world);
void fbi_plane_close(fb_world *world);

#endif
