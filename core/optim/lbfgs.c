/* L-BFGS: all parameters as one vector; directions from the last differences of gradients; a line
 * search for Wolfe's strong conditions (line_search.c). Numbers of whole vectors are read by the
 * host, so on a card every evaluation waits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "core/optim/lbfgs_priv.h"
#include "core/optim/optimizer_priv.h"

/* A difference of gradients, the step that made it, and 1 / (their product). */
typedef struct past {
    fb_tensor *y, *s; /* [n], owned */
    double ro;
} past;

struct fbi_lbfgs_state {
    fb_lbfgs_options o;
    past *pasts; /* [history_size], a ring: `count` from `first` on */
    int64_t first, count;
    fb_tensor *d, *g; /* [n], owned: the direction, and the gradient it was made of */
    double t, diagonal, loss;
    int64_t n, iterations, evaluations; /* n: elements of all parameters; 0: no step so far */
};

/* One step, while it runs. */
typedef struct walk {
    fb_optimizer *opt;
    fbi_lbfgs_state *l;
    fb_closure closure;
    void *user;
    uint8_t autocast; /* what the closure finds */
    fb_tensor *x;     /* where the line search began */
} walk;

const fbi_method fbi_lbfgs = {.name = "lbfgs", .safe = true};

static fb_status no_memory(const fb_optimizer *opt)
{
    return fbi_fail(opt->ctx, FB_E_NOMEM, "fb_optim_step_closure: lbfgs: no memory");
}

fb_optimizer *fb_optim_lbfgs(fb_context *ctx, fb_module *model, const fb_lbfgs_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_lbfgs_options o = opts ? *opts : (fb_lbfgs_options){0};
    o.lr = fbi_given(o.lr, 1);
    o.max_iter = o.max_iter ? o.max_iter : 20;
    o.max_eval = o.max_eval ? o.max_eval : o.max_iter * 5 / 4;
    o.history_size = o.history_size ? o.history_size : 100;
    o.tolerance_grad = fbi_given(o.tolerance_grad, 1e-7);
    o.tolerance_change = fbi_given(o.tolerance_change, 1e-9);
    const fbi_bound bounds[] = {{"lr", o.lr, 0, 0},
                                {"max_iter", (double)o.max_iter, 1, 0},
                                {"max_eval", (double)o.max_eval, 1, 0},
                                {"history_size", (double)o.history_size, 1, 1e6},
                                {"tolerance_grad", o.tolerance_grad, 0, 0},
                                {"tolerance_change", o.tolerance_change, 0, 0},
                                {0}};
    if (!fbi_bounds_hold(ctx, &fbi_lbfgs, bounds))
        return NULL;
    fbi_lbfgs_state *l = calloc(1, sizeof *l);
    past *pasts = calloc((size_t)o.history_size, sizeof *pasts);
    fbi_method_numbers m = {.kind = FBI_UPDATE_KINDS, .lr = o.lr, .maximize = o.maximize};
    fb_optimizer *opt = l && pasts ? fbi_optim_new(ctx, &fbi_lbfgs, model, &m, 0) : NULL;
    if (!opt) {
        if (!l || !pasts)
            fbi_fail(ctx, FB_E_NOMEM, "fb_optim_lbfgs: no memory");
        free(l);
        free(pasts);
        return NULL;
    }
    *l = (fbi_lbfgs_state){.o = o, .pasts = pasts, .diagonal = 1};
    opt->lbfgs = l;
    return opt;
}

void fbi_lbfgs_free(fb_optimizer *opt)
{
    fbi_lbfgs_state *l = opt->lbfgs;
    if (!l)
        return;
    for (int64_t i = 0; i < l->o.history_size; i++) {
        fbi_tensor_unref(l->pasts[i].y);
        fbi_tensor_unref(l->pasts[i].s);
    }
    fbi_tensor_unref(l->d);
    fbi_tensor_unref(l->g);
    free(l->pasts);
    free(l);
}

