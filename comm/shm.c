#include "comm/shm_priv.h"

#include <stdlib.h>
#include <string.h>

/* A buffer of each rank and parity: small enough for two of them to stay in the second-level cache.
 */
enum { ROOM = 512 * 1024, ROOM_LEAST = 32 * 1024, ROOM_ALL = 8 * 1024 * 1024 };

static size_t room_of(int size)
{
    size_t room = (size_t)ROOM_ALL / (size_t)size;
    room = room > ROOM ? ROOM : room;
    room = room < ROOM_LEAST ? ROOM_LEAST : room;
    if (room < (size_t)size * FBI_MAX_PIECES * 64) /* a cache line for each piece of each rank */
        room = (size_t)size * FBI_MAX_PIECES * 64 + 4095;
    return room / 4096 * 4096;
}

/* --- plain or streaming stores --- */

/* Where cores share a cache a plain store to a line that another has read is cheap, and what is
 * written is read from there. Where they do not it waits until the line has been taken back (AMD
 * EPYC, two L3 caches: 25 to 55 ns), and going past the caches is better by far, although the other
 * then reads from memory. Virtual machines do not tell which it is, so each rank measures its own
 * stores. */
enum { PROBE = 4096, PROBES = 8, LINES = PROBE / 64 };
static const double dear_s = 8e-9;

static char *probe_of(const fbi_shm *shm, int rank)
{
    return shm->channel[0].data + (size_t)rank * 2 * shm->room;
}

/* Seconds that a store to a line takes, in the quickest of a few runs. */
static double time_stores(char *to, const char *from)
{
    double least = 1;
    for (int i = 0; i < PROBES; i++) {
        double began = fbi_now();
        memcpy(to + i * PROBE, from, PROBE);
        __asm__ volatile("" ::: "memory");
        double took = (fbi_now() - began) / LINES;
        least = took < least ? took : least;
    }
    return least;
}

static unsigned read_all(const fbi_shm *shm, int size)
{
    unsigned sum = 0;
    for (int r = 0; r < size; r++)
        for (int i = 0; i < PROBES * PROBE; i += 64)
            sum += *(volatile const unsigned char *)(probe_of(shm, r) + i);
    return sum;
}

/* Collective over the exchange; shm NULL: take part only. False: a rank is gone. */
static bool choose_stores(const fbi_exchange *exchange, fbi_shm *shm, int rank, int size)
{
    char from[PROBE] = "", *marks = malloc((size_t)exchange->size);
    if (!marks)
        return false;
    if (shm)
        memset(probe_of(shm, rank), 1, (size_t)PROBES * PROBE);
    bool ok = exchange->gather(exchange->self, from, 1, marks);
    if (shm && ok)
        from[0] = (char)read_all(shm, size);
    ok = ok && exchange->gather(exchange->self, from, 1, marks);
    if (shm && ok)
        shm->streams = time_stores(probe_of(shm, rank), from) > dear_s;
    free(marks);
    return ok;
}

/* --- opening --- */

/* Channel k: entries of all ranks, then buffers of all ranks. A rank reserves its own share of the
 * whole, so that pages are spread over the memories of a node. */
fbi_shm *fbi_shm_open(const fbi_exchange *exchange, int leader, int rank, int size)
{
    size_t room = room_of(size);
    size_t entries = ((size_t)size * sizeof(fbi_shm_rank) + 4095) / 4096 * 4096;
    size_t one = entries + (size_t)size * 2 * room, bytes = FBI_CHANNELS * one;
    size_t share = bytes / (size_t)size / 4096 * 4096;
    size_t at = (size_t)rank * share, part = rank == size - 1 ? bytes - at : share;
    fbi_shm *shm = calloc(1, sizeof *shm);
    fbi_segment segment = {NULL, 0};
    bool ok = fbi_segment_open(exchange, shm ? leader : -1, bytes, at, part, &segment);
    ok = ok && shm;
    for (int k = 0; ok && k < FBI_CHANNELS; k++) {
        char *base = (char *)segment.base + (size_t)k * one;
        shm->channel[k].rank = (fbi_shm_rank *)(void *)base;
        shm->channel[k].data = base + entries;
    }
    if (ok) {
        shm->segment = segment;
        shm->room = room;
    }
    if (choose_stores(exchange, ok ? shm : NULL, rank, size) && ok)
        return shm;
    fbi_segment_close(&segment);
    free(shm);
    return NULL;
}

void fbi_shm_close(fbi_shm *shm)
{
    if (!shm)
        return;
    fbi_segment_close(&shm->segment);
    free(shm);
}

static fbi_channel *channel_of(const fb_work *w)
{
    return &w->group->shm->channel[w->channel];
}

char *fbi_shm_buffer(const fb_work *w, int rank, int64_t chunk)
{
    size_t room = w->group->shm->room;
    size_t which = (size_t)rank * 2 + ((w->parity + (unsigned)chunk) & 1);
    return channel_of(w)->data + which * room;
}

static const fbi_signature *signature_of(fb_work *w, int rank)
{
    return &channel_of(w)->rank[rank].sig[w->sig_at];
}

/* Whether a rank has ended its step `step - 1`. */
static bool arrived(const fb_work *w, int rank, int64_t step)
{
    unsigned at = atomic_load_explicit(&channel_of(w)->rank[rank].arrived, memory_order_acquire);
    return (int)(at - (w->arrivals + (unsigned)step)) >= 0;
}

static void arrive(fb_work *w)
{
    atomic_uint *word = &channel_of(w)->rank[w->group->rank].arrived;
    atomic_store(word, w->arrivals + (unsigned)w->step);
    fbi_wake(w->group->world, word);
}

static void take_step(fb_work *w)
{
    for (int k = 0; k < w->n_stages; k++) {
        int64_t chunk = w->step - k;
        if (chunk >= 0 && chunk < w->n_chunks)
            w->stage[k](w, chunk);
    }
    w->step++;
}

void fbi_shm_begin(fb_work *w)
{
    w->channel = (int)(w->sig.seq % FBI_CHANNELS);
    fbi_channel *c = channel_of(w);
    fbi_shm_plan(w);
    w->steps = w->n_chunks + w->n_stages - 1;
    w->arrivals = c->arrivals;
    w->parity = c->chunks & 1;
    w->sig_at = c->works & 1;
    c->arrivals += (unsigned)(w->steps - 1);
    c->chunks += (unsigned)w->n_chunks;
    c->works++;
    c->rank[w->group->rank].sig[w->sig_at] = w->sig;
    take_step(w);
    arrive(w);
    fbi_shm_advance(w);
}

void fbi_shm_advance(fb_work *w)
{
    while (w->step < w->steps) {
        for (; w->looked < w->group->size; w->looked++)
            if (!arrived(w, w->looked, w->step))
                return;
        w->looked = 0;
        if (!w->checked) {
            w->checked = true;
            if (fbi_signatures_compare(w, signature_of)) {
                w->failed = w->done = true;
                return;
            }
            if (fbi_is_reduction((int)w->task.kind))
                fbi_work_program(w, signature_of);
        }
        take_step(w);
        if (w->step < w->steps)
            arrive(w);
    }
    w->done = true;
}

int fbi_shm_missing(const fb_work *w, int from)
{
    for (int r = from; !w->done && r < w->group->size; r++)
        if (!arrived(w, r, w->step))
            return r;
    return -1;
}

atomic_uint *fbi_shm_word(const fb_work *w, int rank, unsigned *value)
{
    atomic_uint *word = &channel_of(w)->rank[rank].arrived;
    *value = atomic_load(word);
    return arrived(w, rank, w->step) ? NULL : word;
}
