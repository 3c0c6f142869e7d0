/* What losses are multiplied by: the same arithmetic on the host and in kernels. */
#ifndef FLAMBEAU_CORE_OPS_LOSS_SCALE_PRIV_H
#define FLAMBEAU_CORE_OPS_LOSS_SCALE_PRIV_H

#include <float.h>

#include "core/base/half.h" /* FBI_BOTH */
#include "core/ops/backend.h"

struct fbi_loss_scale {
    double scale; /* first: a tensor looks at it */
    double growth, backoff;
    int64_t interval, good; /* good: steps in a row since it changed */
    int64_t stepped, bad;   /* since a backward began: steps, and those that were not finite */
    int64_t skipped;        /* of all that there were */
};

/* A backward begins: the steps before it decide, as torch.amp.GradScaler.update. */
static inline FBI_BOTH void fbi_loss_scale_advance(fbi_loss_scale *s)
{
    double next = s->scale;
    if (s->stepped == 0)
        return;
    s->good = s->bad ? 0 : s->good + 1;
    if (s->bad)
        next *= s->backoff;
    if (s->good == s->interval) {
        next *= s->growth;
        s->good = 0;
    }
    if (next >= (double)FLT_MIN && next <= (double)FLT_MAX)
        s->scale = next;
    s->stepped = s->bad = 0;
}

/* A step has divided by it. */
static inline FBI_BOTH void fbi_loss_scale_note(fbi_loss_scale *s, bool finite)
{
    s->stepped++;
    s->bad += !finite;
    s->skipped += !finite;
}

#endif
