/* Names of operators, backward passes and optimizer steps for NVIDIA's profilers. */
#include <nvtx3/nvToolsExt.h>
#include <stdlib.h>
#include <string.h>

#include "core/cuda/cuda_priv.h"

static void begin(void *self, const fbi_trace_span *span)
{
    (void)self;
    (void)nvtxRangePushA(span->name);
}

static void end(void *self)
{
    (void)self;
    (void)nvtxRangePop();
}

/* FLAMBEAU_NVTX=1 or 0; else whether a profiler has hung itself in. */
bool fbi_cuda_trace(fbi_trace *trace)
{
    const char *asked = getenv("FLAMBEAU_NVTX"), *profiler = getenv("NVTX_INJECTION64_PATH");
    bool on = asked && *asked ? strcmp(asked, "0") != 0 : profiler && *profiler;
    *trace = (fbi_trace){.begin = begin, .end = end};
    return on;
}
