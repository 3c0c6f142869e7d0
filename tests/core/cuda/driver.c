/* A stand-in for libcuda.so.1, for test_driver.sh: how old it is and how its start fails are
 * settings. NVIDIA's runtime checks that a driver is its own before it uses one further, so that
 * this is as far as a stand-in goes; what a card does later is played by the simulated runtime
 * (test_cards.sh, test_faults.c). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int setting(const char *name, int otherwise)
{
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

int cuDriverGetVersion(int *version)
{
    *version = setting("DRIVER_VERSION", 0);
    return 0;
}

int cuInit(unsigned flags)
{
    (void)flags;
    return setting("DRIVER_INIT", 0);
}

int cuGetExportTable(const void **table, const void *id)
{
    (void)id;
    *table = NULL;
    return 0;
}

static int other(void)
{
    return 999; /* unknown */
}

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status)
{
    static const struct {
        const char *name;
        void *function;
    } known[] = {{"cuDriverGetVersion", (void *)cuDriverGetVersion},
                 {"cuInit", (void *)cuInit},
                 {"cuGetExportTable", (void *)cuGetExportTable},
                 {"cuGetProcAddress", (void *)cuGetProcAddress_v2}};
    (void)version, (void)flags;
    *function = (void *)other;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(name, known[i].name))
            *function = known[i].function;
    if (status)
        *status = 0;
    return 0;
}
