/* Methods that are no loops over elements, made of tensor operators, a parameter at a time: LAMB,
 * Adafactor, Muon. Numbers that depend on norms stay where the parameter is. */
#include <float.h>
#include <math.h>

#include <flambeau/core/ops/blend.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "core/optim/optimizer_priv.h"

/* --- one parameter --- */

/* The weight in the dtype that is computed in. A half that is not its master's rounding was changed
 * by somebody, who is right. */
static fb_tensor *weight_of(const fbi_entry *e)
{
    fb_tensor *master = e->state[FBI_MASTER];
    if (!master)
        return e->t;
    fb_tensor *same = fb_eq(fb_to(master, (fb_dtype)e->t->dtype), e->t);
    return fb_where(same, master, fb_to(e->t, FB_F32));
}

static fb_tensor *gradient_of(const fb_optimizer *opt, const fbi_entry *e, fb_dtype dtype)
{
    const fbi_method_numbers *m = &opt->numbers;
    fb_tensor *g = fb_to(e->t->leaf->grad, dtype);
    g = fb_mul_scalar(g, m->maximize ? -e->scale : e->scale);
    return m->limit > 0 ? fb_clamp(g, -m->limit, m->limit) : g;
}

fb_status fbi_compose(fb_optimizer *opt, fbi_entry *e)
{
    fb_context *ctx = opt->ctx;
    fb_tensor *master = e->state[FBI_MASTER];
    if (e->t->numel == 0)
        return FB_OK;
    FB_SCOPE(ctx);
    fb_no_grad(ctx);
    ctx->autocast = 0;
    fb_tensor *w = weight_of(e);
    fb_tensor *g = w ? gradient_of(opt, e, (fb_dtype)w->dtype) : NULL;
    fb_tensor *next = g ? opt->method->composed->next(opt, e, w, g) : NULL;
    if (!next)
        return ctx->status;
    fb_status st = master ? fb_copy_(master, next) : FB_OK;
    return st ? st : fb_copy_(e->t, next);
}

/* The state's handle: a + weight (b - a) of it, in place. */
static fb_tensor *follow(fb_tensor *state, fb_tensor *to, double weight)
{
    fb_tensor *next = fb_lerp_scalar(state, to, weight);
    return next && !fb_copy_(state, next) ? state : NULL;
}

static fb_tensor *norm_of(fb_tensor *x)
{
    return fb_sqrt(fb_sum(fb_square(x), FB_ALL, false));
}

/* a + s b */
static fb_tensor *plus(fb_tensor *a, double s, fb_tensor *b)
{
    return fb_add(a, fb_mul_scalar(b, s));
}

static double rate_of(const fb_optimizer *opt, const fbi_entry *e)
{
    return opt->lr * e->lr_scale;
}

static int none(const fb_optimizer *opt)
{
    (void)opt;
    return 0;
}

/* --- LAMB --- */

/* |w| / |step|, 1 where one of them is 0. */
static fb_tensor *trust(fb_tensor *w, fb_tensor *step)
{
    fb_tensor *a = norm_of(w), *b = norm_of(step);
    if (!a || !b)
        return NULL;
    fb_tensor *both = fb_gt(fb_mul(a, b), fb_zeros_like(a));
    return fb_where(both, fb_div(a, b), fb_ones_like(a));
}

static fb_tensor *lamb_next(fb_optimizer *opt, fbi_entry *e, fb_tensor *w, fb_tensor *g)
{
    const fbi_method_numbers *m = &opt->numbers;
    double t = (double)e->step, rest1 = 1 - pow(m->beta1, t), rest2 = 1 - pow(m->beta2, t);
    fb_tensor *first = follow(e->state[0], g, 1 - m->beta1);
    fb_tensor *second = first ? follow(e->state[1], fb_square(g), 1 - m->beta2) : NULL;
    if (!second)
        return NULL;
    fb_tensor *root = fb_add_scalar(fb_sqrt(fb_mul_scalar(second, 1 / rest2)), m->eps);
    fb_tensor *step = fb_div(fb_mul_scalar(first, 1 / rest1), root);
    step = plus(step, e->weight_decay, w);
    return plus(w, -rate_of(opt, e), fb_mul(step, trust(w, step)));
}

static const fbi_composed lamb_composed = {.state_names = {"exp_avg", "exp_avg_sq"},
                                           .next = lamb_next};
static const fbi_method lamb = {.name = "lamb", .n_states = none, .composed = &lamb_composed};

