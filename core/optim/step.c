/* One step: agree, measure, clip, update, spend. */
#include <math.h>
#include <stdlib.h>

#include "core/ops/update_priv.h"
#include "core/optim/optimizer_priv.h"
#include "core/tensor/device_priv.h"

fb_status fbi_reducer_set(fb_module *root, fbi_reducer *reducer)
{
    if (root->parent)
        return fbi_fail(root->ctx, FB_E_STATE, "%s is a child of %s; attach the root",
                        root->type->name, root->parent->type->name);
    if (reducer && root->reducer)
        return fbi_fail(root->ctx, FB_E_STATE, "%s is attached to a group already",
                        root->type->name);
    root->reducer = reducer;
    return FB_OK;
}

fbi_reducer *fbi_reducer_of(fb_module *root)
{
    return fbi_nn_root(root)->reducer;
}

fbi_reducer *fbi_optim_reducer(const fb_optimizer *opt, int s)
{
    fb_module *root = fbi_nn_root(opt->sources[s].m);
    for (int before = 0; before < s; before++)
        if (fbi_nn_root(opt->sources[before].m) == root)
            return NULL;
    return root->reducer;
}

fb_status fbi_entry_tally(const fbi_entry *e, const fbi_tally **tally)
{
    const fbi_tally *of = e->t->leaf->tally;
    *tally = of && of->counted ? of : NULL;
    if (*tally && of->plain)
        return fbi_fail(e->t->ctx, FB_E_STATE,
                        "fb_optim_step: of the backwards that reached %s or its model in this "
                        "step, some gave a count and some did not; all must, or none",
                        e->name);
    return FB_OK;
}

/* Gradients of sums, which nobody reduces, are divided by what the sums counted. */
static fb_status divide_own(fb_optimizer *opt, bool *apply)
{
    double unscale = 1 / fbi_scaler_value(opt->ctx);
    fb_status st = FB_OK;
    for (int64_t i = 0; i < opt->n_entries && !st; i++) {
        fbi_entry *e = opt->entries[i];
        const fbi_tally *tally = NULL;
        e->scale = unscale;
        if (!fbi_entry_live(e) || fbi_entry_reduced(e))
            continue;
        st = fbi_entry_tally(e, &tally);
        if (!tally)
            continue;
        *apply &= tally->count > 0;
        e->scale = tally->count > 0 ? unscale / tally->count : unscale;
    }
    return st;
}

/* Ask the reducer of every root once; their gradients are sums over all ranks afterwards. */
static fb_status commit_all(fb_optimizer *opt, bool *apply, bool *finite, double *norm2)
{
    double unscale = 1 / fbi_scaler_value(opt->ctx);
    for (int s = 0; s < opt->n_sources; s++) {
        fbi_reducer *r = fbi_optim_reducer(opt, s);
        if (!r)
            continue;
        fbi_commit c = {.want_norm = opt->max_norm > 0, .scale = 1, .apply = true, .finite = true};
        fb_status st = r->commit(r->self, &c);
        if (st)
            return st;
        c.scale *= unscale;
        *apply &= c.apply;
        *finite &= c.finite;
        *norm2 += c.norm2 * c.scale * c.scale;
        for (int64_t i = 0; i < opt->n_entries; i++)
            if (opt->entries[i]->of && fbi_reducer_of(opt->entries[i]->of) == r)
                opt->entries[i]->scale = c.scale;
    }
    return FB_OK;
}

/* Whether the gradients that no reducer has looked at are finite. */
static bool own_finite(const fb_optimizer *opt)
{
    bool finite = true;
    for (int64_t i = 0; i < opt->n_entries && finite; i++) {
        const fbi_entry *e = opt->entries[i];
        if (!fbi_entry_live(e) || fbi_entry_reduced(e))
            continue;
        const fb_tensor *g = e->t->leaf->grad;
        fbi_flat_view v = {(fb_dtype)g->dtype, fbi_ptr(g), g->numel};
        finite = fbi_all_finite(opt->ctx, &v, 1);
    }
    return finite;
}

/* Squared norm of the gradients that no reducer has measured, added pairwise. */
static double own_norm2(fb_optimizer *opt, double *part)
{
    int64_t n = 0;
    for (int64_t i = 0; i < opt->n_entries; i++) {
        const fbi_entry *e = opt->entries[i];
        if (fbi_entry_live(e) && !fbi_entry_reduced(e))
            part[n++] = fbi_sum_squares(e->t->leaf->grad) * e->scale * e->scale;
    }
    return fbi_pairwise(part, n);
}

