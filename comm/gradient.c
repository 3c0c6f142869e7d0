/* The collectives that have a gradient: each backward is another of them, and so has one too. */
#include <flambeau/core/autograd/function.h>
#include <flambeau/core/ops/view.h>

#include "comm/collective_priv.h"

typedef struct attributes {
    fb_group *group;
    fb_reduce_op op;
    fbi_kind kind;
} attributes;

static fb_shape result_shape(const attributes *a, const fb_tensor *t)
{
    fb_shape s = fb_shape_of(t);
    if (a->kind == FBI_KIND_ALL_GATHER && s.n == 0)
        return (fb_shape){1, {a->group->size}};
    if (a->kind == FBI_KIND_ALL_GATHER)
        s.d[0] *= a->group->size;
    else if (a->kind == FBI_KIND_REDUCE_SCATTER)
        s.d[0] /= a->group->size;
    return s;
}

static fb_status forward(fb_call *call, fb_tensors in, fb_tensor **out)
{
    const attributes *a = fb_call_attrs(call);
    out[0] = fbi_collective_run(a->group, a->kind, a->op, in.t[0], result_shape(a, in.t[0]));
    if (in.t[0]->ndim == 0 && out[0])
        fb_call_save(call, 0, in.t[0]); /* its shape: a scalar's gradient is a scalar */
    return out[0] ? FB_OK : fb_status_of(fb_call_context(call));
}

static fb_status backward(fb_call *call, fb_tensors grad_out, fb_tensor **grad_in)
{
    const attributes *a = fb_call_attrs(call);
    fb_context *ctx = fb_call_context(call);
    fb_tensor *g = grad_out.t[0];
    if (a->op != FB_SUM)
        return fbi_fail(ctx, FB_E_UNSUPPORTED, "%s: only FB_SUM has a gradient",
                        fbi_kind_name((int)a->kind));
    if (a->kind == FBI_KIND_ALL_REDUCE)
        grad_in[0] = fb_all_reduce(a->group, g, FB_SUM);
    else if (a->kind == FBI_KIND_REDUCE_SCATTER)
        grad_in[0] = fb_all_gather(a->group, g);
    else if (a->kind == FBI_KIND_ALL_TO_ALL)
        grad_in[0] = fb_all_to_all(a->group, g);
    else
        grad_in[0] = fb_reduce_scatter(a->group, g, FB_SUM);
    if (grad_in[0] && fb_call_saved(call, 0))
        grad_in[0] = fb_reshape(grad_in[0], FB_SCALAR);
    return grad_in[0] ? FB_OK : fb_status_of(ctx);
}

static const fb_function functions[FBI_KIND_COUNT] = {
#define FUNCTION(text)                                                     \
    {                                                                      \
        .name = text, .n_out = 1, .forward = forward, .backward = backward \
    }
    [FBI_KIND_ALL_REDUCE] = FUNCTION("all_reduce"),
    [FBI_KIND_REDUCE_SCATTER] = FUNCTION("reduce_scatter"),
    [FBI_KIND_ALL_GATHER] = FUNCTION("all_gather"),
    [FBI_KIND_ALL_TO_ALL] = FUNCTION("all_to_all"),
};

/* Recorded if a gradient is wanted; the gradient of every rank must then be wanted. */
static fb_tensor *apply(const attributes *a, fb_tensor *t)
{
    fb_context *ctx = a->group->world->ctx;
    fb_tensor *out = NULL;
    if (ctx->off || !ctx->grad_on || !fb_needs_grad(t))
        return fbi_collective_run(a->group, a->kind, a->op, t,
                                  ctx->off ? (fb_shape){0} : result_shape(a, t));
    if (fb_function_apply(ctx, &functions[a->kind], a, sizeof *a, FB_TENSORS(t), &out))
        return NULL;
    return out;
}

/* The first dimension is a multiple of the group's size. */
static bool divides(fb_group *group, const fb_tensor *t, const char *name)
{
    fb_context *ctx = group->world->ctx;
    if (ctx->off || (t->ndim && t->size[0] % group->size == 0))
        return true;
    fbi_fail(ctx, FB_E_SHAPE, "%s: the first size of %s is no multiple of the group's %d ranks",
             name, fbi_text(t), group->size);
    return false;
}

FB_API FB_USE_RESULT fb_tensor *fb_all_reduce(fb_group *group, fb_tensor *t, fb_reduce_op op)
{
    FBI_ENTRY(fbi_group_context(group));
    if (!fbi_collective_usable(group, t, "all_reduce") ||
        !fbi_collective_reducible(group, t, op, "all_reduce"))
        return NULL;
    return apply(&(attributes){group, op, FBI_KIND_ALL_REDUCE}, t);
}

FB_API FB_USE_RESULT fb_tensor *fb_reduce_scatter(fb_group *group, fb_tensor *t, fb_reduce_op op)
{
    FBI_ENTRY(fbi_group_context(group));
    if (!fbi_collective_usable(group, t, "reduce_scatter") ||
        !fbi_collective_reducible(group, t, op, "reduce_scatter") ||
        !divides(group, t, "reduce_scatter"))
        return NULL;
    return apply(&(attributes){group, op, FBI_KIND_REDUCE_SCATTER}, t);
}

FB_API FB_USE_RESULT fb_tensor *fb_all_gather(fb_group *group, fb_tensor *t)
{
    FBI_ENTRY(fbi_group_context(group));
    if (!fbi_collective_usable(group, t, "all_gather"))
        return NULL;
    return apply(&(attributes){group, FB_SUM, FBI_KIND_ALL_GATHER}, t);
}

FB_API FB_USE_RESULT fb_tensor *fb_all_to_all(fb_group *group, fb_tensor *t)
{
    FBI_ENTRY(fbi_group_context(group));
    if (!fbi_collective_usable(group, t, "all_to_all") || !divides(group, t, "all_to_all"))
        return NULL;
    return apply(&(attributes){group, FB_SUM, FBI_KIND_ALL_TO_ALL}, t);
}
