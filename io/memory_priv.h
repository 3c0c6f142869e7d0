/* Going on from copies in memory, for io/checkpoint.c. */
#ifndef FLAMBEAU_IO_MEMORY_PRIV_H
#define FLAMBEAU_IO_MEMORY_PRIV_H

#include <flambeau/io/memory.h>

/* Fill the state from the newest copy that any node of the job has, if it is newer than `step` (of
 * rank 0; -1: there is no checkpoint) and of these entries. *taken: it was. Collective. */
fb_status fbi_memory_resume(fb_world *world, const char *dir, fb_state *state, int64_t step,
                            bool *taken);

#endif