static fb_status clip(fb_optimizer *opt, double norm2, bool *apply)
{
    double *part = malloc((size_t)(opt->n_entries + 1) * sizeof *part);
    if (!part)
        return fbi_fail(opt->ctx, FB_E_NOMEM, "fb_optim_step: no memory for the norm");
    opt->grad_norm = sqrt(norm2 + own_norm2(opt, part));
    free(part);
    if (*apply && !isfinite(opt->grad_norm)) {
        *apply = false;
        fbi_skipped(fbi_step_of(opt->ctx), ++opt->skipped, "the norm of the gradients is %g",
                    opt->grad_norm);
    }
    double factor = opt->max_norm / (opt->grad_norm + 1e-6);
    if (!*apply || factor >= 1)
        return FB_OK;
    for (int64_t i = 0; i < opt->n_entries; i++)
        opt->entries[i]->scale *= factor;
    return FB_OK;
}

static fb_status check_gradients(fb_optimizer *opt)
{
    for (int64_t i = 0; i < opt->n_entries; i++) {
        const fbi_entry *e = opt->entries[i];
        if (!fbi_entry_live(e))
            continue;
        const fb_tensor *g = e->t->leaf->grad;
        if (g->dtype != e->t->dtype || !fbi_same_shape(g, e->t) || !fbi_contiguous(g))
            return fbi_fail(opt->ctx, FB_E_SHAPE,
                            "fb_optim_step: the gradient of %s is %s %s, the parameter %s %s; both "
                            "must agree and be contiguous",
                            e->name, fb_dtype_name(g->dtype), fbi_text(g),
                            fb_dtype_name(e->t->dtype), fbi_text(e->t));
    }
    return FB_OK;
}

fb_status fbi_optim_ready(fb_optimizer *opt)
{
    fb_status st = check_gradients(opt);
    return st ? st : fbi_optim_allocate(opt, fbi_entry_live);
}

/* --- runs --- */

static fbi_run run_of(const fb_optimizer *opt, const fbi_entry *e)
{
    fbi_run r = {.dtype = (fb_dtype)e->t->dtype,
                 .threads = opt->ctx->threads,
                 .n = e->t->numel,
                 .step = e->step,
                 .p = fbi_ptr(e->state[FBI_MASTER] ? e->state[FBI_MASTER] : e->t),
                 .half = e->state[FBI_MASTER] ? fbi_ptr(e->t) : NULL,
                 .g = fbi_ptr(e->t->leaf->grad),
                 .lr_scale = e->lr_scale,
                 .weight_decay = e->weight_decay,
                 .scale = e->scale};
    for (int k = 0; k < opt->method->n_states(opt); k++)
        r.s[k] = fbi_ptr(e->state[k]);
    return r;
}

/* b is `n` elements of `size` bytes behind a, or neither is there. */
static bool follows(const void *a, const void *b, int64_t n, size_t size)
{
    return a ? (const char *)a + (size_t)n * size == (const char *)b : !b;
}

static bool same_blocks(const fbi_entry *a, const fbi_entry *b)
{
    bool same =
        a->t->storage == b->t->storage && a->t->leaf->grad->storage == b->t->leaf->grad->storage;
    for (int k = 0; k < FBI_STATES && same; k++)
        if (a->state[k])
            same = b->state[k] && a->state[k]->storage == b->state[k]->storage;
    return same;
}

/* Take b into r if it lies right behind it in every block; what pads the gap is zero and stays so.
 */
static bool extend(fbi_run *r, const fbi_run *b)
{
    size_t size = fb_dtype_size(r->dtype), wide = r->half ? sizeof(float) : size;
    int64_t pad = 256 / (int64_t)size, distance = (r->n + pad - 1) / pad * pad;
    if (r->dtype != b->dtype || r->step != b->step || r->lr_scale != b->lr_scale ||
        r->weight_decay != b->weight_decay || r->scale != b->scale ||
        !follows(r->p, b->p, distance, wide) || !follows(r->half, b->half, distance, size) ||
        !follows(r->g, b->g, distance, size))
        return false;
    for (int k = 0; k < FBI_MAX_STATES; k++)
        if (!follows(r->s[k], b->s[k], distance, wide))
            return false;
    r->n = distance + b->n;
    return true;
}

/* The parameter and its states are about to be. */
static void changing(const fbi_entry *e)
{
    fbi_changing(e->t);
    for (int k = 0; k < FBI_STATES; k++)
        if (e->state[k])
            fbi_changing(e->state[k]);
}

