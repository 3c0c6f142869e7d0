#include "io/sampler_priv.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "comm/group_priv.h"
#include "core/base/philox_priv.h"

/* --- options --- */

enum { DEFAULT_WINDOW = 16 };

const char *const fbi_sampler_fact_names[FBI_SAMPLER_FACTS] = {
    [FBI_FACT_BLOCK] = "shuffle_block", [FBI_FACT_WINDOW] = "shuffle_window",
    [FBI_FACT_WEIGHTS] = "weights",     [FBI_FACT_WEIGH_BY] = "weigh_by",
    [FBI_FACT_EPOCH] = "epoch_samples", [FBI_FACT_BUCKET] = "bucket_window",
    [FBI_FACT_BUCKET_BY] = "bucket_by", [FBI_FACT_SOURCES] = "sources",
    [FBI_FACT_SEED] = "seed",           [FBI_FACT_SAMPLES] = "samples",
    [FBI_FACT_BATCH] = "global_batch",
};

const bool fbi_sampler_fact_hashed[FBI_SAMPLER_FACTS] = {[FBI_FACT_WEIGHTS] = true,
                                                         [FBI_FACT_WEIGH_BY] = true,
                                                         [FBI_FACT_BUCKET_BY] = true,
                                                         [FBI_FACT_SOURCES] = true};

static int64_t hash_text(const char *text)
{
    return text ? (int64_t)(XXH3_64bits(text, strlen(text)) >> 1) : 0;
}

static int64_t hash_weights(const fb_loader_options *o)
{
    size_t bytes = (size_t)o->n_weights * sizeof *o->weights;
    return o->weights ? (int64_t)(XXH3_64bits(o->weights, bytes) >> 1) : 0;
}

void fbi_sampler_facts(const fb_dataset *ds, const fb_loader_options *o,
                       int64_t facts[FBI_SAMPLER_FACTS])
{
    const int64_t values[FBI_FACT_SEED] = {[FBI_FACT_BLOCK] = o->shuffle_block,
                                           [FBI_FACT_WINDOW] = o->shuffle_window,
                                           [FBI_FACT_WEIGHTS] = hash_weights(o),
                                           [FBI_FACT_WEIGH_BY] = hash_text(o->weigh_by),
                                           [FBI_FACT_EPOCH] =
                                               o->epoch_samples == o->limit ? 0 : o->epoch_samples,
                                           [FBI_FACT_BUCKET] = o->bucket_window,
                                           [FBI_FACT_BUCKET_BY] = hash_text(o->bucket_by),
                                           [FBI_FACT_SOURCES] = ds->view ? hash_text(ds->id) : 0};
    memset(facts, 0, FBI_SAMPLER_FACTS * sizeof *facts);
    memcpy(facts, values, sizeof values);
    bool any = false;
    for (int i = 0; i < FBI_FACT_SEED; i++)
        any = any || facts[i];
    if (!any)
        return;
    facts[FBI_FACT_SEED] = (int64_t)o->seed;
    facts[FBI_FACT_SAMPLES] = o->limit;
    facts[FBI_FACT_BATCH] = o->bucket_window ? o->global_batch : 0;
}

static fb_status check_signs(const fb_dataset *ds, const fb_loader_options *o)
{
    const int64_t counts[] = {o->shuffle_block, o->shuffle_bytes, o->shuffle_window, o->n_weights,
                              o->epoch_samples, o->bucket_window, o->pad_multiple};
    static const char *const names[] = {"shuffle_block", "shuffle_bytes", "shuffle_window",
                                        "n_weights",     "epoch_samples", "bucket_window",
                                        "pad_multiple"};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (counts[i] < 0)
            return fbi_fail(ds->ctx, FB_E_ARG, "loader: %s %lld must not be negative", names[i],
                            (long long)counts[i]);
    return FB_OK;
}

static fb_status check_blocks(const fb_dataset *ds, fb_loader_options *o)
{
    if (!o->shuffle_block && !o->shuffle_bytes && !o->shuffle_window)
        return FB_OK;
    if (!o->shuffle)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "loader: blocks are asked for without shuffle: set shuffle, too");
    if (!o->shuffle_block == !o->shuffle_bytes)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "loader: give the size of a block either as shuffle_block samples or as "
                        "shuffle_bytes, got %lld and %lld",
                        (long long)o->shuffle_block, (long long)o->shuffle_bytes);
    if (ds->selected >= 0 && ds->splits[ds->selected].seed)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "loader: split %s of dataset %s is a seeded choice of samples, neighbours "
                        "in it are far apart on the disk: leave shuffle_block out, or make a split "
                        "without a seed",
                        ds->split_names[ds->selected], ds->path);
    double fit = o->shuffle_block ? (double)o->shuffle_block
                                  : (double)o->shuffle_bytes / fbi_dataset_sample_bytes(ds);
    o->shuffle_block = fit < 1 ? 1 : fit < (double)o->limit ? (int64_t)fit : o->limit;
    o->shuffle_window = o->shuffle_window ? o->shuffle_window : DEFAULT_WINDOW;
    return FB_OK;
}

static fb_status check_mixture(const fb_dataset *ds, const fb_loader_options *o)
{
    const fbi_mixture *mix = fbi_mixture_of(ds);
    if (!mix || !mix->block || (o->limit == ds->size && !o->weights && !o->weigh_by))
        return FB_OK;
    return fbi_fail(ds->ctx, FB_E_ARG,
                    "loader: dataset %s is drawn by the proportions of its sources: leave %s out",
                    ds->path, o->limit == ds->size ? "weights and weigh_by" : "limit");
}

