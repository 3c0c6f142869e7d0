/* What each collective does with a chunk, between one barrier and the next.
 *
 * Reductions are two-shot: every rank owns a part; the others put their pieces of it into their
 * buffers, the owner reduces, everyone reads the result. Small ones are one-shot: all is put, and
 * everyone reduces all. */
#include <string.h>

#include "comm/reduce_priv.h"
#include "comm/shm_priv.h"

enum { ONE_SHOT = 4096, LINE = 64 }; /* bytes that a rank brings, at most */

static void nothing(fb_work *w, int64_t chunk)
{
    (void)w;
    (void)chunk;
}

/* A chunk of rank r's part: elements [*at, *at + n). */
static int64_t chunk_of(const fb_work *w, int r, int64_t chunk, int64_t *at)
{
    int64_t begin, end;
    fbi_work_part(w, r, &begin, &end);
    *at = begin + chunk * w->chunk;
    if (*at > end)
        *at = end;
    return end - *at < w->chunk ? end - *at : w->chunk;
}

/* Where rank `from` puts piece i of what rank `to` owns: slots of the other ranks, in order. */
static char *slot(const fb_work *w, int from, int to, int i, int64_t chunk)
{
    int other = to < from ? to : to - 1;
    int64_t k = (int64_t)other * w->task.layout->most + i;
    return fbi_shm_buffer(w, from, chunk) + (size_t)(k * w->chunk) * w->size;
}

/* Where an owner puts its result: behind the slots. */
static char *result(const fb_work *w, int owner, int64_t chunk)
{
    int64_t k = (int64_t)(w->group->size - 1) * w->task.layout->most;
    return fbi_shm_buffer(w, owner, chunk) + (size_t)(k * w->chunk) * w->size;
}

static void put_pieces(fb_work *w, int64_t chunk)
{
    int me = w->group->rank;
    for (int k = 1; k < w->group->size; k++) {
        int64_t at;
        int r = (me + k) % w->group->size; /* not everyone at the same owner at once */
        int64_t n = chunk_of(w, r, chunk, &at);
        for (int i = 0; i < w->task.n_src; i++)
            if (w->task.src[i] && n)
                fbi_shm_put(w, slot(w, me, r, i, chunk), fbi_work_src(w, i, at),
                            (size_t)n * w->size);
    }
}

static void find_operands(fb_work *w, int64_t chunk, int64_t at)
{
    const fbi_layout *l = w->task.layout;
    int me = w->group->rank;
    for (int r = 0; r < l->ranks; r++)
        for (int k = l->first[r]; k < l->first[r + 1]; k++) {
            int i = k - l->first[r];
            if (r != me)
                w->operands[k] = slot(w, r, me, i, chunk);
            else
                w->operands[k] = w->task.src[i] ? fbi_work_src(w, i, at) : NULL;
        }
}

static void reduce_to(fb_work *w, int64_t chunk, int64_t at, char *out, int64_t n)
{
    find_operands(w, chunk, at);
    fbi_reduce(w->task.op, w->task.dtype, w->task.out_dtype, w->program, w->program_n, w->operands,
               out, n);
}

static void reduce_and_share(fb_work *w, int64_t chunk)
{
    int64_t at, n = chunk_of(w, w->group->rank, chunk, &at);
    if (!n)
        return;
    reduce_to(w, chunk, at, fbi_work_dst(w, at), n);
    fbi_shm_put(w, result(w, w->group->rank, chunk), fbi_work_dst(w, at), (size_t)n * w->out_size);
}

static void reduce_own(fb_work *w, int64_t chunk)
{
    int64_t begin, end, at, n = chunk_of(w, w->group->rank, chunk, &at);
    fbi_work_part(w, w->group->rank, &begin, &end);
    if (n)
        reduce_to(w, chunk, at, fbi_work_dst(w, at - begin), n);
}

static void read_results(fb_work *w, int64_t chunk)
{
    int me = w->group->rank;
    for (int k = 1; k < w->group->size; k++) {
        int64_t at;
        int r = (me + k) % w->group->size;
        int64_t n = chunk_of(w, r, chunk, &at);
        if (n)
            memcpy(fbi_work_dst(w, at), result(w, r, chunk), (size_t)n * w->out_size);
    }
}

/* --- one-shot --- */

static void put_all(fb_work *w, int64_t chunk)
{
    char *to = fbi_shm_buffer(w, w->group->rank, chunk);
    for (int i = 0; i < w->task.n_src; i++)
        if (w->task.src[i] && w->task.count)
            fbi_shm_put(w, to + (size_t)(i * w->chunk) * w->size, w->task.src[i],
                        (size_t)w->task.count * w->size);
}

static void reduce_all(fb_work *w, int64_t chunk)
{
    const fbi_layout *l = w->task.layout;
    for (int r = 0; r < l->ranks; r++)
        for (int k = l->first[r]; k < l->first[r + 1]; k++)
            w->operands[k] =
                fbi_shm_buffer(w, r, chunk) + (size_t)((k - l->first[r]) * w->chunk) * w->size;
    fbi_reduce(w->task.op, w->task.dtype, w->task.out_dtype, w->program, w->program_n, w->operands,
               w->task.dst, w->task.count);
}

