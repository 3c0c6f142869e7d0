/* The stack of subtrees: leaves come in order; two siblings at the top become their parent. At most
 * log2(leaves of this rank) + 1 buffers are in use (more where the leaves are no aligned power of
 * two). */
#include "comm/reduce_priv.h"
#include "core/tensor/device_priv.h"
#include "parallel/ddp_priv.h"

void fbi_carry_close(fbi_carry *c)
{
    fbi_carry_clear(c);
    while (c->spare)
        fbi_storage_unref(c->ctx, c->room[--c->spare]);
}

static fbi_storage *take_room(fbi_carry *c)
{
    if (c->spare)
        return c->room[--c->spare];
    return fbi_storage_new(c->ctx, (size_t)c->n * fb_dtype_size(c->acc));
}

/* An entry without a buffer of its own has the caller's data, or none. */
static void give_room(fbi_carry *c, fbi_subtree *s)
{
    if (s->own)
        c->room[c->spare++] = s->own;
    s->own = NULL;
}

/* left += right, into left's buffer. */
static fb_status merge(const fbi_carry *c, void *left, const void *right)
{
    static const int16_t program[] = {0, 1, FBI_ADD};
    return fbi_combine(c->ctx, FB_SUM, c->acc, c->acc, program, 3,
                       (const void *const[]){left, right}, left, c->n);
}

/* A leaf in a buffer of its own, in the dtype of the sums. */
static fb_status copy_leaf(const fbi_carry *c, void *own, const void *data)
{
    static const int16_t program[] = {0};
    if (c->acc == c->dtype)
        return c->ctx->backend->copy(c->ctx, own, data, (size_t)c->n * fb_dtype_size(c->acc));
    return fbi_combine(c->ctx, FB_SUM, c->dtype, c->acc, program, 1, (const void *const[]){data},
                       own, c->n);
}

static bool siblings(fbi_piece left, fbi_piece right)
{
    return left.level == right.level && left.index % 2 == 0 && right.index == left.index + 1;
}

static fb_status join(fbi_carry *c)
{
    fbi_subtree *left = &c->stack[c->depth - 2], *right = &c->stack[c->depth - 1];
    fb_status st = FB_OK;
    if (left->data && right->data) {
        st = merge(c, left->data, right->data);
    } else if (right->data) {
        left->data = right->data;
        left->own = right->own;
        right->own = NULL;
    }
    give_room(c, right);
    left->piece = (fbi_piece){left->piece.level + 1, left->piece.index / 2};
    c->depth--;
    return st;
}

fb_status fbi_carry_push(fbi_carry *c, int leaf, void *data, bool keep)
{
    fbi_subtree next = {.piece = {0, leaf}, .data = data};
    fb_status st = FB_OK;
    bool sibling = c->depth && siblings(c->stack[c->depth - 1].piece, next.piece);
    bool added = sibling && c->stack[c->depth - 1].data; /* and so need not be copied */
    if (data && (c->acc != c->dtype || (!keep && !added))) {
        next.own = take_room(c);
        if (!next.own)
            return c->ctx->status;
        next.data = next.own->data;
        st = copy_leaf(c, next.data, data);
    }
    c->stack[c->depth++] = next;
    while (!st && c->depth > 1 &&
           siblings(c->stack[c->depth - 2].piece, c->stack[c->depth - 1].piece))
        st = join(c);
    return st;
}

void fbi_carry_clear(fbi_carry *c)
{
    while (c->depth)
        give_room(c, &c->stack[--c->depth]);
}

void fbi_carry_sources(const fbi_carry *c, fbi_task *task)
{
    task->n_src = c->depth;
    task->on_device = !c->ctx->backend->host_memory;
    for (int i = 0; i < c->depth; i++)
        task->src[i] = c->stack[i].data;
}
