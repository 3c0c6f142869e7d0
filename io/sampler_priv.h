/* Which sample stands at which position of an epoch: O(1), the same for any number of ranks. */
#ifndef FLAMBEAU_IO_SAMPLER_PRIV_H
#define FLAMBEAU_IO_SAMPLER_PRIV_H

#include <flambeau/io/loader.h>

#include "io/alias_priv.h"
#include "io/buckets_priv.h"
#include "io/mixture_priv.h"
#include "io/walk_priv.h"

/* What decides the order, beside seed and sizes: compared between ranks, and with a checkpoint,
 * which has those that are not 0. */
typedef enum fbi_sampler_fact {
    FBI_FACT_BLOCK,
    FBI_FACT_WINDOW,
    FBI_FACT_WEIGHTS,
    FBI_FACT_WEIGH_BY,
    FBI_FACT_EPOCH,
    FBI_FACT_BUCKET,
    FBI_FACT_BUCKET_BY,
    FBI_FACT_SOURCES,
    FBI_FACT_SEED, /* and what follows: only beside others */
    FBI_FACT_SAMPLES,
    FBI_FACT_BATCH,
    FBI_SAMPLER_FACTS
} fbi_sampler_fact;

/* Draws: from one dataset, with weights, or from the sources of a mixture. */
typedef struct fbi_sampler {
    int64_t n, epoch; /* positions of an epoch */
    uint64_t seed;
    fbi_walk walk; /* of the dataset */
    int64_t asked; /* the last window of blocks that the dataset was asked to read; -1: none */

    fbi_alias *weights;
    int64_t n_weights;

    const fbi_mixture *mix;
    fbi_order pattern; /* of the sources in a block of draws, to part */
    fbi_walk *walks;   /* of the sources */

    fbi_buckets *buckets; /* or NULL */
} fbi_sampler;

extern const char *const fbi_sampler_fact_names[FBI_SAMPLER_FACTS];
/* Hashes, which tell nobody anything. */
extern const bool fbi_sampler_fact_hashed[FBI_SAMPLER_FACTS];

/* Give options their defaults. An error is set: they do not fit each other or the dataset. */
fb_status fbi_sampler_check(const fb_dataset *ds, fb_loader_options *o);
/* Of options that were checked; 0 where they ask for nothing. */
void fbi_sampler_facts(const fb_dataset *ds, const fb_loader_options *o,
                       int64_t facts[FBI_SAMPLER_FACTS]);
/* Collective over a group; close it even if it failed. */
fb_status fbi_sampler_open(fbi_sampler *s, fb_group *group, fb_dataset *ds,
                           const fb_loader_options *o);
void fbi_sampler_close(fbi_sampler *s);
void fbi_sampler_begin(fbi_sampler *s, int64_t epoch);
/* Whether an epoch may have a sample more than once. */
bool fbi_sampler_repeats(const fbi_sampler *s);
/* The dataset's index of the sample at a position of the current epoch. */
int64_t fbi_sampler_at(fbi_sampler *s, int64_t position);

/* Blocks of the window that a position is in, and of the next one, are read before their samples
 * are wanted one by one. */
void fbi_sampler_ahead(fbi_sampler *s, fb_dataset *ds, int64_t position);

/* The table of draws by weights (io/weights.c). malloc'ed; NULL: error is set. Collective. */
fbi_alias *fbi_weights_open(fb_group *group, fb_dataset *ds, const fb_loader_options *o);
fb_status fbi_weights_check(const fb_dataset *ds, const fb_loader_options *o);

#endif
