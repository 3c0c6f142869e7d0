/* Public pointwise operators, and the recorded broadcast and promotion under them. */
#include <flambeau/core/ops/pointwise.h>

#include "core/ops/call_priv.h"
#include "core/ops/pointwise_priv.h"

#define PUBLIC_1(name)                 \
    fb_tensor *fb_##name(fb_tensor *x) \
    {                                  \
        return FBI_RUN(name, NULL, x); \
    }
#define PUBLIC_S(name)                                         \
    fb_tensor *fb_##name(fb_tensor *x, double a)               \
    {                                                          \
        return FBI_RUN(name, (&(fbi_attrs_scalars){a, 0}), x); \
    }
#define PUBLIC_2(name)                               \
    fb_tensor *fb_##name(fb_tensor *a, fb_tensor *b) \
    {                                                \
        return FBI_RUN(name, NULL, a, b);            \
    }

PUBLIC_1(neg)
PUBLIC_1(exp)
PUBLIC_1(log)
PUBLIC_1(log1p)
PUBLIC_1(sqrt)
PUBLIC_1(rsqrt)
PUBLIC_1(reciprocal)
PUBLIC_1(sin)
PUBLIC_1(cos)
PUBLIC_1(tanh)
PUBLIC_1(erf)
PUBLIC_1(sigmoid)
PUBLIC_1(relu)
PUBLIC_1(gelu)
PUBLIC_1(gelu_tanh)
PUBLIC_1(silu)
PUBLIC_1(softplus)
PUBLIC_1(abs)
PUBLIC_1(square)
PUBLIC_S(add_scalar)
PUBLIC_S(mul_scalar)
PUBLIC_S(pow_scalar)
PUBLIC_S(leaky_relu)
PUBLIC_S(elu)
PUBLIC_2(add)
PUBLIC_2(sub)
PUBLIC_2(mul)
PUBLIC_2(div)
PUBLIC_2(pow)
PUBLIC_2(maximum)
PUBLIC_2(minimum)
PUBLIC_2(eq)
PUBLIC_2(ne)
PUBLIC_2(lt)
PUBLIC_2(le)
PUBLIC_2(gt)
PUBLIC_2(ge)

fb_tensor *fb_clamp(fb_tensor *x, double lo, double hi)
{
    return FBI_RUN(clamp, (&(fbi_attrs_scalars){lo, hi}), x);
}

fb_tensor *fb_where(fb_tensor *cond, fb_tensor *a, fb_tensor *b)
{
    if (!cond || !a || !b)
        return FBI_RUN(where, NULL, cond, a, b);
    FBI_ENTRY(cond->ctx);
    if (!fbi_enter(cond->ctx))
        return NULL;
    FB_SCOPE(cond->ctx);
    const char *name = cond->ctx->composing ? cond->ctx->composing : "where";
    fb_shape s;
    if (!fbi_broadcast(fb_shape_of(a), fb_shape_of(b), &s) ||
        !fbi_broadcast(fb_shape_of(cond), s, &s)) {
        fbi_fail(cond->ctx, FB_E_SHAPE, "%s: %s, %s and %s cannot be broadcast", name,
                 fbi_text(cond), fbi_text(a), fbi_text(b));
        return NULL;
    }
    fb_dtype d = fb_promote((fb_dtype)a->dtype, (fb_dtype)b->dtype);
    fb_tensor *x = fbi_cast_to(a, d), *y = fbi_cast_to(b, d);
    fb_tensor *m = fbi_expand_to(cond, s, name);
    x = x ? fbi_expand_to(x, s, name) : NULL;
    y = y ? fbi_expand_to(y, s, name) : NULL;
    return x && y && m ? fb_keep(FBI_RUN(where, NULL, m, x, y)) : NULL;
}

fb_tensor *fb_to(fb_tensor *t, fb_dtype dtype)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    dtype = dtype == FB_DTYPE_DEFAULT ? FB_F32 : dtype;
    if (t->dtype == dtype)
        return t;
    return FBI_RUN(cast, (&(fbi_attrs_cast){.dtype = dtype}), t);
}

fb_tensor *fb_type_as(fb_tensor *t, fb_tensor *other)
{
    return other ? fb_to(t, (fb_dtype)other->dtype) : NULL;
}

fb_tensor *fbi_cast_to(fb_tensor *t, fb_dtype dtype)
{
    return fb_to(t, dtype);
}

fb_tensor *fb_contiguous(fb_tensor *t)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    return fbi_contiguous(t) ? t : FBI_RUN(contiguous, NULL, t);
}

fb_tensor *fbi_contiguous_of(fb_tensor *t)
{
    return fb_contiguous(t);
}

fb_tensor *fb_clone(fb_tensor *t)
{
    return FBI_RUN(contiguous, NULL, t);
}

#define IN_PLACE(name, attrs, ...)                                         \
    fbi_run_inplace(FBI_SITE, FBI_OP_##name, attrs, FB_COUNT(__VA_ARGS__), \
                    (fb_tensor *const[]){__VA_ARGS__})