/* --- all parameters as one vector --- */

static bool has_part(const fbi_entry *e)
{
    return !e->frozen && e->t->leaf && e->t->leaf->required && e->t->numel > 0;
}

/* Parameters, or their gradients. */
static fb_tensor *gather(fb_optimizer *opt, bool gradients)
{
    fb_tensor **parts = malloc((size_t)(opt->n_entries + 1) * sizeof(fb_tensor *));
    int n = 0;
    if (!parts) {
        no_memory(opt);
        return NULL;
    }
    for (int64_t i = 0; i < opt->n_entries; i++) {
        const fbi_entry *e = opt->entries[i];
        fb_tensor *t = e->t;
        if (!has_part(e))
            continue;
        if (gradients)
            t = fbi_entry_live(e) ? t->leaf->grad : fb_zeros_like(t);
        parts[n++] = t ? fb_ravel(t) : NULL;
    }
    fb_tensor *flat = fb_cat((fb_tensors){parts, n}, 0);
    free(parts);
    return gradients && opt->numbers.maximize ? fb_neg(flat) : flat;
}

static fb_status scatter(fb_optimizer *opt, fb_tensor *flat)
{
    fb_status st = flat ? FB_OK : opt->ctx->status;
    int64_t at = 0;
    for (int64_t i = 0; i < opt->n_entries && !st; i++) {
        const fbi_entry *e = opt->entries[i];
        if (!has_part(e))
            continue;
        fb_tensor *part = fb_narrow(flat, 0, at, e->t->numel);
        at += e->t->numel;
        part = part ? fb_reshape(part, fb_shape_of(e->t)) : NULL;
        st = part ? fb_copy_(e->t, part) : opt->ctx->status;
    }
    return st;
}

static double dot(fb_tensor *a, fb_tensor *b)
{
    fb_tensor *sum = fb_sum(fb_mul(a, b), FB_ALL, false);
    return sum ? fb_item(sum) : NAN;
}

static double largest(fb_tensor *x)
{
    fb_tensor *most = fb_amax(fb_abs(x), FB_ALL, false);
    return most ? fb_item(most) : NAN;
}

/* a + s b */
static fb_tensor *plus(fb_tensor *a, double s, fb_tensor *b)
{
    return fb_add(a, fb_mul_scalar(b, s));
}

/* An owned copy of x in *to. */
static fb_status store(fb_optimizer *opt, fb_tensor **to, fb_tensor *x)
{
    if (!x)
        return opt->ctx->status;
    if (*to)
        return fb_copy_(*to, x);
    fb_tensor *copy = fb_clone(x);
    if (!copy)
        return opt->ctx->status;
    fbi_tensor_ref(copy);
    *to = copy;
    return FB_OK;
}

static fb_status refuse(const fb_optimizer *opt, const char *what)
{
    return fbi_fail(opt->ctx, FB_E_UNSUPPORTED, "fb_optim_step_closure: lbfgs: %s", what);
}

static fb_status check(fb_optimizer *opt)
{
    fb_status st = fbi_optim_expand(opt);
    int64_t n = 0;
    int dtype = 0;
    if (opt->ctx->scaling.scaler)
        return refuse(opt, "losses are scaled; use F32 or F64 without a scaler");
    if (opt->max_norm > 0 || opt->numbers.limit > 0)
        return refuse(opt, "gradients of a line search cannot be clipped");
    for (int64_t i = 0; i < opt->n_entries && !st; i++) {
        const fbi_entry *e = opt->entries[i];
        if (!has_part(e))
            continue;
        if (fbi_entry_reduced(e))
            return refuse(opt, "the model is attached to a group, whose ranks have other losses");
        if (fbi_is_half(e->t->dtype) || (dtype && dtype != (int)e->t->dtype))
            return fbi_fail(opt->ctx, FB_E_DTYPE,
                            "fb_optim_step_closure: lbfgs: %s is %s; all parameters must be F32, "
                            "or all F64",
                            e->name, fb_dtype_name((fb_dtype)e->t->dtype));
        dtype = (int)e->t->dtype;
        n += e->t->numel;
    }
    if (!st && n == 0)
        return refuse(opt, "there is no parameter");
    if (!st && opt->lbfgs->n && opt->lbfgs->n != n)
        return fbi_fail(opt->ctx, FB_E_STATE,
                        "fb_optim_step_closure: lbfgs: %lld elements now, %lld in the steps before",
                        (long long)n, (long long)opt->lbfgs->n);
    opt->lbfgs->n = n;
    return st;
}

