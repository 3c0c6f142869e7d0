#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include <flambeau/core/ops/create.h>

#include "comm/group_priv.h"
#include "core/base/threads_priv.h"
#include "core/tensor/device_priv.h"
#include "io/cache_priv.h"
#include "io/loader_priv.h"
#include "io/ring_priv.h"

enum { DEFAULT_BATCH = 32, DEFAULT_PREFETCH = 3, MOST_THREADS = 1024, MOST_AHEAD = 1 << 16 };

static void loader_free(void *object)
{
    fb_loader *l = object;
    if (l->group)
        fbi_group_unlead(l->group);
    fbi_upload_drop(l);
    fbi_prefetch_close(l);
    fbi_ring_leave(l);
    for (int f = 0; f < FB_MAX_FIELDS; f++) {
        if (l->tensors[f])
            fb_set(&l->tensors[f], NULL);
        if (l->lengths[f])
            fb_set(&l->lengths[f], NULL);
    }
    fbi_sampler_close(&l->sampler);
    if (l->stage)
        l->stage->free(l->stage);
    free(l->indices);
    free(l);
}

void fb_loader_close(fb_loader *l)
{
    if (!l)
        return;
    fbi_context_forget(l->ctx, l);
    loader_free(l);
}

/* Options with their defaults, checked against the dataset. */
static fb_status check_options(fb_context *ctx, const fb_dataset *ds, fb_loader_options *o)
{
    if (!ds)
        return fbi_fail(ctx, FB_E_ARG, "loader: the dataset is NULL");
    if (ds->written)
        return fbi_fail(ctx, FB_E_STATE,
                        "loader: dataset %s was opened for writing: finish it, then open it",
                        ds->path);
    if (!o->global_batch)
        o->global_batch = DEFAULT_BATCH;
    if (o->global_batch < 0 || o->micro_batch < 0 || o->prefetch < 0 || o->limit < 0 ||
        o->longest < 0 || o->cache_bytes < 0)
        return fbi_fail(ctx, FB_E_ARG,
                        "loader: batch %lld, micro-batch %lld, limit %lld, longest %lld, prefetch "
                        "%lld and cache_bytes %lld must not be negative",
                        (long long)o->global_batch, (long long)o->micro_batch, (long long)o->limit,
                        (long long)o->longest, (long long)o->prefetch, (long long)o->cache_bytes);
    if (o->cache && (ds->read || ds->ring || !*o->cache || strlen(o->cache) >= FBI_PATH_BYTES))
        return fbi_fail(ctx, FB_E_ARG, "loader: cache \"%.64s\": %s", o->cache,
                        ds->read || ds->ring
                            ? "a dataset of the program's own has no shards: leave it out"
                            : "give the path of a folder on a disk of each node");
    if (o->cache_bytes && !o->cache)
        return fbi_fail(ctx, FB_E_ARG, "loader: cache_bytes without cache: name the folder, too");
    if (o->prefetch > MOST_AHEAD)
        return fbi_fail(ctx, FB_E_ARG,
                        "loader: prefetch %lld: at most %d micro-batches are read ahead",
                        (long long)o->prefetch, MOST_AHEAD);
    if (o->threads < 0 || o->threads > MOST_THREADS)
        return fbi_fail(ctx, FB_E_ARG,
                        "loader: %lld threads: give 1 to %d, or 0 for what the training leaves",
                        (long long)o->threads, MOST_THREADS);
    fb_status st = fbi_ring_check(ds, o);
    if (st)
        return st;
    o->limit = o->limit && o->limit < ds->size ? o->limit : ds->size;
    o->seed = o->seed ? o->seed : ctx->seed;
    int64_t most = o->epoch_samples > 0 ? o->epoch_samples : o->limit;
    if (o->global_batch > most)
        return fbi_fail(ctx, FB_E_ARG,
                        "loader: a batch of %lld is larger than %s %s with its %lld samples: ask "
                        "for a smaller batch",
                        (long long)o->global_batch, o->epoch_samples ? "an epoch of" : "dataset",
                        ds->path, (long long)most);
    return fbi_sampler_check(ds, o);
}

/* What every rank must give alike, or some samples are seen twice and others never. */
enum { FACTS = 15, AGREED = FACTS + FBI_SAMPLER_FACTS };
static const char *const agreed_names[FACTS] = {"dataset (number of samples)",
                                                "dataset (id)",
                                                "dataset (fields)",
                                                "global_batch",
                                                "micro_batch",
                                                "shuffle",
                                                "drop_last",
                                                "limit",
                                                "seed",
                                                "longest",
                                                "pad_to_batch",
                                                "pad_multiple",
                                                "split",
                                                "transforms",
                                                "cache"};