/* A NULL operand comes from a failed call: that error is the one to report. */
static fb_status fbi_operand(fb_tensor *a, fb_tensor *b, const char *op)
{
    fb_tensor *t = a ? a : b;
    if (a && b)
        return FB_OK;
    if (!t)
        return FB_E_ARG;
    return t->ctx->status ? t->ctx->status : fbi_fail(t->ctx, FB_E_ARG, "%s: a tensor is NULL", op);
}

fb_status fb_copy_(fb_tensor *dst, fb_tensor *src)
{
    fb_status st = fbi_operand(dst, src, "copy_");
    return st ? st : IN_PLACE(copy, NULL, dst, src);
}

fb_status fb_add_(fb_tensor *a, fb_tensor *b)
{
    fb_status st = fbi_operand(a, b, "add_");
    return st ? st : IN_PLACE(add, NULL, a, b);
}

fb_status fb_mul_(fb_tensor *a, fb_tensor *b)
{
    fb_status st = fbi_operand(a, b, "mul_");
    return st ? st : IN_PLACE(mul, NULL, a, b);
}

fb_status fb_sub_(fb_tensor *a, fb_tensor *b)
{
    fb_status st = fbi_operand(a, b, "sub_");
    return st ? st : IN_PLACE(sub, NULL, a, b);
}

fb_status fb_div_(fb_tensor *a, fb_tensor *b)
{
    fb_status st = fbi_operand(a, b, "div_");
    return st ? st : IN_PLACE(div, NULL, a, b);
}

#define PUBLIC_IN_PLACE(name)            \
    fb_status fb_##name##_(fb_tensor *x) \
    {                                    \
        return IN_PLACE(name, NULL, x);  \
    }
PUBLIC_IN_PLACE(neg)
PUBLIC_IN_PLACE(abs)
PUBLIC_IN_PLACE(exp)
PUBLIC_IN_PLACE(sqrt)
PUBLIC_IN_PLACE(tanh)
PUBLIC_IN_PLACE(sigmoid)
PUBLIC_IN_PLACE(relu)
PUBLIC_IN_PLACE(floor)
PUBLIC_IN_PLACE(ceil)
PUBLIC_IN_PLACE(round)
PUBLIC_IN_PLACE(trunc)

fb_status fb_add_scalar_(fb_tensor *a, double s)
{
    return IN_PLACE(add_scalar, (&(fbi_attrs_scalars){s, 0}), a);
}

fb_status fb_clamp_(fb_tensor *x, double lo, double hi)
{
    return IN_PLACE(clamp, (&(fbi_attrs_scalars){lo, hi}), x);
}

fb_status fb_mul_scalar_(fb_tensor *a, double s)
{
    return IN_PLACE(mul_scalar, (&(fbi_attrs_scalars){s, 0}), a);
}

fb_status fb_fill_(fb_tensor *t, double value)
{
    return IN_PLACE(fill, (&(fbi_attrs_fill){.value = value}), t);
}

fb_status fb_zero_(fb_tensor *t)
{
    return IN_PLACE(fill, (&(fbi_attrs_fill){.value = 0}), t);
}

fb_status fbi_unify(fb_context *ctx, fbi_op op, fb_tensor **a, fb_tensor **b)
{
    fb_tensor *x = *a, *y = *b;
    if (__builtin_expect(x->dtype == y->dtype && fbi_same_shape(x, y), 1))
        return FB_OK;
    const char *name = ctx->composing ? ctx->composing : fbi_opdefs[op].name;
    fb_shape s;
    if (!fbi_broadcast(fb_shape_of(x), fb_shape_of(y), &s))
        return fbi_fail(ctx, FB_E_SHAPE, "%s: %s and %s cannot be broadcast", name, fbi_text(x),
                        fbi_text(y));
    fb_dtype dx = (fb_dtype)x->dtype, dy = (fb_dtype)y->dtype;
    /* As in PyTorch, a tensor without dimensions does not widen one of the same kind. */
    bool kin = fb_dtype_is_float(dx) == fb_dtype_is_float(dy) && dx != FB_BOOL && dy != FB_BOOL;
    fb_dtype d = kin && !x->ndim && y->ndim   ? dy
                 : kin && x->ndim && !y->ndim ? dx
                                              : fb_promote(dx, dy);
    fb_tensor *tmp[4] = {fbi_cast_to(x, d), fbi_cast_to(y, d), NULL, NULL};
    tmp[2] = tmp[0] ? fbi_expand_to(tmp[0], s, name) : NULL;
    tmp[3] = tmp[1] ? fbi_expand_to(tmp[1], s, name) : NULL;
    if (!tmp[2] || !tmp[3])
        return ctx->status;
    if (tmp[0] != x && tmp[0] != tmp[2])
        fb_drop(tmp[0]);
    if (tmp[1] != y && tmp[1] != tmp[3])
        fb_drop(tmp[1]);
    *a = tmp[2];
    *b = tmp[3];
    return FB_OK;
}
