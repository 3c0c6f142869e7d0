/* Meshes: the ranks of a world as a grid with named axes, and a group along each axis. */
#ifndef FLAMBEAU_COMM_MESH_H
#define FLAMBEAU_COMM_MESH_H

#include <flambeau/comm/world.h>

FB_BEGIN

typedef struct fb_mesh fb_mesh;

enum { FB_MESH_AXES = 8, FB_AXIS_NAME = 32 };

/** One axis: {"tensor", 2}. */
typedef struct fb_axis {
    const char *name; /**< shorter than FB_AXIS_NAME */
    int size;         /**< ranks along it; 0, of one axis at most: what the others leave */
} fb_axis;

/**
 * Lay the ranks of the world out on a grid. Each rank gets a coordinate on every axis; ranks that
 * differ in the coordinate of one axis only are that axis' group, in order of coordinate.
 *
 *     fb_mesh *mesh = fb_mesh_open(world, (fb_axis[]){{"data", 0}, {"tensor", 2}}, 2);
 *
 * List the axes from the quietest to the busiest: the groups of the last one lie within a node
 * wherever its size allows it, then those of the axis before it, and so on, however the launcher
 * has spread the ranks. Where ranks of a node are left over, some groups lie on several.
 *
 * A group has as many leaves as the world has `shards`, if these are fixed: a loader and a model on
 * the group of the data axis give the same bits for every number of ranks along it.
 *
 * Collective over the world, with the same axes on each rank.
 *
 * @return the mesh, which belongs to the world; NULL: FB_E_ARG for axes that do not fit together or
 *         do not use up all ranks, FB_E_COMM if the ranks do not give the same ones, FB_E_NOMEM
 *
 * The grid is that of PyTorch's DeviceMesh where ranks of a node are neighbours.
 */
FB_API FB_USE_RESULT fb_mesh *fb_mesh_open(fb_world *world, const fb_axis *axes, int n);

/** The group along an axis in which this rank is. NULL: FB_E_ARG, no axis has that name. */
FB_API fb_group *fb_mesh_group(fb_mesh *mesh, const char *axis);
/** This rank's coordinate on an axis. 0 for NULL, and with FB_E_ARG for a name that is no axis. */
FB_API int fb_mesh_coord(const fb_mesh *mesh, const char *axis);
/** Ranks along an axis. 1 for NULL, and with FB_E_ARG for a name that is no axis. */
FB_API int fb_mesh_size(const fb_mesh *mesh, const char *axis);
/**
 * The rank of the world at a place.
 *
 * @param coords one coordinate for each axis, in the order of fb_mesh_open
 * @return -1: FB_E_ARG, there is no such place; -1 for NULL
 */
FB_API int fb_mesh_rank(const fb_mesh *mesh, const int *coords, int n);
/**
 * The map of ranks: a line for each group of the last axis, with its place, its ranks and their
 * nodes, after one that says which axes cross nodes.
 *
 * @return bytes needed, as snprintf; 0 for NULL
 */
FB_API int64_t fb_mesh_to_string(const fb_mesh *mesh, char *buf, size_t size);
/** The same on rank 0's stdout. */
FB_API fb_status fb_mesh_print(const fb_mesh *mesh);
/** Forget the grid; its groups belong to the world and stay. The world closes what is left. */
FB_API fb_status fb_mesh_close(fb_mesh *mesh);

FB_END
#endif
