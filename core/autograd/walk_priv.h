/* Steps of a walk, between walk.c and backward.c. */
#ifndef FLAMBEAU_CORE_AUTOGRAD_WALK_PRIV_H
#define FLAMBEAU_CORE_AUTOGRAD_WALK_PRIV_H

#include "core/autograd/pass_priv.h"

bool fbi_is_leaf_node(const fbi_node *n);
/* All nodes below the outputs, by descending seq; counts the contributions of every leaf. */
fb_status fbi_walk_collect(fbi_pass *p, fb_tensors out);
/* Flag the nodes that lead to a captured one. */
void fbi_walk_needed(fbi_pass *p, fbi_capture *caps, int n_caps);
/* Give up whatever is left. The nodes of caps have the flags again that they had: an outer walk may
 * be looking for the same leaves. */
void fbi_walk_end(fbi_pass *p, const fbi_capture *caps, int n_caps);

#endif
