/* One call of an operator: check, infer, run the kernel, hash, record. */
#include "core/ops/call_priv.h"

#include <stdio.h>
#include <string.h>

#include "core/ops/autocast_priv.h"
#include "core/ops/pointwise_priv.h"

enum { FBI_MAX_OUT = 16, FBI_VIEW_ATTRS = 384, FBI_MAX_WIDE = 4 };

fb_status fbi_check_inputs(fb_context *ctx, const fbi_opdef *d, fb_tensor *const *in, int n_in)
{
    if (n_in != d->n_in && !(d->flags & FBI_VARIADIC))
        return fbi_fail(ctx, FB_E_ARG, "%s: takes %d inputs, got %d", d->name, d->n_in, n_in);
    if (n_in < 1 && d->n_in > 0)
        return fbi_fail(ctx, FB_E_ARG, "%s: takes at least one input", d->name);
    for (int i = 0; i < n_in; i++) {
        if (!in[i]) {
            if (i >= 1 && i <= 3 && (d->flags & (FBI_OPT1 << (i - 1))))
                continue;
            return fbi_fail(ctx, FB_E_ARG, "%s: input %d is NULL", d->name, i);
        }
        char what[24];
        if (__builtin_expect(!(in[i]->flags & FBI_T_LIVE) || ctx->off, 0)) {
            snprintf(what, sizeof what, "input %d", i);
            if (!fbi_tensor_check(ctx, in[i], d->name, what))
                return ctx->status ? ctx->status : FB_E_STALE;
        }
        if (in[i]->ctx != ctx)
            return fbi_fail(ctx, FB_E_ARG, "%s: input %d belongs to another context", d->name, i);
    }
    return FB_OK;
}

static __attribute__((cold, noinline)) void tell_call(const fbi_call *c)
{
    for (const fbi_trace *t = c->ctx->trace; t; t = t->next)
        if (t->call)
            t->call(t->self, c);
}

fb_status fbi_launch(fbi_call *c)
{
    fbi_kernel k = c->ctx->kernels ? c->ctx->kernels[c->op->op] : NULL;
    if (!k && (c->op->flags & FBI_LAPACK))
        return fbi_op_fail(
            c, FB_E_UNSUPPORTED,
            "the CPU alone has it: read its inputs (fb_read) and call it in a context "
            "on \"cpu\"");
    if (!k)
        return fbi_op_fail(c, FB_E_UNSUPPORTED, "the device has no kernel for it");
    if (__builtin_expect(c->ctx->trace != NULL, 0))
        tell_call(c);
    return k(c);
}

/* Folded into the rolling hash: ranks compare it to find programs that differ. */
static void fbi_hash(fb_context *ctx, fbi_op op, const fb_tensor *t)
{
    uint64_t h = ctx->hash ^ ((uint64_t)op * 0x9E3779B97F4A7C15ull + (uint64_t)t->numel);
    ctx->hash = (h ^ h >> 29) * 0xff51afd7ed558ccdull;
}

static bool fbi_recording(const fb_context *ctx, const fbi_opdef *d, fb_tensor *const *in, int n_in)
{
    if (!ctx->grad_on || !d->bwd_ops)
        return false;
    for (int i = 0; i < n_in; i++)
        if (in[i] && fb_needs_grad(in[i]))
            return true;
    return false;
}

/* Of a product, the factor is kept only for the other one's gradient. */
static bool fbi_kept(const fbi_node *n, int i)
{
    if (n->op != FBI_OP_mul)
        return true;
    return fbi_edges((fbi_node *)(uintptr_t)n)[1 - i].to != NULL;
}

/* Of a product that ends with a GELU, its argument is kept and not the result. */
static bool fbi_kept_out(const fbi_call *c, int i)
{
    return c->op->op != FBI_OP_linear_act || i == 1 || c->out[1]->numel == 0;
}

