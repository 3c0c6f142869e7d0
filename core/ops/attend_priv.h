/* The row `attention`: what it takes. */
#ifndef FLAMBEAU_CORE_OPS_ATTEND_PRIV_H
#define FLAMBEAU_CORE_OPS_ATTEND_PRIV_H

#include "core/ops/op_priv.h"

/* Whether one kernel does it all: there is one, the leading dimensions agree and nothing is empty.
 */
bool fbi_attention_fits(const fb_tensor *q, const fb_tensor *k, const fb_tensor *v);

#endif
