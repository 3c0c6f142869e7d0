/* The backward formula that batch_norm and layer_norm share, in operators. */
#ifndef FLAMBEAU_CORE_OPS_NORM_PRIV_H
#define FLAMBEAU_CORE_OPS_NORM_PRIV_H

#include "core/ops/half_priv.h"

/* x normalised over `dims`, with its parts; all of operators, so derivatives of any order follow.
 */
typedef struct fbi_norm_parts {
    fb_tensor *centred, *rstd, *hat; /* x - mean, 1 / sqrt(var + eps), their product */
} fbi_norm_parts;

bool fbi_norm_parts_of(fb_tensor *x, fb_shape dims, double eps, fbi_norm_parts *p);
/* Gradient of x from the gradient of hat. */
fb_tensor *fbi_norm_dx(const fbi_norm_parts *p, fb_tensor *ghat, fb_shape dims);

#endif