fb_optimizer *fb_optim_lamb(fb_context *ctx, fb_module *model, const fb_lamb_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_lamb_options o = opts ? *opts : (fb_lamb_options){0};
    fbi_method_numbers m = {.kind = FBI_UPDATE_KINDS,
                            .lr = fbi_given(o.lr, 1e-3),
                            .beta1 = fbi_given(o.beta1, 0.9),
                            .beta2 = fbi_given(o.beta2, 0.999),
                            .eps = fbi_given(o.eps, 1e-6),
                            .maximize = o.maximize};
    const fbi_bound bounds[] = {{"lr", m.lr, 0, 0},
                                {"beta1", m.beta1, 0, 1},
                                {"beta2", m.beta2, 0, 1},
                                {"eps", m.eps, 0, 0},
                                {"weight_decay", o.weight_decay, 0, 0},
                                {0}};
    return fbi_bounds_hold(ctx, &lamb, bounds)
               ? fbi_optim_new(ctx, &lamb, model, &m, o.weight_decay)
               : NULL;
}

/* --- Adafactor --- */

/* Of a matrix the mean squares of its rows and columns; of others those of all elements. */
static bool adafactor_shape(const fbi_entry *e, int k, fb_shape *shape)
{
    bool matrix = shape->n > 1;
    (void)e;
    if (k < 2 && matrix)
        shape->d[shape->n - 1 - k] = 1;
    return matrix == (k < 2);
}

static fb_tensor *mean_squares(fbi_entry *e, fb_tensor *g, double weight, double eps)
{
    fb_tensor *square = fb_square(g);
    if (e->t->ndim < 2)
        return follow(e->state[2], square, weight);
    fb_tensor *rows = follow(e->state[0], fb_mean(square, FB_SHAPE(-1), true), weight);
    fb_tensor *cols =
        rows ? follow(e->state[1], fb_mean(square, FB_SHAPE(-2), true), weight) : NULL;
    if (!cols)
        return NULL;
    fb_tensor *mean = fb_clamp(fb_mean(rows, FB_SHAPE(-2), true), eps, INFINITY);
    return fb_div(fb_mul(rows, cols), mean);
}

static fb_tensor *adafactor_next(fb_optimizer *opt, fbi_entry *e, fb_tensor *w, fb_tensor *g)
{
    const fbi_composed_numbers *c = &opt->more;
    double t = (double)e->step, lr = rate_of(opt, e), least = c->eps;
    double root_n = sqrt((double)w->numel), rate = fmin(lr, 1 / sqrt(t));
    if (least == 0)
        least = w->dtype == FB_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
    fb_tensor *size = fb_clamp(fb_mul_scalar(norm_of(w), 1 / root_n), c->eps2, INFINITY);
    fb_tensor *mean = mean_squares(e, g, pow(t, c->beta2_decay), least);
    if (!mean || !size)
        return NULL;
    fb_tensor *step = fb_mul(fb_rsqrt(fb_clamp(mean, least * least, INFINITY)), g);
    fb_tensor *over = fb_clamp(fb_mul_scalar(norm_of(step), 1 / (root_n * c->d)), 1, INFINITY);
    w = fb_mul_scalar(w, 1 - lr * e->weight_decay);
    return plus(w, -rate, fb_mul(step, fb_div(size, over)));
}

static const fbi_composed adafactor_composed = {.state_names = {"row_var", "col_var", "variance"},
                                                .shape = adafactor_shape,
                                                .next = adafactor_next};
static const fbi_method adafactor = {
    .name = "adafactor", .n_states = none, .composed = &adafactor_composed};

fb_optimizer *fb_optim_adafactor(fb_context *ctx, fb_module *model,
                                 const fb_adafactor_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_adafactor_options o = opts ? *opts : (fb_adafactor_options){0};
    fbi_method_numbers m = {
        .kind = FBI_UPDATE_KINDS, .lr = fbi_given(o.lr, 1e-2), .maximize = o.maximize};
    fbi_composed_numbers c = {.beta2_decay = fbi_given(o.beta2_decay, -0.8),
                              .eps = o.eps1,
                              .eps2 = fbi_given(o.eps2, 1e-3),
                              .d = fbi_given(o.d, 1)};
    const fbi_bound bounds[] = {{"lr", m.lr, 0, 0},
                                {"-beta2_decay", -c.beta2_decay, 0, 0},
                                {"eps1", c.eps, 0, 0},
                                {"eps2", c.eps2, 0, 0},
                                {"d", c.d, 1, 0},
                                {"weight_decay", o.weight_decay, 0, 0},
                                {0}};
    if (!fbi_bounds_hold(ctx, &adafactor, bounds))
        return NULL;
    fb_optimizer *opt = fbi_optim_new(ctx, &adafactor, model, &m, o.weight_decay);
    if (opt)
        opt->more = c;
    return opt;
}

/* --- Muon --- */

