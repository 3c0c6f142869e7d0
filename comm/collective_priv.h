/* Between the checks and the gradients of the public collectives. */
#ifndef FLAMBEAU_COMM_COLLECTIVE_PRIV_H
#define FLAMBEAU_COMM_COLLECTIVE_PRIV_H

#include "comm/work_priv.h"

/* False: an error is set. True with the context off: the collective must still be tried, so that it
 * tells the other ranks. */
bool fbi_collective_usable(fb_group *group, fb_tensor *t, const char *name);
bool fbi_collective_reducible(fb_group *group, const fb_tensor *t, fb_reduce_op op,
                              const char *name);
/* Run it on a contiguous copy of t, into a new tensor; nothing is recorded. */
fb_tensor *fbi_collective_run(fb_group *group, fbi_kind kind, fb_reduce_op op, fb_tensor *t,
                              fb_shape shape);

#endif
