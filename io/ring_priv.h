/* Samples that the program makes while it trains, as a dataset. */
#ifndef FLAMBEAU_IO_RING_PRIV_H
#define FLAMBEAU_IO_RING_PRIV_H

#include <flambeau/io/loader.h>

#include "io/dataset_priv.h"

struct fb_loader;

void fbi_ring_free(fbi_ring *ring);
/* Samples that the next epoch would have. */
int64_t fbi_ring_size(fbi_ring *ring);
/* A ring has one loader at a time, from joining to leaving. */
void fbi_ring_join(struct fb_loader *l);
void fbi_ring_leave(struct fb_loader *l);
/* What a loader may not ask of a ring, and whether it has another one. */
fb_status fbi_ring_check(const fb_dataset *ds, const fb_loader_options *o);
/* The loader's rank begins an epoch with what is there, and knows what the others have. Its threads
 * stand still. Collective over the loader's group. */
fb_status fbi_ring_begin(struct fb_loader *l);
/* Sample number `index` since the first one, of the epoch that was begun; -1: zeros. */
void fbi_ring_fetch(const fb_dataset *ds, int64_t index, void *const *out);

#endif