static bool is_matrix(const fbi_entry *e)
{
    return e->t->ndim == 2;
}

/* The nearest orthogonal matrix, about: odd polynomials of x, of norm at most 1, that lead all its
 * singular values near 1. */
static fb_tensor *orthogonal(const fbi_composed_numbers *c, fb_tensor *x)
{
    bool tall = x && fb_size(x, 0) > fb_size(x, 1);
    x = tall ? fb_t(x) : x;
    x = fb_div(x, fb_clamp(norm_of(x), c->eps, INFINITY));
    for (int64_t i = 0; i < c->ns_steps && x; i++) {
        fb_tensor *gram = fb_matmul(x, fb_t(x));
        fb_tensor *both = plus(fb_mul_scalar(gram, c->b), c->c, fb_matmul(gram, gram));
        x = plus(fb_matmul(both, x), c->a, x);
    }
    return tall ? fb_t(x) : x;
}

static double muon_rate(fb_muon_rate how, double a, double b)
{
    switch (how) {
    case FB_MUON_ORIGINAL:
        return sqrt(fmax(1, a / b));
    case FB_MUON_MATCH_RMS_ADAMW:
        return 0.2 * sqrt(fmax(a, b));
    case FB_MUON_SPECTRAL_UNCLAMPED:
        return sqrt(a / b);
    }
    return 1;
}

static fb_tensor *muon_next(fb_optimizer *opt, fbi_entry *e, fb_tensor *w, fb_tensor *g)
{
    const fbi_composed_numbers *c = &opt->more;
    double lr = rate_of(opt, e);
    fb_tensor *way = follow(e->state[0], g, 1 - c->momentum);
    if (way && c->nesterov)
        way = fb_lerp_scalar(g, way, c->momentum);
    fb_tensor *step = way ? orthogonal(c, way) : NULL;
    double a = (double)fb_size(w, 0), b = (double)fb_size(w, 1);
    w = fb_mul_scalar(w, 1 - lr * e->weight_decay);
    return step ? plus(w, -lr * muon_rate(c->rate, a, b), step) : NULL;
}

static int adamw_states(const fb_optimizer *opt)
{
    (void)opt;
    return 2;
}

static const fbi_composed muon_composed = {
    .state_names = {"momentum_buffer"}, .takes = is_matrix, .next = muon_next};
static const fbi_method muon = {.name = "muon",
                                .state_names = {"exp_avg", "exp_avg_sq"},
                                .n_states = adamw_states,
                                .composed = &muon_composed};

fb_optimizer *fb_optim_muon(fb_context *ctx, fb_module *model, const fb_muon_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_muon_options o = opts ? *opts : (fb_muon_options){0};
    double decay = fbi_given(o.weight_decay, 0.1);
    fbi_method_numbers m = {.kind = FBI_UPDATE_ADAM,
                            .lr = fbi_given(o.lr, 1e-3),
                            .beta1 = fbi_given(o.beta1, 0.9),
                            .beta2 = fbi_given(o.beta2, 0.999),
                            .eps = fbi_given(o.adamw_eps, 1e-8),
                            .decoupled = true};
    fbi_composed_numbers c = {.a = fbi_given(o.a, 3.4445),
                              .b = fbi_given(o.b, -4.775),
                              .c = fbi_given(o.c, 2.0315),
                              .eps = fbi_given(o.eps, 1e-7),
                              .momentum = fbi_given(o.momentum, 0.95),
                              .ns_steps = o.ns_steps ? o.ns_steps : 5,
                              .rate = o.rate,
                              .nesterov = !o.plain};
    double adamw_lr = fbi_given(o.adamw_lr, m.lr);
    const fbi_bound bounds[] = {{"lr", m.lr, 0, 0},
                                {"weight_decay", decay, 0, 0},
                                {"momentum", c.momentum, 0, 1},
                                {"eps", c.eps, 0, 0},
                                {"ns_steps", (double)c.ns_steps, 1, 100},
                                {"rate", o.rate, 0, FB_MUON_SPECTRAL_UNCLAMPED + 1},
                                {"adamw_lr", adamw_lr, 0, 0},
                                {"beta1", m.beta1, 0, 1},
                                {"beta2", m.beta2, 0, 1},
                                {"adamw_eps", m.eps, 0, 0},
                                {0}};
    if (!fbi_bounds_hold(ctx, &muon, bounds))
        return NULL;
    fb_optimizer *opt = fbi_optim_new(ctx, &muon, model, &m, decay);
    if (!opt)
        return NULL;
    opt->more = c;
    opt->lr_ratio = m.lr > FB_ZERO ? adamw_lr / m.lr : 1;
    return opt;
}
