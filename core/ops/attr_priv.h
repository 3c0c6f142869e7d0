/* Descriptions of attributes, for the by-name door. */
#ifndef FLAMBEAU_CORE_OPS_ATTR_PRIV_H
#define FLAMBEAU_CORE_OPS_ATTR_PRIV_H

#include "core/ops/op_priv.h"

typedef struct fbi_attr_info {
    const char *name;
    char type;    /* 'i' int, 'f' f64, 'u' u64, 's' shape */
    double value; /* default; of a shape: the empty one */
} fbi_attr_info;

#endif
