/* Built without NCCL's header: collectives of the card's tensors go through the host. */
#include "core/cuda/cuda_priv.h"

static bool usable(fb_context *ctx, char card[FBI_LINK_CARD_BYTES])
{
    (void)ctx, (void)card;
    return false;
}

static const char *reason(fb_context *ctx)
{
    (void)ctx;
    return "this build has found no nccl.h: install NCCL's headers and build again";
}

void fbi_cuda_comm_close(fbi_cuda *d)
{
    (void)d;
}

const fbi_device_comm fbi_cuda_comm = {.library = "NCCL", .usable = usable, .reason = reason};
