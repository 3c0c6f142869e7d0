/* What the two norms share in their backward passes of operators. */
#include "core/ops/norm_priv.h"

#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>

bool fbi_norm_parts_of(fb_tensor *x, fb_shape dims, double eps, fbi_norm_parts *p)
{
    p->centred = fb_sub(x, fb_mean(x, dims, true));
    fb_tensor *var = fb_mean(fb_mul(p->centred, p->centred), dims, true);
    p->rstd = fb_pow_scalar(fb_add_scalar(var, eps), -0.5);
    p->hat = fb_mul(p->centred, p->rstd);
    return p->hat != NULL;
}

fb_tensor *fbi_norm_dx(const fbi_norm_parts *p, fb_tensor *ghat, fb_shape dims)
{
    fb_tensor *along = fb_mul(p->hat, fb_mean(fb_mul(ghat, p->hat), dims, true));
    fb_tensor *rest = fb_sub(fb_sub(ghat, fb_mean(ghat, dims, true)), along);
    return fb_mul(rest, p->rstd);
}
