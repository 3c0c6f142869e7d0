/* Groups: ranks that work together. The world's group holds all of them. */
#ifndef FLAMBEAU_COMM_GROUP_H
#define FLAMBEAU_COMM_GROUP_H

#include <flambeau/core/base/status.h>

FB_BEGIN

typedef struct fb_group fb_group;

/** This process's number in the group; 0 for NULL. */
FB_API int fb_group_rank(const fb_group *group);
/** Number of ranks; 1 for NULL. */
FB_API int fb_group_size(const fb_group *group);
/** Leaves of a step, V: the `shards` of the world, or one for each rank. 1 for NULL. */
FB_API int fb_group_shards(const fb_group *group);

/**
 * Divide a group: ranks that give the same colour make a new one, ordered by key, then by rank.
 * Collective over the old group. A new group has one leaf for each of its ranks.
 *
 * @param color >= 0, or -1: this rank is in none of them
 * @return the new group, which belongs to the world; NULL on error, and (without one) for colour -1
 */
FB_API FB_USE_RESULT fb_group *fb_group_split(fb_group *group, int color, int key);

/**
 * How long the others of the group wait for a rank that runs but does not make the call they are
 * in, before the job ends with the verdict "stuck". Each rank's own setting counts for its waits.
 *
 * @param seconds 0: FLAMBEAU_TIMEOUT_SECONDS, or 60; below 0: for ever. Ten times that while
 *                checkpoints or datasets are at work
 * @return FB_OK; FB_E_ARG for NULL or what is no number
 */
FB_API fb_status fb_group_set_timeout(fb_group *group, double seconds);

/** Wait until every rank of the group has called it. Collective. */
FB_API fb_status fb_group_barrier(fb_group *group);

FB_END
#endif