static void update(const fb_context *ctx, const fbi_method_numbers *m, const fbi_run *r)
{
    fbi_update u = {.m = *m,
                    .f = fbi_factors_of(m, r->lr_scale, r->weight_decay, (double)r->step, r->scale),
                    .dtype = r->dtype,
                    .threads = r->threads,
                    .n = r->n,
                    .p = r->p,
                    .half = r->half,
                    .g = r->g};
    for (int k = 0; k < FBI_MAX_STATES; k++)
        u.s[k] = r->s[k];
    fbi_cpu_update(ctx, &u);
}

static fb_status update_all(fb_optimizer *opt)
{
    fbi_method_numbers m = fbi_numbers_now(opt);
    bool pads_stay = opt->method->safe || m.eps > FB_ZERO; /* 0 / eps */
    fb_status st = FB_OK;
    const fbi_entry *last = NULL;
    fbi_run run = {0};
    for (int64_t i = 0; i < opt->n_entries && !st; i++) {
        fbi_entry *e = opt->entries[i];
        if (!fbi_entry_live(e))
            continue;
        e->step++;
        if (e->composed) {
            st = fbi_compose(opt, e);
            continue;
        }
        changing(e);
        fbi_run r = run_of(opt, e);
        if (!last || !pads_stay || !same_blocks(last, e) || !extend(&run, &r)) {
            if (last)
                update(opt->ctx, &m, &run);
            run = r;
        }
        last = e;
        fbi_bump(e->t);
    }
    if (last)
        update(opt->ctx, &m, &run);
    return st;
}

void fbi_optim_spend(fb_optimizer *opt)
{
    for (int64_t i = 0; i < opt->n_entries && !opt->keep_grad; i++) {
        fbi_leaf *leaf = opt->entries[i]->t->leaf;
        if (!leaf)
            continue;
        if (leaf->state == FBI_GRAD_LIVE)
            leaf->state = FBI_GRAD_SPENT;
        if (leaf->tally)
            leaf->tally->spent = true;
        fbi_tensor_unref(leaf->linked);
        leaf->linked = NULL;
    }
}

static fb_status host_step(fb_optimizer *opt)
{
    bool apply = true, finite = true;
    double norm2 = 0;
    fb_status st = divide_own(opt, &apply);
    if (!st)
        st = commit_all(opt, &apply, &finite, &norm2);
    if (!st)
        st = fbi_optim_ready(opt);
    if (!st && opt->ctx->scaling.scaler) {
        finite = finite && own_finite(opt);
        apply &= finite;
        fbi_scaler_note(opt->ctx, finite);
    }
    if (!st && opt->max_norm > 0)
        st = clip(opt, norm2, &apply);
    if (st || !apply)
        return st;
    st = update_all(opt);
    opt->steps += !st;
    return st;
}

static fb_status step(fb_optimizer *opt)
{
    bool host = opt->ctx->backend->host_memory;
    fb_status st = fbi_optim_expand(opt);
    if (!st)
        st = host ? host_step(opt) : fbi_judge_step(opt);
    if (st)
        return st;
    fbi_optim_spend(opt);
    return opt->ctx->status; /* of a device that failed */
}

fb_status fb_optim_step(fb_optimizer *opt)
{
    if (!opt)
        return FB_E_ARG;
    fb_context *ctx = opt->ctx;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return ctx->status;
    if (opt->lbfgs)
        return fbi_fail(ctx, FB_E_STATE,
                        "fb_optim_step: lbfgs evaluates the loss several times in a step; call "
                        "fb_optim_step_closure");
    if (ctx->in_step && !ctx->batch.last)
        return FB_OK;
    const char *before = fbi_doing_begin(ctx, FBI_SPAN_STEP, "optim_step");
    fb_status st = step(opt);
    fbi_doing_end(ctx, before);
    return st;
}

fb_tensor *fb_optim_step_closure(fb_optimizer *opt, fb_closure closure, void *user)
{
    if (!opt)
        return NULL;
    fb_context *ctx = opt->ctx;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    if (!closure) {
        fbi_fail(ctx, FB_E_ARG, "fb_optim_step_closure: the closure is NULL");
        return NULL;
    }
    if (opt->lbfgs)
        return fbi_lbfgs_step(opt, closure, user);
    fb_tensor *loss = closure(user);
    if (!loss)
        fbi_fail(ctx, FB_E_USER, "fb_optim_step_closure: the closure gave no loss");
    return loss && !fb_optim_step(opt) ? loss : NULL;
}
