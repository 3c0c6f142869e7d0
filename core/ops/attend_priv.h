/* The row `attention`: what it takes. */
#ifndef FLAMBEAU_CORE_OPS_ATTEND_PRIV_H
#define FLAMBEAU_CORE_OPS_ATTEND_PRIV_H

#include "core/ops/op_priv.h"

/* Whether one kernel does it all: there is one, the leading dimensions agree and nothing is empty.
 * grouped: k and v may have fewer heads. */
bool fbi_attention_fits(const fb_tensor *q, const fb_tensor *k, const fb_tensor *v, bool grouped);

/* The same of operators; NULL: the error is set. t with each head repeated up to `heads`; weights
 * before they are dropped out, with any mask that broadcasts; weights (or their gradient) after
 * that. */
fb_tensor *fbi_repeat_heads(fb_tensor *t, int64_t heads);
fb_tensor *fbi_attention_weights(fb_tensor *q, fb_tensor *k, fb_tensor *mask,
                                 const fbi_attrs_attention *a);
fb_tensor *fbi_attention_dropped(fb_tensor *w, const fbi_attrs_attention *a);

#endif