/* --- evaluation --- */

/* Loss and gradient where the parameters are. *loss, if wanted, is the closure's handle. */
static fb_status evaluate(walk *w, fb_tensor **handle, double *loss, fb_tensor **g)
{
    fb_optimizer *opt = w->opt;
    fb_context *ctx = opt->ctx;
    fb_status st = fb_optim_zero_grad(opt);
    if (st)
        return st;
    fb_tensor *value = NULL;
    FB_SCOPE(ctx);
    fb_enable_grad(ctx);
    ctx->autocast = w->autocast;
    value = w->closure(w->user);
    if (!value)
        return ctx->status
                   ? ctx->status
                   : fbi_fail(ctx, FB_E_USER, "fb_optim_step_closure: the closure gave no loss");
    fb_no_grad(ctx);
    ctx->autocast = 0;
    for (int64_t i = 0; i < opt->n_entries && !st; i++) {
        const fbi_tally *tally = NULL;
        if (has_part(opt->entries[i]))
            st = fbi_entry_tally(opt->entries[i], &tally);
        if (!st && tally)
            st = refuse(opt, "fb_backward was given a count; give the mean as the loss");
    }
    *loss = st ? NAN : fb_item(value);
    *loss = opt->numbers.maximize ? -*loss : *loss;
    *g = st ? NULL : fb_keep(gather(opt, true));
    w->l->evaluations++;
    if (handle)
        *handle = fb_keep(value);
    return *g ? FB_OK : ctx->status;
}

/* What the line search asks: at t along d. */
static fb_status look(void *self, double t, fbi_probe *p)
{
    walk *w = self;
    fb_status st = scatter(w->opt, plus(w->x, t, w->l->d));
    p->t = t;
    if (!st)
        st = evaluate(w, NULL, &p->f, &p->g);
    p->slope = st ? NAN : dot(p->g, w->l->d);
    return st ? st : w->opt->ctx->status;
}

/* --- directions --- */

static past *nth(fbi_lbfgs_state *l, int64_t i)
{
    return &l->pasts[(l->first + i) % l->o.history_size];
}

static fb_status remember(fb_optimizer *opt, fb_tensor *g)
{
    fbi_lbfgs_state *l = opt->lbfgs;
    fb_tensor *y = fb_sub(g, l->g), *s = fb_mul_scalar(l->d, l->t);
    double ys = dot(y, s);
    if (!(ys > 1e-10))
        return opt->ctx->status;
    if (l->count == l->o.history_size)
        l->first = (l->first + 1) % l->o.history_size;
    else
        l->count++;
    past *p = nth(l, l->count - 1);
    fb_status st = store(opt, &p->y, y);
    if (!st)
        st = store(opt, &p->s, s);
    p->ro = 1 / ys;
    l->diagonal = ys / dot(y, y);
    return st;
}

/* Of one that a checkpoint has given the product is computed again. */
static double ro_of(past *p)
{
    if (p->ro == 0)
        p->ro = 1 / dot(p->y, p->s);
    return p->ro;
}

