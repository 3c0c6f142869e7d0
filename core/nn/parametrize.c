/* A parameter that is computed from another one in each call: weight norm, spectral norm, the
 * user's own. */
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>
#include <stdio.h>
#include <string.h>

#include "core/nn/nn_priv.h"

enum { FIELD_BYTES = 64 };

/* `layer` has an empty field where the parameter was, but for the time of a call. */
typedef struct parametrized {
    fb_module *layer, *parametrization;
    fb_tensor *original;
    char owner[FBI_PATH_BYTES]; /* below layer; "": itself */
    char field[FIELD_BYTES];
} parametrized;

static const fb_field parametrized_fields[] = {FB_CHILD(parametrized, layer),
                                               FB_CHILD(parametrized, parametrization),
                                               FB_PARAM(parametrized, original),
                                               {0}};

/* The field that the computed parameter goes to; NULL: the error is set. */
static fb_tensor **place_of(const parametrized *p)
{
    fb_module *owner = p->owner[0] ? fb_nn_find(p->layer, p->owner) : p->layer;
    for (const fb_field *f = owner ? owner->type->fields : NULL; f && f->kind; f++)
        if (f->kind == FB_FIELD_PARAM && !strcmp(f->name, p->field))
            return fbi_nn_slot(owner, f);
    return NULL;
}

static void parametrized_forward(fb_module *m, fb_tensors in, fb_outs out)
{
    const parametrized *p = m->self;
    fb_tensor **slot = place_of(p);
    fb_tensor *w = slot ? fb_nn_forward(p->parametrization, p->original) : NULL;
    if (!w)
        return;
    *slot = w;
    (void)fb_nn_forward_n(p->layer, in, out);
    *slot = NULL; /* it is a handle of this call */
}

static const fb_module_type parametrized_type = {.name = "Parametrized",
                                                 .size = sizeof(parametrized),
                                                 .fields = parametrized_fields,
                                                 .forward_n = parametrized_forward};

/* The parameter of m under its full name, made; false: the error is set. */
static bool find_param(fb_module *m, const char *path, fbi_named *found)
{
    fbi_named_list list;
    int places = 0;
    if (fbi_nn_collect(m, FB_FIELD_PARAM, false, &list))
        return false;
    for (int64_t i = 0; i < list.n; i++)
        if (!strcmp(list.v[i].name, path))
            *found = list.v[i];
    for (int64_t i = 0; i < list.n; i++)
        places += found->t && list.v[i].t == found->t;
    fbi_named_free(&list);
    found->name = NULL;
    if (!found->t)
        fbi_fail(m->ctx, FB_E_NOT_FOUND, "fb_nn_parametrize: %s has no parameter %s", m->type->name,
                 path);
    else if (places > 1)
        fbi_fail(m->ctx, FB_E_ARG, "fb_nn_parametrize: %s of %s is tied: it has %d names", path,
                 m->type->name, places);
    return places == 1;
}

static bool set_path(fb_module *m, const char *path, parametrized *p)
{
    const char *dot = strrchr(path, '.'), *field = dot ? dot + 1 : path;
    int n = snprintf(p->owner, sizeof p->owner, "%.*s", dot ? (int)(dot - path) : 0, path);
    int k = snprintf(p->field, sizeof p->field, "%s", field);
    if (n >= 0 && n < FBI_PATH_BYTES && k >= 0 && k < FIELD_BYTES)
        return true;
    fbi_fail(m->ctx, FB_E_ARG, "fb_nn_parametrize: the name %.60s... is too long", path);
    return false;
}

/* Whether m may be changed: a root whose parameters are made. */
static bool ready(fb_module *m, const char *path)
{
    if (!fbi_nn_enter(m) || !path)
        return false;
    if (!m->parent)
        return !fb_nn_materialize(m);
    fbi_fail(m->ctx, FB_E_STATE,
             "fb_nn_parametrize: %s is a child of a %s: parametrize it before it is put there",
             m->type->name, m->parent->type->name);
    return false;
}

fb_module *fb_nn_parametrize(fb_module *m, const char *path, fb_module *how)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    parametrized p = {.layer = m, .parametrization = how};
    fbi_named found = {0};
    if (!ready(m, path) || !how || !set_path(m, path, &p) || !find_param(m, path, &found))
        return NULL;
    p.original = found.t;
    fb_module *y = fb_nn_new(m->ctx, &parametrized_type, &p);
    if (!y)
        return NULL;
    fbi_tensor_unref(found.t); /* the layer's hold on it */
    *found.slot = NULL;
    return y;
}

/* --- weight norm --- */

typedef struct weight_norm {
    fb_tensor *g;
    int dim; /* -1: the whole */
} weight_norm;

static const fb_field weight_norm_fields[] = {FB_PARAM(weight_norm, g), {0}};

/* Norms of v, sizes kept. */
static fb_tensor *norms(fb_tensor *v, int dim)
{
    fb_shape dims = {0};
    for (int i = 0; i < v->ndim; i++)
        if (i != dim)
            dims.d[dims.n++] = i;
    if (dims.n == 0 && v->ndim) /* a line along its only dimension */
        return fb_abs(v);
    return fb_norm(v, 2, dims, true);
}

static fb_tensor *weight_norm_forward(fb_module *m, fb_tensor *v)
{
    const weight_norm *n = m->self;
    return v ? fb_mul(v, fb_div(n->g, norms(v, n->dim))) : NULL;
}

static const fb_module_type weight_norm_type = {.name = "WeightNorm",
                                                .size = sizeof(weight_norm),
                                                .fields = weight_norm_fields,
                                                .forward = weight_norm_forward};

