/* Sums along a tree of more operands than the device joins at once (FBI_LINK_OPERANDS): subtrees
 * that are small enough become one operand each, in temporary memory, until few are left. */
#include "comm/link_priv.h"

#include <stdlib.h>

#include "comm/reduce_priv.h"

/* A program and its operands; `dtype`: theirs. */
typedef struct level {
    fb_dtype dtype;
    int16_t *program;
    int length, n; /* n: operands */
    const void **operands;
} level;

typedef struct sum {
    fb_work *work;
    int64_t count;
    char *room; /* the next temporary */
    level from, to;
} sum;

size_t fbi_link_sum_bytes(fb_dtype dtype, int operands)
{
    if (operands <= FBI_LINK_OPERANDS)
        return 0;
    return 2 * (size_t)operands * fb_dtype_size(fbi_reduce_between(dtype, dtype));
}

static fb_status combine(const sum *s, const level *l, int begin, int end, fb_dtype out_dtype,
                         void *out)
{
    fb_work *w = s->work;
    fb_context *ctx = w->group->world->ctx;
    return ctx->backend->comm->combine(ctx, (int)w->task.op, l->dtype, out_dtype,
                                       l->program + begin, end - begin, l->operands, out, s->count);
}

/* Where the subtree that ends at `last` begins. */
static int begin_of(const level *l, int last)
{
    int wanted = 1, i = last;
    for (; wanted; i--)
        wanted += l->program[i] == FBI_ADD ? 1 : -1;
    return i + 1;
}

/* The subtree [begin, last] of `from` as a part of `to`. */
static fb_status shrink(sum *s, int begin, int last)
{
    fb_status st = FB_OK;
    if ((last - begin) / 2 + 1 <= FBI_LINK_OPERANDS) {
        void *out = s->room;
        s->room += (size_t)s->count * fb_dtype_size(s->to.dtype);
        s->to.operands[s->to.n] = out;
        s->to.program[s->to.length++] = (int16_t)s->to.n++;
        return combine(s, &s->from, begin, last + 1, s->to.dtype, out);
    }
    int right = begin_of(&s->from, last - 1);
    st = shrink(s, begin, right - 1);
    if (!st)
        st = shrink(s, right, last - 1);
    s->to.program[s->to.length++] = FBI_ADD;
    return st;
}

static level new_level(fb_dtype dtype, int operands)
{
    return (level){.dtype = dtype,
                   .program = malloc((size_t)operands * 2 * sizeof(int16_t)),
                   .operands = malloc((size_t)operands * sizeof(void *))};
}

static void free_level(level *l)
{
    free(l->program);
    free(l->operands);
}

fb_status fbi_link_sum(fb_work *w, fb_dtype dtype, fb_dtype out_dtype, void *out, int64_t count,
                       char *room)
{
    sum s = {.work = w, .count = count, .room = room};
    level own = {dtype, w->program, w->program_n, 0, w->operands};
    fb_status st = FB_OK;
    s.from = own;
    while (s.from.length > 2 * FBI_LINK_OPERANDS - 1 && !st) {
        s.to = new_level(fbi_reduce_between(dtype, dtype), s.from.length / 2 + 1);
        if (s.to.program && s.to.operands)
            st = shrink(&s, 0, s.from.length - 1);
        else
            st = fbi_fail(w->group->world->ctx, FB_E_NOMEM, "no memory");
        if (s.from.program != own.program)
            free_level(&s.from);
        s.from = s.to;
    }
    if (!st)
        st = combine(&s, &s.from, 0, s.from.length, out_dtype, out);
    if (s.from.program != own.program)
        free_level(&s.from);
    return st;
}
