/* Kernels that draw for parameters in tensors, and orders: bernoulli, poisson, gamma, multinomial,
 * randperm. */
#include "core/ops/random_priv.h"
#include "core/base/rng_priv.h"
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/loop.h"

/* t's elements as row-major doubles, to free. NULL: the error is set. */
static double *doubles_of(const fbi_call *c, const fb_tensor *t)
{
    fbi_flat f;
    double *out = fbi_scratch(c, t->numel, sizeof *out);
    if (!out || !fbi_flat_of(c, t, &f)) {
        free(out);
        return NULL;
    }
    if (t->numel)
        fbi_convert(out, FB_F64, 1, f.p, (fb_dtype)t->dtype, 1, t->numel);
    fbi_flat_free(&f);
    return out;
}

typedef double (*draw_fn)(double p, uint64_t key, uint64_t stream, uint64_t i);

/* out[i] drawn for in[i], each of which must be allowed; `rule`: what else is said. */
static fb_status draw_each(const fbi_call *c, draw_fn draw, bool (*allowed)(double),
                           const char *rule, uint64_t key, uint64_t stream)
{
    const fb_tensor *x = c->in[0];
    double *p = doubles_of(c, x);
    if (!p)
        return FB_E_NOMEM;
    for (int64_t i = 0; i < x->numel; i++)
        if (!allowed(p[i])) {
            fb_status st = fbi_op_fail(c, FB_E_ARG, rule, p[i], (long long)i);
            free(p);
            return st;
        }
    int team = fbi_team(c, x->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < x->numel; i++)
        p[i] = draw(p[i], key, stream, (uint64_t)i);
    if (x->numel)
        fbi_convert(fbi_ptr(c->out[0]), (fb_dtype)c->out[0]->dtype, 1, p, FB_F64, 1, x->numel);
    free(p);
    return FB_OK;
}

static double draw_bernoulli(double p, uint64_t key, uint64_t stream, uint64_t i)
{
    return fbi_draw_unit(key, stream, i) < p ? 1 : 0;
}

fb_status FBI_KERNEL(bernoulli)(const fbi_call *c)
{
    const fbi_attrs_bernoulli *a = c->attrs;
    return draw_each(c, draw_bernoulli, fbi_is_probability, FBI_NO_PROBABILITY, a->key, a->stream);
}

fb_status FBI_KERNEL(poisson)(const fbi_call *c)
{
    const fbi_attrs_poisson *a = c->attrs;
    return draw_each(c, fbi_draw_poisson, fbi_is_rate, FBI_NO_RATE, a->key, a->stream);
}

fb_status FBI_KERNEL(gamma)(const fbi_call *c)
{
    const fbi_attrs_gamma *a = c->attrs;
    return draw_each(c, fbi_draw_gamma, fbi_is_gamma_shape, FBI_NO_GAMMA_SHAPE, a->key, a->stream);
}

/* --- multinomial --- */

/* before[k]: the sum of the chunks before k. @return the whole */
static double sum_chunks(const double *w, int64_t n, double *before)
{
    double sum = 0;
    for (int64_t k = 0; k * FBI_WEIGHT_CHUNK < n; k++) {
        double chunk = 0;
        for (int64_t i = k * FBI_WEIGHT_CHUNK; i < n && i < (k + 1) * FBI_WEIGHT_CHUNK; i++)
            chunk += w[i];
        before[k] = sum;
        sum += chunk;
    }
    return sum;
}

typedef struct racer {
    double time;
    int64_t who;
} racer;

static int sooner(const void *a, const void *b)
{
    const racer *p = a, *q = b;
    if (p->time != q->time)
        return p->time < q->time ? -1 : 1;
    return p->who < q->who ? -1 : p->who > q->who;
}

/* Scratch of the widest row: sums of chunks, or racers. */
static void draw_row(const fbi_attrs_multinomial *a, const double *w, int64_t n, int64_t row,
                     void *scratch, int64_t *out)
{
    if (a->replacement) {
        double total = sum_chunks(w, n, scratch);
        int64_t chunks = (n + FBI_WEIGHT_CHUNK - 1) / FBI_WEIGHT_CHUNK;
        for (int64_t k = 0; k < a->count; k++) {
            double u = fbi_draw_unit(a->key, a->stream, (uint64_t)(row * a->count + k));
            out[k] = fbi_pick(w, n, scratch, chunks, u * total);
        }
        return;
    }
    racer *r = scratch;
    for (int64_t i = 0; i < n; i++)
        r[i] = (racer){fbi_race_time(w[i], a->key, a->stream, (uint64_t)(row * n + i)), i};
    qsort(r, (size_t)n, sizeof *r, sooner);
    for (int64_t k = 0; k < a->count; k++)
        out[k] = r[k].who;
}

static fb_status check_weights(const fbi_call *c, const double *w, int64_t rows, int64_t n)
{
    const fbi_attrs_multinomial *a = c->attrs;
    for (int64_t row = 0; row < rows; row++) {
        int64_t above = 0;
        for (int64_t i = row * n; i < (row + 1) * n; i++) {
            if (!fbi_is_rate(w[i]))
                return fbi_op_fail(c, FB_E_ARG, FBI_NO_WEIGHT, w[i], (long long)i);
            above += w[i] > 0;
        }
        if (above < (a->replacement ? 1 : a->count))
            return fbi_op_fail(c, FB_E_ARG, FBI_FEW_WEIGHTS, (long long)row);
    }
    return FB_OK;
}

fb_status FBI_KERNEL(multinomial)(const fbi_call *c)
{
    const fbi_attrs_multinomial *a = c->attrs;
    const fb_tensor *x = c->in[0];
    int64_t n = x->size[x->ndim - 1], rows = x->numel / n;
    double *w = doubles_of(c, x);
    fb_status st = w ? check_weights(c, w, rows, n) : FB_E_NOMEM;
    void *scratch = st ? NULL : fbi_scratch(c, n, sizeof(racer));
    for (int64_t row = 0; scratch && row < rows; row++)
        draw_row(a, w + row * n, n, row, scratch, (int64_t *)fbi_ptr(c->out[0]) + row * a->count);
    st = st || scratch ? st : FB_E_NOMEM;
    free(scratch);
    free(w);
    return st;
}

/* --- randperm --- */

typedef struct ticket {
    uint64_t word, who;
} ticket;

static int lower(const void *a, const void *b)
{
    const ticket *p = a, *q = b;
    if (p->word != q->word)
        return p->word < q->word ? -1 : 1;
    return p->who < q->who ? -1 : p->who > q->who;
}

fb_status FBI_KERNEL(randperm)(const fbi_call *c)
{
    const fbi_attrs_randperm *a = c->attrs;
    int64_t *out = fbi_ptr(c->out[0]);
    ticket *t = fbi_scratch(c, a->n, sizeof *t);
    if (!t)
        return FB_E_NOMEM;
    for (int64_t i = 0; i < a->n; i++)
        t[i] = (ticket){fbi_rng_u64(a->key, a->stream, (uint64_t)i) >> 1, (uint64_t)i};
    qsort(t, (size_t)a->n, sizeof *t, lower);
    for (int64_t i = 0; i < a->n; i++)
        out[i] = (int64_t)t[i].who;
    free(t);
    return FB_OK;
}