/* The approximate inverse of the Hessian times -g. */
static fb_tensor *direction(fb_optimizer *opt, fb_tensor *g)
{
    fbi_lbfgs_state *l = opt->lbfgs;
    double *alpha = malloc((size_t)(l->count + 1) * sizeof *alpha);
    if (!alpha) {
        no_memory(opt);
        return NULL;
    }
    fb_tensor *q = fb_neg(g);
    for (int64_t i = l->count - 1; i >= 0; i--) {
        past *p = nth(l, i);
        alpha[i] = dot(p->s, q) * ro_of(p);
        q = plus(q, -alpha[i], p->y);
    }
    q = fb_mul_scalar(q, l->diagonal);
    for (int64_t i = 0; i < l->count; i++) {
        past *p = nth(l, i);
        q = plus(q, alpha[i] - dot(p->y, q) * ro_of(p), p->s);
    }
    free(alpha);
    return q;
}

/* --- a step --- */

typedef struct place {
    double loss;
    fb_tensor *g;
    int64_t evaluations; /* in this step */
    bool done, lost;     /* lost: something was not finite */
} place;

static bool fine(const fbi_probe *p)
{
    return isfinite(p->f) && isfinite(p->slope);
}

/* To the end of the line search, or a step of length t. */
static fb_status move(walk *w, place *at, double slope, bool last)
{
    fb_optimizer *opt = w->opt;
    fbi_lbfgs_state *l = w->l;
    fb_status st;
    int64_t before = l->evaluations;
    w->x = gather(opt, false);
    if (!w->x)
        return opt->ctx->status;
    fbi_probe here = {0, at->loss, slope, at->g}, next = {0};
    if (l->o.strong_wolfe) {
        fbi_search s = {look, w, l->o.tolerance_change, largest(l->d),
                        l->o.max_eval - at->evaluations};
        st = fbi_line_search(&s, &here, l->t, &next);
        l->t = next.t;
        if (!st && fine(&next))
            st = scatter(opt, plus(w->x, l->t, l->d));
    } else if (last) { /* nobody needs its gradient */
        return scatter(opt, plus(w->x, l->t, l->d));
    } else {
        st = look(w, l->t, &next);
    }
    at->evaluations += l->evaluations - before;
    if (st)
        return st;
    at->lost = !fine(&next);
    if (at->lost)
        return scatter(opt, w->x);
    at->loss = next.f;
    at->g = next.g;
    at->done = largest(next.g) <= l->o.tolerance_grad;
    return opt->ctx->status;
}

static fb_status iterate(walk *w, place *at, int64_t k)
{
    fb_optimizer *opt = w->opt;
    fbi_lbfgs_state *l = w->l;
    bool first = l->iterations++ == 0, last = k == l->o.max_iter - 1;
    fb_status st = FB_OK;
    if (!first)
        st = remember(opt, at->g);
    if (!st)
        st = store(opt, &l->d, direction(opt, at->g));
    if (!st)
        st = store(opt, &l->g, at->g);
    if (st)
        return st;
    double before = l->loss = at->loss;
    l->t = opt->lr;
    if (first) {
        fb_tensor *sum = fb_sum(fb_abs(at->g), FB_ALL, false);
        l->t *= fmin(1, 1 / (sum ? fb_item(sum) : NAN));
    }
    double slope = dot(at->g, l->d);
    if (slope > -l->o.tolerance_change) {
        at->done = true;
        return opt->ctx->status;
    }
    st = move(w, at, slope, last);
    at->done = at->done || at->lost || last || at->evaluations >= l->o.max_eval ||
               largest(l->d) * fabs(l->t) <= l->o.tolerance_change ||
               fabs(at->loss - before) < l->o.tolerance_change;
    return st ? st : opt->ctx->status;
}

