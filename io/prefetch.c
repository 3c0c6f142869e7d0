/* Threads that make micro-batches ahead of their reader. They take samples in the order of the
 * plan, some at once, from the newest slot that still has any; a slot is given away when all before
 * it were, so that the order is the plan's. */
#include <stdlib.h>
#include <string.h>

#include "core/tensor/device_priv.h"
#include "io/loader_priv.h"

/* Zeros behind what a sample of a field that varies has. */
static void pad(const fb_loader *l, fbi_slot *slot, int64_t i, void *const *out,
                const int64_t *rows)
{
    for (int f = 0; f < l->n_fields; f++) {
        const fbi_batch_field *field = &l->fields[f];
        if (!slot->lengths[f])
            continue;
        int64_t has = rows[f] < field->rows ? rows[f] : field->rows;
        size_t bytes = (size_t)has * field->bytes;
        if (!l->pad_to_batch)
            memset((char *)out[f] + bytes, 0, fbi_loader_sample_bytes(l, f) - bytes);
        slot->lengths[f][i] = has;
    }
}

/* A sample as it is stored becomes one of the micro-batch. */
static fb_status run_stage(const fbi_worker *w, const fbi_slot *slot, int64_t i, void *const *out,
                           int64_t *rows, char *text, size_t size)
{
    const fb_loader *l = w->loader;
    int64_t index = slot->indices[i], raw_rows[FB_MAX_FIELDS];
    for (int f = 0; f < l->ds->n_fields; f++)
        raw_rows[f] = l->ds->fields[f].varies ? l->ds->fields[f].longest : 1;
    fb_status st = fbi_dataset_fetch(l->ds, index, w->raw, raw_rows, text, size);
    const fbi_sample sample = {.seed = l->sampler.seed,
                               .epoch = l->sampler.epoch,
                               .index = index,
                               .draw = l->repeats ? slot->unit.begin + i : -1,
                               .in = (const void *const *)w->raw,
                               .in_rows = raw_rows,
                               .out = out,
                               .rows = rows,
                               .scratch = w->scratch};
    return st ? st : l->stage->sample(l->stage, &sample, text, size);
}

void fbi_loader_choose(fb_loader *l, fbi_slot *slot)
{
    int64_t n = slot->unit.n ? slot->unit.n : 1;
    fbi_sampler_ahead(&l->sampler, l->ds, slot->unit.position);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = slot->unit.begin + i;
        if (at >= l->sampler.n)
            at = l->sampler.n - 1; /* an empty leaf at the very end */
        slot->indices[i] = at < 0 ? -1 : l->first_index + fbi_sampler_at(&l->sampler, at);
    }
}

static fb_status make_sample(const fbi_worker *w, fbi_slot *slot, int64_t i, char *text,
                             size_t size)
{
    const fb_loader *l = w->loader;
    void *out[FB_MAX_FIELDS];
    int64_t rows[FB_MAX_FIELDS];
    for (int f = 0; f < l->n_fields; f++) {
        out[f] = (char *)slot->fields[f] + (size_t)i * fbi_loader_sample_bytes(l, f);
        rows[f] = l->fields[f].rows;
    }
    fb_status st = l->stage ? run_stage(w, slot, i, out, rows, text, size)
                            : fbi_dataset_fetch(l->ds, slot->indices[i], out, rows, text, size);
    if (!st)
        pad(l, slot, i, out, rows);
    return st;
}

/* As many rows as the longest sample has, instead of as many as there is room for: samples move
 * together, with zeros between. */