fb_status fbi_record(fbi_call *c)
{
    const fbi_opdef *d = c->op;
    int n_saved = d->saves ? __builtin_popcount(d->saves) : 0;
    fbi_node *n = fbi_node_new(c->ctx, (uint16_t)d->op, c->n_in, c->n_out, n_saved, d->attrs_bytes);
    if (!n)
        return c->ctx->status;
    if (d->attrs_bytes && c->attrs)
        memcpy(fbi_attrs(n), c->attrs, d->attrs_bytes);
    if (__builtin_expect(c->ctx->anomaly, 0))
        fbi_anomaly_note(c->ctx, n, c->in, c->n_in);
    for (int i = 0; i < c->n_in; i++) {
        fbi_node *to = c->in[i] ? fbi_node_of(c->in[i]) : NULL;
        if (!to || !fb_dtype_is_float(c->in[i]->dtype))
            continue;
        to->refs++;
        fbi_edges(n)[i] = (fbi_edge){to, c->in[i]->out_index};
    }
    int slot = 0;
    fb_status st = FB_OK;
    for (uint32_t i = 0, saved = d->saves % FBI_OUT0; saved >> i && !st; i++)
        if (saved & (1u << i)) {
            if (i < c->n_in && c->in[i] && fbi_kept(n, (int)i))
                st = fbi_save(n, slot, c->in[i], FBI_SAVE_INPUT);
            slot++;
        }
    if (st) {
        fbi_node_unref(c->ctx, n);
        return st;
    }
    int results = fbi_n_results(d);
    for (int i = 0; i < c->n_out; i++) {
        fb_tensor *o = c->out[i];
        if (c->inplace && o->node)
            fbi_node_unref(c->ctx, o->node);
        if (fb_dtype_is_float((fb_dtype)o->dtype) && i < results) {
            o->node = n;
            o->out_index = (uint8_t)i;
            n->refs++;
        }
        if (d->saves & (256u << i)) {
            if (fbi_kept_out(c, i) && !st)
                st = fbi_save(n, slot, o, c->inplace ? FBI_SAVE_UNWRITTEN : FBI_SAVE_OUTPUT);
            slot++;
        }
    }
    fbi_node_unref(c->ctx, n);
    return st;
}

static fb_status fbi_run_unified(fb_context *ctx, const fbi_opdef *d, const void *attrs,
                                 fb_tensor **in, int n_in, fb_tensor **out)
{
    uint64_t copy[FBI_VIEW_ATTRS / 8];
    if ((d->flags & FBI_VIEW) && attrs && d->attrs_bytes <= sizeof copy)
        attrs = memcpy(copy, attrs, d->attrs_bytes); /* infer may complete it */
    fbi_call c = {.ctx = ctx,
                  .op = d,
                  .attrs = attrs,
                  .in = in,
                  .out = out,
                  .n_in = (uint16_t)n_in,
                  .n_out = d->n_out,
                  .threads = ctx->threads};
    const char *before = fbi_doing_begin(ctx, FBI_SPAN_OP, d->name);
    fb_status st = d->infer(&c);
    if (!st && !(d->flags & FBI_VIEW))
        st = fbi_launch(&c);
    fbi_doing_end(ctx, before);
    if (__builtin_expect(ctx->anomaly, 0) && !st)
        st = fbi_watch(&c, NULL);
    if (!st) {
        fbi_hash(ctx, d->op, out[0]);
        if (fbi_recording(ctx, d, in, n_in))
            st = fbi_record(&c);
    }
    if (st)
        for (int i = 0; i < d->n_out; i++) {
            if (out[i])
                fb_drop(out[i]);
            out[i] = NULL;
        }
    return st;
}

/* The dtype that the floats among the operands have together; those without dimensions do not
 * widen. */
static fb_dtype fbi_float_of(fb_tensor *const *in, int n_in)
{
    fb_dtype d = FB_BOOL;
    for (int pass = 0; pass < 2 && !fb_dtype_is_float(d); pass++)
        for (int i = 0; i < n_in; i++)
            if (in[i] && (pass || in[i]->ndim))
                d = fb_promote(d, (fb_dtype)in[i]->dtype);
    return d;
}

/* A row with flag WIDE gets F32 for F16 and BF16 (recorded), and its F32 results are rounded. */
static fb_status fbi_compose_wide(fbi_call *c)
{
    fb_tensor *wide[FBI_MAX_WIDE], *const *in = c->in;
    fb_dtype d = fbi_float_of(in, c->n_in);
    if (c->n_in > FBI_MAX_WIDE)
        return fbi_op_fail(c, FB_E_UNSUPPORTED, "%d inputs", (int)c->n_in);
    for (int i = 0; i < c->n_in; i++) {
        wide[i] = in[i] && fb_dtype_size((fb_dtype)in[i]->dtype) == 2 &&
                          fb_dtype_is_float((fb_dtype)in[i]->dtype)
                      ? fbi_cast_to(in[i], FB_F32)
                      : in[i];
        if (in[i] && !wide[i])
            return c->ctx->status;
    }
    c->in = wide;
    fb_status st = c->op->compose(c);
    for (int i = 0; i < c->n_out && !st && (d == FB_F16 || d == FB_BF16); i++)
        if (c->out[i]->dtype == FB_F32) {
            c->out[i] = fbi_cast_to(c->out[i], d);
            st = c->out[i] ? FB_OK : c->ctx->status;
        }
    return st;
}

