/* Copies of the training state in the memory of the nodes: a restart loses a step or two at most,
 * without writing every step to a disk. */
#ifndef FLAMBEAU_IO_MEMORY_H
#define FLAMBEAU_IO_MEMORY_H

#include <flambeau/comm/world.h>
#include <flambeau/io/state.h>

FB_BEGIN

/**
 * Copy `state` into the memory of every node (/dev/shm, or FLAMBEAU_MEMORY_DIR), where it outlives
 * the job's processes, and the node of any other rank. Collective; meant for every step or few.
 *
 * fb_checkpoint_resume of the same folder goes on from the newest whole state that the nodes of the
 * restarted job have, in memory or on disk. A node keeps the last two copies, so that one is whole
 * whenever it ends. The first rank of each node writes; what callbacks of fb_state_add_custom give
 * comes from rank 0. Copies belong to the folder and its lease: a folder that is made anew has
 * none, and the next job in it removes them.
 *
 * A node without room for two copies does without, after a warning that says how much is needed.
 *
 * @param dir the folder of fb_checkpoint_save and fb_checkpoint_resume; made if need be
 * @return FB_OK, also after a warning; FB_E_ARG for NULL or a state without a loader or optimizer
 *         (its step is not known); FB_E_STATE: another job has taken over the folder
 *
 * Wang et al.: GEMINI, SOSP 2023, doi:10.1145/3600006.3613145.
 */
FB_API fb_status fb_checkpoint_remember(fb_world *world, const char *dir, fb_state *state);
/**
 * Remove this job's copies, and older ones of the folder, from every node: at the end of a run that
 * has saved its last step. Collective. FB_E_ARG for NULL.
 */
FB_API fb_status fb_checkpoint_forget(fb_world *world, const char *dir);

FB_END
#endif
