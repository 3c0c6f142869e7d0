/* Buckets: runs of whole parameters in a flat block, in the order in which backward finishes them.
 */
#include <stdlib.h>

#include "comm/reduce_priv.h"
#include "core/ops/op_priv.h"
#include "parallel/ddp_priv.h"

enum { DEFAULT_BUCKET = 1 << 20 };

static bool is_half(fb_dtype dtype)
{
    return dtype == FB_F16 || dtype == FB_BF16;
}

/* Where the next bucket that begins with parameter `first` ends. */
static int end_of_bucket(const fbi_block *k, int first, int64_t most)
{
    int end = first + 1;
    while (end < k->flat->n_params &&
           (k->flat->params[end].begin + k->flat->params[end].n - k->flat->params[first].begin) *
                   (int64_t)k->size <=
               most)
        end++;
    return end;
}

static fb_status add_bucket(fbi_ddp *d, fbi_block *k, int first, int end)
{
    fbi_bucket *buckets = realloc(d->buckets, (size_t)(d->n_buckets + 1) * sizeof *buckets);
    if (!buckets)
        return fbi_fail(d->ctx, FB_E_NOMEM, "ddp_attach: no memory");
    d->buckets = buckets;
    fbi_flat *f = k->flat;
    int64_t begin = f->params[first].begin;
    int64_t after = end < f->n_params ? f->params[end].begin : f->n;
    bool adds = is_half(f->dtype) && d->group->shards > d->group->size;
    buckets[d->n_buckets] = (fbi_bucket){
        .block = k,
        .begin = begin,
        .n = after - begin,
        .first = first,
        .n_params = end - first,
        .carry = {
            .ctx = d->ctx, .dtype = f->dtype, .acc = adds ? FB_F32 : f->dtype, .n = after - begin}};
    for (int i = first; i < end; i++)
        k->bucket_of[i] = d->n_buckets;
    d->n_buckets++;
    return FB_OK;
}

static fb_status add_block(fbi_ddp *d, fbi_flat *f, fbi_block **last)
{
    fbi_block *k = calloc(1, sizeof *k);
    *last = k;
    if (k)
        k->bucket_of = calloc((size_t)f->n_params + 1, sizeof *k->bucket_of);
    if (!k || !k->bucket_of)
        return fbi_fail(d->ctx, FB_E_NOMEM, "ddp_attach: no memory");
    k->ddp = d;
    k->flat = f;
    k->size = fb_dtype_size(f->dtype);
    k->first_used = d->n_params;
    k->sink = (fbi_grad_sink){.self = k, .prepare = fbi_ddp_prepare, .ready = fbi_ddp_ready};
    d->n_params += f->n_params;
    d->stats.bytes += f->n * (int64_t)k->size;
    fb_status st = FB_OK;
    for (int i = 0; i < f->n_params && !st;) {
        int end = end_of_bucket(k, i, d->bucket_bytes);
        st = add_bucket(d, k, i, end);
        i = end;
    }
    return st;
}

fb_status fbi_ddp_buckets_open(fbi_ddp *d)
{
    fbi_block **last = &d->blocks;
    fb_status st = FB_OK;
    if (d->bucket_bytes <= 0)
        d->bucket_bytes = DEFAULT_BUCKET;
    fbi_flat *flat = fbi_nn_flat(d->root);
    if (!flat)
        return fb_status_of(d->ctx);
    for (fbi_flat *f = flat; f && !st; f = f->next) {
        st = add_block(d, f, last);
        last = &(*last)->next;
    }
    if (!st)
        d->used = calloc((size_t)d->n_params + 1, sizeof *d->used);
    if (!st && !d->used)
        st = fbi_fail(d->ctx, FB_E_NOMEM, "ddp_attach: no memory");
    for (fbi_block *k = d->blocks; k && !st; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++)
            k->flat->params[i].t->leaf->sink = &k->sink;
    return st;
}

void fbi_ddp_buckets_close(fbi_ddp *d)
{
    for (int i = 0; i < d->n_buckets; i++)
        fbi_carry_close(&d->buckets[i].carry);
    free(d->buckets);
    for (fbi_block *k = d->blocks, *next; k; k = next) {
        next = k->next;
        free(k->bucket_of);
        fbi_storage_unref(d->ctx, k->kept);
        free(k);
    }
    free(d->used);
}

static void *gradients_of(const fbi_bucket *b)
{
    return (char *)fbi_ptr(b->block->flat->grads) + (size_t)b->begin * b->block->size;
}

fb_status fbi_ddp_clear_unused(const fbi_block *k, void *data, int first, int n)
{
    fb_context *ctx = k->ddp->ctx;
    fb_status st = FB_OK;
    for (int i = first; i < first + n && !st; i++) {
        const fbi_flat_param *p = &k->flat->params[i];
        if (p->t->leaf->state != FBI_GRAD_LIVE)
            st = ctx->backend->fill_zero(ctx, (char *)data + (size_t)p->begin * k->size,
                                         (size_t)p->n * k->size);
    }
    return st;
}

