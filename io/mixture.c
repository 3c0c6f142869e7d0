#include "io/mixture_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

enum { DEFAULT_BLOCK = 1000 };

/* --- as a dataset: the sources' samples, one source behind the other --- */

/* The source of a sample, whose index becomes the source's. NULL: see text. */
static const fbi_source *source_of(const fb_dataset *ds, int64_t *index, char *text, size_t size)
{
    const fbi_mixture *m = ds->parts;
    int low = 0, high = m->n; /* begin of low <= index < begin of high */
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (m->sources[middle].begin <= *index)
            low = middle;
        else
            high = middle;
    }
    const fbi_source *source = &m->sources[low];
    *index -= source->begin;
    if (source->ds->size == source->n)
        return source;
    snprintf(text, size,
             "%s: source %d had %lld samples and has %lld: select its split before it is mixed",
             ds->path, low, (long long)source->n, (long long)source->ds->size);
    return NULL;
}

static fb_status mix_fetch(fb_dataset *ds, int64_t index, void *const *out, int64_t *rows,
                           char *text, size_t size)
{
    const fbi_source *source = source_of(ds, &index, text, size);
    if (!source)
        return FB_E_STATE;
    void *theirs[FB_MAX_FIELDS];
    int64_t their_rows[FB_MAX_FIELDS];
    for (int f = 0; f < ds->n_fields; f++) {
        theirs[source->field[f]] = out[f];
        their_rows[source->field[f]] = rows ? rows[f] : 0;
    }
    fb_status st =
        fbi_dataset_fetch(source->ds, index, theirs, rows ? their_rows : NULL, text, size);
    for (int f = 0; rows && f < ds->n_fields; f++)
        rows[f] = their_rows[source->field[f]];
    return st;
}

static fb_status mix_fetch_rows(fb_dataset *ds, int f, int64_t index, int64_t first, int64_t n,
                                void *out, char *text, size_t size)
{
    const fbi_source *source = source_of(ds, &index, text, size);
    return source ? fbi_dataset_fetch_rows(source->ds, source->field[f], index, first, n, out, text,
                                           size)
                  : FB_E_STATE;
}

static fb_status mix_lengths(fb_dataset *ds, int f, int32_t *out, char *text, size_t size)
{
    const fbi_mixture *m = ds->parts;
    fb_status st = FB_OK;
    for (int i = 0; i < m->n && !st; i++)
        st = fbi_dataset_lengths_here(m->sources[i].ds, m->sources[i].field[f],
                                      out + m->sources[i].begin, text, size);
    return st;
}

static fb_dataset *mix_part(const void *parts, int i)
{
    const fbi_mixture *m = parts;
    return i < m->n ? m->sources[i].ds : NULL;
}

static const fbi_dataset_view mix_view = {mix_fetch, mix_fetch_rows, mix_lengths, free, mix_part};

const fbi_mixture *fbi_mixture_of(const fb_dataset *ds)
{
    return ds->view == &mix_view ? ds->parts : NULL;
}

int fb_dataset_source(const fb_dataset *ds, int64_t index, int64_t *sample)
{
    char text[256];
    if (sample)
        *sample = -1;
    if (!ds || !fbi_mixture_of(ds) || index < 0 || index >= ds->size)
        return -1;
    const fbi_source *source = source_of(ds, &index, text, sizeof text);
    if (sample && source)
        *sample = index;
    return source ? (int)(source - fbi_mixture_of(ds)->sources) : -1;
}

/* --- what sources must be --- */

static bool same_shape(const fb_dataset_field *a, const fb_dataset_field *b)
{
    return fb_shape_equal(a->shape, b->shape) &&
           fb_shape_equal(fbi_dataset_deliver_shape(a), fbi_dataset_deliver_shape(b));
}

/* How field f of a source differs from the same field of the first one; NULL: not at all. */
static const char *differs(const fb_dataset_field *a, const fb_dataset_field *b)
{
    if (a->dtype != b->dtype)
        return "dtype";
    if (!same_shape(a, b) || a->varies != b->varies)
        return "shape";
    if (memcmp(&a->scale, &b->scale, sizeof a->scale) ||
        memcmp(&a->shift, &b->shift, sizeof a->shift))
        return "scale";
    bool same = a->n_labels == b->n_labels;
    for (int64_t i = 0; same && i < a->n_labels; i++)
        same = !strcmp(a->labels[i], b->labels[i]);
    return same ? NULL : "labels";
}

static fb_status match_fields(fbi_source *source, const fb_dataset *first, int number)
{
    const fb_dataset *ds = source->ds;
    for (int f = 0; f < first->n_fields; f++) {
        int at = fbi_dataset_field(ds, first->names[f]);
        const char *what = at < 0 ? "fields" : differs(&first->fields[f], &ds->fields[at]);
        if (what || ds->n_fields != first->n_fields)
            return fbi_fail(first->ctx, FB_E_SHAPE,
                            "dataset (mix): source %d, %s, has not the %s of source 0, %s (field "
                            "%s): all must have the same fields",
                            number, ds->path, what ? what : "fields", first->path, first->names[f]);
        source->field[f] = at;
    }
    return FB_OK;
}

