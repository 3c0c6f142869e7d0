/* Sums in stages: reduce-scatter within the node, all-reduce of each part between the nodes,
 * all-gather within the node. The same additions as every rank to every rank, with less on the
 * wire: a node sends each element once and not once for each of its ranks. */
#include <stdlib.h>
#include <string.h>

#include "comm/mail_priv.h"
#include "comm/reduce_priv.h"
#include "comm/shm_priv.h"

int fbi_staging_block(const fb_group *g)
{
    const fb_world *world = g->world;
    int block = 0;
    for (int r = 0;
         r < g->size && world->peers[g->ranks[r]].node == world->peers[g->ranks[0]].node;)
        block = ++r;
    if (block == g->size || g->size % block)
        return 0;
    for (int r = 0; r < g->size; r++) {
        int node = world->peers[g->ranks[r]].node, first = r / block * block;
        if (node != world->peers[g->ranks[first]].node)
            return 0;
        if (r >= block && node == world->peers[g->ranks[first - 1]].node)
            return 0;
    }
    return block;
}

fbi_staging *fbi_staging_new(fb_group *g, fbi_shm *shm)
{
    int block = fbi_staging_block(g), nodes = g->size / block, from = g->rank / block * block;
    fbi_staging *s = calloc(1, sizeof *s);
    int *ranks = malloc((size_t)nodes * sizeof *ranks);
    if (!s || !ranks)
        goto fail;
    for (int k = 0; k < nodes; k++)
        ranks[k] = g->ranks[k * block + g->rank % block];
    s->node = fbi_group_bare(g->world, g->id + 1, g->ranks + from, block, block);
    s->column = fbi_group_bare(g->world, g->id + 2, ranks, nodes, nodes);
    if (!s->node || !s->column)
        goto fail;
    for (int i = 0; i < 2; i++) {
        const fbi_layout *whole = i ? g->leaves : g->flat;
        if (!fbi_layout_has_blocks(whole, block))
            continue;
        s->column_layout[i] = fbi_layout_part(whole, 0, block, nodes);
        s->node_layout[i] = fbi_layout_part(whole, from, 1, block);
        if (!s->column_layout[i] || !s->node_layout[i])
            goto fail;
    }
    s->node->shm = shm;
    free(ranks);
    return s;

fail:
    free(ranks);
    fbi_staging_free(s);
    fbi_shm_close(shm);
    return NULL;
}

void fbi_staging_free(fbi_staging *s)
{
    if (!s)
        return;
    for (int i = 0; i < 2; i++) {
        fbi_layout_free(s->node_layout[i]);
        fbi_layout_free(s->column_layout[i]);
    }
    fbi_group_free(s->node);
    fbi_group_free(s->column);
    free(s);
}

static int layout_index(const fb_work *w)
{
    return w->task.layout != w->group->flat;
}

bool fbi_staging_serves(const fb_group *g)
{
    return g->staging && g->staging->node_layout[g->leaves != g->flat];
}

bool fbi_staged_fits(const fb_work *w)
{
    const fbi_staging *s = w->group->staging;
    const fbi_task *t = &w->task;
    if (!s || t->count < s->node->size || !s->node_layout[layout_index(w)])
        return false;
    return t->kind != FBI_KIND_REDUCE_SCATTER || (t->n_src == 1 && t->count % w->group->size == 0);
}

static bool goes_in_stages(const fb_work *w)
{
    return fbi_is_reduction((int)w->task.kind) && w->mail_used && !w->mail->eager &&
           fbi_staged_fits(w);
}

/* Works in stages follow one another, so that all ranks use the inner groups in the same order. */
static bool is_next(const fb_work *w)
{
    for (const fb_work *f = w->group->world->flying; f && f != w; f = f->next)
        if (f->group == w->group && !f->done && goes_in_stages(f))
            return false;
    return true;
}

/* A stage begins with the outer work's task. Its data are on the host, also those of a card. */
static fbi_task inner_task(const fb_work *w)
{
    fbi_task t = w->task;
    t.like = NULL;
    t.on_device = false;
    return t;
}

/* What goes from the node to the column. */
static fb_dtype between(const fbi_task *t)
{
    return fbi_reduce_between(t->dtype, t->out_dtype);
}

/* --- all_reduce: each rank of a node has a part of its sum, which the column completes --- */

