/* Opening a plug-in: where it may lie, and whether it is of this build. */
#include "core/ops/plugin_priv.h"

#include "core/base/log_priv.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The folder of the library or program that this code is in. */
static bool own_folder(char *folder, size_t size)
{
    static const char here = 0;
    Dl_info info;
    char path[PATH_MAX];
    if (!dladdr(&here, &info) || !info.dli_fname)
        return false;
    /* Programs may be known by the name they were called with. */
    if (!strchr(info.dli_fname, '/') || !realpath(info.dli_fname, path)) {
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
        if (n <= 0)
            return false;
        path[n] = '\0';
    }
    snprintf(folder, size, "%s", dirname(path));
    return true;
}

/* The first of the folders that has the file. $FLAMBEAU_PLUGINS comes first. */
static bool find(const char *name, char *path, size_t size, char *why, size_t why_size)
{
    const char *asked = getenv("FLAMBEAU_PLUGINS");
    char own[PATH_MAX] = "";
    if (asked && *asked) {
        snprintf(path, size, "%s/libflambeau_%s.so", asked, name);
        if (access(path, R_OK) == 0)
            return true;
    }
    static const char *const beside[] = {"", "/../lib", "/../" FBI_LIBDIR};
    bool known = own_folder(own, sizeof own);
    for (size_t i = 0; known && i < sizeof beside / sizeof beside[0]; i++) {
        snprintf(path, size, "%s%s/libflambeau_%s.so", own, beside[i], name);
        if (access(path, R_OK) == 0)
            return true;
    }
    snprintf(why, why_size,
             "there is no libflambeau_%s.so in %s or its ../lib (nor in FLAMBEAU_PLUGINS): this "
             "build has no such plug-in",
             name, own);
    return false;
}

/* What differs; NULL: nothing. */
static const char *difference(const fbi_stamp *p)
{
    const fbi_stamp mine = FBI_STAMP_HERE;
    if (p->abi != mine.abi || p->version != mine.version)
        return "is of another version than";
    if (p->ops != mine.ops || strcmp(p->rows, mine.rows) != 0)
        return "has other operators than";
    return p->context != mine.context || p->tensor != mine.tensor || p->call != mine.call ||
                   p->backend != mine.backend || p->plugin != mine.plugin
               ? "was compiled with other structs than"
               : NULL;
}

const fbi_plugin *fbi_plugin_open(const char *name, char *why, size_t size)
{
    char path[PATH_MAX + 64];
    if (!find(name, path, sizeof path, why, size))
        return NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        snprintf(why, size,
                 "%s cannot be loaded: %s: install what it names, or put its folder into "
                 "LD_LIBRARY_PATH",
                 path, dlerror());
        return NULL;
    }
    const fbi_plugin *p = dlsym(library, FBI_PLUGIN_SYMBOL);
    const char *other = p ? difference(&p->stamp) : "is no plug-in for";
    dlclose(library); /* NODELETE: it stays */
    if (!other) {
        p->listen(fbi_logline);
        return p;
    }
    snprintf(why, size, "%s %s this library: build and install both together", path, other);
    return NULL;
}
