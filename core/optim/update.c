/* The loops of the optimizers: one pass over parameter, gradient and state. Element by element, so
 * the bits do not depend on how the work is split. */
#include <math.h>

#include "core/optim/optimizer_priv.h"

enum { MIN_PARALLEL = 32768 }; /* elements below which one thread is faster */

#define T         float
#define NAME(n)   n##_f32
#define SQRT      sqrtf
#define MAX(a, b) fmaxf(a, b)
#include "core/optim/update_body_priv.h"
#define T         double
#define NAME(n)   n##_f64
#define SQRT      sqrt
#define MAX(a, b) fmax(a, b)
#include "core/optim/update_body_priv.h"

void fbi_update_sgd(const fbi_run *r, const fbi_sgd_numbers *k)
{
    if (r->dtype == FB_F32)
        sgd_f32(r, k);
    else
        sgd_f64(r, k);
}

void fbi_update_adam(const fbi_run *r, const fbi_adam_numbers *k)
{
    if (r->dtype == FB_F32)
        adam_f32(r, k);
    else
        adam_f64(r, k);
}
