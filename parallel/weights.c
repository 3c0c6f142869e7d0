/* Do all ranks still have the same weights? Each step looks at one slice of them, so that a weight
 * that differs is found within SLICES steps, for next to nothing. */
#include <stdio.h>
#include <stdlib.h>

#include <xxhash.h>

#include "core/tensor/access_priv.h"
#include "core/tensor/device_priv.h"
#include "parallel/ddp_priv.h"

enum { SLICES = 64 };

typedef struct slice {
    int64_t begin, end; /* elements of a block */
} slice;

static slice slice_of(const fbi_ddp *d, const fbi_flat *flat)
{
    int64_t i = d->stats.steps % SLICES, n = flat->n / SLICES, rest = flat->n % SLICES;
    slice s = {i * n + (i < rest ? i : rest), 0};
    s.end = s.begin + n + (i < rest);
    return s;
}

/* On a device nobody waits to look. */
uint64_t fbi_ddp_weights_hash(const fbi_ddp *d)
{
    uint64_t hash = 0;
    for (const fbi_block *k = d->blocks; k && d->ctx->backend->host_memory; k = k->next) {
        slice s = slice_of(d, k->flat);
        const char *values = fbi_ptr(k->flat->values);
        hash = XXH3_64bits_withSeed(values + (size_t)s.begin * k->size,
                                    (size_t)(s.end - s.begin) * k->size, hash);
    }
    return hash;
}

/* The parameters that the slice touches: "fc1.weight to fc2.bias". */
static void name_slice(const fbi_ddp *d, char *buf, size_t size)
{
    const char *first = NULL, *last = NULL;
    for (const fbi_block *k = d->blocks; k; k = k->next) {
        slice s = slice_of(d, k->flat);
        for (int i = 0; i < k->flat->n_params; i++) {
            const fbi_flat_param *p = &k->flat->params[i];
            if (p->begin >= s.end || p->begin + p->n <= s.begin)
                continue;
            first = first ? first : p->name;
            last = p->name;
        }
    }
    if (first == last)
        snprintf(buf, size, "%s", first ? first : "its padding");
    else
        snprintf(buf, size, "%s to %s", first, last);
}

fb_status fbi_ddp_weights_compare(const fbi_ddp *d, const uint64_t *hashes)
{
    fb_group *g = d->group;
    fb_world *world = g->world;
    bool *same = calloc((size_t)g->size, sizeof *same);
    bool *flag = calloc((size_t)world->size, sizeof *flag);
    fb_status st = FB_OK;
    int odd = same && flag ? fbi_odd_one(hashes, g->size, same) : -1;
    if (odd >= 0) {
        char who[96], ranks[128], names[256];
        const fbi_suspect s = fbi_world_suspect(world, g->ranks[odd]);
        fbi_finding v;
        for (int r = 0; r < g->size; r++)
            flag[g->ranks[r]] = same[r];
        name_slice(d, names, sizeof names);
        fbi_verdict_say(&v, FBI_VERDICT_DIVERGING, &s,
                        "optim_step: %s has other weights than %s in %s, at step %lld: faulty "
                        "memory, or a change on one rank only? Checkpoints of the last %d steps "
                        "may hold them",
                        fbi_rank_text(world, g->ranks[odd], who, sizeof who),
                        fbi_ranks_text(flag, world->size, ranks, sizeof ranks), names,
                        (long long)d->stats.steps, SLICES);
        st = fbi_world_judge(world, &v);
    }
    free(same);
    free(flag);
    return st;
}
