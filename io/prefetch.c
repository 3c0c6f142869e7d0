#include <stdlib.h>
#include <string.h>

#include "core/tensor/device_priv.h"
#include "io/loader_priv.h"

/* Zeros behind what a sample of a field that varies has. */
static void pad(const fb_loader *l, fbi_slot *slot, int64_t i, void *const *out,
                const int64_t *rows)
{
    for (int f = 0; f < l->ds->n_fields; f++) {
        if (!slot->lengths[f])
            continue;
        int64_t has = rows[f] < l->rows[f] ? rows[f] : l->rows[f];
        size_t bytes = (size_t)has * l->ds->bytes[f];
        memset((char *)out[f] + bytes, 0, fbi_loader_sample_bytes(l, f) - bytes);
        slot->lengths[f][i] = has;
    }
}

void fbi_loader_choose(fb_loader *l, fbi_slot *slot)
{
    int64_t n = slot->unit.n ? slot->unit.n : 1;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = slot->unit.begin + i;
        if (at >= l->sampler.n)
            at = l->sampler.n - 1; /* an empty leaf at the very end */
        slot->indices[i] = fbi_sampler_at(&l->sampler, at);
    }
}

static fb_status fill(fb_loader *l, fbi_slot *slot, char *text, size_t size)
{
    int64_t n = slot->unit.n ? slot->unit.n : 1;
    for (int64_t i = 0; i < n; i++) {
        void *out[FB_MAX_FIELDS];
        int64_t rows[FB_MAX_FIELDS];
        for (int f = 0; f < l->ds->n_fields; f++) {
            out[f] = (char *)slot->fields[f] + (size_t)i * fbi_loader_sample_bytes(l, f);
            rows[f] = l->rows[f];
        }
        fb_status st = fbi_dataset_fetch(l->ds, slot->indices[i], out, rows, text, size);
        if (st)
            return st;
        pad(l, slot, i, out, rows);
    }
    return FB_OK;
}

/* Reads ahead until the plan is through, then sleeps until a new one begins. */
static void *work(void *arg)
{
    fb_loader *l = arg;
    char text[sizeof l->text];
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->quit && (!l->running || l->full == l->n_slots))
            pthread_cond_wait(&l->changed, &l->lock);
        if (l->quit)
            break;
        fbi_slot *slot = &l->slots[(l->head + l->full) % l->n_slots];
        uint64_t generation = l->generation;
        if (!fbi_plan_next(&l->plan, &slot->unit)) {
            l->running = false;
            l->ended = true;
            pthread_cond_broadcast(&l->changed);
            continue;
        }
        fbi_loader_choose(l, slot);
        pthread_mutex_unlock(&l->lock);
        fb_status st = fill(l, slot, text, sizeof text);
        pthread_mutex_lock(&l->lock);
        if (generation != l->generation)
            continue; /* rewound meanwhile */
        if (st) {
            l->status = st;
            memcpy(l->text, text, sizeof text);
            l->running = false;
        } else {
            l->full++;
        }
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Memory of a slot: where a device can read it, if there is one. */
static void *slot_memory(fb_context *ctx, size_t bytes)
{
    return ctx->backend->host_alloc ? ctx->backend->host_alloc(ctx, bytes) : malloc(bytes);
}

static void free_slot_memory(fb_context *ctx, void *data)
{
    if (ctx->backend->host_free)
        ctx->backend->host_free(ctx, data);
    else
        free(data);
}

fb_status fbi_prefetch_open(fb_loader *l)
{
    size_t largest = (size_t)fbi_plan_largest(&l->plan);
    l->slots = calloc((size_t)l->n_slots, sizeof *l->slots);
    if (!l->slots)
        return FB_E_NOMEM;
    for (int s = 0; s < l->n_slots; s++) {
        l->slots[s].indices = malloc(largest * sizeof(int64_t));
        if (!l->slots[s].indices)
            return FB_E_NOMEM;
        for (int f = 0; f < l->ds->n_fields; f++) {
            bool varies = l->ds->fields[f].varies;
            l->slots[s].fields[f] = slot_memory(l->ctx, largest * fbi_loader_sample_bytes(l, f));
            l->slots[s].lengths[f] = varies ? malloc(largest * sizeof(int64_t)) : NULL;
            if (!l->slots[s].fields[f] || (varies && !l->slots[s].lengths[f]))
                return FB_E_NOMEM;
        }
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (pthread_create(&l->thread, NULL, work, l))
        return FB_E_NOMEM;
    l->started = true;
    return FB_OK;
}

void fbi_prefetch_close(fb_loader *l)
{
    if (l->started) {
        pthread_mutex_lock(&l->lock);
        l->quit = true;
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
        pthread_mutex_destroy(&l->lock);
        pthread_cond_destroy(&l->changed);
    }
    for (int s = 0; l->slots && s < l->n_slots; s++) {
        free(l->slots[s].indices);
        for (int f = 0; f < FB_MAX_FIELDS; f++) {
            free_slot_memory(l->ctx, l->slots[s].fields[f]);
            free(l->slots[s].lengths[f]);
        }
    }
    free(l->slots);
}

void fbi_prefetch_begin(fb_loader *l, int64_t epoch, int64_t position)
{
    pthread_mutex_lock(&l->lock);
    l->generation++;
    l->plan.position = position;
    l->plan.leaf = l->plan.done = 0;
    fbi_sampler_begin(&l->sampler, epoch);
    l->full = 0;
    l->ended = false;
    l->running = l->status == FB_OK;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

fbi_slot *fbi_prefetch_take(fb_loader *l, int behind, bool wait)
{
    pthread_mutex_lock(&l->lock);
    while (wait && l->full <= behind && l->running)
        pthread_cond_wait(&l->changed, &l->lock);
    fbi_slot *slot = l->full > behind ? &l->slots[(l->head + behind) % l->n_slots] : NULL;
    pthread_mutex_unlock(&l->lock);
    return slot;
}

void fbi_prefetch_give_back(fb_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->head = (l->head + 1) % l->n_slots;
    l->full--;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}
