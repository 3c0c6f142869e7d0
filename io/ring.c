#include "io/ring_priv.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/group_priv.h"
#include "io/loader_priv.h"

/* A sample: its fields, one behind the other. `pins`: in the window, in the epoch. */
typedef struct place {
    struct place *next; /* of those that are free */
    int pins;
    char data[];
} place;

/* The window holds the samples that the next epoch has, the epoch those of the current one: they
 * stay where they are, whatever is pushed. */
struct fbi_ring {
    pthread_mutex_t lock;
    int64_t capacity;
    bool once;
    size_t bytes; /* of a sample */
    place *free_places;

    place **window; /* [capacity]: a ring, oldest first */
    int64_t head, n, pushed;

    place **epoch;                /* [capacity], oldest first */
    int64_t epoch_n, epoch_first; /* first: its number since the first push */
    const struct fb_loader *reader;
    int64_t *have, *parts; /* of the reader's plan */
};

/* --- places --- */

static place *take_place(fbi_ring *r)
{
    place *p = r->free_places;
    if (p)
        r->free_places = p->next;
    else
        p = malloc(sizeof *p + r->bytes);
    if (p)
        p->pins = 1;
    return p;
}

static void unpin(fbi_ring *r, place *p)
{
    if (--p->pins)
        return;
    p->next = r->free_places;
    r->free_places = p;
}

/* The oldest sample of the window. */
static place *pop(fbi_ring *r)
{
    place *p = r->window[r->head];
    r->head = (r->head + 1) % r->capacity;
    r->n--;
    return p;
}

static void end_epoch(fbi_ring *r)
{
    for (int64_t i = 0; i < r->epoch_n; i++)
        unpin(r, r->epoch[i]);
    r->epoch_n = 0;
}

/* --- opening --- */

void fbi_ring_free(fbi_ring *r)
{
    if (!r)
        return;
    end_epoch(r);
    while (r->n)
        unpin(r, pop(r));
    while (r->free_places) {
        place *p = r->free_places;
        r->free_places = p->next;
        free(p);
    }
    pthread_mutex_destroy(&r->lock);
    free(r->window);
    free(r->epoch);
    free(r->have);
    free(r->parts);
    free(r);
}

static fbi_ring *ring_new(const fb_dataset *ds, int64_t capacity, bool once)
{
    fbi_ring *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    pthread_mutex_init(&r->lock, NULL);
    r->capacity = capacity;
    r->once = once;
    for (int f = 0; f < ds->n_fields; f++)
        r->bytes += ds->bytes[f];
    r->window = calloc((size_t)capacity, sizeof *r->window);
    r->epoch = calloc((size_t)capacity, sizeof *r->epoch);
    if (r->window && r->epoch)
        return r;
    fbi_ring_free(r);
    return NULL;
}

fb_dataset *fb_dataset_ring(fb_context *ctx, int64_t capacity, const fb_dataset_field *fields,
                            int n_fields, const fb_ring_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    if (capacity < 1) {
        fbi_fail(ctx, FB_E_ARG, "dataset (ring): room for %lld samples: at least one is needed",
                 (long long)capacity);
        return NULL;
    }
    fb_dataset *ds = fbi_dataset_new(ctx, "(ring)", fields, n_fields);
    if (!ds)
        return NULL;
    for (int f = 0; f < n_fields; f++)
        if (fields[f].varies) {
            fbi_fail(ctx, FB_E_UNSUPPORTED,
                     "dataset (ring): field %s varies: samples of a ring have a fixed shape",
                     ds->names[f]);
            goto close_dataset;
        }
    ds->size = ds->total = capacity;
    ds->ring = ring_new(ds, capacity, opts && opts->once);
    if (ds->ring)
        return ds;
    fbi_fail(ctx, FB_E_NOMEM, "dataset (ring): no memory for %lld samples", (long long)capacity);
close_dataset:
    fb_dataset_close(ds);
    return NULL;
}

/* --- pushing, from any thread --- */

static fb_status refuse(fb_dataset *ds, fb_status status, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (ds->ctx->owner == (unsigned long)pthread_self())
        return fbi_fail(ds->ctx, status, "%s", text);
    fbi_context_poison(ds->ctx, status, text);
    return status;
}

static bool push_one(const fb_dataset *ds, const void *const *values, int64_t i)
{
    fbi_ring *r = ds->ring;
    if (r->n == r->capacity)
        unpin(r, pop(r));
    place *p = take_place(r);
    if (!p)
        return false;
    char *to = p->data;
    for (int f = 0; f < ds->n_fields; f++)
        to = mempcpy(to, (const char *)values[f] + (size_t)i * ds->bytes[f], ds->bytes[f]);
    r->window[(r->head + r->n) % r->capacity] = p;
    r->n++;
    r->pushed++;
    return true;
}

fb_status fb_dataset_push(fb_dataset *ds, int64_t n, const void *const *values)
{
    if (!ds)
        return FB_E_ARG;
    if (!ds->ring)
        return refuse(ds, FB_E_STATE,
                      "dataset %s: samples are pushed to rings only: see fb_dataset_ring",
                      ds->path);
    bool there = n >= 0 && (!n || values);
    for (int f = 0; there && n && f < ds->n_fields; f++)
        there = values[f] != NULL;
    if (!there)
        return refuse(ds, FB_E_ARG, "dataset (ring): %lld samples, some of whose values are NULL",
                      (long long)n);
    fbi_ring *r = ds->ring;
    pthread_mutex_lock(&r->lock);
    bool full = r->once && n > r->capacity - r->n, good = true;
    int64_t first = n > r->capacity ? n - r->capacity : 0; /* what would go at once is not put in */
    if (!full)
        r->pushed += first;
    for (int64_t i = first; !full && good && i < n; i++)
        good = push_one(ds, values, i);
    pthread_mutex_unlock(&r->lock);
    if (!good)
        return refuse(ds, FB_E_NOMEM, "dataset (ring): no memory for %lld samples of %zu bytes",
                      (long long)n, r->bytes);
    return full ? FB_AGAIN : FB_OK;
}

