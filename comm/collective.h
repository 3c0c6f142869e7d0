/* Collectives on the tensors of a group, blocking or as work in flight.
 *
 * All of them are collective: every rank of the group calls the same function, in the same order,
 * with the same dtype and sizes. A disagreement, a rank that died and a rank that left are errors
 * on every other rank (FB_E_COMM) whose message says which rank, which call and what the others
 * wait for. Sums run along one binary tree over rank numbers: same bits on every rank, whatever the
 * transport. Between cards that NCCL serves this holds in a world with fixed shards; otherwise
 * floats are added in NCCL's order, still with the same bits on every rank, and 16-bit ones may be
 * rounded after each addition. Tensors of a device take their turn in its queue: a collective that
 * has returned orders what follows, it need not have happened. */
#ifndef FLAMBEAU_COMM_COLLECTIVE_H
#define FLAMBEAU_COMM_COLLECTIVE_H

#include <flambeau/comm/group.h>
#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** How values of several ranks become one. NaN wins in FB_MIN and FB_MAX; integers wrap around. */
typedef enum fb_reduce_op { FB_SUM = 1, FB_PROD, FB_MIN, FB_MAX } fb_reduce_op;

/**
 * The elementwise reduction over all ranks, as a new tensor on each. Collective.
 *
 * @param t [...] F32 F64 F16 BF16 (16-bit: added in F32, rounded once) I32 I64 U8; BOOL with FB_MIN
 *          (and) and FB_MAX (or)
 * @return  like t, or NULL: FB_E_COMM, FB_E_DTYPE, FB_E_NOMEM. Differentiable for FB_SUM: the
 *          gradient is the sum of all ranks' gradients.
 */
FB_API FB_USE_RESULT fb_tensor *fb_all_reduce(fb_group *group, fb_tensor *t, fb_reduce_op op);

/** The same in place, on a contiguous tensor; not recorded. Collective. */
FB_API fb_status fb_all_reduce_(fb_group *group, fb_tensor *t, fb_reduce_op op);

/**
 * Reduce, and keep one part: rank r gets rows [r*n, (r+1)*n) of the reduction. Collective.
 *
 * @param t [size*n, ...] dtypes of fb_all_reduce
 * @return  [n, ...], or NULL: FB_E_SHAPE if the first size is no multiple of the group's. The
 * gradient (FB_SUM) is the all-gather of the ranks' gradients.
 */
FB_API FB_USE_RESULT fb_tensor *fb_reduce_scatter(fb_group *group, fb_tensor *t, fb_reduce_op op);

/**
 * The tensors of all ranks, one after the other along the first dimension. Collective.
 *
 * @param t [n, ...] or [] any dtype
 * @return  [size*n, ...]; [size] for a scalar. The gradient is the reduce-scatter (sum).
 */
FB_API FB_USE_RESULT fb_tensor *fb_all_gather(fb_group *group, fb_tensor *t);

/**
 * Part i of the first dimension goes to rank i; the result has what came from rank i as part i.
 * Collective.
 *
 * @param t [size*n, ...] any dtype
 * @return  like t; the gradient is fb_all_to_all again.
 */
FB_API FB_USE_RESULT fb_tensor *fb_all_to_all(fb_group *group, fb_tensor *t);

/** Every rank gets the values of rank `root`, in place; any dtype, contiguous. Collective. */
FB_API fb_status fb_broadcast_(fb_group *group, fb_tensor *t, int root);

/** Send a contiguous tensor to one rank, which calls fb_recv; may wait until it does. */
FB_API fb_status fb_send(fb_group *group, fb_tensor *t, int to);
/** Receive into a contiguous tensor from one rank; dtype and number of elements must be the
 * sender's. */
FB_API fb_status fb_recv(fb_group *group, fb_tensor *t, int from);

/** A collective in flight. Its tensors must stay as they are until it is waited for. */
typedef struct fb_work fb_work;

/** Start fb_all_reduce_; progress is made inside calls of this library. NULL on error. Collective.
 */
FB_API FB_USE_RESULT fb_work *fb_all_reduce_async(fb_group *group, fb_tensor *t, fb_reduce_op op);
/** Start fb_broadcast_. Collective. */
FB_API FB_USE_RESULT fb_work *fb_broadcast_async(fb_group *group, fb_tensor *t, int root);
/** Start fb_send. */
FB_API FB_USE_RESULT fb_work *fb_send_async(fb_group *group, fb_tensor *t, int to);
/** Start fb_recv. */
FB_API FB_USE_RESULT fb_work *fb_recv_async(fb_group *group, fb_tensor *t, int from);
/** Make progress and tell whether the work is complete. True for NULL. */
FB_API bool fb_work_done(fb_work *work);
/** Wait until the work is complete, and free it. FB_E_ARG for NULL. */
FB_API fb_status fb_work_wait(fb_work *work);

FB_END
#endif
