#include "io/loader_priv.h"

/* Leaf l of V holds samples [l * n / V, (l + 1) * n / V) of a step of n: a function of l and n
 * alone, so the same for any number of ranks. */
static int64_t leaf_begin(int64_t n, int64_t leaf, int64_t leaves)
{
    return leaf * n / leaves;
}

bool fbi_plan_next(fbi_plan *p, fbi_unit *unit)
{
    int64_t left = p->size - p->position;
    if (left <= 0 || (p->drop_last && left < p->batch))
        return false;
    int64_t step_n = left < p->batch ? left : p->batch;
    int64_t leaf = p->first_leaf + p->leaf;
    int64_t begin = leaf_begin(step_n, leaf, p->leaves);
    int64_t leaf_n = leaf_begin(step_n, leaf + 1, p->leaves) - begin;
    int64_t n = leaf_n - p->done;
    if (p->micro && n > p->micro)
        n = p->micro;
    *unit = (fbi_unit){.position = p->position,
                       .step_n = step_n,
                       .begin = p->position + begin + p->done,
                       .n = n,
                       .leaf = leaf,
                       .first = p->leaf == 0 && p->done == 0};
    p->done += n;
    if (p->done >= leaf_n) {
        p->done = 0;
        p->leaf++;
    }
    if (p->leaf == p->n_leaves) {
        unit->last = true;
        p->leaf = 0;
        p->position += step_n;
    }
    return true;
}

int64_t fbi_plan_largest(const fbi_plan *p)
{
    int64_t n = (p->batch + p->leaves - 1) / p->leaves;
    return p->micro && p->micro < n ? p->micro : n;
}
