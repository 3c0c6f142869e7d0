#include "io/walk_priv.h"

#include "core/base/philox_priv.h"

static int64_t blocks_of(const fbi_walk *w)
{
    return (w->n + w->block - 1) / w->block;
}

static void begin_pass(fbi_walk *w, int64_t pass)
{
    w->pass = pass;
    w->order = fbi_order_make(w->block ? blocks_of(w) : w->n, w->seed, pass);
    if (!w->block)
        return;
    w->inside = fbi_order_make(w->block, fbi_mix64(w->seed), pass);
    w->short_slot = fbi_order_find(&w->order, w->order.n - 1);
}

fbi_walk fbi_walk_make(fbi_walk plain)
{
    begin_pass(&plain, 0);
    return plain;
}

/* What the last block lacks. */
static int64_t missing(const fbi_walk *w)
{
    return w->order.n * w->block - w->n;
}

/* Samples before a place among the permuted blocks. */
static int64_t before_slot(const fbi_walk *w, int64_t slot)
{
    int64_t blocks = slot < w->order.n ? slot : w->order.n;
    return blocks * w->block - (blocks > w->short_slot ? missing(w) : 0);
}

/* The place among the permuted blocks that a position of the pass lies in. */
static int64_t slot_of(const fbi_walk *w, int64_t position)
{
    int64_t behind_short = before_slot(w, w->short_slot + 1);
    return (position < behind_short ? position : position + missing(w)) / w->block;
}

static int64_t at_in_blocks(const fbi_walk *w, int64_t position)
{
    int64_t window = slot_of(w, position) / w->window;
    int64_t begin = before_slot(w, window * w->window);
    int64_t end = before_slot(w, (window + 1) * w->window);
    fbi_order inside = fbi_order_part(&w->inside, end - begin, window);
    position = begin + fbi_order_at(&inside, position - begin);
    int64_t slot = slot_of(w, position);
    return fbi_order_at(&w->order, slot) * w->block + position - before_slot(w, slot);
}

int64_t fbi_walk_at(fbi_walk *w, int64_t draw)
{
    int64_t pass = draw / w->n, position = draw % w->n;
    if (!w->shuffle)
        return position;
    if (pass != w->pass)
        begin_pass(w, pass);
    return w->block ? at_in_blocks(w, position) : fbi_order_at(&w->order, position);
}

static int64_t windows_of(const fbi_walk *w)
{
    return (blocks_of(w) + w->window - 1) / w->window;
}

int64_t fbi_walk_window(fbi_walk *w, int64_t draw)
{
    fbi_walk_at(w, draw); /* its pass */
    return w->pass * windows_of(w) + slot_of(w, draw % w->n) / w->window;
}

bool fbi_walk_block(fbi_walk *w, int64_t window, int64_t k, int64_t *first, int64_t *n)
{
    int64_t pass = window / windows_of(w), slot = window % windows_of(w) * w->window + k;
    if (pass != w->pass)
        begin_pass(w, pass);
    if (k >= w->window || slot >= w->order.n)
        return false;
    *first = fbi_order_at(&w->order, slot) * w->block;
    *n = w->n - *first < w->block ? w->n - *first : w->block;
    return true;
}
