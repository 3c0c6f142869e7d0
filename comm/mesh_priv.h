/* Who gets which place of a mesh. */
#ifndef FLAMBEAU_COMM_MESH_PRIV_H
#define FLAMBEAU_COMM_MESH_PRIV_H

#include <stdbool.h>

#include <flambeau/comm/mesh.h>

/* Fill in the size that is 0. @return false: the sizes do not multiply to the number of ranks */
bool fbi_mesh_fit(int *sizes, int n, int ranks);
/* ranks[place], the last axis running fastest. node[r]: where rank r is, from 0.
 * @return false: no memory */
bool fbi_mesh_place(const int *node, int n_ranks, const int *sizes, int n, int *ranks);

#endif
