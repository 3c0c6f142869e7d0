/* Kernels of ctc and ctc_bwd: an item a thread, in double. See core/ops/ctc.c. */
#include <math.h>

#include "core/cpu/dense_priv.h"
#include "core/cpu/index_priv.h"
#include "core/cpu/kernels_isa.h"

typedef struct ctc {
    int64_t steps, items, classes, labels, places, blank;
    bool wide; /* F64, else F32 */
    fbi_flat x, input, target;
    int64_t *label; /* [N, S] */
} ctc;

/* Log-probabilities at x of the call, then labels and lengths. */
static bool ctc_open(const fbi_call *c, int x, int64_t blank, ctc *p)
{
    const fb_tensor *t = c->in[x];
    *p = (ctc){.steps = t->size[0],
               .items = t->size[1],
               .classes = t->size[2],
               .labels = c->in[x + 1]->size[1],
               .places = 2 * c->in[x + 1]->size[1] + 1,
               .blank = blank,
               .wide = t->dtype == FB_F64};
    p->label = fbi_indices_of(c, c->in[x + 1], p->classes);
    return p->label && fbi_flat_of(c, t, &p->x) && fbi_flat_of(c, c->in[x + 2], &p->input) &&
           fbi_flat_of(c, c->in[x + 3], &p->target);
}

static void ctc_close(ctc *p)
{
    fbi_flat_free(&p->x);
    fbi_flat_free(&p->input);
    fbi_flat_free(&p->target);
    free(p->label);
}

static double get(const void *v, bool wide, int64_t i)
{
    return wide ? ((const double *)v)[i] : (double)((const float *)v)[i];
}

static void put(void *v, bool wide, int64_t i, double value)
{
    if (wide)
        ((double *)v)[i] = value;
    else
        ((float *)v)[i] = (float)value;
}

static int64_t class_of(const ctc *p, int64_t n, int64_t place)
{
    return place % 2 ? p->label[n * p->labels + place / 2] : p->blank;
}

/* Whether a path may go from place - 2 to place. */
static bool jumps(const ctc *p, int64_t n, int64_t place)
{
    return place % 2 && place > 1 &&
           p->label[n * p->labels + place / 2] != p->label[n * p->labels + place / 2 - 1];
}

static double emitted(const ctc *p, int64_t t, int64_t n, int64_t place)
{
    return get(p->x.p, p->wide, (t * p->items + n) * p->classes + class_of(p, n, place));
}

static double log_sum(double a, double b, double c)
{
    double most = a > b ? a : b;
    most = c > most ? c : most;
    if (most == -INFINITY)
        return most;
    return most + log(exp(a - most) + exp(b - most) + exp(c - most));
}

static void forward(const ctc *p, int64_t n, double *row, void *loss, void *alpha)
{
    int64_t steps = ((const int64_t *)p->input.p)[n], end = 2 * ((const int64_t *)p->target.p)[n];
    int64_t base = n * p->steps * p->places;
    for (int64_t i = 0; i < p->steps * p->places; i++)
        put(alpha, p->wide, base + i, -INFINITY);
    for (int64_t t = 0; t < steps; t++) {
        for (int64_t s = end; s >= 0;
             s--) { /* from the last, so that row is still the one before */
            double come = s < 2 ? 0 : -INFINITY;
            if (t)
                come = log_sum(row[s], s > 0 ? row[s - 1] : -INFINITY,
                               jumps(p, n, s) ? row[s - 2] : -INFINITY);
            row[s] = come + emitted(p, t, n, s);
            put(alpha, p->wide, base + t * p->places + s, row[s]);
        }
    }
    double total = end == 0 ? 0 : -INFINITY; /* of no steps */
    if (steps)
        total = log_sum(row[end], end ? row[end - 1] : -INFINITY, -INFINITY);
    put(loss, p->wide, n, -total);
}

fb_status FBI_KERNEL(ctc)(const fbi_call *c)
{
    ctc p;
    bool open = ctc_open(c, 0, ((const fbi_attrs_ctc *)c->attrs)->blank, &p);
    int team = fbi_team(c, p.steps * p.items * p.places);
    double *rows = open ? fbi_cpu_scratch(c, (size_t)(p.items * p.places) * sizeof *rows) : NULL;
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t n = 0; n < (rows ? p.items : 0); n++)
        forward(&p, n, rows + n * p.places, fbi_ptr(c->out[0]), fbi_ptr(c->out[1]));
    ctc_close(&p);
    free(rows);
    return rows ? FB_OK : fbi_index_failed(c);
}

typedef struct ctc_slope {
    ctc p;
    fbi_flat g, loss, alpha;
    void *out;
} ctc_slope;

/* What follows a place at step t, from the row of the step after it (NULL: t is the last). */
static double follows(const ctc *p, int64_t t, int64_t n, int64_t s, int64_t end,
                      const double *after)
{
    double v[3] = {-INFINITY, -INFINITY, -INFINITY};
    if (!after)
        return s >= end - 1 ? 0 : -INFINITY;
    for (int64_t k = 0; k < 3 && s + k <= end; k++)
        if (k < 2 || jumps(p, n, s + 2))
            v[k] = after[s + k] + emitted(p, t + 1, n, s + k);
    return log_sum(v[0], v[1], v[2]);
}

/* `rows`: two of the places, then one of the classes. */
static void backward(const ctc_slope *b, int64_t n, double *rows)
{
    const ctc *p = &b->p;
    int64_t steps = ((const int64_t *)p->input.p)[n], end = 2 * ((const int64_t *)p->target.p)[n];
    double g = get(b->g.p, p->wide, n), loss = get(b->loss.p, p->wide, n);
    double *sums = rows + 2 * p->places;
    for (int64_t t = p->steps - 1; t >= 0; t--) {
        int64_t to = (t * p->items + n) * p->classes;
        double *now = rows + t % 2 * p->places, *after = rows + (t + 1) % 2 * p->places;
        for (int64_t k = 0; k < p->classes; k++)
            sums[k] = 0;
        for (int64_t s = 0; s <= end && t < steps && g != 0; s++) {
            now[s] = follows(p, t, n, s, end, t == steps - 1 ? NULL : after);
            double a = get(b->alpha.p, p->wide, (n * p->steps + t) * p->places + s);
            sums[class_of(p, n, s)] += exp(a + now[s] + loss);
        }
        for (int64_t k = 0; k < p->classes; k++)
            put(b->out, p->wide, to + k, sums[k] == 0 ? 0 : -g * sums[k]);
    }
}

fb_status FBI_KERNEL(ctc_bwd)(const fbi_call *c)
{
    ctc_slope b = {.out = fbi_ptr(c->out[0])};
    const ctc *p = &b.p;
    bool open = ctc_open(c, 1, ((const fbi_attrs_ctc_bwd *)c->attrs)->blank, &b.p) &&
                fbi_flat_of(c, c->in[0], &b.g) && fbi_flat_of(c, c->in[5], &b.loss) &&
                fbi_flat_of(c, c->in[6], &b.alpha);
    int64_t each = 2 * p->places + p->classes;
    int team = fbi_team(c, p->steps * p->items * p->places);
    double *rows = open ? fbi_cpu_scratch(c, (size_t)(p->items * each) * sizeof *rows) : NULL;
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t n = 0; n < (rows ? p->items : 0); n++)
        backward(&b, n, rows + n * each);
    ctc_close(&b.p);
    fbi_flat_free(&b.g);
    fbi_flat_free(&b.loss);
    fbi_flat_free(&b.alpha);
    free(rows);
    return rows ? FB_OK : fbi_index_failed(c);
}
