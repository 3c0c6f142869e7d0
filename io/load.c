#include "io/load_priv.h"

#include <stdio.h>
#include <string.h>

#include "core/nn/module_priv.h"

/* Whether `name` is `pattern`; *middle and *n: what its '*' stands for. */
static bool matches(const char *pattern, const char *name, const char **middle, size_t *n)
{
    const char *star = strchr(pattern, '*');
    size_t length = strlen(name), head = star ? (size_t)(star - pattern) : 0,
           tail = star ? strlen(star + 1) : 0;
    *middle = name + head;
    *n = 0;
    if (!star)
        return !strcmp(pattern, name);
    if (length < head + tail || strncmp(pattern, name, head) != 0 ||
        strcmp(star + 1, name + length - tail) != 0)
        return false;
    *n = length - head - tail;
    return true;
}

bool fbi_rename(const fb_rename *rules, const char *name, char *out, size_t size)
{
    const char *middle;
    size_t n;
    for (const fb_rename *r = rules; r && r->from; r++) {
        if (!matches(r->from, name, &middle, &n))
            continue;
        if (!r->to)
            return false;
        const char *star = strchr(r->to, '*');
        int used = star ? snprintf(out, size, "%.*s%.*s%s", (int)(star - r->to), r->to, (int)n,
                                   middle, star + 1)
                        : snprintf(out, size, "%s", r->to);
        return used >= 0 && (size_t)used < size;
    }
    int used = snprintf(out, size, "%s", name);
    return used >= 0 && (size_t)used < size;
}

bool fbi_load_allows(const char *glob, const char *name)
{
    return glob && fbi_glob_match(glob, name);
}
