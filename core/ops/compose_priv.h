/* What composed rows share. */
#ifndef FLAMBEAU_CORE_OPS_COMPOSE_PRIV_H
#define FLAMBEAU_CORE_OPS_COMPOSE_PRIV_H

#include "core/ops/op_priv.h"

#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/loss.h>

/* A number in the dtype of a tensor, to be broadcast. */
static inline fb_tensor *fbi_scalar(const fb_tensor *like, double value)
{
    return like ? fb_full(like->ctx, (fb_dtype)like->dtype, FB_SCALAR, value) : NULL;
}

/* x, but `least` where x is smaller; the gradient passes in both cases, as where PyTorch keeps a
 * denominator off 0 in place. */
fb_tensor *fbi_floor_through(fb_tensor *x, double least);

/* A floating input 0 and a reduction that there is. */
fb_status fbi_need_loss(const fbi_call *c, int64_t reduction);
/* The losses of the items as one, or as they are. */
fb_tensor *fbi_reduced(fb_tensor *loss, int64_t reduction);
/* Logits in[x], indices of classes in[x + 1] and weights of the classes (or NULL) that fit. */
fb_status fbi_need_classes(const fbi_call *c, int x, const fb_tensor *weight);

#endif