static fb_work *reduce_in_node(fb_work *w, char *sum)
{
    const fbi_staging *s = w->group->staging;
    fbi_task t = inner_task(w);
    t.kind = FBI_KIND_REDUCE_SCATTER;
    t.layout = s->node_layout[layout_index(w)];
    t.out_dtype = between(&t);
    t.dst = sum;
    return fbi_work_start_inner(s->node, &t);
}

/* `count` elements of the node's sum, over the nodes. */
static fb_work *reduce_over_nodes(fb_work *w, char *sum, int64_t count, void *dst)
{
    const fbi_staging *s = w->group->staging;
    fbi_task t = inner_task(w);
    memset(t.src, 0, sizeof t.src);
    t.src[0] = w->inner_present ? sum : NULL;
    t.n_src = 1;
    t.layout = s->column_layout[layout_index(w)];
    t.dtype = between(&w->task);
    t.count = count;
    t.dst = dst;
    return fbi_work_start_inner(s->column, &t);
}

static fb_work *gather_in_node(fb_work *w, char *own, int64_t part)
{
    fbi_task t = {.kind = FBI_KIND_ALL_GATHER,
                  .op = w->task.op,
                  .dtype = w->task.out_dtype,
                  .count = part,
                  .total = w->task.count,
                  .src = {own},
                  .n_src = 1,
                  .dst = w->task.dst,
                  .site = w->task.site,
                  .tag = w->task.tag};
    return fbi_work_start_inner(w->group->staging->node, &t);
}

static fb_work *start_reduce(fb_work *w, int stage)
{
    const fb_group *node = w->group->staging->node;
    int64_t count = w->task.count, part = (count + node->size - 1) / node->size,
            begin = node->rank * part < count ? node->rank * part : count;
    fb_dtype wide = between(&w->task);
    char *own = fbi_work_dst(w, begin);
    bool in_place = wide == w->task.out_dtype;
    if (!in_place && !fbi_mail_reserve(w, (size_t)part * fb_dtype_size(wide)))
        return NULL;
    char *sum = in_place ? own : w->mail->room;
    if (stage == 0)
        return reduce_in_node(w, sum);
    if (stage == 1)
        return reduce_over_nodes(w, sum, count - begin < part ? count - begin : part, own);
    return gather_in_node(w, own, part);
}

/* --- reduce_scatter: what the ranks of a column want lies together --- */

/* Parts in order of rank, as the nodes have them: of the first rank of each, of the second, ... */
static void sort_parts(const fb_work *w, char *to)
{
    const fbi_staging *s = w->group->staging;
    int64_t part = w->task.count / w->group->size;
    size_t bytes = (size_t)part * w->size;
    for (int l = 0; l < s->node->size; l++)
        for (int k = 0; k < s->column->size; k++, to += bytes)
            memcpy(to, fbi_work_src(w, 0, (k * s->node->size + l) * part), bytes);
}

static fb_work *start_scatter(fb_work *w, int stage)
{
    const fbi_staging *s = w->group->staging;
    int64_t count = w->task.count / s->node->size;
    size_t sorted = ((size_t)w->task.count * w->size + 63) / 64 * 64;
    if (!fbi_mail_reserve(w, sorted + (size_t)count * fb_dtype_size(between(&w->task))))
        return NULL;
    char *sum = w->mail->room + sorted;
    if (stage == 1)
        return reduce_over_nodes(w, sum, count, w->task.dst);
    sort_parts(w, w->mail->room);
    w->task.src[0] = w->mail->room;
    return reduce_in_node(w, sum);
}

/* --- */

static int stages(const fb_work *w)
{
    return w->task.kind == FBI_KIND_REDUCE_SCATTER ? 2 : 3;
}

static fb_work *start_inner(fb_work *w, int stage)
{
    return w->task.kind == FBI_KIND_REDUCE_SCATTER ? start_scatter(w, stage)
                                                   : start_reduce(w, stage);
}

bool fbi_staged_advance(fb_work *w)
{
    if (!w->inner && !is_next(w))
        return false;
    while (w->inner_stage < stages(w)) {
        if (!w->inner)
            w->inner = start_inner(w, w->inner_stage);
        if (!w->inner)
            break;
        fbi_work_advance(w->inner);
        if (!w->inner->done)
            return false;
        fb_work *ended = w->inner;
        w->inner = NULL;
        if (w->inner_stage == 0)
            w->inner_present = ended->program_n > 0;
        if (fbi_work_finish(ended))
            break;
        w->inner_stage++;
    }
    w->failed = w->inner_stage < stages(w);
    return true;
}