static fb_status fbi_run_composed(fb_context *ctx, const fbi_opdef *d, const void *attrs,
                                  fb_tensor *const *in, int n_in, fb_tensor **out)
{
    FB_SCOPE(ctx);
    fbi_call c = {.ctx = ctx,
                  .op = d,
                  .attrs = attrs,
                  .in = (fb_tensor **)(uintptr_t)in,
                  .out = out,
                  .n_in = (uint16_t)n_in,
                  .n_out = d->n_out};
    bool outer = !ctx->composing;
    if (outer)
        ctx->composing = d->name;
    if (ctx->trace)
        fbi_trace_begin(ctx, (fbi_trace_span){FBI_SPAN_OP, d->name, NULL, NULL});
    fb_status st = d->flags & FBI_WIDE ? fbi_compose_wide(&c) : d->compose(&c);
    if (ctx->trace)
        fbi_trace_end(ctx);
    if (outer)
        ctx->composing = NULL;
    for (int i = 0; i < d->n_out; i++)
        out[i] = st ? NULL : fb_keep(out[i]);
    return st;
}

fb_status fbi_run_as_is(fb_context *ctx, const fbi_opdef *d, const void *attrs,
                        fb_tensor *const *in, int n_in, fb_tensor **out)
{
    if (d->compose)
        return fbi_run_composed(ctx, d, attrs, in, n_in, out);
    if (d->infer == fbi_infer_binary || d->infer == fbi_infer_compare ||
        d->infer == fbi_infer_bits) {
        fb_tensor *two[2] = {in[0], in[1]};
        fb_status st = fbi_unify(ctx, d->op, &two[0], &two[1]);
        if (!st)
            st = fbi_run_unified(ctx, d, attrs, two, 2, out);
        for (int i = 0; i < 2; i++)
            if (two[i] && two[i] != in[i])
                fb_drop(two[i]); /* the graph keeps what it needs */
        return st;
    }
    return fbi_run_unified(ctx, d, attrs, (fb_tensor **)(uintptr_t)in, n_in, out);
}

fb_status fbi_run(fb_context *ctx, fbi_op op, const void *attrs, fb_tensor *const *in, int n_in,
                  fb_tensor **out)
{
    const fbi_opdef *d = &fbi_opdefs[op];
    for (int i = 0; i < d->n_out; i++)
        out[i] = NULL;
    if (!fbi_enter(ctx))
        return ctx ? ctx->status : FB_E_ARG;
    fb_status st = fbi_check_inputs(ctx, d, in, n_in);
    if (st)
        return st;
    return __builtin_expect(ctx->autocast != 0, 0) ? fbi_run_autocast(ctx, d, attrs, in, n_in, out)
                                                   : fbi_run_as_is(ctx, d, attrs, in, n_in, out);
}

fb_tensor *fbi_run1(const void *site, fbi_op op, const void *attrs, int n_in, fb_tensor *const *in)
{
    fb_context *ctx = NULL;
    for (int i = 0; i < n_in && !ctx; i++)
        if (in[i])
            ctx = in[i]->ctx;
    if (!ctx)
        return NULL;
    fbi_site_guard guard __attribute__((cleanup(fbi_site_end), unused)) = fbi_site_begin(ctx, site);
    fb_tensor *out[FBI_MAX_OUT];
    return fbi_run(ctx, op, attrs, in, n_in, out) ? NULL : out[0];
}

static fb_status fbi_inplace_ok(fb_context *ctx, const fbi_opdef *d, fb_tensor *t, bool recording)
{
    if (t->storage->flags & FBI_S_READ_ONLY)
        return fbi_fail(ctx, FB_E_ARG, "%s: in place on read-only memory", d->name);
    if (!recording)
        return FB_OK;
    if (t->leaf && t->leaf->required)
        return fbi_fail(ctx, FB_E_STATE,
                        "%s: in place on a leaf that requires a gradient; use fb_no_grad", d->name);
    if (t->flags & FBI_T_VIEW)
        return fbi_fail(ctx, FB_E_UNSUPPORTED,
                        "%s: in place on a view cannot be recorded; write out of place", d->name);
    return FB_OK;
}

