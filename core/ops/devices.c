/* Which backend serves a device name: "cpu", or "NAME:INDEX" of the plug-in NAME. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log_priv.h"
#include "core/ops/devices_priv.h"
#include "core/ops/plugin_priv.h"

static const fbi_core_api fbi_core = {
    .abi = FBI_BACKEND_ABI,
    .fail = fbi_fail,
    .storage_new = fbi_storage_new,
    .storage_unref = fbi_storage_unref,
    .tensor_new = fbi_tensor_new,
    .tensor_unref = fbi_tensor_unref,
    .next_stream = fbi_next_stream,
};

/* Plug-ins that a device name may ask for. */
static const char *const plugins[] = {"cuda", "cudasim"};

/* "cuda:1" -> the plug-in's name and 1. False: neither. */
static bool parse(const char *device, const char **name, int *index)
{
    size_t n = strcspn(device, ":");
    *index = 0;
    if (device[n] == ':') {
        const char *digits = device + n + 1;
        if (!*digits || strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 4)
            return false;
        *index = atoi(digits);
    }
    for (size_t i = 0; i < sizeof plugins / sizeof plugins[0]; i++)
        if (strlen(plugins[i]) == n && !strncmp(plugins[i], device, n)) {
            *name = plugins[i];
            return true;
        }
    return false;
}

/* Devices of a plug-in; 0: none, and `why` says so. */
static int count(const char *name, const fbi_plugin **plugin, char *why, size_t size)
{
    *plugin = fbi_plugin_open(name, why, size);
    return *plugin ? (*plugin)->count(why, size) : 0;
}

bool fbi_device_describe(const char *name, char *text, size_t size)
{
    const fbi_plugin *p = fbi_plugin_open(name, text, size);
    if (p)
        p->describe(text, size);
    return p != NULL;
}

/* Once in a process: who has cards and does not use them wants to know. */
static void say_why_not(const char *why)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&said))
        fbi_logline("context: an NVIDIA driver is loaded, but the CPU computes: %s "
                    "(FLAMBEAU_DEVICE=cpu chooses it without this line)",
                    why);
}

/* The device for those who do not ask for one: FLAMBEAU_DEVICE, or a card whose driver is loaded.
 * Without a driver the plug-in, which brings large libraries, is not even opened. */
static const char *default_device(bool tell)
{
    const char *asked = getenv("FLAMBEAU_DEVICE");
    const fbi_plugin *p;
    char why[512];
    if (asked && *asked)
        return asked;
    bool driver = access("/proc/driver/nvidia/version", F_OK) == 0 ||
                  access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0;
    if (!driver)
        return "cpu";
    if (count("cuda", &p, why, sizeof why) > 0)
        return "cuda";
    if (tell)
        say_why_not(why);
    return "cpu";
}

void fbi_devices_seen(const char *asked, bool tell, fbi_devices *seen)
{
    const char *device = asked ? asked : default_device(tell), *name;
    const fbi_plugin *p;
    char why[512];
    int index;
    *seen = (fbi_devices){0};
    snprintf(seen->device, sizeof seen->device, "%s", device);
    if (strchr(device, ':') || !parse(device, &name, &index))
        return;
    int n = count(name, &p, why, sizeof why); /* of none, opening it says why */
    seen->n = n < FBI_MAX_CARDS ? n : FBI_MAX_CARDS;
    for (int i = 0; i < seen->n; i++)
        seen->card[i] = p->name(i);
}

static fb_status open_plugin(fb_context *ctx, const char *device, const char *name, int index,
                             const fb_context_options *options)
{
    char why[512];
    const fbi_plugin *p;
    int n = count(name, &p, why, sizeof why);
    if (n == 0)
        return fbi_fail(ctx, FB_E_DEVICE, "context: device \"%s\": %s; or use \"cpu\"", device,
                        why);
    if (index >= n)
        return fbi_fail(ctx, FB_E_DEVICE,
                        "context: device \"%s\": there %s %d: \"%s:0\"%s; ranks of one machine "
                        "need a card each",
                        device, n > 1 ? "are" : "is", n, name, n > 1 ? " and up" : "");
    ctx->backend = p->backend;
    snprintf(ctx->device_name, sizeof ctx->device_name, "%s:%d", name, index);
    return ctx->backend->open(ctx, index, options, &fbi_core);
}

fb_status fbi_device_open(fb_context *ctx, const fb_context_options *options)
{
    const char *device = options && options->device ? options->device : default_device(true), *name;
    int index;
    if (!strcmp(device, "cpu")) {
        ctx->backend = &fbi_backend_cpu;
        return ctx->backend->open(ctx, 0, options, &fbi_core);
    }
    if (parse(device, &name, &index))
        return open_plugin(ctx, device, name, index, options);
    return fbi_fail(ctx, FB_E_DEVICE,
                    "context: unknown device \"%s\"; known are \"cpu\" and \"cuda:0\"", device);
}
