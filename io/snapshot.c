#include "io/snapshot_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xxhash.h>

#include "core/tensor/access_priv.h"
#include "core/tensor/device_priv.h"
#include "io/save_priv.h"

enum {
    BUCKET = 4 << 20,     /* bytes of a copy that is made at once */
    LATER = 64 << 10,     /* smaller tensors are copied at once */
    ROOM_ALIGN = 64,      /* of tensors in the room */
    ARRIVED = 0x0a44d7ed, /* written by the device behind a copy */
    HUGE_PAGE = 2 << 20   /* fewer page faults when the room is first used */
};

/* While it is filled. */
typedef struct taking {
    fbi_snapshot *s;
    bool copies;
    fbi_share share;
    int64_t next; /* item */
    size_t used;  /* of the room */
    size_t sent;  /* of the pinned room */
    int64_t arrivals;
    bool device; /* there is a pinned room */
    char *text;
    size_t size;
} taking;

/* --- the guard --- */

static void copy_bucket(fbi_snapshot *s, fbi_bucket *b)
{
    b->state = FBI_BUCKET_TAKEN;
    pthread_mutex_unlock(&s->lock);
    memcpy(b->to, b->from, b->bytes);
    pthread_mutex_lock(&s->lock);
    b->state = FBI_BUCKET_DONE;
    pthread_cond_broadcast(&s->copied);
}

/* Of the context's thread: all copies from a storage, which is about to change. */
static void changing(void *self, fbi_storage *storage)
{
    fbi_snapshot *s = self;
    pthread_mutex_lock(&s->lock);
    for (int64_t i = 0; i < s->n_buckets; i++)
        if (s->buckets[i].storage == storage && s->buckets[i].state == FBI_BUCKET_WAITS)
            copy_bucket(s, &s->buckets[i]);
    for (int64_t i = 0; i < s->n_buckets; i++)
        while (s->buckets[i].storage == storage && s->buckets[i].state != FBI_BUCKET_DONE)
            pthread_cond_wait(&s->copied, &s->lock);
    pthread_mutex_unlock(&s->lock);
    storage->flags &= (uint8_t)~FBI_S_GUARDED;
}

static bool has_arrived(const fbi_bucket *b)
{
    return atomic_load_explicit(b->arrived, memory_order_acquire) == ARRIVED;
}

/* The device writes into our memory, and nobody tells. */
static void await(const fbi_snapshot *s, const fbi_bucket *b)
{
    const struct timespec moment = {.tv_nsec = 200 * 1000};
    while (!has_arrived(b) && !atomic_load(&s->lost))
        nanosleep(&moment, NULL);
}

bool fbi_snapshot_copy(fbi_snapshot *s)
{
    pthread_mutex_lock(&s->lock);
    for (int64_t i = 0; i < s->n_buckets; i++)
        if (s->buckets[i].storage && s->buckets[i].state == FBI_BUCKET_WAITS)
            copy_bucket(s, &s->buckets[i]);
    for (int64_t i = 0; i < s->n_buckets; i++)
        while (s->buckets[i].storage && s->buckets[i].state != FBI_BUCKET_DONE)
            pthread_cond_wait(&s->copied, &s->lock);
    pthread_mutex_unlock(&s->lock);
    for (int64_t i = 0; i < s->n_buckets; i++)
        if (s->buckets[i].arrived)
            await(s, &s->buckets[i]);
    return !atomic_load(&s->lost);
}

void fbi_snapshot_settle(fbi_snapshot *s)
{
    bool settled = true;
    for (int64_t i = 0; settled && i < s->n_buckets; i++)
        settled = !s->buckets[i].arrived || has_arrived(&s->buckets[i]);
    if (!settled && s->ctx->backend->sync(s->ctx))
        atomic_store(&s->lost, true);
}

static bool add_bucket(fbi_snapshot *s, fbi_bucket bucket)
{
    if (s->n_buckets == s->cap_buckets) {
        int64_t cap = s->cap_buckets ? 2 * s->cap_buckets : 64;
        fbi_bucket *v = realloc(s->buckets, (size_t)cap * sizeof *v);
        if (!v)
            return false;
        s->buckets = v;
        s->cap_buckets = cap;
    }
    s->buckets[s->n_buckets++] = bucket;
    if (!bucket.storage)
        return true;
    bucket.storage->refs++;
    bucket.storage->flags |= FBI_S_GUARDED;
    return true;
}

