/* Writing at places that indices name. */
#ifndef FLAMBEAU_CORE_OPS_SCATTER_PRIV_H
#define FLAMBEAU_CORE_OPS_SCATTER_PRIV_H

/* What an element becomes; the numbers are those of fb_scatter_reduction. COPY: the last one wins.
 */
enum { FBI_SET_SUM, FBI_SET_PROD, FBI_SET_MEAN, FBI_SET_MAX, FBI_SET_MIN, FBI_SET_COPY };

#endif