static fb_status check_sources(fb_context *ctx, fb_dataset *const *sources, int n)
{
    if (n < 1 || !sources)
        return fbi_fail(ctx, FB_E_ARG, "dataset (mix): %d sources: at least one is needed", n);
    for (int i = 0; i < n; i++) {
        if (!sources[i])
            return fbi_fail(ctx, FB_E_ARG, "dataset (mix): source %d is NULL", i);
        if (sources[i]->ring)
            return fbi_fail(ctx, FB_E_ARG,
                            "dataset (mix): source %d is a ring: a loader reads it alone", i);
        if (sources[i]->written)
            return fbi_fail(ctx, FB_E_STATE,
                            "dataset (mix): source %d, %s, was opened for writing: finish it, then "
                            "open it",
                            i, sources[i]->path);
        if (fbi_mixture_of(sources[i]) && fbi_mixture_of(sources[i])->block)
            return fbi_fail(ctx, FB_E_ARG,
                            "dataset (mix): source %d has proportions of its own: mix its sources "
                            "with products of the weights instead",
                            i);
    }
    return FB_OK;
}

static fb_status check_weights(fb_context *ctx, const double *weights, int n, int64_t block)
{
    double sum = 0;
    if (block < n)
        return fbi_fail(ctx, FB_E_ARG,
                        "dataset (mix): a block of %lld draws is too short for %d sources",
                        (long long)block, n);
    for (int i = 0; i < n; i++) {
        if (!(weights[i] >= 0) || isinf(weights[i]))
            return fbi_fail(ctx, FB_E_ARG,
                            "dataset (mix): weight %d is %g: weights must not be negative, and "
                            "finite",
                            i, weights[i]);
        sum += weights[i];
    }
    if (!(sum > 0) || isinf(sum))
        return fbi_fail(ctx, FB_E_ARG, "dataset (mix): the weights' sum is %g", sum);
    return FB_OK;
}

/* --- proportions --- */

/* The source that is furthest from what is due to it; `more`: it should have more. */
static int furthest(const fbi_mixture *m, const double *weights, double sum, bool more)
{
    int best = -1;
    double most = 0;
    for (int i = 0; i < m->n; i++) {
        double lacks = weights[i] / sum * (double)m->block - (double)m->sources[i].share;
        double by = more ? lacks : -lacks;
        if (weights[i] > 0 && (more || m->sources[i].share > 1) && (best < 0 || by > most)) {
            best = i;
            most = by;
        }
    }
    return best;
}

/* Whole draws of a block to each source, by largest remainders; nobody with a weight gets none. */
static void share_block(fbi_mixture *m, const double *weights)
{
    double sum = 0;
    int64_t given = 0;
    for (int i = 0; i < m->n; i++)
        sum += weights[i];
    for (int i = 0; i < m->n; i++) {
        int64_t share = (int64_t)(weights[i] / sum * (double)m->block);
        m->sources[i].share = share ? share : weights[i] > 0;
        given += m->sources[i].share;
    }
    for (; given < m->block; given++)
        m->sources[furthest(m, weights, sum, true)].share++;
    for (; given > m->block; given--)
        m->sources[furthest(m, weights, sum, false)].share--;
    for (int i = 1; i < m->n; i++)
        m->sources[i].first = m->sources[i - 1].first + m->sources[i - 1].share;
}

/* --- making one --- */

static void set_identity(fb_dataset *ds, const fbi_mixture *m)
{
    uint64_t id = XXH3_64bits(&m->block, sizeof m->block);
    for (int i = 0; i < m->n; i++) {
        const int64_t what[3] = {m->sources[i].n, m->sources[i].share, m->sources[i].ds->selected};
        id = XXH3_64bits_withSeed(m->sources[i].ds->id, sizeof m->sources[i].ds->id, id);
        id = XXH3_64bits_withSeed(what, sizeof what, id);
    }
    snprintf(ds->id, sizeof ds->id, "%016llx", (unsigned long long)id);
}

static fb_status add_sources(fb_dataset *ds, fbi_mixture *m, fb_dataset *const *sources)
{
    fb_status st = FB_OK;
    for (int i = 0; i < m->n && !st; i++) {
        fbi_source *source = &m->sources[i];
        source->ds = sources[i];
        source->begin = ds->size;
        source->n = sources[i]->size;
        ds->size += source->n;
        ds->whole = ds->whole || sources[i]->whole;
        st = match_fields(source, sources[0], i);
        for (int f = 0; !st && f < ds->n_fields; f++) {
            int64_t longest = sources[i]->fields[source->field[f]].longest;
            if (longest > ds->fields[f].longest)
                ds->fields[f].longest = longest;
        }
    }
    ds->total = ds->size;
    return st;
}

fb_dataset *fb_dataset_mix(fb_context *ctx, fb_dataset *const *sources, const double *weights,
                           int n, const fb_mix_options *opts)
{
    FBI_ENTRY(ctx);
    int64_t block = opts && opts->block ? opts->block : DEFAULT_BLOCK;
    if (!fbi_enter(ctx) || check_sources(ctx, sources, n) ||
        (weights && check_weights(ctx, weights, n, block)))
        return NULL;
    fb_dataset *ds = fbi_dataset_new(ctx, "(mix)", sources[0]->fields, sources[0]->n_fields);
    fbi_mixture *m = ds ? calloc(1, sizeof *m + (size_t)n * sizeof m->sources[0]) : NULL;
    if (ds && !m)
        fbi_fail(ctx, FB_E_NOMEM, "dataset (mix): no memory");
    if (m) {
        m->n = n;
        m->block = weights ? block : 0;
        ds->view = &mix_view;
        ds->parts = m;
    }
    if (!m || add_sources(ds, m, sources)) {
        fb_dataset_close(ds);
        return NULL;
    }
    if (weights)
        share_block(m, weights);
    set_identity(ds, m);
    return ds;
}
