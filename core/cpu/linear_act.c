/* linear_act: a product, and its activation in place or beside it. Backward makes the gradient of
 * the argument and its sums over the rows in one pass. */
#include <flambeau/core/ops/linalg.h>
#include <stdlib.h>

#include "core/cpu/kernels_isa.h"
#include "core/cpu/dense_priv.h"

/* A kernel on other tensors. */
static fbi_call on(const fbi_call *c, fb_tensor **in, int n_in, fb_tensor **out)
{
    fbi_call sub = *c;
    sub.in = in;
    sub.n_in = (uint16_t)n_in;
    sub.out = out;
    sub.n_out = 1;
    return sub;
}

fb_status FBI_KERNEL(linear_act)(const fbi_call *c)
{
    const fbi_attrs_linear_act *a = c->attrs;
    bool relu = a->act == FB_ACT_RELU;
    fb_tensor *y[1] = {c->out[0]}, *argument[1] = {relu ? c->out[0] : c->out[1]};
    fbi_call product = on(c, c->in, 3, argument), act = on(c, argument, 1, y);
    fb_status st = FBI_KERNEL(linear)(&product);
    act.attrs = NULL;
    act.inplace = relu;
    return st ? st : relu ? FBI_KERNEL(relu)(&act) : FBI_KERNEL(gelu_tanh)(&act);
}

/* Row i of a tensor whose rows are dense. */
static fb_tensor row_of(const fb_tensor *t, int64_t i, int64_t cols)
{
    fb_tensor row = *t;
    row.offset += i * cols;
    row.ndim = 1;
    row.size[0] = row.numel = cols;
    row.stride[0] = 1;
    return row;
}

/* dz of rows i0 .. i1, and their sums. */
static fb_status some_rows(const fbi_call *c, const fb_tensor *g, const fb_tensor *s, fbi_op act,
                           int64_t i0, int64_t i1, double *sums)
{
    int64_t cols = c->out[1]->numel;
    for (int64_t j = 0; j < cols; j++)
        sums[j] = 0;
    for (int64_t i = i0; i < i1; i++) {
        fb_tensor gi = row_of(g, i, cols), si = row_of(s, i, cols), di = row_of(c->out[0], i, cols);
        fbi_call one = on(c, (fb_tensor *[]){&gi, &si}, 2, (fb_tensor *[]){&di});
        one.threads = 1;
        one.attrs = NULL;
        one.inplace = c->out[0] == g;
        fb_status st =
            act == FBI_OP_relu ? FBI_KERNEL(relu_bwd)(&one) : FBI_KERNEL(gelu_tanh_bwd)(&one);
        if (st)
            return st;
        const void *d = fbi_ptr(&di);
        if (di.dtype == FB_F32)
            for (int64_t j = 0; j < cols; j++)
                sums[j] += (double)((const float *)d)[j];
        else
            for (int64_t j = 0; j < cols; j++)
                sums[j] += ((const double *)d)[j];
    }
    return FB_OK;
}

static void store_sums(fb_tensor *db, const double *part, int64_t blocks)
{
    int64_t cols = db->numel;
    for (int64_t j = 0; j < cols; j++) {
        double sum = 0;
        for (int64_t q = 0; q < blocks; q++)
            sum += part[q * cols + j];
        if (db->dtype == FB_F32)
            ((float *)fbi_ptr(db))[j] = (float)sum;
        else
            ((double *)fbi_ptr(db))[j] = sum;
    }
}

enum { ROWS = 64, BLOCKS = 64 }; /* least rows of a block, most blocks: only the sizes decide */

/* out[0] = g * the derivative, which may take the place of g; out[1] its sums. */
static fb_status argument_gradient(const fbi_call *c, const fb_tensor *g, const fb_tensor *s,
                                   fb_activation act)
{
    fbi_op op = act == FB_ACT_RELU ? FBI_OP_relu : FBI_OP_gelu_tanh;
    int64_t cols = c->out[1]->numel, rows = cols ? g->numel / cols : 0;
    int64_t each = (rows + BLOCKS - 1) / BLOCKS;
    each = each < ROWS ? ROWS : each;
    int64_t blocks = (rows + each - 1) / each;
    int threads = g->numel > FBI_PAR_MIN ? c->threads : 1, failed = 0;
    double *part = fbi_cpu_scratch(c, (size_t)(blocks * cols) * sizeof(double));
    if (!part)
        return c->ctx->status;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static) \
    reduction(|                                                                 \
              : failed)
    for (int64_t q = 0; q < blocks; q++) {
        int64_t i0 = q * each, i1 = i0 + each < rows ? i0 + each : rows;
        failed |= some_rows(c, g, s, op, i0, i1, part + q * cols) != FB_OK;
    }
    store_sums(c->out[1], part, blocks);
    free(part);
    return failed ? c->ctx->status : FB_OK;
}

/* t, or its elements row-major in scratch memory behind *storage. NULL: error is set. */
static const fb_tensor *row_major(const fbi_call *c, const fb_tensor *t, fb_tensor *copy,
                                  fbi_storage *storage)
{
    if (fbi_contiguous(t))
        return t;
    *copy = *t;
    *storage = (fbi_storage){.data = fbi_cpu_dense(c, t)};
    copy->storage = storage;
    copy->offset = 0;
    return storage->data ? copy : NULL;
}

fb_status FBI_KERNEL(linear_act_dz)(const fbi_call *c)
{
    const fbi_attrs_linear_act_dz *a = c->attrs;
    fbi_storage storage[2] = {{.data = NULL}};
    fb_tensor copy[2];
    const fb_tensor *g = row_major(c, c->in[0], &copy[0], &storage[0]);
    const fb_tensor *s = g ? row_major(c, c->in[1], &copy[1], &storage[1]) : NULL;
    fb_status st = s ? argument_gradient(c, g, s, (fb_activation)a->act) : c->ctx->status;
    free(storage[0].data);
    free(storage[1].data);
    return st;
}

fb_status FBI_KERNEL(linear_dact)(const fbi_call *c)
{
    const fbi_attrs_linear_dact *a = c->attrs;
    fbi_storage storage = {.data = NULL};
    fb_tensor copy;
    fbi_call product = on(c, c->in, 2, (fb_tensor *[]){c->out[0]});
    const fb_tensor *s = row_major(c, c->in[2], &copy, &storage);
    fb_status st = s ? FBI_KERNEL(linear_dx)(&product) : c->ctx->status;
    if (!st)
        st = argument_gradient(c, c->out[0], s, (fb_activation)a->act);
    free(storage.data);
    return st;
}
