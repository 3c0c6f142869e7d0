/* What batch_norm and layer_norm share: checks, the fast backward, its formula in operators. */
#ifndef FLAMBEAU_CORE_OPS_NORM_PRIV_H
#define FLAMBEAU_CORE_OPS_NORM_PRIV_H

#include "core/ops/half_priv.h"

/* x normalised over `dims`, with its parts; all of operators, so derivatives of any order follow.
 */
typedef struct fbi_norm_parts {
    fb_tensor *centred, *rstd, *hat; /* x - mean, 1 / sqrt(var + eps), their product */
} fbi_norm_parts;

bool fbi_norm_parts_of(fb_tensor *x, fb_shape dims, double eps, fbi_norm_parts *p);
/* Weight in[1] and bias in[2], where given, have the sizes `want`: of the `what` of the input. */
fb_status fbi_norm_params(const fbi_call *c, fb_shape want, const char *what);
/* Both gradients, by the kernel `op` of g, x, weight and the outputs 1 and 2. */
fb_status fbi_norm_bwd(fbi_bw *bw, fbi_op op, const void *attrs);
/* t [C] beside dimension 1 of ndim. */
fb_tensor *fbi_per_channel(fb_tensor *t, int ndim);
/* a + b; b where a is NULL. */
fb_tensor *fbi_sum_or(fb_tensor *a, fb_tensor *b);
/* Gradient of x from the gradient of hat. */
fb_tensor *fbi_norm_dx(const fbi_norm_parts *p, fb_tensor *ghat, fb_shape dims);
/* The last sizes of x, and whether they are `shape`. */
fb_shape fbi_tail(const fb_tensor *x, int64_t dims);
bool fbi_ends_in(const fb_tensor *x, fb_shape shape);
/* What follows from the gradients of layer_norm(x) over its last n dimensions, its means and its
 * rstd, of operators: those of the weight and the bias, inputs 1 and 2, are given; *dx (NULL: not
 * wanted) begins as NULL. */
fb_status fbi_layer_norm_ops(fbi_bw *bw, fb_tensor *x, fb_tensor *const grad[3], int64_t n,
                             double eps, fb_tensor **dx);

#endif
