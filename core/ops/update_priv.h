/* What a step of an optimizer does to one element: the same arithmetic on the host and in kernels.
 * Methods are those of torch.optim, in the same order of operations up to rounding. */
#ifndef FLAMBEAU_CORE_OPS_UPDATE_PRIV_H
#define FLAMBEAU_CORE_OPS_UPDATE_PRIV_H

#include <math.h>

#include "core/base/half.h" /* FBI_BOTH */
#include "core/ops/backend.h"

/* NAdam's momentum in step t. */
static inline FBI_BOTH double fbi_nadam_momentum(const fbi_method_numbers *m, double t)
{
    return m->beta1 * (1 - 0.5 * pow(0.96, t * m->decay));
}

/* 1 - the product of all momenta up to step t; below 2^-54 the product does not show. */
static inline FBI_BOTH double fbi_nadam_rest(const fbi_method_numbers *m, double t)
{
    double product = 1;
    for (double i = 1; i <= t && product > 0x1p-54; i++)
        product *= fbi_nadam_momentum(m, i);
    return 1 - product;
}

/* RAdam's rate where the variance is known well enough, 0 elsewhere: to be divided by the root. */
static inline FBI_BOTH double fbi_radam_rectified(const fbi_method_numbers *m, double t)
{
    double most = 2 / (1 - m->beta2) - 1, kept = pow(m->beta2, t);
    double length = most - 2 * t * kept / (1 - kept);
    if (!(length > 5))
        return 0;
    double rect = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length);
    return sqrt(rect) * sqrt(1 - kept);
}

/* Of the update number t of one parameter, whose gradient is to be multiplied by `scale`. */
static inline FBI_BOTH fbi_factors fbi_factors_of(const fbi_method_numbers *m, double lr_scale,
                                                  double weight_decay, double t, double scale)
{
    fbi_factors f = {0, 0, 0, 0, 0, 0, 0, 0};
    f.scale = m->maximize ? -scale : scale;
    f.lr = m->lr * lr_scale;
    f.shrink = m->decoupled ? 1 - f.lr * weight_decay : 1;
    f.weight_decay = m->decoupled ? 0 : weight_decay;
    f.first = t == 1;
    f.step_size = f.lr;
    if (m->kind == FBI_UPDATE_ADAGRAD)
        f.step_size = f.lr / (1 + (t - 1) * m->decay);
    if (m->kind == FBI_UPDATE_ADAM || m->kind == FBI_UPDATE_ADAMAX || m->kind == FBI_UPDATE_RADAM)
        f.step_size = f.lr / (1 - pow(m->beta1, t));
    if (m->kind == FBI_UPDATE_ADAM || m->kind == FBI_UPDATE_NADAM)
        f.per_root2 = 1 / sqrt(1 - pow(m->beta2, t));
    if (m->kind == FBI_UPDATE_NADAM) {
        double rest = fbi_nadam_rest(m, t), next = fbi_nadam_momentum(m, t + 1);
        f.step_size = f.lr * (1 - fbi_nadam_momentum(m, t)) / rest;
        f.next_size = f.lr * next / (1 - (1 - rest) * next);
    }
    if (m->kind == FBI_UPDATE_RADAM)
        f.next_size = fbi_radam_rectified(m, t);
    return f;
}

/* In C++ the two are told apart by their arguments. */
#define T       float
#define NAME(n) n##_f32
#define ROOT(x) sqrtf(x)
#define SIZE(x) fabsf(x)
#include "core/ops/update_element_priv.h"
#define T       double
#define NAME(n) n##_f64
#define ROOT(x) sqrt(x)
#define SIZE(x) fabs(x)
#include "core/ops/update_element_priv.h"

#endif
