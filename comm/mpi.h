/* The form of fb_world_open_f for C programs; the only public header that needs mpi.h. */
#ifndef FLAMBEAU_COMM_MPI_H
#define FLAMBEAU_COMM_MPI_H

#include <mpi.h>

#include <flambeau/comm/world.h>

FB_BEGIN

/** fb_world_open_f for an MPI_Comm: join a program that owns MPI. Collective over the communicator.
 */
FB_API fb_world *fb_world_open_comm(MPI_Comm comm, const fb_world_options *options);

FB_END
#endif
