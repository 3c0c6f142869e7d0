/* The public collectives: checks, and the task that follows from the arguments. */
#include "comm/collective_priv.h"
#include "comm/link_priv.h"
#include "comm/reduce_priv.h"
#include "core/ops/op_priv.h"

/* Whether the arguments make sense; `in_place`: results are written to t. An error stays on this
 * rank's context until its next collective tells the others. */
static bool usable(fb_group *group, fb_tensor *t, const char *name, bool in_place)
{
    if (!group)
        return false;
    fb_context *ctx = group->world->ctx;
    if (!fbi_enter(ctx))
        return true; /* the start of the work tells the other ranks */
    if (!fbi_tensor_check(ctx, t, name, "t"))
        return false;
    if (in_place && !fbi_contiguous(t)) {
        fbi_fail(ctx, FB_E_ARG, "%s: t is not contiguous: %s; use fb_contiguous", name,
                 fbi_text(t));
        return false;
    }
    if (in_place && (t->storage->flags & FBI_S_READ_ONLY)) {
        fbi_fail(ctx, FB_E_ARG, "%s: t is read-only memory", name);
        return false;
    }
    return true;
}

static bool rank_in(fb_group *group, int rank, const char *name, const char *what)
{
    if (rank >= 0 && rank < group->size)
        return true;
    fbi_fail(group->world->ctx, FB_E_ARG, "%s: %s is %d, the group has ranks 0 to %d", name, what,
             rank, group->size - 1);
    return false;
}

static bool reducible(fb_group *group, const fb_tensor *t, fb_reduce_op op, const char *name)
{
    static const char *const names[] = {"?", "SUM", "PROD", "MIN", "MAX"};
    if (fbi_reduce_supports(op, (fb_dtype)t->dtype))
        return true;
    fbi_fail(group->world->ctx, FB_E_DTYPE, "%s: FB_%s of %s is not defined", name,
             op >= FB_SUM && op <= FB_MAX ? names[op] : names[0],
             fb_dtype_name((fb_dtype)t->dtype));
    return false;
}

/* A task on t, as source and destination. */
static fbi_task task_of(fb_group *group, fbi_kind kind, fb_tensor *t)
{
    fb_context *ctx = group->world->ctx;
    fbi_task task = {.kind = kind, .op = FB_SUM, .site = ctx->site};
    if (ctx->off || !t)
        return task; /* it will not start */
    task.dtype = (fb_dtype)t->dtype;
    task.count = t->numel;
    task.src[0] = task.dst = t->numel ? fbi_ptr(t) : NULL;
    task.n_src = 1;
    task.on_device = !ctx->backend->host_memory;
    task.like = t;
    return task;
}

static fb_work *start(fb_group *group, const fbi_task *task, fb_tensor *t, bool writes)
{
    fb_work *w = fbi_work_start(group, task);
    if (!w)
        return NULL;
    w->task.like = NULL; /* the handle may go before the work does */
    w->held[0] = t->storage;
    t->storage->refs++;
    if (writes)
        fbi_bump(t);
    return w;
}

static fb_status run(fb_group *group, const fbi_task *task)
{
    return fbi_work_run(group, task);
}

FB_API FB_USE_RESULT fb_work *fb_all_reduce_async(fb_group *group, fb_tensor *t, fb_reduce_op op)
{
    FBI_ENTRY(fbi_group_context(group));
    if (!usable(group, t, "all_reduce", true))
        return NULL;
    fbi_task task = task_of(group, FBI_KIND_ALL_REDUCE, t);
    if (task.like && !reducible(group, t, op, "all_reduce"))
        return NULL;
    task.op = op;
    return start(group, &task, t, true);
}

FB_API FB_USE_RESULT fb_work *fb_broadcast_async(fb_group *group, fb_tensor *t, int root)
{
    FBI_ENTRY(fbi_group_context(group));
    if (!usable(group, t, "broadcast_", true))
        return NULL;
    if (!rank_in(group, root, "broadcast_", "root"))
        return NULL;
    fbi_task task = task_of(group, FBI_KIND_BROADCAST, t);
    task.op = 0;
    task.root = root;
    return start(group, &task, t, group->rank != root);
}

