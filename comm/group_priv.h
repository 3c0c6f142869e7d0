/* Groups as this room, parallel and io see them. */
#ifndef FLAMBEAU_COMM_GROUP_PRIV_H
#define FLAMBEAU_COMM_GROUP_PRIV_H

#include "comm/segment_priv.h"
#include "comm/tree_priv.h"
#include "comm/world_priv.h"

typedef struct fbi_shm fbi_shm; /* channels in shared memory (comm/shm_priv.h) */

/* Sums in stages: within the node, then between ranks of the same place on each node, then back.
 * Possible where the leaves of each node are one aligned subtree. */
typedef struct fbi_staging {
    fb_group *node, *column;
    fbi_layout *node_layout[2],
        *column_layout[2]; /* for `flat` and for `leaves`; NULL: not possible */
} fbi_staging;

struct fb_group {
    fb_world *world;
    int id, rank, size;
    int *ranks; /* [size]: numbers in the world, ascending or as the keys said */
    uint64_t seq;
    double timeout_s;                 /* 0: the world's; < 0: none */
    uint32_t *sent, *received;        /* [size]: point-to-point calls so far */
    int shards, first_leaf, n_leaves; /* V, and the leaves of this rank */
    fbi_layout *flat;                 /* one piece for each rank */
    fbi_layout *leaves;               /* V leaves; may be `flat` */
    fbi_shm *shm;                     /* NULL: messages */
    fbi_staging *staging;             /* NULL: every rank to every rank */
    struct fbi_link *link;            /* between the ranks' devices (comm/link.c); NULL: none */
    struct fbi_stages *stages[2];     /* of sums on it, for `flat` and for `leaves` */
    fb_group *next;
};

/* The group of `size` ranks (numbers in the world, own one included). All participants of the
 * exchange call this together, also those in other groups or (size 0) in none. parent: the group
 * that is split, or NULL. NULL: error set, or
 * size 0. */
fb_group *fbi_group_new(fb_world *world, fb_group *parent, const int *ranks, int size, int shards,
                        const fbi_exchange *exchange);
void fbi_group_free(fb_group *group);
enum { FBI_GROUP_NUMBERS = 3 }; /* a group's, and those of the groups in its staging */

/* --- staging (comm/staged.c) --- */

/* The ranks of each node are neighbours, and equally many: how many, else 0. */
int fbi_staging_block(const fb_group *group);
fbi_staging *fbi_staging_new(fb_group *group, fbi_shm *shm);
void fbi_staging_free(fbi_staging *staging);
/* Sums of the group's leaves go in stages. */
bool fbi_staging_serves(const fb_group *group);
/* A group without channels of its own: comm/group.c */
fb_group *fbi_group_bare(fb_world *world, int id, const int *ranks, int size, int shards);
fb_context *fbi_group_context(const fb_group *group);
/* fb_group_split into groups of so many leaves; 0: one for each rank. */
fb_group *fbi_group_split(fb_group *group, int color, int key, int shards);
/* The leaves of the context's steps are those of this group: batches, meters and attached models
 * count by them. Without loaders it is the world's. FB_E_STATE if loaders of another group are
 * open. */
fb_status fbi_group_lead(fb_group *group);
void fbi_group_unlead(fb_group *group);
/* The same at the start. */
void fbi_group_set_lead(fb_group *group);
/* A stop was agreed at some step. Not collective. */
bool fbi_group_stopping(const fb_group *group);

/* --- raw bytes (comm/bytes.c); all are collective, `tag` says in messages what they are for --- */

/* Everyone's `bytes`, which are the same number on each rank, in order of rank. */
fb_status fbi_group_gather(fb_group *group, const char *tag, const void *mine, size_t bytes,
                           void *all);
/* Everyone's bytes, any number: *all is malloc'ed, part r is [at[r], at[r + 1]); at has size + 1.
 */
fb_status fbi_group_all_gather_bytes(fb_group *group, const char *tag, const void *mine,
                                     size_t bytes, void **all, size_t *at);
/* *data of root (malloc'ed on the others) to all. */
fb_status fbi_group_broadcast_bytes(fb_group *group, const char *tag, void **data, size_t *bytes,
                                    int root);
/* Bytes that everyone has room for. */
fb_status fbi_group_broadcast(fb_group *group, const char *tag, void *data, size_t bytes, int root);
/* The elements of a contiguous tensor, wherever it is. */
fb_status fbi_group_broadcast_tensor(fb_group *group, const char *tag, fb_tensor *t, int root);
/* leaves[leaf * n + i] = values[leaf * n + i] of the rank that has the leaf. In place is fine. */
fb_status fbi_group_leaf_gather(fb_group *group, const char *tag, const double *values, int n,
                                double *leaves);
/* total[i] = sum over leaves of values[leaf * n + i], along the tree; only rows of own leaves are
 * read. */
fb_status fbi_group_leaf_sum(fb_group *group, const double *values, int n, double *total);
/* Whether all ranks give FB_OK; else the first status that is not (the error's text stays with its
 * rank). For steps that must succeed on every rank, e.g. writing a checkpoint. */
fb_status fbi_group_agree(fb_group *group, const char *tag, fb_status mine);

#endif
