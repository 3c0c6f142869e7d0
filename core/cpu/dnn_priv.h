/* oneDNN behind a wall: F32 convolutions, BF16 products. A build without oneDNN links
 * dnn_none.c, which declines everything; every kernel that asks has a way of its own. */
#ifndef FLAMBEAU_CORE_CPU_DNN_PRIV_H
#define FLAMBEAU_CORE_CPU_DNN_PRIV_H

#include "core/ops/backend.h"

/* Sizes of a 2-d convolution. Activations are dense [n, h, w, c], weights dense [k, c / groups, kh,
 * kw]. */
typedef struct fbi_conv {
    fb_dtype dtype;
    int64_t n, c, h, w, k, oh, ow, kh, kw;
    int64_t stride[2], padding[2], dilation[2], groups;
    bool relu; /* of the results of FWD, which only Winograd's does by itself */
} fbi_conv;

typedef enum fbi_conv_kind { FBI_CONV_FWD, FBI_CONV_DATA, FBI_CONV_WEIGHT } fbi_conv_kind;

/* FWD: dst = src * weight + bias; DATA: src is written; WEIGHT: weight = beta * weight + ... is
 * written. FB_E_UNSUPPORTED, without an error on the context: oneDNN has no code for it. */
fb_status fbi_dnn_conv(const fbi_call *c, fbi_conv_kind kind, const fbi_conv *p, void *src,
                       void *weight, const void *bias, void *dst, float beta);

/* Whether oneDNN uses the processor's units for BF16: AMX or AVX512-BF16. */
bool fbi_dnn_has_bf16(void);
/* A product of BF16, see gemm_priv.h; `panel` of its rows belong together. FB_E_UNSUPPORTED,
 * without an error on the context: it is too small for it to pay, or oneDNN has no code for it. */
typedef struct fbi_mm fbi_mm;
fb_status fbi_dnn_matmul(const fbi_call *c, const fbi_mm *g, int64_t panel);

/* The adapter of a context, made at first use and closed with the context. NULL: error is set. */
typedef struct fbi_dnn fbi_dnn;
fbi_dnn *fbi_dnn_of(fb_context *ctx);

#endif
