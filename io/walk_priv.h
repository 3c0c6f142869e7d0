/* Passes over the samples of one dataset, one behind the other, each in an order of its own. */
#ifndef FLAMBEAU_IO_WALK_PRIV_H
#define FLAMBEAU_IO_WALK_PRIV_H

#include <stdbool.h>

#include "io/order_priv.h"

/* Orders: as the samples are; permuted; or blocks of neighbours permuted, and the samples within
 * windows of blocks. */
typedef struct fbi_walk {
    int64_t n; /* samples */
    bool shuffle;
    int64_t block, window; /* samples of a block, blocks of a window; 0: no blocks */
    uint64_t seed;

    /* of the pass that was asked for last */
    int64_t pass;
    fbi_order order, inside; /* of samples or blocks; of samples within a window, to part */
    int64_t short_slot;      /* the place of the last block, which may be short, among the blocks */
} fbi_walk;

/* Of n, shuffle, block, window and seed. */
fbi_walk fbi_walk_make(fbi_walk plain);
/* The sample at place `draw` of all passes: O(1). */
int64_t fbi_walk_at(fbi_walk *w, int64_t draw);
/* Windows of blocks are numbered through all passes: that of a draw. */
int64_t fbi_walk_window(fbi_walk *w, int64_t draw);
/* Block k of a window: its first sample, and how many it has; false: there are not so many. */
bool fbi_walk_block(fbi_walk *w, int64_t window, int64_t k, int64_t *first, int64_t *n);

#endif
