/* The saves of a world, one at a time: at once, or by a thread while training goes on. */
#ifndef FLAMBEAU_IO_SAVER_PRIV_H
#define FLAMBEAU_IO_SAVER_PRIV_H

#include "io/save_priv.h"

typedef struct fbi_saver fbi_saver;

/* What is to be saved, and where. `dir` has a length that was checked. */
typedef struct fbi_save_order {
    fb_world *world;
    fb_state *state;
    const char *dir;
    int keep;
    bool best;
    int64_t files; /* 0: as many as are worth a node each */
} fbi_save_order;

/* All are collective; rank 0 knows what becomes of it. @return whether it is saved, or being saved
 */
bool fbi_saver_save(const fbi_save_order *order);
bool fbi_saver_begin(const fbi_save_order *order);
/* Wait for the save that threads do, and say what became of it. @return false: it failed */
bool fbi_saver_wait(fb_world *world);

#endif
