#include <stdlib.h>
#include <string.h>

#include "comm/reduce_priv.h"
#include "parallel/ddp_priv.h"

enum { DEFAULT_BUCKET = 4 << 20 };

fb_status fbi_ddp_blocks_open(fbi_ddp *d)
{
    fbi_block **last = &d->blocks;
    for (fbi_flat *f = fbi_nn_flat(d->root); f; f = f->next) {
        fbi_block *b = calloc(1, sizeof *b);
        if (!b)
            return fbi_fail(d->ctx, FB_E_NOMEM, "fb_ddp_attach: no memory");
        b->flat = f;
        b->bytes = fb_dtype_size(f->dtype);
        *last = b;
        last = &b->next;
        d->stats.bytes += f->n * (int64_t)b->bytes;
    }
    if (!d->bucket_bytes)
        d->bucket_bytes = DEFAULT_BUCKET;
    return fb_status_of(d->ctx);
}

void fbi_ddp_blocks_close(fbi_ddp *d)
{
    for (fbi_block *b = d->blocks, *next; b; b = next) {
        next = b->next;
        for (int i = 0; i < b->made; i++)
            free(b->stack[i].data);
        free(b);
    }
}

/* What backward did not reach counts as zero; what lay there is from an earlier leaf. */
static void clear_unused(const fbi_flat *f)
{
    for (int i = 0; i < f->n_params; i++) {
        fbi_leaf *leaf = f->params[i].t->leaf;
        if (leaf->state == FBI_GRAD_LIVE || !leaf->grad)
            continue;
        memset(fbi_ptr(leaf->grad), 0, (size_t)f->params[i].n * fb_dtype_size(f->dtype));
        leaf->state = FBI_GRAD_LIVE;
    }
}

static void mark_spent(const fbi_flat *f)
{
    for (int i = 0; i < f->n_params; i++)
        f->params[i].t->leaf->state = FBI_GRAD_SPENT;
}

/* left += right: both are subtrees of the same level, left the lower one. */
static void merge(const fbi_block *b, char *left, const char *right)
{
    static const int16_t program[] = {0, 1, FBI_ADD};
    fbi_reduce(FB_SUM, b->flat->dtype, b->flat->dtype, program, 3,
               (const void *const[]){left, right}, left, b->flat->n);
}

/* Room for one more subtree. */
static bool grow(fbi_block *b)
{
    if (b->depth < b->made)
        return true;
    b->stack[b->made].data = malloc((size_t)b->flat->n * b->bytes);
    return b->stack[b->made].data && ++b->made;
}

static bool siblings(fbi_piece left, fbi_piece right)
{
    return left.level == right.level && left.index % 2 == 0 && right.index == left.index + 1;
}

fb_status fbi_ddp_push(fbi_ddp *d)
{
    for (fbi_block *b = d->blocks; b; b = b->next) {
        clear_unused(b->flat);
        if (!grow(b))
            return fbi_fail(d->ctx, FB_E_NOMEM,
                            "ddp: no memory for the gradients of a leaf: %lld bytes; fewer shards "
                            "for each rank need less",
                            (long long)(b->flat->n * (int64_t)b->bytes));
        fbi_carry *top = &b->stack[b->depth++];
        top->piece = (fbi_piece){0, d->leaf};
        memcpy(top->data, fbi_ptr(b->flat->grads), (size_t)b->flat->n * b->bytes);
        while (b->depth > 1 &&
               siblings(b->stack[b->depth - 2].piece, b->stack[b->depth - 1].piece)) {
            fbi_carry *left = &b->stack[--b->depth - 1];
            merge(b, left->data, b->stack[b->depth].data);
            left->piece = (fbi_piece){left->piece.level + 1, left->piece.index / 2};
        }
        mark_spent(b->flat);
    }
    return FB_OK;
}

static fb_status sum_bucket(fbi_ddp *d, fbi_block *b, int64_t begin, int64_t n)
{
    char *grads = (char *)fbi_ptr(b->flat->grads) + (size_t)begin * b->bytes;
    fbi_task task = {.kind = FBI_KIND_GRADIENTS,
                     .op = FB_SUM,
                     .dtype = b->flat->dtype,
                     .count = n,
                     .n_src = b->depth,
                     .layout = d->group->leaves,
                     .dst = grads,
                     .site = d->ctx->site,
                     .tag = "gradients"};
    for (int i = 0; i < b->depth; i++)
        task.src[i] = b->stack[i].data + (size_t)begin * b->bytes;
    d->stats.buckets++;
    return fbi_work_run(d->group, &task);
}

fb_status fbi_ddp_sum(fbi_ddp *d)
{
    for (fbi_block *b = d->blocks; b; b = b->next) {
        int64_t step = d->bucket_bytes / (int64_t)b->bytes;
        for (int64_t begin = 0; begin < b->flat->n; begin += step) {
            int64_t n = b->flat->n - begin < step ? b->flat->n - begin : step;
            fb_status st = sum_bucket(d, b, begin, n);
            if (st)
                return st;
        }
        b->depth = 0;
        for (int i = 0; i < b->flat->n_params; i++)
            b->flat->params[i].t->leaf->state = FBI_GRAD_LIVE;
    }
    return FB_OK;
}
