#include "comm/tree_priv.h"

#include <stdlib.h>
#include <string.h>

int fbi_tree_pieces(int first, int end, fbi_piece out[FBI_MAX_PIECES])
{
    int n = 0;
    while (first < end) {
        int level = 0;
        while (first % (2 << level) == 0 && first + (2 << level) <= end)
            level++;
        out[n++] = (fbi_piece){level, first >> level};
        first += 1 << level;
    }
    return n;
}

static int root_level(int shards)
{
    int level = 0;
    while ((1 << level) < shards)
        level++;
    return level;
}

static fbi_layout *layout_of(fbi_layout head, int pieces)
{
    fbi_layout *layout = calloc(1, sizeof *layout);
    if (!layout)
        return NULL;
    *layout = head;
    layout->first = calloc((size_t)head.ranks + 1, sizeof *layout->first);
    layout->pieces = calloc((size_t)pieces, sizeof *layout->pieces);
    if (layout->first && layout->pieces)
        return layout;
    fbi_layout_free(layout);
    return NULL;
}

fbi_layout *fbi_layout_new(int shards, int ranks)
{
    const fbi_layout head = {.shards = shards, .ranks = ranks, .root = {root_level(shards), 0}};
    /* Pieces are never more than leaves. */
    fbi_layout *layout = layout_of(head, shards);
    if (!layout)
        return NULL;
    for (int r = 0; r < ranks; r++) {
        fbi_piece own[FBI_MAX_PIECES];
        int n = fbi_tree_pieces(fbi_first_leaf(shards, ranks, r),
                                fbi_first_leaf(shards, ranks, r + 1), own);
        layout->first[r] = layout->n;
        for (int i = 0; i < n; i++)
            layout->pieces[layout->n++] = own[i];
        if (n > layout->most)
            layout->most = n;
    }
    layout->first[ranks] = layout->n;
    return layout;
}

/* The subtree that is exactly the leaves of ranks [from, end); false: there is none. */
static bool subtree(const fbi_layout *l, int from, int end, fbi_piece *out)
{
    int lo = fbi_first_leaf(l->shards, l->ranks, from),
        hi = fbi_first_leaf(l->shards, l->ranks, end);
    int level = root_level(hi - lo), last = lo + (1 << level);
    *out = (fbi_piece){level, lo >> level};
    return lo % (1 << level) == 0 && hi == (last < l->shards ? last : l->shards);
}

bool fbi_layout_has_blocks(const fbi_layout *whole, int block)
{
    fbi_piece piece;
    bool all = whole->ranks % block == 0;
    for (int r = 0; all && r < whole->ranks; r += block)
        all = subtree(whole, r, r + block, &piece);
    return all;
}

fbi_layout *fbi_layout_part(const fbi_layout *whole, int from, int block, int n)
{
    int first = whole->first[from], pieces = block > 1 ? n : whole->first[from + n] - first;
    const fbi_layout head = {
        .shards = whole->shards, .ranks = n, .n = pieces, .most = block > 1 ? 1 : whole->most};
    fbi_layout *l = layout_of(head, pieces);
    if (!l)
        return NULL;
    subtree(whole, from, from + n * block, &l->root);
    for (int i = 0; i <= n; i++)
        l->first[i] = block > 1 ? i : whole->first[from + i] - first;
    if (block == 1)
        memcpy(l->pieces, whole->pieces + first, (size_t)pieces * sizeof *l->pieces);
    for (int i = 0; block > 1 && i < n; i++)
        subtree(whole, from + i * block, from + (i + 1) * block, &l->pieces[i]);
    return l;
}

void fbi_layout_free(fbi_layout *layout)
{
    if (!layout)
        return;
    free(layout->first);
    free(layout->pieces);
    free(layout);
}

/* Walks the tree depth first; pieces come in the same order. */
typedef struct walk {
    const fbi_layout *layout;
    const uint32_t *present;
    int next, rank; /* next piece, and whose it is */
    int16_t *out;
    int n;
} walk;

/* Emits the sum of a node; false if nothing in it is present. */
static bool emit(walk *w, fbi_piece node)
{
    const fbi_layout *l = w->layout;
    if ((node.index << node.level) >= l->shards || w->next == l->n)
        return false;
    const fbi_piece *p = &l->pieces[w->next];
    if (p->level == node.level && p->index == node.index) {
        int k = w->next++;
        while (k >= l->first[w->rank + 1])
            w->rank++;
        if (!(w->present[w->rank] >> (k - l->first[w->rank]) & 1))
            return false;
        w->out[w->n++] = (int16_t)k;
        return true;
    }
    if (node.level == 0)
        return false;
    bool left = emit(w, (fbi_piece){node.level - 1, node.index * 2});
    bool right = emit(w, (fbi_piece){node.level - 1, node.index * 2 + 1});
    if (left && right)
        w->out[w->n++] = FBI_ADD;
    return left || right;
}

int fbi_layout_program(const fbi_layout *layout, const uint32_t *present, int16_t *out)
{
    walk w = {.layout = layout, .present = present, .out = out};
    emit(&w, layout->root);
    return w.n;
}

static double sum_node(const double *values, int shards, int stride, int level, int index)
{
    if (level == 0)
        return values[(int64_t)index * stride];
    double left = sum_node(values, shards, stride, level - 1, index * 2);
    if ((index * 2 + 1) << (level - 1) >= shards)
        return left;
    return left + sum_node(values, shards, stride, level - 1, index * 2 + 1);
}

double fbi_tree_sum(const double *values, int shards, int stride)
{
    return sum_node(values, shards, stride, root_level(shards), 0);
}