/* --- without sums --- */

/* Elements of a chunk, at `at`, of what rank r brings. */
static int64_t brought(const fb_work *w, int r, int64_t at)
{
    int64_t n = w->task.count, total = w->task.total;
    if (total && (r + 1) * n > total)
        n = total - r * n;
    return n - at < w->chunk ? n - at : w->chunk;
}

static void put_own(fb_work *w, int64_t chunk)
{
    int64_t at = chunk * w->chunk, n = brought(w, w->group->rank, at);
    if (n > 0)
        fbi_shm_put(w, fbi_shm_buffer(w, w->group->rank, chunk), fbi_work_src(w, 0, at),
                    (size_t)n * w->size);
}

static void read_gathered(fb_work *w, int64_t chunk)
{
    int64_t at = chunk * w->chunk;
    for (int r = 0; r < w->group->size; r++) {
        int64_t n = brought(w, r, at);
        if (n <= 0)
            continue;
        const char *from =
            r == w->group->rank ? fbi_work_src(w, 0, at) : fbi_shm_buffer(w, r, chunk);
        char *to = fbi_work_dst(w, r * w->task.count + at);
        if (to != from)
            memcpy(to, from, (size_t)n * w->size);
    }
}

static void put_root(fb_work *w, int64_t chunk)
{
    if (w->group->rank == w->task.root)
        put_own(w, chunk);
}

static void read_root(fb_work *w, int64_t chunk)
{
    int64_t at = chunk * w->chunk, n = brought(w, w->task.root, at);
    if (n > 0 && w->group->rank != w->task.root)
        memcpy(fbi_work_dst(w, at), fbi_shm_buffer(w, w->task.root, chunk), (size_t)n * w->size);
}

static void read_exchanged(fb_work *w, int64_t chunk)
{
    int me = w->group->rank;
    for (int r = 0; r < w->group->size; r++) {
        int64_t at, from_at, n = chunk_of(w, r, chunk, &at);
        chunk_of(w, me, chunk, &from_at);
        const char *from = r == me ? fbi_work_src(w, 0, from_at) : slot(w, r, me, 0, chunk);
        if (n)
            memcpy(fbi_work_dst(w, at), from, (size_t)n * w->size);
    }
}

/* --- plans --- */

typedef void (*stage_fn)(fb_work *, int64_t);

static void set_stages(fb_work *w, stage_fn a, stage_fn b, stage_fn c)
{
    w->stage[0] = a;
    w->stage[1] = b;
    w->stage[2] = c;
    w->n_stages = c ? 3 : 2;
}

static int64_t divide_up(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

/* Chunks of a part of which `slots` must fit into a buffer; whole cache lines of any dtype. */
static void set_chunks(fb_work *w, int64_t slots)
{
    int64_t room = (int64_t)w->group->shm->room;
    w->chunk = room / slots / LINE * LINE / (int64_t)w->size;
    w->n_chunks = divide_up(w->part, w->chunk);
    if (w->n_chunks < 1)
        w->n_chunks = 1;
}

static void plan_reduction(fb_work *w)
{
    const fbi_task *t = &w->task;
    int64_t size = w->group->size, most = t->layout->most;
    bool scatter = t->kind == FBI_KIND_REDUCE_SCATTER;
    if (!scatter && t->count * most * (int64_t)w->size <= ONE_SHOT) {
        set_stages(w, put_all, reduce_all, NULL);
        w->n_chunks = 1;
        w->chunk = t->count;
        return;
    }
    w->part =
        scatter ? divide_up(t->count, size) : divide_up(divide_up(t->count, size), LINE) * LINE;
    set_stages(w, put_pieces, scatter ? reduce_own : reduce_and_share,
               scatter ? NULL : read_results);
    set_chunks(w, (size - 1) * most + !scatter);
}

void fbi_shm_plan(fb_work *w)
{
    if (w->linked) { /* only signatures */
        set_stages(w, nothing, nothing, NULL);
        w->n_chunks = 1;
        return;
    }
    w->part = w->task.count;
    switch (w->task.kind) {
    case FBI_KIND_ALL_REDUCE:
    case FBI_KIND_GRADIENTS:
    case FBI_KIND_REDUCE_SCATTER:
        plan_reduction(w);
        return;
    case FBI_KIND_ALL_GATHER:
    case FBI_KIND_BYTES:
        set_stages(w, put_own, read_gathered, NULL);
        set_chunks(w, 1);
        return;
    case FBI_KIND_BROADCAST:
        set_stages(w, put_root, read_root, NULL);
        set_chunks(w, 1);
        return;
    case FBI_KIND_ALL_TO_ALL:
        w->part = w->task.count / w->group->size;
        set_stages(w, put_pieces, read_exchanged, NULL);
        set_chunks(w, w->group->size - 1);
        return;
    case FBI_KIND_BARRIER:
    case FBI_KIND_CLOSE:
    case FBI_KIND_NONE:
    case FBI_KIND_SEND:
    case FBI_KIND_RECV:
    case FBI_KIND_COUNT:
        set_stages(w, nothing, nothing, NULL);
        w->n_chunks = 1;
        return;
    }
}