/* Leaves before `leaf` that did not come are absent. */
static fb_status push_leaf(const fbi_ddp *d, fbi_bucket *b, int leaf, bool keep)
{
    fb_status st =
        fbi_ddp_clear_unused(b->block, fbi_ptr(b->block->flat->grads), b->first, b->n_params);
    for (int k = d->next; k < leaf && !st; k++)
        st = fbi_carry_push(&b->carry, k, NULL, false);
    return st ? st : fbi_carry_push(&b->carry, leaf, d->absent ? NULL : gradients_of(b), keep);
}

fb_status fbi_ddp_push(fbi_ddp *d)
{
    fb_status st = FB_OK;
    for (int i = 0; i < d->n_buckets && !st; i++)
        st = push_leaf(d, &d->buckets[i], d->leaf, false);
    d->next = d->leaf + 1;
    d->open = false;
    return st;
}

int fbi_ddp_trained(const fbi_bucket *b)
{
    int n = 0;
    for (int i = b->first; i < b->first + b->n_params; i++)
        n += b->block->flat->params[i].t->leaf->required;
    return n;
}

fb_status fbi_ddp_launch(fbi_ddp *d, fbi_bucket *b)
{
    if (!fbi_ddp_trained(b)) {
        b->launched = true;
        return FB_OK;
    }
    int end = d->group->first_leaf + d->group->n_leaves, last = d->open ? d->leaf : d->next - 1;
    fb_status st = d->open ? push_leaf(d, b, d->leaf, true) : FB_OK;
    for (int k = last + 1; k < end && !st; k++)
        st = fbi_carry_push(&b->carry, k, NULL, false);
    if (st)
        return st;
    fbi_task task = {.kind = FBI_KIND_GRADIENTS,
                     .op = FB_SUM,
                     .dtype = b->carry.acc,
                     .out_dtype = b->carry.dtype,
                     .count = b->n,
                     .layout = d->group->leaves,
                     .dst = gradients_of(b),
                     .site = d->ctx->site};
    fbi_carry_sources(&b->carry, &task);
    b->launched = true;
    d->stats.buckets++;
    b->work = fbi_work_start(d->group, &task);
    return b->work ? FB_OK : fb_status_of(d->ctx);
}

bool fbi_ddp_live(const fbi_ddp *d)
{
    for (const fbi_block *k = d->blocks; k; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++)
            if (k->flat->params[i].t->leaf->state == FBI_GRAD_LIVE)
                return true;
    return false;
}

/* Sums that were there before the step began, and were not zeroed or spent. */
static fb_status add_kept(fbi_ddp *d)
{
    static const int16_t program[] = {0, 1, FBI_ADD};
    fb_status st = FB_OK;
    for (fbi_block *k = d->blocks; k && !st; k = k->next) {
        void *grads = fbi_ptr(k->flat->grads);
        st = fbi_combine(d->ctx, FB_SUM, k->flat->dtype, k->flat->dtype, program, 3,
                         (const void *const[]){k->kept->data, grads}, grads, k->flat->n);
    }
    d->kept = false;
    return st;
}

/* Without shares from a loader every leaf counts the same. */
static fb_status average(const fbi_ddp *d)
{
    fbi_attrs_scalars factor = {1.0 / d->group->size, 0};
    fb_status st = FB_OK;
    for (const fbi_block *k = d->blocks; k && !st; k = k->next)
        st = fbi_kernel_run(d->ctx, FBI_OP_mul_scalar, &factor, &k->flat->grads, 1, &k->flat->grads,
                            1, 0);
    return st;
}

void fbi_ddp_forget(fbi_ddp *d)
{
    for (int i = 0; i < d->n_buckets; i++)
        fbi_carry_clear(&d->buckets[i].carry);
    d->open = false;
    d->summed = true;
    d->next = d->group->first_leaf;
}

fb_status fbi_ddp_settle(fbi_ddp *d)
{
    fb_status st = FB_OK;
    for (int i = 0; i < d->n_buckets && !st; i++)
        if (!d->buckets[i].launched)
            st = fbi_ddp_launch(d, &d->buckets[i]);
    for (int i = 0; i < d->n_buckets; i++) {
        fbi_bucket *b = &d->buckets[i];
        if (b->work && !st)
            st = fbi_work_finish(b->work);
        b->work = NULL;
        b->launched = false;
    }
    fbi_ddp_forget(d);
    for (fbi_block *k = d->blocks; k; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++)
            k->flat->params[i].t->leaf->state = FBI_GRAD_LIVE;
    if (d->step < 0 && d->group->size > 1 && !d->counted && !st)
        st = average(d);
    if (d->kept && !st)
        st = add_kept(d);
    return st;
}