static void agreed_values(const fb_dataset *ds, const fb_loader_options *o, const fbi_stage *stage,
                          int64_t v[AGREED])
{
    uint64_t fields = 0;
    for (int f = 0; f < ds->n_fields; f++) {
        const int64_t what[2] = {ds->fields[f].dtype, (int64_t)ds->bytes[f]};
        fields = XXH3_64bits_withSeed(ds->names[f], strlen(ds->names[f]), fields);
        fields = XXH3_64bits_withSeed(what, sizeof what, fields);
    }
    const char *split = ds->selected < 0 ? "" : ds->split_names[ds->selected];
    const char *cache = o->cache ? o->cache : "";
    const int64_t values[FACTS] = {ds->size,
                                   (int64_t)XXH3_64bits(ds->id, sizeof ds->id),
                                   (int64_t)fields,
                                   o->global_batch,
                                   o->micro_batch,
                                   o->shuffle,
                                   o->drop_last,
                                   o->limit,
                                   (int64_t)o->seed,
                                   o->longest,
                                   o->pad_to_batch,
                                   o->pad_multiple,
                                   (int64_t)XXH3_64bits(split, strlen(split)),
                                   stage ? (int64_t)stage->hash : 0,
                                   (int64_t)XXH3_64bits(cache, strlen(cache))};
    memcpy(v, values, sizeof values);
    fbi_sampler_facts(ds, o, v + FACTS);
}

/* Hashes tell nobody anything. */
static bool hashed(int i)
{
    return i < FACTS ? i == 1 || i == 2 || i >= FACTS - 3 : fbi_sampler_fact_hashed[i - FACTS];
}

static fb_status compare(fb_group *group, const int64_t (*all)[AGREED])
{
    for (int r = 1; r < group->size; r++)
        for (int i = 0; i < AGREED; i++) {
            char who[96], values[64] = "";
            if (all[r][i] == all[0][i])
                continue;
            if (!hashed(i))
                snprintf(values, sizeof values, ": %lld and %lld", (long long)all[r][i],
                         (long long)all[0][i]);
            return fbi_fail(
                fbi_group_context(group), FB_E_ARG,
                "loader: %s and rank %d do not have the same %s%s",
                fbi_rank_text(group->world, group->ranks[r], who, sizeof who), group->ranks[0],
                i < FACTS ? agreed_names[i] : fbi_sampler_fact_names[i - FACTS], values);
        }
    return FB_OK;
}

/* All ranks say what they have; a failure of one is told to all. */
static fb_status agree(fb_group *group, const fb_dataset *ds, const fb_loader_options *o,
                       const fbi_stage *stage, fb_status mine)
{
    fb_status st = fbi_group_agree(group, "loader", mine);
    if (st || group->size == 1)
        return st;
    int64_t values[AGREED], (*all)[AGREED] = malloc((size_t)group->size * sizeof *all);
    if (!all)
        return fbi_fail(ds->ctx, FB_E_NOMEM, "loader: no memory");
    agreed_values(ds, o, stage, values);
    st = fbi_group_gather(group, "loader", values, sizeof values, all);
    st = st ? st : compare(group, all);
    free(all);
    return st;
}

static bool on_device(const fb_loader *l)
{
    return !l->ctx->backend->host_memory;
}

size_t fbi_loader_sample_bytes(const fb_loader *l, int f)
{
    return (size_t)l->fields[f].rows * l->fields[f].bytes;
}

/* The fields of micro-batches: the dataset's, or what the stage makes of them. */
static void set_fields(fb_loader *l, int64_t longest)
{
    l->n_fields = l->stage ? l->stage->n_fields : l->ds->n_fields;
    for (int f = 0; f < l->n_fields; f++) {
        fbi_batch_field *field = &l->fields[f];
        field->form = l->stage ? l->stage->fields[f] : l->ds->fields[f];
        snprintf(field->name, sizeof field->name, "%s", field->form.name);
        field->form.name = field->name;
        field->bytes = (size_t)fb_shape_numel(field->form.shape) * fb_dtype_size(field->form.dtype);
        field->rows = field->form.varies ? longest ? longest : field->form.longest : 1;
        if (field->form.varies && !field->rows)
            field->rows = 1; /* every sample is empty */
    }
}

static int field_of(const fb_loader *l, const char *name)
{
    for (int f = 0; l && name && f < l->n_fields; f++)
        if (!strcmp(l->fields[f].name, name))
            return f;
    return -1;
}

