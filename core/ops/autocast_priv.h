/* A call under autocast. */
#ifndef FLAMBEAU_CORE_OPS_AUTOCAST_PRIV_H
#define FLAMBEAU_CORE_OPS_AUTOCAST_PRIV_H

#include "core/ops/op_priv.h"

typedef enum fbi_cast_class {
    FBI_CAST_NOT_LISTED, /* as it is; what it is made of may be listed */
    FBI_CAST_NONE,       /* as it is, all of it */
    FBI_CAST_HALF,       /* in the half */
    FBI_CAST_WIDE,       /* halves in F32 */
    FBI_CAST_WIDEST      /* in F32 if one input is */
} fbi_cast_class;

/* What the lists say of an operator, on the CPU or on cards. */
fbi_cast_class fbi_cast_class_of(bool card, fbi_op op);
/* fbi_run, its inputs checked, with ctx->autocast on. */
fb_status fbi_run_autocast(fb_context *ctx, const fbi_opdef *d, const void *attrs,
                           fb_tensor *const *in, int n, fb_tensor **out);

#endif
