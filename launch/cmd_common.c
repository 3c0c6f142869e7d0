/* What several sub-commands need: numbers and programs of a command line. */
#include "launch/commands_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool fbi_parse_count(const char *command, const char *option, const char *text, int64_t min,
                     int64_t max, int64_t *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end || errno || number < min || number > max) {
        fprintf(stderr, "%s: %s %s: a whole number from %" PRId64 " to %" PRId64 " is needed\n",
                command, option, text, min, max);
        return false;
    }
    *value = number;
    return true;
}

bool fbi_parse_number(const char *command, const char *option, const char *text, double *value)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !isfinite(number)) {
        fprintf(stderr, "%s: %s %s: a number is needed\n", command, option, text);
        return false;
    }
    *value = number;
    return true;
}

static bool can_run(const char *path)
{
    struct stat info;
    return !stat(path, &info) && S_ISREG(info.st_mode) && !access(path, X_OK);
}

bool fbi_find_program(const char *name, char *path, int size)
{
    if (strchr(name, '/')) {
        snprintf(path, (size_t)size, "%s", name);
        return can_run(path);
    }
    const char *folders = getenv("PATH");
    while (folders && *folders) {
        int length = (int)strcspn(folders, ":");
        snprintf(path, (size_t)size, "%.*s/%s", length, folders, name);
        if (can_run(path))
            return true;
        folders += length;
        folders += *folders == ':';
    }
    return false;
}