static void fit_rows(const fb_loader *l, fbi_slot *slot, int f)
{
    int64_t most = 1, room = l->fields[f].rows, multiple = l->pad_multiple;
    for (int64_t i = 0; i < slot->n; i++)
        most = slot->lengths[f][i] > most ? slot->lengths[f][i] : most;
    most = multiple < room ? (most + multiple - 1) / multiple * multiple : room;
    slot->rows[f] = most < room ? most : room;
    size_t bytes = (size_t)slot->rows[f] * l->fields[f].bytes;
    for (int64_t i = 0; i < slot->n; i++) {
        size_t has = (size_t)slot->lengths[f][i] * l->fields[f].bytes;
        char *data = slot->fields[f], *to = data + (size_t)i * bytes;
        memmove(to, data + (size_t)i * fbi_loader_sample_bytes(l, f), has);
        memset(to + has, 0, bytes - has);
    }
}

/* What is done when all samples are there. */
static bool has_end(const fb_loader *l)
{
    return l->pad_to_batch || (l->stage && l->stage->batch);
}

static fb_status make_end(const fbi_worker *w, fbi_slot *slot, char *text, size_t size)
{
    const fb_loader *l = w->loader;
    const fbi_made made = {.seed = l->sampler.seed,
                           .epoch = l->sampler.epoch,
                           .n = slot->n,
                           .indices = slot->indices,
                           .fields = slot->fields,
                           .scratch = w->scratch};
    fb_status st =
        l->stage && l->stage->batch ? l->stage->batch(l->stage, &made, text, size) : FB_OK;
    for (int f = 0; f < l->n_fields && !st && l->pad_to_batch; f++)
        if (slot->lengths[f])
            fit_rows(l, slot, f);
    return st;
}

/* --- what is to be done; all under the lock --- */

static fbi_slot *slot_at(const fb_loader *l, int behind)
{
    return &l->slots[(l->head + behind) % l->n_slots];
}

/* The next unit of the plan and its samples; lets go of the lock meanwhile. NULL: there is none. */
static fbi_slot *plan_slot(fb_loader *l)
{
    fbi_slot *slot = slot_at(l, l->planned);
    l->choosing = true;
    l->busy++;
    pthread_mutex_unlock(&l->lock);
    bool more = fbi_plan_next(&l->plan, &slot->unit);
    if (more)
        fbi_loader_choose(l, slot);
    pthread_mutex_lock(&l->lock);
    l->choosing = false;
    l->busy--;
    if (!more || !l->running) {
        l->running = false;
        pthread_cond_signal(&l->ready);
        return NULL;
    }
    slot->n = slot->left = slot->unit.n ? slot->unit.n : 1;
    for (int f = 0; f < l->n_fields; f++)
        slot->rows[f] = l->fields[f].rows;
    slot->next = 0;
    slot->done = false;
    slot->status = FB_OK;
    l->planned++;
    return slot;
}

/* The slot that has samples for a thread; NULL: there is nothing to do. */
static fbi_slot *find_work(fb_loader *l)
{
    fbi_slot *newest = l->planned ? slot_at(l, l->planned - 1) : NULL;
    if (newest && newest->next < newest->n)
        return newest;
    return l->running && !l->choosing && l->planned < l->n_slots ? plan_slot(l) : NULL;
}

/* Of samples that fail the first one counts: those before it were taken before it, and are made. */
static void note_failure(fb_loader *l, fbi_slot *slot, int64_t i, fb_status st, const char *text)
{
    l->running = false;
    slot->left -= slot->n - slot->next; /* nobody needs the rest */
    slot->next = slot->n;
    if (slot->status && slot->failed < i)
        return;
    slot->status = st;
    slot->failed = i;
    memcpy(slot->text, text, sizeof slot->text);
}

/* Make the samples from `i` to `end`, and what comes after the last of all. Lets go of the lock
 * meanwhile. */
