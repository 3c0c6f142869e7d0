/* Do all ranks bring the same to a collective? Every rank has all signatures and comes to the same
 * words. */
#include <stdio.h>
#include <stdlib.h>

#include "comm/work_priv.h"

static bool same_call(const fbi_signature *a, const fbi_signature *b)
{
    return a->seq == b->seq && a->kind == b->kind && a->group == b->group;
}

static bool same(const fbi_signature *a, const fbi_signature *b)
{
    return same_call(a, b) && a->count == b->count && a->op == b->op && a->dtype == b->dtype &&
           a->root == b->root && a->shards == b->shards;
}

/* The signature that most ranks bring; the lowest rank's of those with equal numbers. */
static int majority(fb_work *w, const fbi_signature *(*of)(fb_work *, int))
{
    int n = w->group->size, best = 0, best_count = 0;
    for (int r = 0; r < n; r++) {
        int count = 0;
        for (int q = 0; q < n; q++)
            count += same(of(w, r), of(w, q));
        if (count > best_count) {
            best = r;
            best_count = count;
        }
    }
    return best;
}

static fb_status say(fb_work *w, const fbi_signature *(*of)(fb_work *, int))
{
    fb_group *g = w->group;
    int n = g->size, most = majority(w, of), odd = 0;
    const fbi_signature *common = of(w, most);
    /* With two camps of one, the higher rank is the odd one. */
    for (int r = 0; r < n; r++)
        if (!same(common, of(w, r)))
            odd = r;
    const fbi_signature *other = of(w, odd);
    bool *flag = calloc((size_t)g->world->size, sizeof *flag);
    for (int r = 0; flag && r < n; r++)
        flag[g->ranks[r]] = same(common, of(w, r));
    char who[96], ranks[128] = "the others", call[160], common_call[160], has[256], have[256];
    if (flag)
        fbi_ranks_text(flag, g->world->size, ranks, sizeof ranks);
    free(flag);
    fbi_suspect s = fbi_world_suspect(g->world, g->ranks[odd]);
    fbi_finding v;
    s.last = other;
    fbi_rank_text(g->world, g->ranks[odd], who, sizeof who);
    fbi_call_text(other, call, sizeof call);
    fbi_brought_text(other, has, sizeof has);
    fbi_brought_text(common, have, sizeof have);
    if (same_call(common, other))
        fbi_verdict_say(&v, FBI_VERDICT_DIVERGING, &s,
                        "%s: %s wants %s, %s brought %s: do all ranks build the same model, and "
                        "the same batch?",
                        who, call, has, ranks, have);
    else
        fbi_verdict_say(&v, FBI_VERDICT_DIVERGING, &s,
                        "%s: %s wants %s, %s are in %s with %s: do all ranks make the same calls "
                        "in the same order?",
                        who, call, has, ranks,
                        fbi_call_text(common, common_call, sizeof common_call), have);
    for (int r = 0; r < n; r++)
        if (r != odd)
            fbi_verdict_waits(&v, g->ranks[r], of(w, r));
    return fbi_world_judge(g->world, &v);
}

int fbi_odd_one(const uint64_t *values, int n, bool *same)
{
    int best = 0, best_count = 0, odd = -1;
    for (int r = 0; r < n; r++) {
        int count = 0;
        for (int q = 0; q < n; q++)
            count += values[q] == values[r];
        if (count > best_count) {
            best = r;
            best_count = count;
        }
    }
    for (int r = 0; r < n; r++) {
        same[r] = values[r] == values[best];
        if (!same[r])
            odd = r;
    }
    return odd;
}

fb_status fbi_signatures_compare(fb_work *w, const fbi_signature *(*of)(fb_work *, int))
{
    for (int r = 0; r < w->group->size; r++)
        if (!same(&w->sig, of(w, r)))
            return say(w, of);
    return FB_OK;
}

FB_API fb_status fb_world_agree(fb_world *world, const char *what, uint64_t value)
{
    if (!world)
        return FB_E_ARG;
    FBI_ENTRY(world->ctx);
    if (!what)
        return fbi_fail(world->ctx, FB_E_ARG, "agree: a name for the value is needed");
    uint64_t *all = malloc((size_t)world->size * sizeof *all);
    bool *same = calloc((size_t)world->size, sizeof *same);
    fb_status st = all && same ? fbi_group_gather(world->all, "agree", &value, sizeof value, all)
                               : fbi_fail(world->ctx, FB_E_NOMEM, "agree: no memory");
    int odd = st ? -1 : fbi_odd_one(all, world->size, same);
    if (odd >= 0) {
        char who[96], ranks[128];
        int most = 0;
        while (!same[most])
            most++;
        st = fbi_fail(world->ctx, FB_E_COMM, "agree: %s: %s has %#llx, %s have %#llx", what,
                      fbi_rank_text(world, odd, who, sizeof who), (unsigned long long)all[odd],
                      fbi_ranks_text(same, world->size, ranks, sizeof ranks),
                      (unsigned long long)all[most]);
    }
    free(all);
    free(same);
    return st;
}
