/* What decides the bits of a run beside its program and data: kept in manifests, compared on
 * resume.
 */
#include <stdio.h>
#include <string.h>

#include "core/base/log_priv.h"
#include "core/ops/backend.h"
#include "io/checkpoint_priv.h"

static void processor_name(char *out, size_t size)
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon)
            continue;
        snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f)
        fclose(f);
}

json_t *fbi_run_describe(const fb_context *ctx, int ranks)
{
    char version[32], onednn[32], processor[128];
    int v = fb_version();
    snprintf(version, sizeof version, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    fbi_dnn_version(onednn, sizeof onednn);
    processor_name(processor, sizeof processor);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:I, s:I}", "flambeau", version,
                     "compiler", __VERSION__, "device", ctx->device_name, "processor", processor,
                     "kernels", fbi_cpu_kernels_of(ctx), "onednn", onednn, "ranks", ranks, "shards",
                     ctx->hooks.shards ? ctx->hooks.shards : 1, "threads", ctx->threads, "seed",
                     (json_int_t)ctx->seed, "draws", (json_int_t)ctx->counter);
}

bool fbi_run_differs(json_t *saved, json_t *now, char *text, size_t size)
{
    /* With the same shards the number of ranks changes no bit. */
    static const char *const keys[] = {"flambeau", "compiler", "device",  "processor", "kernels",
                                       "onednn",   "shards",   "threads", "seed"};
    size_t used = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *then = json_object_get(saved, keys[i]), *here = json_object_get(now, keys[i]);
        if (!then || json_equal(then, here) || used >= size)
            continue; /* manifests of older versions say less */
        const char *comma = used ? "; " : "";
        used +=
            (size_t)(json_is_string(then)
                         ? snprintf(text + used, size - used, "%s%s was \"%s\", is \"%s\"", comma,
                                    keys[i], json_string_value(then), json_string_value(here))
                         : snprintf(text + used, size - used, "%s%s was %lld, is %lld", comma,
                                    keys[i], (long long)json_integer_value(then),
                                    (long long)json_integer_value(here)));
    }
    return used > 0;
}

void fbi_run_resume(fb_world *world, const char *name, json_t *saved)
{
    fb_context *ctx = fb_world_context(world);
    char text[1024];
    json_t *now = fbi_run_describe(ctx, fb_world_size(world));
    if (fb_world_root(world) && fbi_run_differs(saved, now, text, sizeof text))
        fbi_logline("note: checkpoint %s: the run goes on, but not with the bits that it would "
                    "have had: %s",
                    name, text);
    json_decref(now);
    json_t *draws = json_object_get(saved, "draws");
    if (draws)
        ctx->counter = (uint64_t)json_integer_value(draws);
}
