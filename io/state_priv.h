/* A state as checkpoints see it: tensors and scalars by name. */
#ifndef FLAMBEAU_IO_STATE_PRIV_H
#define FLAMBEAU_IO_STATE_PRIV_H

#include <flambeau/comm/world.h>
#include <flambeau/io/state.h>

#include "core/optim/optim_priv.h"

enum { FBI_KEY_BYTES = 512 };

typedef struct fbi_custom {
    fb_state_save_fn save;
    fb_state_load_fn load;
    void *user;
} fbi_custom;
/* What its callback gives, malloc'ed. NULL: it failed, or no memory. */
void *fbi_custom_bytes(const fbi_custom *custom, size_t *bytes);

/* One entry: a tensor, an integer, a double, or bytes of the program's own. */
typedef struct fbi_state_entry {
    char key[FBI_KEY_BYTES]; /* "model/conv1.weight" */
    fb_tensor *t;
    int64_t *i;
    double *f;
    const fbi_custom *custom;
    bool steady; /* the context's guard is told before the tensor's memory changes */
} fbi_state_entry;

typedef fb_status (*fbi_state_visit)(const fbi_state_entry *entry, void *user);

/* Every entry, in the order of adding; modules are materialised first. Stops at a non-zero status.
 */
fb_status fbi_state_each(fb_state *s, fbi_state_visit fn, void *user);
fb_context *fbi_state_context(fb_state *s);
/* Whether there is anything of fb_state_add_custom in it. */
bool fbi_state_has_custom(const fb_state *s);
/* Every meter gets the leaves of all ranks, so that one rank can save them, and modules get their
 * weights: a rank that alone made some would number all later ones otherwise. Collective. */
fb_status fbi_state_share(fb_state *s, fb_group *group);
/* Steps done, for the name of a checkpoint: those of the first loader or optimizer; -1 without one.
 */
int64_t fbi_state_step(fb_state *s);

#endif