int64_t fbi_ring_size(fbi_ring *r)
{
    pthread_mutex_lock(&r->lock);
    int64_t n = r->n;
    pthread_mutex_unlock(&r->lock);
    return n;
}

/* --- the loader's side --- */

fb_status fbi_ring_check(const fb_dataset *ds, const fb_loader_options *o)
{
    const struct {
        bool there;
        const char *name;
    } options[] = {{o->limit, "limit"},
                   {o->epoch_samples, "epoch_samples"},
                   {o->weights, "weights"},
                   {o->weigh_by, "weigh_by"},
                   {o->shuffle_block || o->shuffle_bytes, "shuffle_block"},
                   {o->bucket_window, "bucket_window"}};
    for (size_t i = 0; ds->ring && i < sizeof options / sizeof *options; i++)
        if (options[i].there)
            return fbi_fail(ds->ctx, FB_E_ARG,
                            "loader: dataset (ring) gives what has been pushed when an epoch "
                            "begins: leave %s out",
                            options[i].name);
    if (ds->ring && ds->ring->reader)
        return fbi_fail(ds->ctx, FB_E_STATE,
                        "loader: dataset (ring) has a loader already: close that one first");
    return FB_OK;
}

/* The window becomes the epoch. @return samples */
static int64_t begin_here(fbi_ring *r)
{
    pthread_mutex_lock(&r->lock);
    end_epoch(r);
    r->epoch_first = r->pushed - r->n;
    r->epoch_n = r->n;
    for (int64_t i = 0; i < r->epoch_n; i++) {
        r->epoch[i] = r->window[(r->head + i) % r->capacity];
        r->epoch[i]->pins += !r->once;
    }
    if (r->once)
        r->n = r->head = 0;
    int64_t n = r->epoch_n;
    pthread_mutex_unlock(&r->lock);
    return n;
}

/* Samples of a full step that each rank has. */
static bool make_parts(fbi_ring *r, const fb_loader *l)
{
    int size = fb_group_size(l->group), shards = fb_group_shards(l->group);
    if (r->parts)
        return true;
    r->parts = malloc((size_t)size * sizeof *r->parts);
    r->have = malloc((size_t)size * sizeof *r->have);
    for (int i = 0; r->parts && i < size; i++) {
        int64_t first = l->group ? fbi_first_leaf(shards, size, i) : 0;
        int64_t end = l->group ? fbi_first_leaf(shards, size, i + 1) : shards;
        r->parts[i] = end * l->plan.batch / shards - first * l->plan.batch / shards;
    }
    return r->parts && r->have;
}

fb_status fbi_ring_begin(fb_loader *l)
{
    fbi_ring *r = l->ds->ring;
    fb_status st = FB_OK;
    if (!make_parts(r, l))
        st =
            fbi_fail(l->ctx, FB_E_NOMEM, "loader: no memory for %d ranks", fb_group_size(l->group));
    int64_t mine = begin_here(r), total = 0;
    if (l->group) {
        st = fbi_group_agree(l->group, "loader", st);
        st = st ? st : fbi_group_gather(l->group, "loader", &mine, sizeof mine, r->have);
    } else if (!st) {
        r->have[0] = mine;
    }
    for (int i = 0; !st && i < fb_group_size(l->group); i++)
        total += r->have[i];
    if (!st && !total)
        st = fbi_fail(l->ctx, FB_E_STATE,
                      "loader: dataset (ring) has no samples: push some before an epoch begins");
    if (st)
        return st;
    l->plan.have = r->have;
    l->plan.parts = r->parts;
    l->plan.ranks = fb_group_size(l->group);
    l->plan.rank = fb_group_rank(l->group);
    l->plan.size = total;
    l->sampler.n = mine;
    l->sampler.walk = fbi_walk_make((fbi_walk){
        .n = mine ? mine : 1, .shuffle = l->sampler.walk.shuffle, .seed = l->sampler.seed});
    l->first_index = r->epoch_first;
    return FB_OK;
}

void fbi_ring_join(fb_loader *l)
{
    if (l->ds->ring)
        l->ds->ring->reader = l;
}

void fbi_ring_leave(fb_loader *l)
{
    fbi_ring *r = l->ds->ring;
    if (!r || r->reader != l)
        return;
    pthread_mutex_lock(&r->lock);
    end_epoch(r);
    pthread_mutex_unlock(&r->lock);
    r->reader = NULL;
    free(r->parts);
    free(r->have);
    r->parts = r->have = NULL;
}

void fbi_ring_fetch(const fb_dataset *ds, int64_t index, void *const *out)
{
    const fbi_ring *r = ds->ring;
    const char *from = index < 0 ? NULL : r->epoch[index - r->epoch_first]->data;
    for (int f = 0; f < ds->n_fields; f++) {
        if (from)
            memcpy(out[f], from, ds->bytes[f]);
        else
            memset(out[f], 0, ds->bytes[f]);
        from = from ? from + ds->bytes[f] : NULL;
    }
}