static fb_status iterate_all(walk *w, place *at)
{
    fb_context *ctx = w->opt->ctx;
    fb_status st = FB_OK;
    at->evaluations = 1;
    double most = largest(at->g);
    at->done = most <= w->l->o.tolerance_grad;
    at->lost = !isfinite(at->loss) || !isfinite(most);
    for (int64_t k = 0; k < w->l->o.max_iter && !st && !at->done && !at->lost; k++) {
        FB_SCOPE(ctx);
        st = iterate(w, at, k);
        at->g = fb_keep(at->g);
    }
    if (!st && at->lost)
        fbi_skipped(fbi_step_of(ctx), ++w->opt->skipped,
                    "lbfgs: the loss or its gradient is not finite");
    return st;
}

fb_tensor *fbi_lbfgs_step(fb_optimizer *opt, fb_closure closure, void *user)
{
    fb_context *ctx = opt->ctx;
    walk w = {
        .opt = opt, .l = opt->lbfgs, .closure = closure, .user = user, .autocast = ctx->autocast};
    place at = {0};
    fb_tensor *loss = NULL;
    fb_status st = check(opt);
    if (st)
        return NULL;
    FB_SCOPE(ctx);
    fb_no_grad(ctx);
    ctx->autocast = 0;
    const char *before = fbi_doing_begin(ctx, FBI_SPAN_STEP, "optim_step");
    st = evaluate(&w, &loss, &at.loss, &at.g);
    if (!st)
        st = iterate_all(&w, &at);
    fbi_doing_end(ctx, before);
    if (st || ctx->status)
        return NULL;
    opt->steps += !at.lost;
    fbi_optim_spend(opt);
    return fb_keep(loss);
}

/* --- for checkpoints --- */

static fb_status room(fb_optimizer *opt, fb_tensor **t, fb_dtype dtype)
{
    if (*t)
        return FB_OK;
    FB_SCOPE(opt->ctx);
    return store(opt, t, fb_zeros(opt->ctx, dtype, FB_SHAPE(opt->lbfgs->n)));
}

/* The whole ring, in order: what is not there yet is zero, so that any checkpoint fits. */
fb_status fbi_lbfgs_each_state(fb_optimizer *opt, fbi_tensor_visit fn, void *user)
{
    fbi_lbfgs_state *l = opt->lbfgs;
    fb_status st = check(opt);
    fb_dtype dtype = FB_F32;
    for (int64_t i = 0; i < opt->n_entries && !st; i++)
        if (has_part(opt->entries[i]))
            dtype = (fb_dtype)opt->entries[i]->t->dtype;
    for (int64_t i = 0; i < l->o.history_size && !st; i++) {
        char name[48];
        st = room(opt, &l->pasts[i].y, dtype);
        if (!st)
            st = room(opt, &l->pasts[i].s, dtype);
        l->pasts[i].ro = 0;
        snprintf(name, sizeof name, "old_dirs.%lld", (long long)i);
        if (!st)
            st = fn(name, l->pasts[i].y, user);
        snprintf(name, sizeof name, "old_stps.%lld", (long long)i);
        if (!st)
            st = fn(name, l->pasts[i].s, user);
    }
    if (!st)
        st = room(opt, &l->d, dtype);
    if (!st)
        st = room(opt, &l->g, dtype);
    if (!st)
        st = fn("d", l->d, user);
    return st ? st : fn("prev_flat_grad", l->g, user);
}

int fbi_lbfgs_scalars(fb_optimizer *opt, fbi_scalar *out, int at, int n)
{
    fbi_lbfgs_state *l = opt->lbfgs;
    const fbi_scalar all[] = {{.name = "n_iter", .i = &l->iterations},
                              {.name = "func_evals", .i = &l->evaluations},
                              {.name = "first", .i = &l->first},
                              {.name = "count", .i = &l->count},
                              {.name = "t", .f = &l->t},
                              {.name = "H_diag", .f = &l->diagonal},
                              {.name = "prev_loss", .f = &l->loss}};
    for (int i = 0; i < 7 && at + i < n; i++)
        out[at + i] = all[i];
    return at + 7;
}