/* As in PyTorch, a target never takes a value of a higher kind: BOOL, integer, float. */
static bool fbi_holds(const fb_tensor *target, const fb_tensor *t)
{
    if (fb_dtype_is_float((fb_dtype)target->dtype))
        return true;
    return !fb_dtype_is_float((fb_dtype)t->dtype) &&
           (target->dtype != FB_BOOL || t->dtype == FB_BOOL);
}

fb_status fbi_run_inplace(const void *site, fbi_op op, const void *attrs, int n_in,
                          fb_tensor *const *in)
{
    const fbi_opdef *d = &fbi_opdefs[op];
    if (!in[0])
        return FB_E_ARG;
    fb_context *ctx = in[0]->ctx;
    fbi_site_guard guard __attribute__((cleanup(fbi_site_end), unused)) = fbi_site_begin(ctx, site);
    if (!fbi_enter(ctx))
        return ctx ? ctx->status : FB_E_ARG;
    fb_status st = fbi_check_inputs(ctx, d, in, n_in);
    if (st)
        return st;
    FB_SCOPE(ctx);
    fb_tensor *arg[4] = {in[0]};
    for (int i = 1; i < n_in && i < 4; i++)
        arg[i] = in[i];
    if (n_in > 1 && arg[1] && op != FBI_OP_copy && !fbi_holds(in[0], arg[1]))
        return fbi_fail(ctx, FB_E_DTYPE, "%s: in place, %s does not fit into %s", d->name,
                        fb_dtype_name((fb_dtype)arg[1]->dtype),
                        fb_dtype_name((fb_dtype)in[0]->dtype));
    if (n_in > 1 && arg[1]) { /* the other operand adapts to the target */
        if (arg[1]->dtype != in[0]->dtype)
            arg[1] = fbi_cast_to(arg[1], (fb_dtype)in[0]->dtype);
        if (arg[1] && !fbi_same_shape(arg[1], in[0]))
            arg[1] = fbi_expand_to(arg[1], fb_shape_of(in[0]), d->name);
        if (!arg[1])
            return ctx->status;
    }
    bool rec = fbi_recording(ctx, d, arg, n_in);
    st = fbi_inplace_ok(ctx, d, in[0], rec);
    if (st)
        return st;
    fb_tensor *out[1] = {in[0]};
    fbi_call c = {.ctx = ctx,
                  .op = d,
                  .attrs = attrs,
                  .in = arg,
                  .out = out,
                  .n_in = (uint16_t)n_in,
                  .n_out = 1,
                  .inplace = true,
                  .threads = ctx->threads};
    if (rec && (st = fbi_record(&c)))
        return st;
    fbi_oddity odd = {0};
    if (__builtin_expect(ctx->anomaly, 0))
        odd = fbi_odd(in[0]);
    const char *before = fbi_doing_begin(ctx, FBI_SPAN_OP, d->name);
    fbi_changing(in[0]);
    st = fbi_launch(&c);
    fbi_doing_end(ctx, before);
    fbi_bump(in[0]);
    if (rec && !st)
        st = fbi_save_written(in[0]);
    fbi_hash(ctx, op, in[0]);
    if (__builtin_expect(ctx->anomaly, 0) && !st)
        st = fbi_watch(&c, &odd);
    return st;
}

fb_status fbi_kernel_run(fb_context *ctx, fbi_op op, const void *attrs, fb_tensor *const *in,
                         int n_in, fb_tensor *const *out, int n_out, float beta)
{
    fbi_call c = {.ctx = ctx,
                  .op = &fbi_opdefs[op],
                  .attrs = attrs,
                  .in = (fb_tensor **)(uintptr_t)in,
                  .out = (fb_tensor **)(uintptr_t)out,
                  .n_in = (uint16_t)n_in,
                  .n_out = (uint8_t)n_out,
                  .threads = ctx->threads,
                  .beta = beta};
    c.inplace = n_in && n_out && in[0] == out[0];
    const char *before = fbi_doing_begin(ctx, FBI_SPAN_OP, c.op->name);
    fb_status st = fbi_launch(&c);
    fbi_doing_end(ctx, before);
    return st;
}
