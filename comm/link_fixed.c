/* Sums of fixed order between devices, in stages (comm/link_stages.c). In each, every rank gets the
 * pieces of its part from the ranks of the stage and adds them along the tree; the last gives the
 * result, which goes back the way that the pieces came. Long ones go in rounds, so that the memory
 * for what comes in is at most world->link_room. */
#include "comm/link_priv.h"
#include "comm/reduce_priv.h"

enum { LINE = 64 }; /* elements: parts and rounds are multiples */

static int64_t divide_up(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

static bool scatters(const fb_work *w)
{
    return w->task.kind == FBI_KIND_REDUCE_SCATTER;
}

static const fbi_stages *stages_of(const fb_work *w)
{
    return w->group->stages[w->task.layout != w->group->flat];
}

/* --- what comes into stage s, and what it leaves --- */

static fb_dtype dtype_into(const fb_work *w, int s)
{
    return s ? fbi_reduce_between(w->task.dtype, w->task.out_dtype) : w->task.dtype;
}

static bool is_last(const fb_work *w, int s)
{
    return s == stages_of(w)->n - 1;
}

static fb_dtype dtype_from(const fb_work *w, int s)
{
    return is_last(w, s) ? w->task.out_dtype : dtype_into(w, s + 1);
}

/* Scratch for each element of a position: pieces of the others, the sum, temporaries of it. */
typedef struct room {
    int64_t pieces, sum, all;
} room;

static room room_of(const fb_work *w, int s)
{
    const fbi_stages *g = stages_of(w);
    int64_t width = fbi_stage_width(g, s), pieces = g->at[s].pieces;
    fb_dtype in = dtype_into(w, s);
    room b = {.pieces = width * (pieces - 1) * (int64_t)fb_dtype_size(in)};
    b.sum = is_last(w, s) ? 0 : width * (int64_t)fb_dtype_size(dtype_from(w, s));
    b.all = b.pieces + b.sum + width * (int64_t)fbi_link_sum_bytes(in, (int)pieces);
    return b;
}

static int64_t scratch_before(const fb_work *w, int s)
{
    int64_t sum = 0;
    for (int i = 0; i < s; i++)
        sum += room_of(w, i).all;
    return sum;
}

static char *scratch(const fb_work *w, int64_t bytes)
{
    return (char *)w->scratch->data + w->chunk * bytes;
}

static int calls_of_round(const fb_work *w)
{
    return stages_of(w)->n * (scatters(w) ? 2 : 3);
}

bool fbi_link_fixed_begin(fb_work *w)
{
    fb_world *world = w->group->world;
    int64_t size = w->group->size, each = scratch_before(w, stages_of(w)->n);
    w->part = divide_up(w->task.count, size);
    w->chunk = world->link_room / each / LINE * LINE;
    if (w->chunk < LINE)
        w->chunk = LINE;
    if (w->chunk > w->part)
        w->chunk = divide_up(w->part, LINE) * LINE;
    w->calls = (int)divide_up(w->part, w->chunk) * calls_of_round(w);
    w->scratch = fbi_storage_new(world->ctx, (size_t)(w->chunk * each));
    return w->scratch != NULL;
}

/* --- a call --- */

/* Of a round, where `each` elements (the last ones may be fewer) belong to a position. */
typedef struct call {
    const fbi_stages *stages;
    const fbi_stage *stage;
    int s, width, own;          /* own: the first position that the stage leaves to this rank */
    int64_t begin, count, each; /* begin: of an all_reduce; in each part of a reduce_scatter */
} call;

static call call_of(const fb_work *w)
{
    const fbi_stages *stages = stages_of(w);
    int per = calls_of_round(w), phase = w->call % per, n = stages->n;
    int64_t turn = w->call / per, size = w->group->size;
    call c = {.stages = stages, .s = phase < 2 * n ? phase / 2 : 3 * n - 1 - phase};
    c.stage = &stages->at[c.s];
    c.width = fbi_stage_width(stages, c.s);
    c.own = fbi_stage_first(stages, c.s, c.stage->digit);
    c.begin = turn * w->chunk * (scatters(w) ? 1 : size);
    int64_t left = (scatters(w) ? w->part : w->task.count) - c.begin;
    c.each = scatters(w) ? left : divide_up(divide_up(left, size), LINE) * LINE;
    c.each = c.each < w->chunk ? c.each : w->chunk;
    c.count = scatters(w) || c.each * size < left ? c.each * size : left;
    return c;
}

/* Elements of the round before a position. */
static int64_t before(const call *c, int position)
{
    int64_t n = position * c->each;
    return n < c->count ? n : c->count;
}

static int64_t elements(const call *c, int first, int positions)
{
    return before(c, first + positions) - before(c, first);
}

static int peer_of(const fb_work *w, const call *c, int e)
{
    return w->group->rank + (e - c->stage->digit) * c->stage->stride;
}

/* Positions that lie together in the sources. */
static int run_of(const fb_work *w, const call *c)
{
    return scatters(w) && c->s == 0 ? 1 : c->width;
}

/* Where piece i of this rank has what belongs to a position. */
static const char *own_piece(const fb_work *w, const call *c, int i, int position)
{
    if (c->s == 0 && scatters(w))
        return fbi_work_src(w, i, fbi_stages_owner(c->stages, position) * w->part + c->begin);
    if (c->s == 0)
        return fbi_work_src(w, i, c->begin + before(c, position));
    int64_t left = fbi_stage_first(c->stages, c->s - 1, c->stages->at[c->s - 1].digit);
    int64_t at = before(c, position) - before(c, (int)left);
    return scratch(w, scratch_before(w, c->s - 1) + room_of(w, c->s - 1).pieces) +
           (size_t)at * fb_dtype_size(dtype_into(w, c->s));
}

/* Where piece k of the stage's, of another rank, comes in. */
static char *incoming(const fb_work *w, const call *c, int k, int position)
{
    const int *first = c->stage->layout->first + c->stage->digit;
    int64_t slot = k < first[0] ? k : k - (first[1] - first[0]);
    int64_t at = slot * c->width * w->chunk + elements(c, c->own, position - c->own);
    return scratch(w, scratch_before(w, c->s)) + (size_t)at * fb_dtype_size(dtype_into(w, c->s));
}

static bool has_piece(const fb_work *w, const call *c, int i)
{
    return c->s ? c->stage->present[c->stage->digit] : w->task.src[i] != NULL;
}

static void list_pieces(fb_work *w, fbi_transfers *t)
{
    const call c = call_of(w);
    const fbi_layout *l = c.stage->layout;
    const int *first = l->first, run = run_of(w, &c), sources = c.s ? 1 : w->task.n_src;
    size_t size = fb_dtype_size(dtype_into(w, c.s));
    fbi_stage_program(c.stages, c.s, w->present, w->program);
    for (int e = 0; e < c.stage->radix; e++) {
        int peer = peer_of(w, &c, e), theirs = fbi_stage_first(c.stages, c.s, e);
        for (int k = first[e]; k < first[e + 1] && e != c.stage->digit; k++)
            for (int p = 0; p < c.width && c.stage->present[e] >> (k - first[e]) & 1; p += run)
                fbi_transfers_add(t, peer, false, incoming(w, &c, k, c.own + p),
                                  (size_t)elements(&c, c.own + p, run) * size);
        for (int i = 0; i < sources && e != c.stage->digit; i++)
            for (int p = 0; p < c.width && has_piece(w, &c, i); p += run)
                fbi_transfers_add(t, peer, true, own_piece(w, &c, i, theirs + p),
                                  (size_t)elements(&c, theirs + p, run) * size);
    }
}

static void list_results(fb_work *w, fbi_transfers *t)
{
    const call c = call_of(w);
    for (int e = 0; e < c.stage->radix; e++) {
        int peer = peer_of(w, &c, e), theirs = fbi_stage_first(c.stages, c.s, e);
        if (e == c.stage->digit)
            continue;
        fbi_transfers_add(t, peer, true, fbi_work_dst(w, c.begin + before(&c, c.own)),
                          (size_t)elements(&c, c.own, c.width) * w->out_size);
        fbi_transfers_add(t, peer, false, fbi_work_dst(w, c.begin + before(&c, theirs)),
                          (size_t)elements(&c, theirs, c.width) * w->out_size);
    }
}

static char *sum_at(const fb_work *w, const call *c, int position)
{
    if (is_last(w, c->s))
        return fbi_work_dst(w, scatters(w) ? c->begin : c->begin + before(c, position));
    return scratch(w, scratch_before(w, c->s) + room_of(w, c->s).pieces) +
           (size_t)elements(c, c->own, position - c->own) * fb_dtype_size(dtype_from(w, c->s));
}

static fb_status add_up(fb_work *w)
{
    const call c = call_of(w);
    const fbi_layout *l = c.stage->layout;
    const room b = room_of(w, c.s);
    const int *first = l->first + c.stage->digit, run = run_of(w, &c);
    char *temporary = scratch(w, scratch_before(w, c.s) + b.pieces + b.sum);
    fb_status st = FB_OK;
    w->program_n = fbi_stage_program(c.stages, c.s, w->present, w->program);
    if (!w->program_n && !is_last(w, c.s))
        return FB_OK; /* nobody asks for it */
    for (int p = c.own; p < c.own + c.width && !st; p += run) {
        int64_t n = elements(&c, p, run);
        for (int k = 0; k < l->n && n; k++) {
            int i = k - first[0];
            bool own = k >= first[0] && k < first[1];
            w->operands[k] = !own                  ? incoming(w, &c, k, p)
                             : has_piece(w, &c, i) ? own_piece(w, &c, i, p)
                                                   : NULL;
        }
        if (n)
            st = fbi_link_sum(w, dtype_into(w, c.s), dtype_from(w, c.s), sum_at(w, &c, p), n,
                              temporary);
    }
    return st;
}

fb_status fbi_link_fixed_call(fb_work *w)
{
    const call c = call_of(w);
    int phase = w->call % calls_of_round(w), n = c.stages->n;
    if (phase >= 2 * n)
        return fbi_link_exchange(w, list_results, 2 * (int64_t)c.stage->radix);
    if (phase % 2)
        return add_up(w);
    int64_t pieces = c.stage->layout->n + (int64_t)c.stage->radix * FBI_MAX_PIECES;
    return fbi_link_exchange(w, list_pieces, pieces * (c.width / run_of(w, &c)));
}
