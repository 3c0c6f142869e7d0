#include "comm/group_priv.h"

#include <stdlib.h>
#include <string.h>

#include "comm/link_priv.h"
#include "comm/mpi_priv.h"
#include "comm/shm_priv.h"

FB_API int fb_group_rank(const fb_group *group)
{
    return group ? group->rank : 0;
}

FB_API int fb_group_size(const fb_group *group)
{
    return group ? group->size : 1;
}

FB_API int fb_group_shards(const fb_group *group)
{
    return group ? group->shards : 1;
}

FB_API fb_status fb_group_set_timeout(fb_group *group, double seconds)
{
    if (!group)
        return FB_E_ARG;
    if (seconds != seconds)
        return fbi_fail(group->world->ctx, FB_E_ARG,
                        "group_set_timeout: the time is no number: give seconds, 0 for the "
                        "default, or -1 for none");
    group->timeout_s = seconds;
    return FB_OK;
}

fb_context *fbi_group_context(const fb_group *group)
{
    return group ? group->world->ctx : NULL;
}

bool fbi_group_stopping(const fb_group *group)
{
    return group && group->world->stop_agreed;
}

void fbi_group_free(fb_group *g)
{
    if (!g)
        return;
    fbi_staging_free(g->staging);
    fbi_stages_free(g->stages[0]);
    fbi_stages_free(g->stages[1]);
    fbi_shm_close(g->shm);
    if (g->leaves != g->flat)
        fbi_layout_free(g->leaves);
    fbi_layout_free(g->flat);
    free(g->ranks);
    free(g->sent);
    free(g->received);
    free(g);
}

fb_group *fbi_group_bare(fb_world *world, int id, const int *ranks, int size, int shards)
{
    fb_group *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    *g = (fb_group){.world = world, .id = id, .size = size, .shards = shards};
    g->ranks = malloc((size_t)size * sizeof *g->ranks);
    g->sent = calloc((size_t)size, sizeof *g->sent);
    g->received = calloc((size_t)size, sizeof *g->received);
    g->flat = fbi_layout_new(size, size);
    g->leaves = shards == size ? g->flat : fbi_layout_new(shards, size);
    if (!g->ranks || !g->sent || !g->received || !g->flat || !g->leaves) {
        fbi_group_free(g);
        return NULL;
    }
    memcpy(g->ranks, ranks, (size_t)size * sizeof *ranks);
    for (int r = 0; r < size; r++)
        if (ranks[r] == world->rank)
            g->rank = r;
    g->first_leaf = fbi_first_leaf(shards, size, g->rank);
    g->n_leaves = fbi_first_leaf(shards, size, g->rank + 1) - g->first_leaf;
    return g;
}

/* The group's ranks on this node: how many, the first of them, and our number among them. */
typedef struct mates {
    int n, first, own;
} mates;

static mates find_mates(const fb_world *world, const int *ranks, int size)
{
    mates m = {.first = -1};
    for (int r = 0; r < size; r++) {
        if (world->peers[ranks[r]].node != world->node)
            continue;
        if (m.n == 0)
            m.first = ranks[r];
        if (ranks[r] == world->rank)
            m.own = m.n;
        m.n++;
    }
    return m;
}

int fbi_participant(const fbi_exchange *exchange, int rank)
{
    for (int i = 0; exchange->ranks && i < exchange->size; i++)
        if (exchange->ranks[i] == rank)
            return i;
    return exchange->ranks ? -1 : rank;
}

/* True on every rank of the group if it is on each. Every participant takes part. */
static bool agree(const fb_group *g, const fbi_exchange *exchange, bool mine)
{
    uint8_t flag = mine, *all = malloc((size_t)exchange->size);
    if (!all)
        return false;
    bool ok = exchange->gather(exchange->self, &flag, 1, all);
    for (int r = 0; ok && g && r < g->size; r++)
        ok = all[fbi_participant(exchange, g->ranks[r])] != 0;
    free(all);
    return ok && g;
}

/* Channels: of the whole group if it lies in one node, of its part here if sums can go in stages.
 */
