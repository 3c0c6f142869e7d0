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

/* --- comm/link_sum.c --- */

/* The sum of work->operands along work->program, in the communication queue. `room`: for each of
 * `work->chunk` elements fbi_link_sum_bytes of temporary memory. */
fb_status fbi_link_sum(fb_work *work, void *out, int64_t count, char *room);
size_t fbi_link_sum_bytes(fb_dtype dtype, int operands);

#endif
