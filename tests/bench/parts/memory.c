#include "tests/bench/parts/parts.h"

void bench_use_memory(fb_context *ctx, int tensors, fb_shape shape)
{
    enum { USES = 4 };
    for (int use = 0; use < USES; use++) {
        FB_SCOPE(ctx);
        for (int k = 0; k < tensors; k++)
            if (!fb_zeros(ctx, FB_F32, shape))
                return;
    }
}