/* --- items --- */

static fb_status no_memory(taking *k, const char *key)
{
    snprintf(k->text, k->size, "no memory for a copy of %s", key);
    return FB_E_NOMEM;
}

static fbi_item *add_item(taking *k, const fbi_state_entry *e)
{
    fbi_snapshot *s = k->s;
    if (s->n == s->cap) {
        int64_t cap = s->cap ? 2 * s->cap : 64;
        fbi_item *v = realloc(s->items, (size_t)cap * sizeof *v);
        if (!v)
            return NULL;
        s->items = v;
        s->cap = cap;
    }
    char *key = strdup(e->key);
    if (!key)
        return NULL;
    s->items[s->n] = (fbi_item){.key = key};
    return &s->items[s->n++];
}

static bool host_can_read(const fb_tensor *t)
{
    bool host = t->ctx->backend->host_memory || (t->storage->flags & FBI_S_HOST);
    return host && fbi_contiguous(t);
}

/* Its memory is ours, and who changes it tells the guard first. */
static bool guarded(const fbi_state_entry *e)
{
    return e->steady && !e->t->storage->release && host_can_read(e->t);
}

static size_t room_of(size_t bytes)
{
    return (bytes + ROOM_ALIGN - 1) / ROOM_ALIGN * ROOM_ALIGN;
}

static fb_status copy_later(taking *k, fbi_item *item, fbi_storage *storage, const char *from)
{
    char *to = k->s->room + k->used;
    size_t bytes = item->to - item->from;
    item->data = to;
    k->used += room_of(bytes);
    from += item->from;
    for (size_t at = 0; at < bytes; at += BUCKET) {
        size_t left = bytes - at;
        fbi_bucket bucket = {.storage = storage,
                             .from = from + at,
                             .to = to + at,
                             .bytes = left < BUCKET ? left : BUCKET};
        if (!add_bucket(k->s, bucket))
            return no_memory(k, item->key);
    }
    return FB_OK;
}

/* --- copies from a device: in the order of the compute queue, so before any later change --- */

static bool on_device(const fb_tensor *t)
{
    return !t->ctx->backend->host_memory && !(t->storage->flags & FBI_S_HOST) && fbi_contiguous(t);
}

/* Copies that tell of their arrival: numbers of buckets, behind the values. */
static atomic_int *arrival(const fbi_snapshot *s, int64_t number)
{
    return (atomic_int *)(void *)(s->pinned + s->pinned_bytes) - 1 - number;
}

static fb_status send_bucket(taking *k, char *to, const char *from, size_t bytes)
{
    fbi_snapshot *s = k->s;
    fb_context *ctx = s->ctx;
    atomic_int *arrived = arrival(s, k->arrivals++);
    atomic_store(arrived, 0);
    fb_status st = ctx->backend->copy_on(ctx, FBI_QUEUE_COMPUTE, to, from, bytes);
    if (!st)
        st = ctx->backend->copy_on(ctx, FBI_QUEUE_COMPUTE, arrived, s->one->data, sizeof *arrived);
    if (!st && !add_bucket(s, (fbi_bucket){.arrived = arrived}))
        st = no_memory(k, "a bucket");
    return st;
}

static fb_status copy_from_device(taking *k, fbi_item *item, const char *from)
{
    char *to = k->s->pinned + k->sent;
    size_t bytes = item->to - item->from;
    fb_status st = FB_OK;
    item->data = to;
    k->sent += room_of(bytes);
    from += item->from;
    for (size_t at = 0; !st && at < bytes; at += BUCKET)
        st = send_bucket(k, to + at, from + at, bytes - at < BUCKET ? bytes - at : BUCKET);
    return st;
}

/* --- first what there is --- */

static bool is_later(const taking *k, const fbi_state_entry *e, size_t bytes)
{
    return k->copies && bytes >= LATER && guarded(e);
}

