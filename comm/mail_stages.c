/* What each collective does after the signatures agree, from one set of transfers to the next. */
#include <string.h>

#include "comm/mail_priv.h"
#include "comm/reduce_priv.h"

enum { ROUND = 16 * 1024 * 1024 }; /* bytes of pieces that come in at once */

int64_t fbi_mail_payload(const fb_work *w)
{
    const fbi_task *t = &w->task;
    int64_t each = t->count * (int64_t)w->size;
    if (w->linked)
        return 0;
    switch (t->kind) {
    case FBI_KIND_ALL_REDUCE:
    case FBI_KIND_GRADIENTS:
        each *= t->layout->most;
        break;
    case FBI_KIND_BROADCAST:
    case FBI_KIND_ALL_GATHER:
    case FBI_KIND_BYTES:
    case FBI_KIND_SEND:
    case FBI_KIND_RECV:
        break;
    case FBI_KIND_REDUCE_SCATTER:
    case FBI_KIND_ALL_TO_ALL:
        return -1;
    case FBI_KIND_BARRIER:
    case FBI_KIND_CLOSE:
    case FBI_KIND_NONE:
    case FBI_KIND_COUNT:
        return 0;
    }
    return each <= FBI_EAGER ? each : -1;
}

static const char *payload_of(fb_work *w, int r)
{
    return r == w->group->rank ? w->mail->mine.payload : w->mail->theirs[r].payload;
}

/* --- sums --- */

static void reduce_eager(fb_work *w)
{
    const fbi_layout *l = w->task.layout;
    size_t each = (size_t)w->task.count * w->size;
    for (int r = 0; r < l->ranks; r++)
        for (int k = l->first[r]; k < l->first[r + 1]; k++)
            w->operands[k] = payload_of(w, r) + (size_t)(k - l->first[r]) * each;
    fbi_reduce(w->task.op, w->task.dtype, w->task.out_dtype, w->program, w->program_n, w->operands,
               w->task.dst, w->task.count);
}

/* Elements of rank r's part that belong to this round. */
static int64_t round_of(const fb_work *w, int r, int64_t *at)
{
    int64_t begin, end;
    fbi_work_part(w, r, &begin, &end);
    *at = begin + w->step * w->chunk;
    if (*at > end)
        *at = end;
    return end - *at < w->chunk ? end - *at : w->chunk;
}

/* Where piece i of rank r comes in. */
static char *incoming(const fb_work *w, int r, int i)
{
    int other = r < w->group->rank ? r : r - 1;
    int64_t k = (int64_t)other * w->task.layout->most + i;
    return w->mail->room + (size_t)(k * w->chunk) * w->size;
}

static void scatter_pieces(fb_work *w)
{
    fb_group *g = w->group;
    const fbi_layout *l = w->task.layout;
    int64_t own_at, own = round_of(w, g->rank, &own_at), at;
    for (int r = 0; r < g->size; r++)
        for (int i = 0; r != g->rank && i < l->first[r + 1] - l->first[r]; i++)
            if (w->present[r] >> i & 1)
                fbi_mail_receive(w, r, 1, incoming(w, r, i), (size_t)own * w->size);
    for (int k = 1; k < g->size; k++) {
        int r = (g->rank + k) % g->size;
        int64_t n = round_of(w, r, &at);
        for (int i = 0; i < w->task.n_src; i++)
            if (w->task.src[i])
                fbi_mail_send(w, r, 1, fbi_work_src(w, i, at), (size_t)n * w->size);
    }
}

static void reduce_round(fb_work *w)
{
    fb_group *g = w->group;
    const fbi_layout *l = w->task.layout;
    int64_t at, begin, end, n = round_of(w, g->rank, &at);
    fbi_work_part(w, g->rank, &begin, &end);
    for (int r = 0; r < l->ranks; r++)
        for (int k = l->first[r]; k < l->first[r + 1]; k++) {
            int i = k - l->first[r];
            if (r != g->rank)
                w->operands[k] = incoming(w, r, i);
            else
                w->operands[k] = w->task.src[i] ? fbi_work_src(w, i, at) : NULL;
        }
    int64_t to = w->task.kind == FBI_KIND_REDUCE_SCATTER ? at - begin : at;
    fbi_reduce(w->task.op, w->task.dtype, w->task.out_dtype, w->program, w->program_n, w->operands,
               fbi_work_dst(w, to), n);
}

static void gather_results(fb_work *w)
{
    fb_group *g = w->group;
    int64_t at, own_at, own = round_of(w, g->rank, &own_at);
    for (int r = 0; r < g->size; r++) {
        int64_t n = round_of(w, r, &at);
        if (r != g->rank)
            fbi_mail_receive(w, r, 1, fbi_work_dst(w, at), (size_t)n * w->out_size);
    }
    for (int k = 1; k < g->size; k++)
        fbi_mail_send(w, (g->rank + k) % g->size, 1, fbi_work_dst(w, own_at),
                      (size_t)own * w->out_size);
}

