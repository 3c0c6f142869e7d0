/* Profiles of all ranks: gathered, compared, written. */
#include <flambeau/comm/profile.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/group_priv.h"
#include "core/ops/profile_priv.h"

static const char tag[] = "profile";

/* --- one rank --- */

/* A collective within a batch or the like counts once: by what each took itself. */
static double seconds_in(const fb_profile *p, fb_profile_kind kind)
{
    int64_t sum = 0;
    for (int64_t r = 0; r < p->n_rows; r++)
        if (p->rows[r].kind == kind)
            sum += p->rows[r].self;
    return (double)sum * 1e-9;
}

static fb_profile_rank rank_of(fb_profile *p)
{
    fb_profile_totals t;
    (void)fb_profile_totals_of(p, &t);
    fb_profile_rank r = {.seconds = t.seconds,
                         .collectives = seconds_in(p, FB_PROFILE_COLLECTIVE),
                         .loader = seconds_in(p, FB_PROFILE_LOADER),
                         .wait = seconds_in(p, FB_PROFILE_WAIT)};
    r.computing = r.seconds - r.collectives - r.loader - r.wait;
    return r;
}

/* --- all ranks --- */

/* Of each rank: its own numbers, then how long it has stood still for each rank of the group. */
static fb_status gather(fb_group *group, const fb_profile *p, const fb_profile_rank *own,
                        double **all, size_t *stride)
{
    size_t n = (size_t)group->size, numbers = sizeof *own / sizeof(double) + n;
    double *mine = calloc(numbers, sizeof *mine);
    *all = malloc(n * numbers * sizeof **all);
    *stride = numbers;
    fb_status st = mine && *all
                       ? FB_OK
                       : fbi_fail(group->world->ctx, FB_E_NOMEM, "fb_profile_ranks: no memory");
    st = fbi_group_agree(group, tag, st);
    for (size_t r = 0; r < n && !st; r++)
        if (group->ranks[r] < p->waits.n)
            mine[numbers - n + r] = p->waits.seconds[group->ranks[r]];
    if (!st) {
        memcpy(mine, own, sizeof *own);
        st = fbi_group_gather(group, tag, mine, numbers * sizeof *mine, *all);
    }
    free(mine);
    return st;
}

static void look_at_waits(fb_profile_rank *ranks, int size, const double *all, size_t stride)
{
    for (int r = 0; r < size; r++) {
        const double *waits = all + (size_t)(r + 1) * stride - size;
        ranks[r].most_for = -1;
        for (int other = 0; other < size; other++) {
            ranks[r].stood_still += waits[other];
            ranks[other].held_up += waits[other];
            if (waits[other] > ranks[r].most_s) {
                ranks[r].most_s = waits[other];
                ranks[r].most_for = other;
            }
        }
    }
}

fb_status fb_profile_ranks(fb_group *group, fb_profile *p, fb_profile_rank *ranks)
{
    if (!group)
        return FB_E_ARG;
    fb_context *ctx = group->world->ctx;
    FBI_ENTRY(ctx);
    fb_status st = ctx->status;
    if (!st && (!p || !ranks))
        st = fbi_fail(ctx, FB_E_ARG, "fb_profile_ranks: %s is NULL", p ? "ranks" : "the profile");
    fb_profile_rank own = {0};
    if (!st)
        own = rank_of(p); /* before the next collectives */
    st = fbi_group_agree(group, tag, st);
    if (st)
        return st;
    double *all = NULL;
    size_t stride;
    st = gather(group, p, &own, &all, &stride);
    for (int r = 0; r < group->size && !st; r++)
        memcpy(&ranks[r], all + (size_t)r * stride, sizeof ranks[r]);
    if (!st)
        look_at_waits(ranks, group->size, all, stride);
    free(all);
    return st;
}

/* --- the table --- */

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