static fb_status list_entry(const fbi_state_entry *e, void *user)
{
    taking *k = user;
    fbi_item *item = add_item(k, e);
    if (!item)
        return no_memory(k, e->key);
    if (e->t) {
        item->dtype = fb_dtype_of(e->t);
        item->kind = fb_dtype_name(item->dtype);
        item->shape = fb_shape_of(e->t);
        item->bytes = (size_t)fb_numel(e->t) * fb_dtype_size(item->dtype);
    } else if (e->custom) {
        item->kind = FBI_CHECKPOINT_BYTES;
        item->dtype = FB_U8;
        item->shape = FB_SHAPE(0);
    } else {
        item->real = !e->i;
        item->bytes = sizeof item->value;
    }
    return FB_OK;
}

/* What of each item is wanted here. */
static void choose(const taking *k)
{
    fbi_snapshot *s = k->s;
    int64_t at = 0, total = fbi_share_total(s);
    for (int64_t i = 0; i < s->n; i++) {
        fbi_file_piece piece;
        fbi_item *item = &s->items[i];
        bool here = fbi_share_piece(s, i, k->share, total, &at, &piece);
        item->from = k->share.number && here ? fbi_share_begin(item, &piece) : 0;
        item->to = !k->share.number ? item->bytes : here ? item->from + (size_t)piece.bytes : 0;
    }
}

/* --- then its values --- */

static fb_status take_tensor(taking *k, fbi_item *item, const fbi_state_entry *e)
{
    if (item->from == item->to && k->share.number)
        return FB_OK;
    if (!k->copies && host_can_read(e->t)) {
        item->data = (const char *)fbi_ptr(e->t) + item->from;
        return FB_OK;
    }
    if (k->device && on_device(e->t))
        return copy_from_device(k, item, fbi_ptr(e->t));
    if (is_later(k, e, item->bytes))
        return copy_later(k, item, e->t->storage, fbi_ptr(e->t));
    char *own = malloc(item->bytes + 1);
    item->own = own;
    item->data = own + item->from;
    return own ? fb_read(e->t, own, item->bytes) : no_memory(k, e->key);
}

static fb_status take_custom(taking *k, fbi_item *item, const fbi_state_entry *e)
{
    if (k->share.number)
        return FB_OK;
    item->data = item->own = fbi_custom_bytes(e->custom, &item->bytes);
    if (!item->own) {
        snprintf(k->text, k->size, "the program's callback for %s failed, or there is no memory",
                 e->key);
        return FB_E_USER;
    }
    item->to = item->bytes;
    item->shape = FB_SHAPE((int64_t)item->bytes);
    return FB_OK;
}

static fb_status take_entry(const fbi_state_entry *e, void *user)
{
    taking *k = user;
    fbi_item *item = &k->s->items[k->next++];
    if (e->t)
        return take_tensor(k, item, e);
    if (e->custom)
        return take_custom(k, item, e);
    memcpy(&item->value, e->i ? (const void *)e->i : (const void *)e->f, sizeof item->value);
    item->data = (const char *)&item->value;
    return FB_OK;
}

static bool end_taking(taking *k, fb_status st)
{
    if (st)
        fbi_snapshot_drop(k->s);
    return !st;
}

bool fbi_snapshot_take(fbi_snapshot *s, fb_state *state, fbi_share share, char *text, size_t size)
{
    taking k = {.s = s, .share = share, .text = text, .size = size};
    if (s->ctx->backend->sync(s->ctx))
        return false;
    fb_status st = fbi_state_each(state, list_entry, &k);
    choose(&k);
    return end_taking(&k, st ? st : fbi_state_each(state, take_entry, &k));
}

static fb_status add_room(const fbi_state_entry *e, void *user)
{
    taking *k = user;
    const fbi_item *item = &k->s->items[k->next++];
    if (!e->t)
        return FB_OK;
    size_t bytes = item->to - item->from;
    if (on_device(e->t)) {
        k->sent += room_of(bytes);
        k->arrivals += (int64_t)((bytes + BUCKET - 1) / BUCKET);
    } else if (is_later(k, e, item->bytes)) {
        k->used += room_of(bytes);
    }
    return FB_OK;
}

static void free_pinned(fbi_snapshot *s)
{
    if (s->pinned)
        s->ctx->backend->host_free(s->ctx, s->pinned);
    s->pinned = NULL;
    s->pinned_bytes = 0;
}

