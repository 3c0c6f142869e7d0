/* A build without oneDNN: everything is declined, the own kernels do the work. */
#include <stdio.h>

#include "core/cpu/dnn_priv.h"

fb_status fbi_dnn_conv(const fbi_call *c, fbi_conv_kind kind, const fbi_conv *p, void *src,
                       void *weight, const void *bias, void *dst, float beta)
{
    (void)c;
    (void)kind;
    (void)p;
    (void)src;
    (void)weight;
    (void)bias;
    (void)dst;
    (void)beta;
    return FB_E_UNSUPPORTED;
}

bool fbi_dnn_has_bf16(void)
{
    return false;
}

fb_status fbi_dnn_matmul(const fbi_call *c, const fbi_mm *g, int64_t panel)
{
    (void)c;
    (void)g;
    (void)panel;
    return FB_E_UNSUPPORTED;
}

fbi_dnn *fbi_dnn_of(fb_context *ctx)
{
    (void)ctx;
    return NULL;
}

void fbi_dnn_version(char *out, size_t size)
{
    snprintf(out, size, "none");
}