/* Whether a micro-batch of every field has a size. */
static bool sizes_fit(const fb_loader *l)
{
    size_t sample, all;
    for (int f = 0; f < l->n_fields; f++)
        if (__builtin_mul_overflow((size_t)l->fields[f].rows, l->fields[f].bytes, &sample) ||
            __builtin_mul_overflow(sample, (size_t)fbi_plan_largest(&l->plan), &all))
            return false;
    return true;
}

/* As many threads as can be of use, of the cores that the training leaves to this rank. */
static int default_threads(const fb_loader *l, const fb_group *group)
{
    enum { COPIES = 1, READS = 4, WORK = 16 };
    int cores = fbi_allowed_cores(), most = l->stage                   ? WORK
                                            : fbi_dataset_waits(l->ds) ? READS
                                                                       : COPIES;
    if (group && group->world->spin_s == 0)
        cores /= group->world->local_size; /* they are not this rank's own */
    int spare = cores - (on_device(l) ? 1 : l->ctx->threads);
    return spare < 1 ? 1 : spare < most ? spare : most;
}

/* NULL: no memory. Else sampler and stage are the loader's. */
static fb_loader *loader_new(fb_dataset *ds, const fb_loader_options *o, const fb_group *group,
                             const fbi_sampler *sampler, fbi_stage *stage)
{
    fb_context *ctx = ds->ctx;
    fb_loader *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->ctx = ctx;
    l->ds = ds;
    l->sampler = *sampler;
    l->repeats = fbi_sampler_repeats(sampler);
    l->stage = stage;
    fbi_sampler_facts(ds, o, l->facts);
    memcpy(l->kept, l->facts, sizeof l->kept);
    set_fields(l, o->longest);
    l->pad_to_batch = o->pad_to_batch || o->bucket_window;
    l->pad_multiple = o->pad_multiple ? o->pad_multiple : 1;
    l->n_slots = o->prefetch ? (int)o->prefetch : DEFAULT_PREFETCH;
    if (on_device(l))
        l->n_slots++; /* one that the device reads */
    l->n_workers = o->threads ? (int)o->threads : default_threads(l, group);
    l->plan = (fbi_plan){.size = o->epoch_samples,
                         .batch = o->global_batch,
                         .micro = o->micro_batch,
                         .leaves = group ? group->shards : 1,
                         .first_leaf = group ? group->first_leaf : 0,
                         .n_leaves = group ? group->n_leaves : 1,
                         .drop_last = o->drop_last};
    l->indices = malloc((size_t)fbi_plan_largest(&l->plan) * sizeof(int64_t));
    if (l->indices && sizes_fit(l) && !fbi_prefetch_open(l) &&
        !fbi_context_adopt(ctx, l, loader_free)) {
        fbi_ring_join(l);
        return l;
    }
    l->sampler = (fbi_sampler){0};
    l->stage = NULL;
    loader_free(l);
    return NULL;
}

/* With options that all ranks have alike. */
static fb_loader *open_agreed(fb_group *group, fb_dataset *ds, const fb_loader_options *o,
                              fbi_stage *stage)
{
    fbi_sampler sampler = {0};
    fb_status st = o->cache ? fbi_cache_stage(group, ds, o->cache, o->cache_bytes) : FB_OK;
    st = st ? st : fbi_sampler_open(&sampler, group, ds, o);
    fb_loader *l = st ? NULL : loader_new(ds, o, group, &sampler, stage);
    if (!l) {
        fbi_sampler_close(&sampler);
        if (stage)
            stage->free(stage);
    }
    if (!l && !st)
        st = fbi_fail(ds->ctx, FB_E_NOMEM, "loader: no memory for batches of %lld samples of %s",
                      (long long)o->global_batch, ds->path);
    if (group)
        st = fbi_group_agree(group, "loader", st);
    if (!st) {
        l->group = group;
        return l;
    }
    fb_loader_close(l);
    return NULL;
}

fb_loader *fbi_loader_open_staged(fb_group *group, fb_dataset *ds, const fb_loader_options *opts,
                                  fbi_stage *stage)
{
    fb_context *ctx = group ? fbi_group_context(group) : ds->ctx;
    fb_loader_options o = opts ? *opts : (fb_loader_options){0};
    fb_status st = fbi_enter(ctx) ? check_options(ctx, ds, &o) : fb_status_of(ctx);
    st = st || !group ? st : fbi_group_lead(group);
    bool leads = group && !st;
    if (group)
        st = agree(group, ds, &o, stage, st);
    if (st && stage)
        stage->free(stage);
    fb_loader *l = st ? NULL : open_agreed(group, ds, &o, stage);
    if (!l && leads)
        fbi_group_unlead(group);
    return l;
}

