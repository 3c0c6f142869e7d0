/* Slurm's short forms: lists of hosts, "gpu[01-03,7],login", and of numbers, "2(x3),1". */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/run_priv.h"

enum { NAME_BYTES = 256, MAX_HOSTS = 1 << 20 };

/* The next number of "2(x3),1"; the last one stays. 0: it is no such list. */
typedef struct numbers {
    const char *at;
    long value, left;
} numbers;

static long next_number(numbers *l)
{
    if (l->left > 0 || !*l->at) {
        l->left--;
        return l->value;
    }
    char *end;
    l->value = strtol(l->at, &end, 10);
    l->left = 1;
    if (end == l->at || l->value < 1)
        return 0;
    if (!strncmp(end, "(x", 2)) {
        l->left = strtol(end + 2, &end, 10);
        if (*end++ != ')' || l->left < 1)
            return 0;
    }
    l->at = end + (*end == ',');
    l->left--;
    return l->value;
}

static bool add_name(fbi_allocation *a, const char *name, numbers *tasks)
{
    long slots = next_number(tasks);
    return slots > 0 && *name && a->n < MAX_HOSTS &&
           fbi_allocation_add(a, name, strlen(name), (int)slots);
}

/* All names of text[0..n), which begin with `head`: each bracket multiplies them. */
static bool expand(fbi_allocation *a, const char *head, const char *text, size_t n, numbers *tasks)
{
    char name[NAME_BYTES];
    const char *open = memchr(text, '[', n);
    size_t plain = open ? (size_t)(open - text) : n;
    int used = snprintf(name, sizeof name, "%s%.*s", head, (int)plain, text);
    if (used >= NAME_BYTES)
        return false;
    if (!open)
        return add_name(a, name, tasks);
    const char *close = memchr(open, ']', n - plain);
    if (!close)
        return false;
    const char *rest = close + 1;
    size_t left = n - (size_t)(rest - text);
    for (const char *at = open + 1; at < close; at += *at == ',') {
        char *end;
        if (!isdigit((unsigned char)*at))
            return false;
        int width = (int)strspn(at, "0123456789");
        long first = strtol(at, &end, 10), last = first;
        if (*end == '-' && isdigit((unsigned char)end[1]))
            last = strtol(end + 1, &end, 10);
        if (last < first || last - first >= MAX_HOSTS || (*end != ',' && *end != ']'))
            return false;
        for (long i = first; i <= last; i++) {
            if (snprintf(name + used, sizeof name - (size_t)used, "%0*ld", width, i) >=
                    NAME_BYTES - used ||
                !expand(a, name, rest, left, tasks))
                return false;
        }
        at = end;
    }
    return true;
}

/* Length up to the next comma outside of brackets. */
static size_t entry_length(const char *text)
{
    size_t n = 0;
    for (bool inside = false; text[n] && (inside || text[n] != ','); n++)
        inside = text[n] == '[' || (inside && text[n] != ']');
    return n;
}

bool fbi_allocation_slurm(fbi_allocation *a, const char *list, const char *tasks)
{
    numbers each = {.at = tasks && *tasks ? tasks : "1"};
    while (*list) {
        size_t n = entry_length(list);
        if (!expand(a, "", list, n, &each))
            return false;
        list += n + (list[n] == ',');
    }
    return a->n > 0;
}