/* A handle in no scope with the values of t, for a field; the caller lets go of it. */
static fb_tensor *field_of(fb_tensor *t)
{
    fb_tensor *dense = t ? fb_contiguous(t) : NULL;
    return dense ? fbi_nn_copy_of(dense) : NULL;
}

fb_module *fb_nn_weight_norm(fb_module *m, const char *path, int dim)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    fbi_named found = {0};
    weight_norm n = {.dim = dim};
    if (!ready(m, path) || !find_param(m, path, &found))
        return NULL;
    if (dim < -1 || dim >= found.t->ndim) {
        fbi_fail(m->ctx, FB_E_ARG, "fb_nn_weight_norm: no dimension %d in %s %s", dim, path,
                 fbi_text(found.t));
        return NULL;
    }
    FB_SCOPE(m->ctx);
    fb_no_grad(m->ctx);
    n.g = field_of(norms(found.t, dim));
    fb_module *how = n.g ? fb_nn_new(m->ctx, &weight_norm_type, &n) : NULL;
    fbi_tensor_unref(n.g);
    return how ? fb_nn_parametrize(m, path, how) : NULL;
}

/* --- spectral norm --- */

typedef struct spectral_norm {
    fb_tensor *u, *v;
    int dim, iterations;
    double eps;
} spectral_norm;

static const fb_field spectral_norm_fields[] = {
    FB_BUFFER(spectral_norm, u), FB_BUFFER(spectral_norm, v), {0}};

/* w with dimension `dim` as rows. */
static fb_tensor *matrix_of(fb_tensor *w, int dim)
{
    fb_tensor *front = dim ? fb_movedim(w, FB_SHAPE(dim), FB_SHAPE(0)) : w;
    int64_t rows = front ? front->size[0] : 0;
    return front ? fb_reshape(front, FB_SHAPE(rows, rows ? front->numel / rows : 0)) : NULL;
}

static bool iterate(fb_tensor *w, int n, double eps, fb_tensor **u, fb_tensor **v)
{
    for (int i = 0; i < n && *v; i++) {
        *u = fb_normalize(fb_mv(w, *v), 2, 0, eps);
        *v = *u ? fb_normalize(fb_mv(fb_t(w), *u), 2, 0, eps) : NULL;
    }
    return *u && *v;
}

/* One more estimate of the vectors of the largest singular value, kept in the buffers. */
static fb_status refine(spectral_norm *s, fb_tensor *w)
{
    FB_SCOPE(w->ctx);
    fb_no_grad(w->ctx);
    fb_tensor *u = s->u, *v = s->v;
    if (s->iterations < 1)
        return FB_OK;
    if (!iterate(w, s->iterations, s->eps, &u, &v))
        return w->ctx->status;
    fb_status st = fb_copy_(s->u, u);
    return st ? st : fb_copy_(s->v, v);
}

static fb_tensor *spectral_norm_forward(fb_module *m, fb_tensor *w)
{
    spectral_norm *s = m->self;
    if (!w)
        return NULL;
    if (w->ndim == 1)
        return fb_normalize(w, 2, 0, s->eps);
    fb_tensor *a = matrix_of(w, s->dim);
    if (!a || (m->training && refine(s, a)))
        return NULL;
    /* copies: the next call changes the buffers, and backward needs what they are now */
    fb_tensor *u = fb_clone(s->u), *v = fb_clone(s->v);
    return u && v ? fb_div(w, fb_dot(u, fb_mv(a, v))) : NULL;
}

static const fb_module_type spectral_norm_type = {.name = "SpectralNorm",
                                                  .size = sizeof(spectral_norm),
                                                  .fields = spectral_norm_fields,
                                                  .forward = spectral_norm_forward};

/* First vectors: random, then 15 iterations, as PyTorch. */
static bool first_vectors(fb_tensor *w, spectral_norm *s)
{
    fb_context *ctx = w->ctx;
    fb_tensor *a = matrix_of(w, s->dim);
    fb_dtype d = (fb_dtype)w->dtype;
    fb_tensor *u = a ? fb_normalize(fb_randn(ctx, d, FB_SHAPE(a->size[0])), 2, 0, s->eps) : NULL;
    fb_tensor *v = u ? fb_normalize(fb_randn(ctx, d, FB_SHAPE(a->size[1])), 2, 0, s->eps) : NULL;
    if (!v || !iterate(a, 15, s->eps, &u, &v))
        return false;
    s->u = field_of(u);
    s->v = field_of(v);
    return s->u && s->v;
}

fb_module *fb_nn_spectral_norm(fb_module *m, const char *path, const fb_spectral_norm_options *opts)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    static const fb_spectral_norm_options none;
    const fb_spectral_norm_options *o = opts ? opts : &none;
    fbi_named found = {0};
    spectral_norm s = {.dim = o->dim,
                       .iterations = o->iterations ? o->iterations : 1,
                       .eps = o->eps == 0 ? 1e-12 : o->eps};
    if (!ready(m, path) || !find_param(m, path, &found))
        return NULL;
    fb_tensor *w = found.t;
    if (w->ndim < 1 || s.dim < 0 || s.dim >= w->ndim || s.iterations < 0) {
        fbi_fail(m->ctx, FB_E_ARG, "fb_nn_spectral_norm: dimension %d of %s %s, %d iterations",
                 s.dim, path, fbi_text(w), s.iterations);
        return NULL;
    }
    FB_SCOPE(m->ctx);
    fb_no_grad(m->ctx);
    bool made = w->ndim == 1 || first_vectors(w, &s);
    fb_module *how = made ? fb_nn_new(m->ctx, &spectral_norm_type, &s) : NULL;
    fbi_tensor_unref(s.u);
    fbi_tensor_unref(s.v);
    return how ? fb_nn_parametrize(m, path, how) : NULL;
}