/* Memory that the device writes to. Without it values are read one by one, at once. */
static bool make_pinned(fbi_snapshot *s, size_t bytes, int64_t arrivals)
{
    const int one = ARRIVED;
    fb_context *ctx = s->ctx;
    if (!s->one && (s->one = fbi_storage_new(ctx, sizeof one)))
        ctx->backend->copy_in(ctx, s->one->data, &one, sizeof one);
    bytes = room_of(bytes + (size_t)arrivals * sizeof(atomic_int));
    if (bytes > s->pinned_bytes && fb_ok(ctx)) {
        free_pinned(s);
        s->pinned = ctx->backend->host_alloc(ctx, bytes);
        s->pinned_bytes = s->pinned ? bytes : 0;
    }
    return fb_ok(ctx) || fb_error_take(ctx, NULL, 0) == FB_OK;
}

static bool make_room(fbi_snapshot *s, size_t bytes)
{
    if (bytes <= s->room_bytes)
        return true;
    if (s->room)
        munmap(s->room, s->room_bytes);
    s->room = NULL;
    s->room_bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *room =
        mmap(NULL, s->room_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) {
        s->room_bytes = 0;
        return false;
    }
    madvise(room, s->room_bytes, MADV_HUGEPAGE);
    s->room = room;
    return true;
}

bool fbi_snapshot_take_copies(fbi_snapshot *s, fb_state *state, fbi_share share, char *text,
                              size_t size)
{
    taking k = {.s = s, .copies = true, .share = share, .text = text, .size = size};
    fb_status st = fbi_state_each(state, list_entry, &k);
    choose(&k);
    st = st ? st : fbi_state_each(state, add_room, &k);
    if (!st && !make_room(s, k.used))
        st = no_memory(&k, "the state");
    if (st)
        return end_taking(&k, st);
    k.device = k.sent && make_pinned(s, k.sent, k.arrivals);
    atomic_store(&s->lost, false);
    s->ctx->guard.self = s;
    s->ctx->guard.changing = changing;
    k.next = k.arrivals = 0;
    k.used = k.sent = 0;
    return end_taking(&k, fbi_state_each(state, take_entry, &k));
}

void fbi_snapshot_drop(fbi_snapshot *s)
{
    fbi_snapshot_settle(s); /* the room is used again */
    for (int64_t i = 0; i < s->n_buckets; i++) {
        if (!s->buckets[i].storage)
            continue;
        s->buckets[i].storage->flags &= (uint8_t)~FBI_S_GUARDED;
        fbi_storage_unref(s->ctx, s->buckets[i].storage);
    }
    s->n_buckets = 0;
    for (int64_t i = 0; i < s->n; i++) {
        free(s->items[i].key);
        free(s->items[i].own);
    }
    s->n = 0;
}

bool fbi_snapshot_open(fbi_snapshot *s, fb_context *ctx)
{
    *s = (fbi_snapshot){.ctx = ctx};
    return !pthread_mutex_init(&s->lock, NULL) && !pthread_cond_init(&s->copied, NULL);
}

void fbi_snapshot_close(fbi_snapshot *s)
{
    fbi_snapshot_drop(s);
    if (s->ctx && s->ctx->guard.self == s)
        s->ctx->guard = (fbi_guard){0};
    if (s->room)
        munmap(s->room, s->room_bytes);
    free_pinned(s);
    if (s->one)
        fbi_storage_unref(s->ctx, s->one);
    free(s->items);
    free(s->buckets);
    pthread_cond_destroy(&s->copied);
    pthread_mutex_destroy(&s->lock);
}

void fbi_snapshot_digest(const fbi_snapshot *s, char hex[17])
{
    XXH3_state_t *hash = XXH3_createState();
    hex[0] = '\0';
    if (!hash)
        return;
    XXH3_64bits_reset(hash);
    for (int64_t i = 0; i < s->n; i++) {
        XXH3_64bits_update(hash, s->items[i].key, strlen(s->items[i].key));
        XXH3_64bits_update(hash, s->items[i].data, s->items[i].bytes);
    }
    snprintf(hex, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(hash));
    XXH3_freeState(hash);
}