static void print_table(FILE *to, const fb_group *group, const fb_profile_rank *ranks)
{
    char who[96];
    int most = 0;
    double still = 0;
    fprintf(to, "%-5s %-20s %9s %11s %13s %8s %8s %12s  %s\n", "rank", "host", "s", "computing %",
            "collectives %", "loader %", "device %", "stood still %", "most for");
    for (int r = 0; r < group->size; r++) {
        const fb_profile_rank *k = &ranks[r];
        fprintf(to, "%-5d %-20s %9.3f %11.1f %13.1f %8.1f %8.1f %12.1f  ", r,
                group->world->peers[group->ranks[r]].host, k->seconds,
                percent(k->computing, k->seconds), percent(k->collectives, k->seconds),
                percent(k->loader, k->seconds), percent(k->wait, k->seconds),
                percent(k->stood_still, k->seconds));
        if (k->most_for >= 0)
            fprintf(to, "rank %d (%.3g s)\n", k->most_for, k->most_s);
        else
            fputs("-\n", to);
        still += k->stood_still;
        most = k->held_up > ranks[most].held_up ? r : most;
    }
    if (still > 0)
        fprintf(to, "%s is waited for most: %.3g s of the %.3g s that ranks stood still\n",
                fbi_rank_text(group->world, group->ranks[most], who, sizeof who),
                ranks[most].held_up, still);
}

static fb_status write_table(const fb_group *group, const fb_profile_rank *ranks, const char *path)
{
    FILE *to = path ? fopen(path, "a") : stdout;
    bool bad = !to;
    if (to) {
        print_table(to, group, ranks);
        bad = fflush(to) != 0;
        bad = (path && fclose(to)) || bad;
    }
    return bad ? fbi_fail(group->world->ctx, FB_E_IO, "fb_profile: cannot write %s: %s",
                          path ? path : "standard output", strerror(errno))
               : FB_OK;
}

fb_status fb_profile_print_ranks(fb_group *group, fb_profile *p, const char *path)
{
    if (!group)
        return FB_E_ARG;
    fb_context *ctx = group->world->ctx;
    FBI_ENTRY(ctx);
    fb_profile_rank *ranks = calloc((size_t)group->size, sizeof *ranks);
    if (!ranks && !ctx->status)
        fbi_fail(ctx, FB_E_NOMEM, "fb_profile_print_ranks: no memory");
    fb_status st = fb_profile_ranks(group, p, ranks);
    if (!st)
        st = fbi_group_agree(group, tag, group->rank ? FB_OK : write_table(group, ranks, path));
    free(ranks);
    return st;
}

/* --- traces --- */

/* "a/b.json" -> "a/b.rank3.json" */
static char *path_of(const char *path, int rank)
{
    char *name;
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    size_t stem = dot ? (size_t)(dot - path) : strlen(path);
    int n = rank ? asprintf(&name, "%.*s.rank%d%s", (int)stem, path, rank, path + stem)
                 : asprintf(&name, "%s", path);
    return n < 0 ? NULL : name;
}

static fb_status write_own(const fb_group *group, fb_profile *p, const char *path)
{
    fb_context *ctx = group->world->ctx;
    if (ctx->status)
        return ctx->status;
    if (!p || !path)
        return fbi_fail(ctx, FB_E_ARG, "fb_profile_write_ranks: %s is NULL",
                        p ? "the path" : "the profile");
    char who[96], *name = path_of(path, group->rank);
    if (!name)
        return fbi_fail(ctx, FB_E_NOMEM, "fb_profile_write_ranks: no memory");
    fbi_rank_text(group->world, group->world->rank, who, sizeof who);
    fb_status st = fbi_profile_write(p, name, group->rank, who);
    free(name);
    return st;
}

fb_status fb_profile_write_ranks(fb_group *group, fb_profile *p, const char *path)
{
    if (!group)
        return FB_E_ARG;
    FBI_ENTRY(group->world->ctx);
    return fbi_group_agree(group, tag, write_own(group, p, path));
}