static void make_some(fbi_worker *w, fbi_slot *slot, int64_t i, int64_t end)
{
    fb_loader *l = w->loader;
    char text[FBI_LOADER_TEXT] = "";
    fb_status st = FB_OK;
    int64_t n = end - i;
    pthread_mutex_unlock(&l->lock);
    for (; i < end && !st && !atomic_load_explicit(&l->drop, memory_order_relaxed); i++)
        st = make_sample(w, slot, i, text, sizeof text);
    pthread_mutex_lock(&l->lock);
    slot->left -= n;
    if (st)
        note_failure(l, slot, i - 1, st, text);
    if (slot->left)
        return;
    if (!slot->status && has_end(l) && !atomic_load(&l->drop)) {
        pthread_mutex_unlock(&l->lock);
        st = make_end(w, slot, text, sizeof text);
        pthread_mutex_lock(&l->lock);
        if (st)
            note_failure(l, slot, 0, st, text);
    }
    slot->done = true;
    pthread_cond_signal(&l->ready);
}

/* Take some samples of a slot and make them; others are woken for the rest. */
static void take_some(fbi_worker *w, fbi_slot *slot)
{
    fb_loader *l = w->loader;
    int64_t begin = slot->next, left = slot->n - begin;
    slot->next += left < l->chunk ? left : l->chunk;
    pthread_cond_signal(&l->work);
    l->busy++;
    make_some(w, slot, begin, slot->next);
    if (--l->busy == 0 && atomic_load(&l->drop))
        pthread_cond_signal(&l->ready);
}

