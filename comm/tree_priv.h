/* One sum for any number of ranks: the aligned binary tree over leaf numbers.
 *
 * V leaves are padded to a power of two; a node is the sum of its two children, or the one child
 * that is there: absent leaves contribute nothing, not +0. Rank r of R owns leaves [r*V/R,
 * (r+1)*V/R) and adds them up to maximal aligned subtrees, its pieces. Adding the pieces of all
 * ranks along the tree gives the same bits whatever R is. */
#ifndef FLAMBEAU_COMM_TREE_PRIV_H
#define FLAMBEAU_COMM_TREE_PRIV_H

#include <flambeau/core/base/status.h>

enum {
    FBI_MAX_SHARDS = 4096,
    FBI_MAX_PIECES = 24, /* of one rank: at most two for each level below the root */
    FBI_MAX_DEPTH = 16,  /* operands that wait at once while a program runs */
    FBI_ADD = -1
};

/* The subtree over leaves [index << level, (index + 1) << level). */
typedef struct fbi_piece {
    int32_t level, index;
} fbi_piece;

/* Who owns which leaves. */
typedef struct fbi_layout {
    int shards, ranks;
    int n, most;       /* pieces of all ranks, most on one rank */
    fbi_piece root;    /* of the tree that is summed */
    int *first;        /* [ranks + 1]: rank r has pieces [first[r], first[r + 1]) */
    fbi_piece *pieces; /* in leaf order */
} fbi_layout;

/* First leaf of a rank; that of rank `ranks` is the end. */
static inline int fbi_first_leaf(int shards, int ranks, int rank)
{
    return (int)((int64_t)rank * shards / ranks);
}

/* The maximal aligned subtrees of leaves [first, end), in order. @return their number */
int fbi_tree_pieces(int first, int end, fbi_piece out[FBI_MAX_PIECES]);
/* NULL: no memory. ranks <= shards <= FBI_MAX_SHARDS. */
fbi_layout *fbi_layout_new(int shards, int ranks);
void fbi_layout_free(fbi_layout *layout);
/* Whether every `block` ranks, from the first on, own one aligned subtree together. */
bool fbi_layout_has_blocks(const fbi_layout *whole, int block);
/* The tree of n * block ranks, from `from` on, as if they were n: each has the subtree of `block`
 * ranks, or, block 1, the pieces of one. `whole` has blocks of `block` and of n * block ranks.
 * `most` is the same for every `from`. NULL: no memory. */
fbi_layout *fbi_layout_part(const fbi_layout *whole, int from, int block, int n);

/* The order of additions as a postfix program: k >= 0 pushes piece k of the layout, FBI_ADD adds
 * the two newest. present[r] has bit i set if piece i of rank r is there. `out` has room for 2 * n.
 * @return length; 0 if nothing is present */
int fbi_layout_program(const fbi_layout *layout, const uint32_t *present, int16_t *out);

/* Sum values[shards] in the order of the tree. */
double fbi_tree_sum(const double *values, int shards, int stride);

#endif
