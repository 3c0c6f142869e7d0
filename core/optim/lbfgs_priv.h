/* What a line search along a direction asks, and finds. */
#ifndef FLAMBEAU_CORE_OPTIM_LBFGS_PRIV_H
#define FLAMBEAU_CORE_OPTIM_LBFGS_PRIV_H

#include <flambeau/core/tensor/tensor.h>

/* A place on the line: loss, slope along the direction, gradient. */
typedef struct fbi_probe {
    double t, f, slope;
    fb_tensor *g;
} fbi_probe;

typedef struct fbi_search {
    fb_status (*look)(void *self, double t, fbi_probe *p);
    void *self;
    double tolerance, largest; /* an interval is small if its length times `largest` is */
    int64_t most;              /* times that it looks, after the first */
} fbi_search;

/* A place that satisfies Wolfe's strong conditions, or the best that was found: first t away from
 * `from`, where t is 0. One that is not finite ends the search. */
fb_status fbi_line_search(const fbi_search *s, const fbi_probe *from, double t, fbi_probe *found);

#endif
