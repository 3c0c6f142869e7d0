/* Which backend serves a device name. */
#include <string.h>

#include "core/ops/backend.h"

static const fbi_core_api fbi_core = {
    .abi = FBI_BACKEND_ABI,
    .fail = fbi_fail,
    .storage_new = fbi_storage_new,
    .storage_unref = fbi_storage_unref,
    .tensor_new = fbi_tensor_new,
    .tensor_unref = fbi_tensor_unref,
    .next_stream = fbi_next_stream,
};

fb_status fbi_device_open(fb_context *ctx, const fb_context_options *options)
{
    const char *name = options && options->device ? options->device : "cpu";
    if (!strcmp(name, "cpu")) {
        ctx->backend = &fbi_backend_cpu;
        return ctx->backend->open(ctx, 0, options, &fbi_core);
    }
    if (!strncmp(name, "cuda", 4) && (name[4] == 0 || name[4] == ':'))
        return fbi_fail(ctx, FB_E_UNSUPPORTED,
                        "context: device \"%s\": this build has no CUDA backend; use \"cpu\"",
                        name);
    return fbi_fail(ctx, FB_E_DEVICE, "context: unknown device \"%s\"; this build knows \"cpu\"",
                    name);
}
