#include "launch/progress_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 30 };
static const double every_s = 0.1;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void show(fbi_progress *p)
{
    char bar[WIDTH + 1] = "";
    double share = p->total > 0 ? (double)p->done / (double)p->total : 1;
    int full = (int)(share * WIDTH);
    memset(bar, ' ', WIDTH);
    memset(bar, '=', (size_t)(full < WIDTH ? full : WIDTH));
    p->shown = now();
    double spent = p->shown - p->begun;
    fprintf(stderr, "\r%s [%s] %3.0f %% of %" PRId64 ", %.0f s left ", p->what, bar, 100 * share,
            p->total, share > 0 ? spent / share - spent : 0);
    fflush(stderr);
}

void fbi_progress_begin(fbi_progress *p, const char *what, int64_t total)
{
    const char *wish = getenv("FLAMBEAU_PROGRESS");
    *p = (fbi_progress){.what = what, .total = total, .begun = now()};
    p->on = wish ? !strcmp(wish, "1") : isatty(STDERR_FILENO) == 1;
    if (p->on)
        show(p);
}

void fbi_progress_add(fbi_progress *p, int64_t n)
{
    p->done += n;
    if (p->on && now() - p->shown >= every_s)
        show(p);
}

void fbi_progress_end(fbi_progress *p)
{
    if (!p->on)
        return;
    show(p);
    fputc('\n', stderr);
    p->on = false;
}
