#include "io/loader_priv.h"

/* Leaf l of V holds samples [l * n / V, (l + 1) * n / V) of a step of n: a function of l and n
 * alone, so the same for any number of ranks. */
static int64_t leaf_begin(int64_t n, int64_t leaf, int64_t leaves)
{
    return leaf * n / leaves;
}

/* What a leaf has of a step. */
typedef struct part {
    int64_t step_n, begin, n;
} part;

static bool part_of_all(const fbi_plan *p, part *out)
{
    int64_t left = p->size - p->position, leaf = p->first_leaf + p->leaf;
    if (left <= 0 || (p->drop_last && left < p->batch))
        return false;
    int64_t step_n = left < p->batch ? left : p->batch;
    int64_t begin = leaf_begin(step_n, leaf, p->leaves);
    *out = (part){step_n, p->position + begin, leaf_begin(step_n, leaf + 1, p->leaves) - begin};
    return true;
}

/* Samples that a rank brings to the step, and those of its own before it. */
static int64_t own_samples(const fbi_plan *p, int rank, int64_t *before)
{
    *before = p->position / p->batch * p->parts[rank];
    int64_t left = p->have[rank] - *before;
    return left < 0 ? 0 : left < p->parts[rank] ? left : p->parts[rank];
}

/* Every rank's samples are its own; who has run out brings empty leaves. */
static bool part_of_own(const fbi_plan *p, part *out)
{
    int64_t step_n = 0, before;
    for (int r = 0; r < p->ranks; r++) {
        int64_t n = own_samples(p, r, &before);
        if (p->drop_last && n < p->parts[r])
            return false;
        step_n += n;
    }
    int64_t n = own_samples(p, p->rank, &before), begin = leaf_begin(n, p->leaf, p->n_leaves);
    *out = (part){step_n, before + begin, leaf_begin(n, p->leaf + 1, p->n_leaves) - begin};
    return step_n > 0;
}

bool fbi_plan_next(fbi_plan *p, fbi_unit *unit)
{
    part leaf;
    if (!(p->have ? part_of_own(p, &leaf) : part_of_all(p, &leaf)))
        return false;
    int64_t n = leaf.n - p->done;
    if (p->micro && n > p->micro)
        n = p->micro;
    *unit = (fbi_unit){.position = p->position,
                       .step_n = leaf.step_n,
                       .begin = leaf.begin + p->done,
                       .n = n,
                       .leaf = p->first_leaf + p->leaf,
                       .first = p->leaf == 0 && p->done == 0};
    p->done += n;
    if (p->done >= leaf.n) {
        p->done = 0;
        p->leaf++;
    }
    if (p->leaf == p->n_leaves) {
        unit->last = true;
        p->leaf = 0;
        p->position += p->have ? p->batch : leaf.step_n;
    }
    return true;
}

int64_t fbi_plan_steps(const fbi_plan *p)
{
    if (!p->have)
        return p->drop_last ? p->size / p->batch : (p->size + p->batch - 1) / p->batch;
    int64_t least = INT64_MAX, most = 0;
    for (int r = 0; r < p->ranks; r++) {
        if (!p->parts[r])
            continue;
        int64_t full = p->have[r] / p->parts[r], any = (p->have[r] + p->parts[r] - 1) / p->parts[r];
        least = full < least ? full : least;
        most = any > most ? any : most;
    }
    return p->drop_last ? least : most;
}

int64_t fbi_plan_largest(const fbi_plan *p)
{
    int64_t n = (p->batch + p->leaves - 1) / p->leaves;
    return p->micro && p->micro < n ? p->micro : n;
}
