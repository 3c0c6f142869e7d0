/* Several datasets as one, one behind the other; drawn from in fixed proportions, if it has any. */
#ifndef FLAMBEAU_IO_MIXTURE_PRIV_H
#define FLAMBEAU_IO_MIXTURE_PRIV_H

#include "io/dataset_priv.h"
#include "io/walk_priv.h"

typedef struct fbi_source {
    fb_dataset *ds;
    int64_t begin, n;         /* of the mixture's samples */
    int64_t first, share;     /* of the draws of a block; share 0: none */
    int field[FB_MAX_FIELDS]; /* of the source, by field of the mixture */
} fbi_source;

typedef struct fbi_mixture {
    int n;
    int64_t block; /* draws; 0: no proportions, the samples are one set */
    fbi_source sources[];
} fbi_mixture;

/* What a dataset is made of; NULL: it is no mixture. */
const fbi_mixture *fbi_mixture_of(const fb_dataset *ds);

#endif
