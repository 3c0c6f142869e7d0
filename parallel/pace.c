/* Which rank holds the others up? Each tells how long it has computed since the last step; rank 0
 * looks at it from time to time, and names a rank that needs much longer than the median. */
#include <stdlib.h>

#include "core/base/log_priv.h"
#include "parallel/ddp_priv.h"

static const double factor = 1.5, window_s = 30;
enum { LEAST_STEPS = 20 };

static double window_seconds(void)
{
    const char *text = getenv("FLAMBEAU_SLOW_SECONDS");
    double s = text ? strtod(text, NULL) : 0;
    return s > 0 ? s : window_s;
}

bool fbi_ddp_pace_open(fbi_ddp *d)
{
    d->pace.busy = calloc((size_t)d->group->size * 2, sizeof *d->pace.busy);
    d->pace.window = window_seconds();
    return d->pace.busy != NULL;
}

double fbi_ddp_pace_busy(const fbi_ddp *d)
{
    const fbi_pace *p = &d->pace;
    return p->since > 0 ? fbi_now() - p->since - (d->group->world->waited_s - p->waited) : 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Seconds a step of the rank in the middle; `room` for all. */
static double median(const double *values, int n, double *room)
{
    for (int r = 0; r < n; r++)
        room[r] = values[r];
    qsort(room, (size_t)n, sizeof *room, by_value);
    return room[(n - 1) / 2];
}

int fbi_slowest(const double *busy, int n, double *room, double *middle)
{
    int most = 0;
    for (int r = 1; r < n; r++)
        if (busy[r] > busy[most])
            most = r;
    *middle = median(busy, n, room);
    return *middle > 0 && busy[most] > factor * *middle ? most : -1;
}

static void look(fbi_ddp *d)
{
    fbi_pace *p = &d->pace;
    const fb_group *g = d->group;
    double middle;
    int slow = fbi_slowest(p->busy, g->size, p->busy + g->size, &middle);
    char who[96];
    if (slow >= 0 && g->rank == 0 && slow != p->named)
        fbi_logline("%s is slow: it computes %.3g s a step, the others %.3g s (over %d steps): are "
                    "its cores shared with others, or its card hot?",
                    fbi_rank_text(g->world, g->ranks[slow], who, sizeof who),
                    p->busy[slow] / p->steps, middle / p->steps, p->steps);
    p->named = slow;
    p->steps = 0;
    p->began = fbi_now();
    for (int r = 0; r < g->size; r++)
        p->busy[r] = 0;
}

void fbi_ddp_pace_note(fbi_ddp *d, int rank, double busy)
{
    d->pace.busy[rank] += busy;
}

void fbi_ddp_pace_step(fbi_ddp *d)
{
    fbi_pace *p = &d->pace;
    double now = fbi_now();
    if (p->since == 0) { /* the first step has work of its own, and counts for nobody */
        p->began = now;
        p->steps = -1;
        for (int r = 0; r < d->group->size; r++)
            p->busy[r] = 0;
    }
    p->since = now;
    p->waited = d->group->world->waited_s;
    p->steps++;
    if (p->steps >= LEAST_STEPS && now - p->began > p->window)
        look(d);
}