static bool plan_rounds(fb_work *w)
{
    int64_t size = w->group->size, slots = (size - 1) * w->task.layout->most;
    w->part = (w->task.count + size - 1) / size;
    w->chunk = ROUND / (slots * (int64_t)w->size);
    w->chunk = w->chunk < 64 ? 64 : w->chunk;
    w->chunk = w->chunk > w->part ? w->part : w->chunk;
    w->step = 0;
    return w->part > 0 && fbi_mail_reserve(w, (size_t)(slots * w->chunk) * w->size);
}

/* Phases: 0 begin, 1 pieces have come, 2 results have come. */
static bool reduce_stage(fb_work *w)
{
    if (w->phase == 0) {
        if (w->mail->eager) {
            reduce_eager(w);
            return true;
        }
        if (fbi_staged_fits(w))
            w->phase = 3;
        else if (!plan_rounds(w))
            return true;
    }
    if (w->phase == 3)
        return fbi_staged_advance(w);
    if (w->phase == 1) {
        reduce_round(w);
        w->phase = 2;
        if (w->task.kind != FBI_KIND_REDUCE_SCATTER) {
            gather_results(w);
            return false;
        }
    }
    if (w->phase == 2 && ++w->step * w->chunk >= w->part)
        return true;
    w->phase = 1;
    scatter_pieces(w);
    return false;
}

/* --- without sums --- */

static bool gather_stage(fb_work *w)
{
    fb_group *g = w->group;
    size_t bytes = (size_t)w->task.count * w->size;
    if (w->phase++)
        return true;
    char *own = fbi_work_dst(w, g->rank * w->task.count);
    if (own != w->task.src[0] && bytes)
        memcpy(own, w->task.src[0], bytes);
    for (int r = 0; r < g->size; r++) {
        char *to = fbi_work_dst(w, r * w->task.count);
        if (r == g->rank || !bytes)
            continue;
        if (w->mail->eager)
            memcpy(to, payload_of(w, r), bytes);
        else
            fbi_mail_receive(w, r, 1, to, bytes);
    }
    for (int k = 1; k < g->size && !w->mail->eager; k++)
        fbi_mail_send(w, (g->rank + k) % g->size, 1, w->task.src[0], bytes);
    return w->mail->n == 0;
}

/* A binomial tree over ranks counted from the root. */
static bool broadcast_stage(fb_work *w)
{
    fb_group *g = w->group;
    size_t bytes = (size_t)w->task.count * w->size;
    int me = (g->rank - w->task.root + g->size) % g->size, high = 1;
    while (high <= me)
        high *= 2; /* the smallest power of two above me */
    if (w->mail->eager) {
        if (me && bytes)
            memcpy(w->task.dst, payload_of(w, w->task.root), bytes);
        return true;
    }
    if (w->phase == 0) {
        w->phase = 1;
        if (me) {
            fbi_mail_receive(w, (me - high / 2 + w->task.root) % g->size, 1, w->task.dst, bytes);
            return false;
        }
    }
    if (w->phase++ == 1)
        for (int step = high; me + step < g->size; step *= 2)
            fbi_mail_send(w, (me + step + w->task.root) % g->size, 1, w->task.dst, bytes);
    return w->mail->n == 0;
}

static bool exchange_stage(fb_work *w)
{
    fb_group *g = w->group;
    int64_t part = w->task.count / g->size;
    size_t bytes = (size_t)part * w->size;
    if (w->phase++ || !bytes)
        return true;
    memcpy(fbi_work_dst(w, g->rank * part), fbi_work_src(w, 0, g->rank * part), bytes);
    for (int r = 0; r < g->size; r++)
        if (r != g->rank)
            fbi_mail_receive(w, r, 1, fbi_work_dst(w, r * part), bytes);
    for (int k = 1; k < g->size; k++) {
        int r = (g->rank + k) % g->size;
        fbi_mail_send(w, r, 1, fbi_work_src(w, 0, r * part), bytes);
    }
    return false;
}

static bool receive_stage(fb_work *w)
{
    size_t bytes = (size_t)w->task.count * w->size;
    if (w->phase++ || !bytes)
        return true;
    if (w->mail->eager) {
        memcpy(w->task.dst, payload_of(w, w->task.root), bytes);
        return true;
    }
    fbi_mail_receive(w, w->task.root, 3, w->task.dst, bytes);
    return false;
}

bool fbi_mail_stage(fb_work *w)
{
    if (w->linked)
        return true;
    switch (w->task.kind) {
    case FBI_KIND_ALL_REDUCE:
    case FBI_KIND_GRADIENTS:
    case FBI_KIND_REDUCE_SCATTER:
        return reduce_stage(w);
    case FBI_KIND_ALL_GATHER:
    case FBI_KIND_BYTES:
        return gather_stage(w);
    case FBI_KIND_BROADCAST:
        return broadcast_stage(w);
    case FBI_KIND_ALL_TO_ALL:
        return exchange_stage(w);
    case FBI_KIND_RECV:
        return receive_stage(w);
    case FBI_KIND_SEND:
    case FBI_KIND_BARRIER:
    case FBI_KIND_CLOSE:
    case FBI_KIND_NONE:
    case FBI_KIND_COUNT:
        return true;
    }
    return true;
}
