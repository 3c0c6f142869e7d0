/* Under which name a kernel notes what is wrong. */
#ifndef FLAMBEAU_CORE_CUDA_NOTE_PRIV_H
#define FLAMBEAU_CORE_CUDA_NOTE_PRIV_H

#include "core/cuda/cuda_priv.h"

/* The row that the user has called: the call's own, or the one that is made of it. */
static inline int fbi_noted_op(const fbi_call *c)
{
    const fbi_opdef *table = c->op - c->op->op; /* rows lie in the order of their numbers */
    for (int i = 0; c->ctx->composing && i < FBI_OP_COUNT; i++)
        if (table[i].name == c->ctx->composing)
            return i;
    return c->op->op;
}

#endif