fb_loader *fb_loader_open(fb_group *group, fb_dataset *ds, const fb_loader_options *opts)
{
    fb_context *ctx = group ? fbi_group_context(group) : ds ? ds->ctx : NULL;
    if (!ctx)
        return NULL;
    FBI_ENTRY(ctx);
    bool transforms = opts && opts->transforms.n > 0 && ds && !ds->written && fbi_enter(ctx);
    fbi_stage *stage =
        transforms ? fbi_stage_of_transforms(ds, opts->transforms, opts->limit) : NULL;
    return fbi_loader_open_staged(group, ds, opts, stage);
}

/* A position means the same samples as in the run that made the checkpoint. */
static bool same_order(fb_loader *l)
{
    for (int i = 0; i < FBI_SAMPLER_FACTS; i++) {
        char values[96] = "is another one";
        if (l->kept[i] == l->facts[i])
            continue;
        if (!fbi_sampler_fact_hashed[i])
            snprintf(values, sizeof values, "is %lld, and was %lld", (long long)l->facts[i],
                     (long long)l->kept[i]);
        fbi_fail(l->ctx, FB_E_STATE,
                 "loader: %s %s when the checkpoint was made: its position means other samples; "
                 "open the loader with the options of that run",
                 fbi_sampler_fact_names[i], values);
        return false;
    }
    return true;
}

static bool begin(fb_loader *l, int64_t position)
{
    fbi_upload_drop(l);
    fbi_prefetch_stop(l);
    if (l->ds->ring && fbi_ring_begin(l))
        return false;
    fbi_prefetch_begin(l, l->epoch, position);
    return true;
}

bool fb_loader_epoch(fb_loader *l, int64_t n_epochs)
{
    if (!l || !fb_ok(l->ctx) || l->epoch >= n_epochs || fbi_group_stopping(l->group))
        return false;
    FBI_ENTRY(l->ctx);
    if (l->ctx->hooks.poll && l->ctx->hooks.poll(l->ctx->hooks.self))
        return false;
    if (!same_order(l))
        return false;
    if (l->epoch < 0 || l->epoch > INT64_MAX / l->plan.size - 1) {
        fbi_fail(l->ctx, FB_E_STATE, "loader: there is no epoch %lld: is the checkpoint damaged?",
                 (long long)l->epoch);
        return false;
    }
    if (l->ds->ring && !(l->inside && l->driving))
        l->position = 0; /* the samples of an epoch that was broken off are gone */
    if (l->position < 0 || l->position > l->plan.size) {
        fbi_fail(l->ctx, FB_E_STATE,
                 "loader: position %lld lies outside of the %lld samples of dataset %s: was the "
                 "checkpoint made with another dataset or limit?",
                 (long long)l->position, (long long)l->plan.size, l->ds->path);
        return false;
    }
    if (l->inside && l->driving)
        return true;
    l->inside = l->driving = begin(l, l->position);
    return l->inside;
}

void fb_loader_rewind(fb_loader *l)
{
    if (!l || !fb_ok(l->ctx))
        return;
    l->driving = false;
    l->inside = begin(l, 0);
}

static void end_of_epoch(fb_loader *l)
{
    l->inside = false;
    if (!l->driving)
        return;
    l->epoch++;
    l->position = 0;
    l->driving = false;
    fb_context_batch(l->ctx, NULL);
}

/* F32 from what is stored. Done here and not by a thread: these are the bytes that the model
 * touches next, and the thread's core would have to hand over four times as many. */
static fb_tensor *converted(fb_loader *l, const fb_dataset_field *field, fb_shape shape,
                            const void *stored)
{
    fb_tensor *t = fb_empty(l->ctx, FB_F32, shape);
    if (t)
        fbi_dataset_convert(field, stored, fb_numel(t) / fb_shape_numel(field->shape),
                            fb_data_mut(t));
    return t;
}

/* Shape of field f in a micro-batch. */
static fb_shape batch_shape(const fb_loader *l, const fbi_slot *slot, int f)
{
    const fb_dataset_field *field = &l->fields[f].form;
    fb_shape sample = fbi_dataset_deliver_shape(field), shape = {.n = 1, .d = {slot->n}};
    if (field->varies)
        shape.d[shape.n++] = slot->rows[f];
    memcpy(shape.d + shape.n, sample.d, (size_t)sample.n * sizeof sample.d[0]);
    shape.n += sample.n;
    return shape;
}

