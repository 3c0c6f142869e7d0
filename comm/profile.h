/* Profiles of all ranks: who is slow, and who waits for it. */
#ifndef FLAMBEAU_COMM_PROFILE_H
#define FLAMBEAU_COMM_PROFILE_H

#include <flambeau/comm/group.h>
#include <flambeau/core/ops/profile.h>

FB_BEGIN

/** Seconds of one rank while its profile was running. */
typedef struct fb_profile_rank {
    double seconds;      /**< all of it */
    double computing;    /**< in none of the next three */
    double collectives;  /**< in collectives, standing still included */
    double loader, wait; /**< for batches; for its device */
    double stood_still;  /**< in waits for other ranks of more than some microseconds */
    int most_for;        /**< the rank of the group that it has stood still for longest; -1: none */
    double most_s;       /**< and how long */
    double held_up;      /**< how long the others have stood still for this one, added up */
} fb_profile_rank;

/**
 * What the ranks of a group have spent their time on: ranks[fb_group_size], the same on all ranks.
 *
 * Where several ranks are missing, the time is counted for the lowest of them. Collective: every
 * rank brings its profile; one without (NULL) is an error on all ranks (FB_E_ARG there).
 */
FB_API fb_status fb_profile_ranks(fb_group *group, fb_profile *p, fb_profile_rank *ranks);
/**
 * Rank 0 adds a table of that to a file (NULL: standard output), and says which rank the others
 * wait for most. Collective; FB_E_IO on all ranks if it cannot be written.
 */
FB_API fb_status fb_profile_print_ranks(fb_group *group, fb_profile *p, const char *path);
/**
 * fb_profile_write on every rank, as a process with the number of the rank: into `path` itself on
 * rank 0, on rank 3 into "NAME.rank3.json" of "NAME.json". Collective; FB_E_IO on all ranks if one
 * cannot be written.
 */
FB_API fb_status fb_profile_write_ranks(fb_group *group, fb_profile *p, const char *path);

FB_END
#endif