/* Makes samples ahead until the plan is through, then sleeps until a new one begins. */
static void *work(void *arg)
{
    fbi_worker *w = arg;
    fb_loader *l = w->loader;
    pthread_mutex_lock(&l->lock);
    while (!l->quit) {
        fbi_slot *slot = find_work(l);
        if (slot)
            take_some(w, slot);
        else if (!l->quit) /* it may have come while find_work had let go of the lock */
            pthread_cond_wait(&l->work, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* --- opening and closing --- */

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

static bool open_slots(fb_loader *l)
{
    size_t largest = (size_t)fbi_plan_largest(&l->plan);
    l->slots = calloc((size_t)l->n_slots, sizeof *l->slots);
    for (int s = 0; l->slots && s < l->n_slots; s++) {
        l->slots[s].indices = malloc(largest * sizeof(int64_t));
        if (!l->slots[s].indices)
            return false;
        for (int f = 0; f < l->n_fields; f++) {
            bool varies = l->fields[f].form.varies;
            l->slots[s].fields[f] = slot_memory(l->ctx, largest * fbi_loader_sample_bytes(l, f));
            l->slots[s].lengths[f] = varies ? malloc(largest * sizeof(int64_t)) : NULL;
            if (!l->slots[s].fields[f] || (varies && !l->slots[s].lengths[f]))
                return false;
        }
    }
    return l->slots != NULL;
}

/* With a stage: room for a sample as it is stored, and for what the stage does with it. */
static bool open_worker(fb_loader *l, fbi_worker *w)
{
    w->loader = l;
    if (!l->stage)
        return true;
    w->scratch = malloc(l->stage->scratch_bytes + 1);
    bool good = w->scratch != NULL;
    for (int f = 0; f < l->ds->n_fields && good; f++) {
        const fb_dataset_field *field = &l->ds->fields[f];
        size_t rows = field->varies ? (size_t)field->longest : 1;
        w->raw[f] = malloc(rows * l->ds->bytes[f] + 1);
        good = w->raw[f] != NULL;
    }
    return good;
}

/* Small shares are even, but each costs a turn of the lock: at least 32 KiB of plain copies. */
static int64_t chunk_of(const fb_loader *l)
{
    enum { SHARES = 4, LEAST_BYTES = 32 << 10 };
    int64_t largest = fbi_plan_largest(&l->plan), shares = (int64_t)SHARES * (l->n_workers + 1);
    size_t bytes = 1;
    for (int f = 0; f < l->n_fields; f++)
        bytes += fbi_loader_sample_bytes(l, f);
    int64_t chunk = (largest + shares - 1) / shares, least = (int64_t)(LEAST_BYTES / bytes);
    return !l->stage && !fbi_dataset_waits(l->ds) && chunk < least ? least : chunk;
}

fb_status fbi_prefetch_open(fb_loader *l)
{
    l->chunk = chunk_of(l);
    l->workers = calloc((size_t)l->n_workers + 1, sizeof *l->workers);
    if (!l->workers || !open_slots(l) || !open_worker(l, &l->workers[l->n_workers]))
        return FB_E_NOMEM;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    l->locks = true;
    for (int i = 0; i < l->n_workers; i++, l->started++)
        if (!open_worker(l, &l->workers[i]) ||
            pthread_create(&l->workers[i].thread, NULL, work, &l->workers[i]))
            return FB_E_NOMEM;
    return FB_OK;
}

static void free_slots(fb_loader *l)
{
    for (int s = 0; l->slots && s < l->n_slots; s++) {
        free(l->slots[s].indices);
        for (int f = 0; f < FB_MAX_FIELDS; f++) {
            free_slot_memory(l->ctx, l->slots[s].fields[f]);
            free(l->slots[s].lengths[f]);
        }
    }
    free(l->slots);
}

void fbi_prefetch_close(fb_loader *l)
{
    if (l->locks) {
        pthread_mutex_lock(&l->lock);
        l->quit = true;
        atomic_store(&l->drop, true);
        pthread_cond_broadcast(&l->work);
        pthread_mutex_unlock(&l->lock);
    }
    for (int i = 0; i < l->started; i++)
        pthread_join(l->workers[i].thread, NULL);
    for (int i = 0; l->workers && i <= l->n_workers; i++) {
        free(l->workers[i].scratch);
        for (int f = 0; f < FB_MAX_FIELDS; f++)
            free(l->workers[i].raw[f]);
    }
    if (l->locks) {
        pthread_mutex_destroy(&l->lock);
        pthread_cond_destroy(&l->work);
        pthread_cond_destroy(&l->ready);
    }
    free(l->workers);
    free_slots(l);
}

/* --- for the context's thread --- */

void fbi_prefetch_stop(fb_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->running = false;
    l->planned = 0;
    atomic_store(&l->drop, true);
    while (l->busy)
        pthread_cond_wait(&l->ready, &l->lock);
    atomic_store(&l->drop, false);
    pthread_mutex_unlock(&l->lock);
}

void fbi_prefetch_begin(fb_loader *l, int64_t epoch, int64_t position)
{
    pthread_mutex_lock(&l->lock);
    l->plan.position = position;
    l->plan.leaf = l->plan.done = 0;
    fbi_sampler_begin(&l->sampler, epoch);
    l->running = l->status == FB_OK;
    pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->lock);
}

/* Whether the slot so many behind the oldest one will be complete, and is not. */
static bool is_pending(const fb_loader *l, int behind)
{
    return behind < l->planned ? !slot_at(l, behind)->done : l->running;
}

/* Who waits for a slot makes samples of it, too: a thread that has to share its core would be
 * longer. false: others have them all. */
static bool help(fb_loader *l, int behind)
{
    if (behind < l->planned && slot_at(l, behind)->next == slot_at(l, behind)->n)
        return false;
    fbi_slot *slot = find_work(l);
    if (slot)
        take_some(&l->workers[l->n_workers], slot);
    return slot != NULL;
}

fbi_slot *fbi_prefetch_take(fb_loader *l, int behind, bool wait)
{
    pthread_mutex_lock(&l->lock);
    while (wait && is_pending(l, behind))
        if (!help(l, behind) && is_pending(l, behind))
            pthread_cond_wait(&l->ready, &l->lock);
    fbi_slot *slot = behind < l->planned && slot_at(l, behind)->done ? slot_at(l, behind) : NULL;
    if (slot && slot->status && behind == 0) {
        l->status = slot->status;
        memcpy(l->text, slot->text, sizeof l->text);
    }
    pthread_mutex_unlock(&l->lock);
    return slot && !slot->status ? slot : NULL;
}

void fbi_prefetch_give_back(fb_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->head = (l->head + 1) % l->n_slots;
    l->planned--;
    pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->lock);
}