/* A slot's field as a tensor of its own: the user may hold it beyond the next batch. */
static fb_tensor *tensor_of(fb_loader *l, const fbi_slot *slot, int f)
{
    const fb_dataset_field *field = &l->fields[f].form;
    fb_shape shape = batch_shape(l, slot, f);
    if (on_device(l))
        return fbi_upload_tensor(l, f, shape);
    if (field->scale != 0)
        return converted(l, field, shape, slot->fields[f]);
    return fb_from(l->ctx, field->dtype, shape, slot->fields[f]);
}

static void count_rows(fb_loader *l, const fbi_slot *slot, int f)
{
    for (int64_t i = 0; slot->lengths[f] && i < slot->unit.n; i++) {
        l->had[f] += (double)slot->lengths[f][i];
        l->delivered[f] += (double)slot->rows[f];
    }
}

double fb_loader_padding(const fb_loader *l, const char *name)
{
    int f = field_of(l, name);
    return f < 0 || l->delivered[f] == 0 ? 0 : 1 - l->had[f] / l->delivered[f];
}

/* The tensors of the next micro-batch. NULL: the epoch is through, or an error is set. */
static const fbi_slot *next_slot(fb_loader *l)
{
    const char *before = fbi_doing_begin(l->ctx, FBI_SPAN_LOADER, "loader");
    const fbi_slot *slot = on_device(l) ? fbi_upload_take(l) : fbi_prefetch_take(l, 0, true);
    for (int f = 0; slot && f < l->n_fields; f++) {
        FB_SCOPE(l->ctx);
        fb_set(&l->tensors[f], tensor_of(l, slot, f));
        if (slot->lengths[f])
            fb_set(&l->lengths[f], fb_from(l->ctx, FB_I64, FB_SHAPE(slot->n), slot->lengths[f]));
        count_rows(l, slot, f);
    }
    fbi_doing_end(l->ctx, before);
    return slot;
}

bool fb_loader_next(fb_loader *l, fb_batch *batch)
{
    *batch = (fb_batch){0};
    if (!l || !fb_ok(l->ctx))
        return false;
    FBI_ENTRY(l->ctx);
    if (!l->inside) {
        fbi_fail(l->ctx, FB_E_STATE,
                 "loader: fb_loader_next outside of an epoch: call fb_loader_epoch or "
                 "fb_loader_rewind first");
        return false;
    }
    const fbi_slot *slot = next_slot(l);
    if (!slot) {
        if (l->status)
            fbi_fail(l->ctx, l->status, "%s", l->text);
        else if (fb_ok(l->ctx))
            end_of_epoch(l);
        return false;
    }
    const fbi_unit *unit = &slot->unit;
    l->n_indices = unit->n;
    memcpy(l->indices, slot->indices, (size_t)unit->n * sizeof *l->indices);
    batch->input = fb_loader_field(l, "input");
    batch->target = fb_loader_field(l, "target");
    batch->n = unit->n;
    batch->at = (fb_batch_info){.epoch = l->epoch,
                                .step = l->step,
                                .shard = unit->leaf,
                                .batch = unit->position / l->plan.batch,
                                .first = unit->first,
                                .last = unit->last,
                                .share = (double)unit->n / (double)unit->step_n};
    if (l->driving) {
        fb_context_batch(l->ctx, &batch->at);
        if (unit->last) {
            l->position = unit->position + unit->step_n;
            l->step++;
        }
    }
    if (on_device(l))
        fbi_upload_next(l);
    else
        fbi_prefetch_give_back(l);
    return fb_ok(l->ctx);
}

fb_tensor *fb_loader_field(fb_loader *l, const char *name)
{
    int f = field_of(l, name);
    return f < 0 ? NULL : l->tensors[f];
}

fb_tensor *fb_loader_lengths(fb_loader *l, const char *name)
{
    int f = field_of(l, name);
    return f < 0 ? NULL : l->lengths[f];
}

int64_t fb_loader_steps(const fb_loader *l)
{
    return l ? fbi_plan_steps(&l->plan) : 0;
}

int64_t fb_loader_position(const fb_loader *l)
{
    return l ? l->position : 0;
}
int64_t fb_loader_epoch_number(const fb_loader *l)
{
    return l ? l->epoch : 0;
}

const int64_t *fb_loader_indices(const fb_loader *l, int64_t *n)
{
    *n = l ? l->n_indices : 0;
    return l ? l->indices : NULL;
}
