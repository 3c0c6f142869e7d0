/* Places of a mesh: blocks are built from the last axis to the first, each from blocks of the axis
 * behind it, and from those of one node as long as there are enough of them. */
#include <stdlib.h>
#include <string.h>

#include "comm/mesh_priv.h"

bool fbi_mesh_fit(int *sizes, int n, int ranks)
{
    int64_t product = 1;
    int *open = NULL;
    for (int i = 0; i < n && product <= ranks; i++) {
        if (sizes[i] == 0)
            open = &sizes[i];
        else
            product *= sizes[i];
    }
    if (!open)
        return product == ranks;
    if (product > ranks || ranks % product)
        return false;
    *open = (int)(ranks / product);
    return true;
}

/* A block of ranks. */
typedef struct unit {
    int node, at; /* node: SEVERAL if it lies on more than one; at: its number */
} unit;

enum { SEVERAL = 1 << 30 };

static int by_node(const void *a, const void *b)
{
    const unit *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int by_number(const void *a, const void *b)
{
    const unit *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Order n units so that each `size` of them make a block: whole blocks of a node first, then what
 * is left, by number. */
static void order(unit *units, int n, int size, unit *room)
{
    int whole = 0, left = 0;
    qsort(units, (size_t)n, sizeof *units, by_node);
    for (int i = 0, end; i < n; i = end) {
        for (end = i; end < n && units[end].node == units[i].node;)
            end++;
        int fit = units[i].node == SEVERAL ? 0 : (end - i) / size * size;
        memcpy(room + left, units + i + fit, (size_t)(end - i - fit) * sizeof *units);
        left += end - i - fit;
        memmove(units + whole, units + i, (size_t)fit * sizeof *units);
        whole += fit;
    }
    qsort(room, (size_t)left, sizeof *room, by_number);
    memcpy(units + whole, room, (size_t)left * sizeof *units);
}

/* Blocks of `size` units become units; the ranks follow. */
static void join(unit *units, int n, int size, int block, int *ranks, int *old)
{
    memcpy(old, ranks, (size_t)n * (size_t)block * sizeof *ranks);
    for (int i = 0; i < n; i++)
        memcpy(ranks + (size_t)i * (size_t)block, old + (size_t)units[i].at * (size_t)block,
               (size_t)block * sizeof *ranks);
    for (int k = 0; k < n / size; k++) {
        int node = units[k * size].node;
        for (int i = 1; i < size; i++)
            node = units[k * size + i].node == node ? node : SEVERAL;
        units[k] = (unit){node, k};
    }
}

bool fbi_mesh_place(const int *node, int n_ranks, const int *sizes, int n, int *ranks)
{
    size_t most = (size_t)n_ranks;
    unit *units = malloc(2 * most * sizeof *units);
    int *old = malloc(most * sizeof *old);
    bool ok = units && old;
    for (int r = 0; ok && r < n_ranks; r++) {
        units[r] = (unit){node[r], r};
        ranks[r] = r;
    }
    int units_n = n_ranks, block = 1;
    for (int axis = n - 1; ok && axis >= 0; axis--) {
        order(units, units_n, sizes[axis], units + most);
        join(units, units_n, sizes[axis], block, ranks, old);
        units_n /= sizes[axis];
        block *= sizes[axis];
    }
    free(units);
    free(old);
    return ok;
}