static void open_channels(fb_group *g, const fbi_exchange *exchange)
{
    mates here = {.first = -1};
    bool whole = false, staged = false;
    if (g && !g->world->messages) {
        here = find_mates(g->world, g->ranks, g->size);
        whole = g->size > 1 && here.n == g->size;
        staged = fbi_staging_block(g) > 1;
    }
    int leader = whole || staged ? fbi_participant(exchange, here.first) : -1;
    fbi_shm *shm = fbi_shm_open(exchange, leader, here.own, here.n ? here.n : 1);
    bool all = agree(g, exchange, shm != NULL);
    if (g && shm && all && whole)
        g->shm = shm;
    else if (g && shm && all)
        g->staging = fbi_staging_new(g, shm);
    else
        fbi_shm_close(shm);
}

fb_group *fbi_group_new(fb_world *world, fb_group *parent, const int *ranks, int size, int shards,
                        const fbi_exchange *exchange)
{
    fb_group *g = size ? fbi_group_bare(world, world->next_group, ranks, size, shards) : NULL;
    world->next_group += FBI_GROUP_NUMBERS;
    open_channels(g, exchange);
    if (size && !g)
        fbi_fail(world->ctx, FB_E_NOMEM, "group: no memory for %d ranks", size);
    if (g) {
        g->next = world->groups;
        world->groups = g;
    }
    fbi_link_open(world, g, parent, exchange);
    return g;
}

/* --- split --- */

typedef struct wish {
    int32_t color, key, rank, next_group;
} wish;

static int by_color_and_key(const void *a, const void *b)
{
    const wish *x = a, *y = b;
    if (x->color != y->color)
        return x->color < y->color ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static bool gather_in_group(void *self, const void *mine, size_t bytes, void *all)
{
    return fbi_group_gather(self, "split", mine, bytes, all) == FB_OK;
}

static fb_group *split(fb_group *g, int color, int shards, wish *all, int *ranks)
{
    fb_world *world = g->world;
    int n = 0;
    qsort(all, (size_t)g->size, sizeof *all, by_color_and_key);
    for (int i = 0; i < g->size; i++) {
        if (all[i].color == color && color >= 0)
            ranks[n++] = all[i].rank;
        if (all[i].next_group > world->next_group)
            world->next_group = all[i].next_group;
    }
    if ((world->next_group + FBI_GROUP_NUMBERS) > (world->mpi->tag_most - 16) / 256) {
        fbi_fail(world->ctx, FB_E_UNSUPPORTED, "group_split: more groups than MPI has tags for");
        return NULL;
    }
    fbi_exchange exchange = {g, g->rank, g->size, g->ranks, gather_in_group};
    return fbi_group_new(world, g, ranks, n, shards ? shards : n, &exchange);
}

fb_group *fbi_group_split(fb_group *g, int color, int key, int shards)
{
    fb_context *ctx = g->world->ctx;
    wish mine = {color, key, g->world->rank, g->world->next_group};
    wish *all = malloc((size_t)g->size * sizeof *all);
    int *ranks = malloc((size_t)g->size * sizeof *ranks);
    fb_group *made = NULL;
    if (!all || !ranks)
        fbi_fail(ctx, FB_E_NOMEM, "group_split: no memory for %d ranks", g->size);
    else if (color < -1)
        fbi_fail(ctx, FB_E_ARG, "group_split: colour is %d: give 0 or more, or -1 for no group",
                 color);
    else if (!fbi_group_gather(g, "split", &mine, sizeof mine, all))
        made = split(g, color, shards, all, ranks);
    free(all);
    free(ranks);
    return made;
}

FB_API FB_USE_RESULT fb_group *fb_group_split(fb_group *g, int color, int key)
{
    if (!g)
        return NULL;
    FBI_ENTRY(g->world->ctx);
    return fbi_group_split(g, color, key, 0);
}

/* --- whose leaves batches are divided into --- */

void fbi_group_set_lead(fb_group *g)
{
    fbi_context_hooks *hooks = &g->world->ctx->hooks;
    g->world->lead = g;
    hooks->shards = g->shards;
    hooks->first_leaf = g->first_leaf;
    hooks->n_leaves = g->n_leaves;
}

fb_status fbi_group_lead(fb_group *g)
{
    fb_world *world = g->world;
    if (world->leads && world->lead != g)
        return fbi_fail(world->ctx, FB_E_STATE,
                        "loader: batches are divided over another group of %d ranks: close its "
                        "loaders first, or open this one on the same group",
                        world->lead->size);
    fbi_group_set_lead(g);
    world->leads++;
    return FB_OK;
}

void fbi_group_unlead(fb_group *g)
{
    if (--g->world->leads == 0)
        fbi_group_set_lead(g->world->all);
}
