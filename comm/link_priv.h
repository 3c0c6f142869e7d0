/* Works between devices, through the library of the backend (NCCL): the third transport. Signatures
 * are exchanged as by the other two, but nobody waits for them before the data set out; a
 * disagreement, a death or an error of the library ends in a verdict, and the links are aborted. */
#ifndef FLAMBEAU_COMM_LINK_PRIV_H
#define FLAMBEAU_COMM_LINK_PRIV_H

#include "comm/work_priv.h"
#include "core/ops/backend.h"

/* --- comm/link.c: links of groups --- */

/* A link for g, if all its ranks can have one; else a line says once why not. All participants of
 * the exchange call it (g NULL: in no group); parent: the group that is split, or NULL. */
void fbi_link_open(fb_world *world, fb_group *g, fb_group *parent, const fbi_exchange *exchange);
/* The end of all links: together with the other ranks, if the world is in order. */
void fbi_links_close(fb_world *world, bool orderly);
/* What runs on them ends. Called once the world is poisoned. */
void fbi_links_abort(fb_world *world);
/* FB_OK, or FB_E_COMM after poisoning: the library has found an error. */
fb_status fbi_links_look(fb_world *world);
/* The library has failed on this rank, in the call `sig`: poison the world. @return FB_E_COMM */
fb_status fbi_link_failed(fb_world *world, const fbi_signature *sig, const char *reason);
/* fbi_context_hooks.wait: until `ready`, with an eye on the ranks whose data it may wait for. */
fb_status fbi_link_wait(void *self, bool (*ready)(void *arg), void *arg);

/* --- comm/link_work.c: works on them --- */

/* Whether it goes by the group's link: the same answer on every rank. */
bool fbi_link_serves(const fb_work *work);
/* Note how far the compute queue is. False: an error is set. */
bool fbi_link_begin(fb_work *work);
void fbi_link_advance(fb_work *work);
/* Until all of it is in the communication queue; then the compute queue waits for it. */
fb_status fbi_link_finish(fb_work *work);
/* Whether it has happened. */
bool fbi_link_passed(fb_work *work);
/* Events and memory are no longer used. */
void fbi_link_release(fb_work *work);

typedef struct fbi_transfers {
    fbi_link_transfer *list;
    int n;
} fbi_transfers;

static inline void fbi_transfers_add(fbi_transfers *t, int peer, bool out, const void *data,
                                     size_t bytes)
{
    if (bytes)
        t->list[t->n++] = (fbi_link_transfer){peer, out, (void *)(uintptr_t)data, bytes};
}

/* What `list` notes, at most so many, as one call. */
fb_status fbi_link_exchange(fb_work *work, void (*list)(fb_work *, fbi_transfers *), int64_t most);

/* --- comm/link_stages.c: between whom sums of fixed order go --- */

enum { FBI_LINK_STAGES = 16, FBI_LINK_RADIX = 16 };

/* The ranks that differ in one digit of their number: own - digit * stride, and so on. */
typedef struct fbi_stage {
    int radix, stride, digit;
    int pieces;         /* that are added up, at most: the same on every rank */
    fbi_layout *layout; /* of the pieces: a rank's own, or what it has of the stages before */
    uint32_t *present;  /* [radix]: for fbi_stage_program */
} fbi_stage;

typedef struct fbi_stages {
    int ranks, rank, n;
    fbi_stage at[FBI_LINK_STAGES];
} fbi_stages;

/* The stages of rank `rank` of whole->ranks: within blocks of `block` ranks, the nodes; then
 * between the ranks of equal place in `radix` of them, or fewer; and so on. One stage of all ranks
 * where `block` is 0 or blocks of leaves are no subtrees. NULL: no memory. */
fbi_stages *fbi_stages_new(const fbi_layout *whole, int rank, int block, int radix);
void fbi_stages_free(fbi_stages *stages);
/* The stages of the group's sums. False: no memory. */
bool fbi_stages_open(fb_group *group);
/* Sums of the group's leaves go node by node, where there are nodes. */
bool fbi_stages_serve(const fb_group *group);
/* The order of additions of stage `s`, from what is present on each rank of the group; afterwards
 * at[s].present says what is there of each piece. @return length; 0: nothing is present */
int fbi_stage_program(const fbi_stages *stages, int s, const uint32_t *present, int16_t *out);
/* Positions: a stage divides those that the one before has left to a rank by `radix`, and the rank
 * with digit e gets the e-th part; `width` are left to each. In the end each rank has one. */
int fbi_stage_width(const fbi_stages *stages, int s);
/* The first position of what the rank gets in stage s whose digit is e there, else as this one's.
 */
int fbi_stage_first(const fbi_stages *stages, int s, int e);
/* Who has the position in the end. */
int fbi_stages_owner(const fbi_stages *stages, int position);

/* --- comm/link_fixed.c: sums of fixed order on them --- */

/* False: an error is set. */
bool fbi_link_fixed_begin(fb_work *work);
fb_status fbi_link_fixed_call(fb_work *work);

/* --- comm/link_sum.c --- */

/* The sum of work->operands along work->program, in the communication queue. `room`: for each
 * element fbi_link_sum_bytes of temporary memory. */
fb_status fbi_link_sum(fb_work *work, fb_dtype dtype, fb_dtype out_dtype, void *out, int64_t count,
                       char *room);
size_t fbi_link_sum_bytes(fb_dtype dtype, int operands);

#endif
