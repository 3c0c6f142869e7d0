/* The control plane of a world of several nodes: a thread of rank 0 serves, one of each rank on
 * another node tells it what its rank does. No MPI. They touch the page, and nothing else that the
 * main thread writes. */
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
