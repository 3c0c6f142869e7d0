/* The stack of subtrees: leaves come in order; two siblings at the top become their parent. At most
 * log2(leaves of this rank) + 1 buffers are in use (more where the leaves are no aligned power of
 * two). */
#include <stdlib.h>
#include <string.h>

#include "comm/reduce_priv.h"
#include "core/base/half.h"
#include "parallel/ddp_priv.h"

void fbi_carry_close(fbi_carry *c)
{
    fbi_carry_clear(c);
    while (c->spare)
        free(c->room[--c->spare]);
}

static char *take_room(fbi_carry *c)
{
    if (c->spare)
        return c->room[--c->spare];
    return malloc((size_t)c->n * fb_dtype_size(c->acc) + 1);
}

static void give_room(fbi_carry *c, char *data)
{
    c->room[c->spare++] = data;
}

static void widen(fb_dtype dtype, const uint16_t *from, float *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = dtype == FB_F16 ? fbi_f16_to_f32(from[i]) : fbi_bf16_to_f32(from[i]);
}

/* left += right, into left's buffer. */
static void merge(const fbi_carry *c, char *left, const char *right)
{
    static const int16_t program[] = {0, 1, FBI_ADD};
    fbi_reduce(FB_SUM, c->acc, c->acc, program, 3, (const void *const[]){left, right}, left, c->n);
}

static bool siblings(fbi_piece left, fbi_piece right)
{
    return left.level == right.level && left.index % 2 == 0 && right.index == left.index + 1;
}

/* An entry's buffer is its own unless it is the caller's data, which `borrowed` names. */
static void join(fbi_carry *c, const char *borrowed)
{
    fbi_subtree *left = &c->stack[c->depth - 2], *right = &c->stack[c->depth - 1];
    if (left->present && right->present)
        merge(c, left->data, right->data);
    else if (right->present) {
        left->data = right->data;
        right->present = false;
        left->present = true;
    }
    if (right->present && right->data != borrowed)
        give_room(c, right->data);
    left->piece = (fbi_piece){left->piece.level + 1, left->piece.index / 2};
    c->depth--;
}

bool fbi_carry_push(fbi_carry *c, int leaf, char *data, bool keep)
{
    char *own = data;
    bool sibling = c->depth && siblings(c->stack[c->depth - 1].piece, (fbi_piece){0, leaf});
    bool added = sibling && c->stack[c->depth - 1].present; /* and so need not be copied */
    if (data && (c->acc != c->dtype || (!keep && !added))) {
        own = take_room(c);
        if (!own)
            return false;
        if (c->acc == c->dtype)
            memcpy(own, data, (size_t)c->n * fb_dtype_size(c->acc));
        else
            widen(c->dtype, (const uint16_t *)(const void *)data, (float *)(void *)own, c->n);
    }
    c->stack[c->depth++] = (fbi_subtree){{0, leaf}, data != NULL, own};
    while (c->depth > 1 && siblings(c->stack[c->depth - 2].piece, c->stack[c->depth - 1].piece))
        join(c, data);
    c->borrowed = keep && own == data ? data : NULL;
    return true;
}

void fbi_carry_clear(fbi_carry *c)
{
    while (c->depth) {
        fbi_subtree *s = &c->stack[--c->depth];
        if (s->present && s->data != c->borrowed)
            give_room(c, s->data);
    }
    c->borrowed = NULL;
}

void fbi_carry_sources(const fbi_carry *c, fbi_task *task)
{
    task->n_src = c->depth;
    for (int i = 0; i < c->depth; i++)
        task->src[i] = c->stack[i].present ? c->stack[i].data : NULL;
}