static fb_work *start_pair(fb_group *group, fbi_kind kind, fb_tensor *t, int other)
{
    const char *name = fbi_kind_name((int)kind);
    if (!usable(group, t, name, kind == FBI_KIND_RECV))
        return NULL;
    if (!rank_in(group, other, name, kind == FBI_KIND_SEND ? "to" : "from"))
        return NULL;
    if (other == group->rank) {
        fbi_fail(group->world->ctx, FB_E_ARG, "%s: rank %d is this rank itself", name, other);
        return NULL;
    }
    fbi_task task = task_of(group, kind, t);
    if (task.like && !fbi_contiguous(t)) {
        fbi_fail(group->world->ctx, FB_E_ARG, "%s: t is not contiguous: %s; use fb_contiguous",
                 name, fbi_text(t));
        return NULL;
    }
    task.op = 0;
    task.root = other;
    return start(group, &task, t, kind == FBI_KIND_RECV);
}

FB_API FB_USE_RESULT fb_work *fb_send_async(fb_group *group, fb_tensor *t, int to)
{
    FBI_ENTRY(fbi_group_context(group));
    return start_pair(group, FBI_KIND_SEND, t, to);
}

FB_API FB_USE_RESULT fb_work *fb_recv_async(fb_group *group, fb_tensor *t, int from)
{
    FBI_ENTRY(fbi_group_context(group));
    return start_pair(group, FBI_KIND_RECV, t, from);
}

FB_API bool fb_work_done(fb_work *work)
{
    if (!work)
        return true;
    fb_world *world = work->group->world;
    FBI_ENTRY(world->ctx);
    if (!work->done) {
        fbi_world_poke(world);
        fbi_world_check(world);
    }
    bool done = work->linked && !work->failed ? fbi_link_passed(work) : work->done;
    return done || world->poisoned;
}

FB_API fb_status fb_work_wait(fb_work *work)
{
    if (!work)
        return FB_E_ARG;
    FBI_ENTRY(work->group->world->ctx);
    return fbi_work_finish(work);
}

/* Of a work that may not have started. */
static fb_status finish(fb_group *group, fb_work *work)
{
    if (work)
        return fbi_work_finish(work);
    return group ? fb_status_of(group->world->ctx) : FB_E_ARG;
}

FB_API fb_status fb_all_reduce_(fb_group *group, fb_tensor *t, fb_reduce_op op)
{
    FBI_ENTRY(fbi_group_context(group));
    return finish(group, fb_all_reduce_async(group, t, op));
}

FB_API fb_status fb_broadcast_(fb_group *group, fb_tensor *t, int root)
{
    FBI_ENTRY(fbi_group_context(group));
    return finish(group, fb_broadcast_async(group, t, root));
}

FB_API fb_status fb_send(fb_group *group, fb_tensor *t, int to)
{
    FBI_ENTRY(fbi_group_context(group));
    return finish(group, fb_send_async(group, t, to));
}

FB_API fb_status fb_recv(fb_group *group, fb_tensor *t, int from)
{
    FBI_ENTRY(fbi_group_context(group));
    return finish(group, fb_recv_async(group, t, from));
}

FB_API fb_status fb_group_barrier(fb_group *group)
{
    if (!group)
        return FB_E_ARG;
    FBI_ENTRY(group->world->ctx);
    fbi_enter(group->world->ctx);
    fbi_task task = {.kind = FBI_KIND_BARRIER, .site = group->world->ctx->site};
    return run(group, &task);
}

/* --- out of place: the forward of the differentiable functions (comm/gradient.c) --- */

fb_tensor *fbi_collective_run(fb_group *group, fbi_kind kind, fb_reduce_op op, fb_tensor *t,
                              fb_shape shape)
{
    fb_context *ctx = group->world->ctx;
    fb_tensor *x = ctx->off ? NULL : fbi_contiguous_of(t);
    fb_tensor *y = x ? fbi_empty(ctx, (fb_dtype)t->dtype, shape) : NULL;
    fbi_task task = task_of(group, kind, x);
    if (y)
        task.dst = y->numel ? fbi_ptr(y) : NULL;
    task.op = kind == FBI_KIND_ALL_REDUCE || kind == FBI_KIND_REDUCE_SCATTER ? op : 0;
    return run(group, &task) ? NULL : y;
}

bool fbi_collective_usable(fb_group *group, fb_tensor *t, const char *name)
{
    return usable(group, t, name, false);
}

bool fbi_collective_reducible(fb_group *group, const fb_tensor *t, fb_reduce_op op,
                              const char *name)
{
    return group->world->ctx->off || reducible(group, t, op, name);
}