fb_status fbi_sampler_check(const fb_dataset *ds, fb_loader_options *o)
{
    fb_status st = check_signs(ds, o);
    st = st ? st : check_blocks(ds, o);
    st = st ? st : check_mixture(ds, o);
    st = st ? st : fbi_weights_check(ds, o);
    st = st ? st : fbi_buckets_check(ds, o);
    if (!o->epoch_samples)
        o->epoch_samples = o->limit;
    return st;
}

/* --- opening --- */

/* Orders of the sources: each its own. */
static bool open_walks(fbi_sampler *s)
{
    s->pattern = fbi_order_make(s->mix->block, fbi_mix64(s->seed), 0);
    s->walks = calloc((size_t)s->mix->n, sizeof *s->walks);
    for (int i = 0; s->walks && i < s->mix->n; i++) {
        fbi_walk walk = s->walk;
        walk.n = s->mix->sources[i].n;
        walk.seed = fbi_mix64(s->seed ^ fbi_mix64((uint64_t)i + 1));
        s->walks[i] = fbi_walk_make(walk);
    }
    return s->walks != NULL;
}

fb_status fbi_sampler_open(fbi_sampler *s, fb_group *group, fb_dataset *ds,
                           const fb_loader_options *o)
{
    *s = (fbi_sampler){.n = o->epoch_samples, .seed = o->seed, .asked = -1};
    s->walk = fbi_walk_make((fbi_walk){.n = o->limit,
                                       .shuffle = o->shuffle,
                                       .block = o->shuffle_block,
                                       .window = o->shuffle_window,
                                       .seed = o->seed});
    s->mix = fbi_mixture_of(ds);
    if (s->mix && !s->mix->block)
        s->mix = NULL;
    fb_status st = FB_OK;
    if (s->mix && !open_walks(s))
        st = fbi_fail(ds->ctx, FB_E_NOMEM, "loader: no memory for the sources of a mixture");
    if (group)
        st = fbi_group_agree(group, "loader", st);
    if (st)
        return st;
    if (o->weights || o->weigh_by) {
        s->n_weights = o->limit;
        s->weights = fbi_weights_open(group, ds, o);
        if (!s->weights)
            return fb_status_of(ds->ctx);
    }
    if (!o->bucket_window)
        return FB_OK;
    s->buckets = fbi_buckets_open(group, ds, o);
    return s->buckets ? FB_OK : fb_status_of(ds->ctx);
}

void fbi_sampler_close(fbi_sampler *s)
{
    free(s->weights);
    free(s->walks);
    fbi_buckets_close(s->buckets);
}

/* --- an epoch --- */

void fbi_sampler_begin(fbi_sampler *s, int64_t epoch)
{
    s->epoch = epoch;
    if (s->buckets)
        fbi_buckets_begin(s->buckets);
}

/* Draw q of a mixture: its block of draws is permuted, of which each source has its share. */
static int64_t mixed(fbi_sampler *s, int64_t q)
{
    int64_t number = q / s->mix->block;
    fbi_order pattern = fbi_order_part(&s->pattern, s->mix->block, number);
    int64_t slot = fbi_order_at(&pattern, q % s->mix->block);
    int i = 0;
    while (slot >= s->mix->sources[i].first + s->mix->sources[i].share)
        i++;
    const fbi_source *source = &s->mix->sources[i];
    int64_t draw = number * source->share + slot - source->first; /* of this source */
    return source->begin + fbi_walk_at(&s->walks[i], draw);
}

/* Before samples of like length are brought together. */
static int64_t draw(fbi_sampler *s, int64_t position)
{
    int64_t q = s->epoch * s->n + position;
    if (s->weights)
        return fbi_alias_at(s->weights, s->n_weights, s->seed, (uint64_t)q);
    return s->mix ? mixed(s, q) : fbi_walk_at(&s->walk, q);
}

bool fbi_sampler_repeats(const fbi_sampler *s)
{
    return s->weights || s->mix || s->n != s->walk.n;
}

int64_t fbi_sampler_at(fbi_sampler *s, int64_t position)
{
    if (!s->buckets)
        return draw(s, position);
    int64_t begin, end;
    int64_t *indices = fbi_buckets_window(s->buckets, position, s->n, &begin, &end);
    if (indices) { /* it has not been filled yet */
        for (int64_t i = begin; i < end; i++)
            indices[i - begin] = draw(s, i);
        fbi_buckets_sort(s->buckets, s->epoch);
    }
    return fbi_buckets_at(s->buckets, position);
}

void fbi_sampler_ahead(fbi_sampler *s, fb_dataset *ds, int64_t position)
{
    if (!s->walk.block || s->mix)
        return;
    fbi_walk walk = s->walk; /* the next pass is none of the walk's own yet */
    int64_t window = fbi_walk_window(&walk, s->epoch * s->n + position), first, n;
    if (s->asked < window - 1 || s->asked > window + 1)
        s->asked = window - 1; /* the beginning, or another place than before */
    for (; s->asked < window + 1; s->asked++)
        for (int64_t k = 0; fbi_walk_block(&walk, s->asked + 1, k, &first, &n); k++)
            fbi_dataset_ahead(ds, first, n);
}
