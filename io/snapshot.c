#include "io/snapshot_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xxhash.h>

#include "core/tensor/access_priv.h"
#include "core/tensor/device_priv.h"
#include "io/save_priv.h"

enum {
    BUCKET = 4 << 20,   /* bytes of a copy that is made at once */
    LATER = 64 << 10,   /* smaller tensors are copied at once */
    ROOM_ALIGN = 64,    /* of tensors in the room */
    HUGE_PAGE = 2 << 20 /* fewer page faults when the room is first used */
};

/* While it is filled. */
typedef struct taking {
    fbi_snapshot *s;
    bool copies;
    fbi_share share;
    int64_t next; /* item */
    size_t used;  /* of the room */
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

void fbi_snapshot_copy(fbi_snapshot *s)
{
    pthread_mutex_lock(&s->lock);
    for (int64_t i = 0; i < s->n_buckets; i++)
        if (s->buckets[i].state == FBI_BUCKET_WAITS)
            copy_bucket(s, &s->buckets[i]);
    for (int64_t i = 0; i < s->n_buckets; i++)
        while (s->buckets[i].state != FBI_BUCKET_DONE)
            pthread_cond_wait(&s->copied, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static bool add_bucket(fbi_snapshot *s, fbi_storage *storage, const char *from, char *to,
                       size_t bytes)
{
    if (s->n_buckets == s->cap_buckets) {
        int64_t cap = s->cap_buckets ? 2 * s->cap_buckets : 64;
        fbi_bucket *v = realloc(s->buckets, (size_t)cap * sizeof *v);
        if (!v)
            return false;
        s->buckets = v;
        s->cap_buckets = cap;
    }
    s->buckets[s->n_buckets++] = (fbi_bucket){storage, from, to, bytes, FBI_BUCKET_WAITS};
    storage->refs++;
    storage->flags |= FBI_S_GUARDED;
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
        if (!add_bucket(k->s, storage, from + at, to + at, left < BUCKET ? left : BUCKET))
            return no_memory(k, item->key);
    }
    return FB_OK;
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
    if (e->t && is_later(k, e, item->bytes))
        k->used += room_of(item->to - item->from);
    return FB_OK;
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
    s->ctx->guard.self = s;
    s->ctx->guard.changing = changing;
    k.next = 0;
    k.used = 0;
    return end_taking(&k, fbi_state_each(state, take_entry, &k));
}

void fbi_snapshot_drop(fbi_snapshot *s)
{
    for (int64_t i = 0; i < s->n_buckets; i++) {
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
