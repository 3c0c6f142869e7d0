#include "tests/bench/parts/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tensor/context_priv.h"

enum { NAMES = 256, DEPTH = 64, SHOWN = 40 };

static const char *const phases[] = {"forward", "backward", "optim"};

/* Time of an operator in one phase; child operators count for themselves. */
typedef struct row {
    int phase;
    const char *name;
    int64_t calls;
    double seconds;
} row;

typedef struct frame {
    row *of;
    double begun, children;
} frame;

static struct {
    row rows[NAMES];
    frame stack[DEPTH];
    int n, depth;
    double begun;
} profile;

static row *row_of(int phase, const char *name)
{
    for (int i = 0; i < profile.n; i++)
        if (profile.rows[i].phase == phase && !strcmp(profile.rows[i].name, name))
            return &profile.rows[i];
    int last = profile.n < NAMES - 1 ? profile.n++ : NAMES - 1;
    profile.rows[last].phase = phase;
    profile.rows[last].name = name;
    return &profile.rows[last];
}

static int phase_of(const char *name)
{
    if (profile.depth)
        return profile.stack[0].of->phase;
    return !strcmp(name, "backward") ? 1 : !strcmp(name, "optim_step") ? 2 : 0;
}

static void begin(const char *name)
{
    row *of = row_of(phase_of(name), name);
    if (profile.depth < DEPTH)
        profile.stack[profile.depth] = (frame){.of = of, .begun = bench_now()};
    profile.depth++;
}

static void end(void)
{
    profile.depth--;
    if (profile.depth >= DEPTH)
        return;
    const frame *f = &profile.stack[profile.depth];
    double took = bench_now() - f->begun;
    f->of->seconds += took - f->children;
    f->of->calls++;
    if (profile.depth)
        profile.stack[profile.depth - 1].children += took;
}

void profile_begin(fb_context *ctx)
{
    static const fbi_trace trace = {begin, end};
    ctx->trace = &trace;
    memset(&profile, 0, sizeof profile);
    profile.begun = bench_now();
}

static int slowest_first(const void *a, const void *b)
{
    double x = ((const row *)a)->seconds, y = ((const row *)b)->seconds;
    return (x < y) - (x > y);
}

void profile_print(int64_t steps)
{
    double whole = bench_now() - profile.begun, inside = 0;
    qsort(profile.rows, (size_t)profile.n, sizeof(row), slowest_first);
    fprintf(stderr, "%-9s %-28s %9s %9s %6s\n", "phase", "operator", "calls", "ms", "%");
    for (int i = 0; i < profile.n; i++) {
        const row *r = &profile.rows[i];
        inside += r->seconds;
        if (i < SHOWN)
            fprintf(stderr, "%-9s %-28s %9.1f %9.4f %6.2f\n", phases[r->phase], r->name,
                    (double)r->calls / (double)steps, r->seconds * 1e3 / (double)steps,
                    r->seconds / whole * 100);
    }
    fprintf(stderr, "%-38s %9s %9.4f %6.2f\n%-38s %9s %9.4f %6.2f\n", "outside", "",
            (whole - inside) * 1e3 / (double)steps, (whole - inside) / whole * 100, "a step", "",
            whole * 1e3 / (double)steps, 100.0);
}

double profile_end(fb_context *ctx, const char *begins)
{
    double sum = 0;
    for (int i = 0; i < profile.n; i++)
        if (!strncmp(profile.rows[i].name, begins, strlen(begins)))
            sum += profile.rows[i].seconds;
    ctx->trace = NULL;
    return sum;
}
