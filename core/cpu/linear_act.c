/* linear_act: a product whose activation is computed while a block of it is in the cache. Backward
 * makes the gradient of the argument and its sums over the rows likewise. */
#include <flambeau/core/ops/linalg.h>
#include <stdlib.h>

#include "core/cpu/dense_priv.h"
#include "core/cpu/linear_priv.h"

/* A call with the product's inputs and its one output. */
static fbi_call product_of(const fbi_call *c, int n_in, fb_tensor **out)
{
    fbi_call p = *c;
    p.n_in = (uint16_t)n_in;
    p.out = out;
    p.n_out = 1;
    return p;
}

/* Rows m0 .. m1 and columns n0 .. n1 of a tensor [..., cols] whose rows are dense. */
static fb_tensor part_of(const fb_tensor *t, int64_t cols, int64_t m0, int64_t m1, int64_t n0,
                         int64_t n1)
{
    fb_tensor part = *t;
    part.offset += m0 * cols + n0;
    part.ndim = 2;
    part.size[0] = m1 - m0;
    part.size[1] = n1 - n0;
    part.numel = (m1 - m0) * (n1 - n0);
    part.stride[0] = cols;
    part.stride[1] = 1;
    return part;
}

/* A pointwise row on parts of tensors; those of floats do not fail. */
static void apply(const fbi_call *c, fbi_kernel kernel, fbi_op op, fb_tensor **in, int n_in,
                  fb_tensor *out)
{
    const fbi_call one = {.ctx = c->ctx,
                          .op = &fbi_opdefs[op],
                          .in = in,
                          .out = &out,
                          .n_in = (uint16_t)n_in,
                          .n_out = 1,
                          .threads = 1};
    kernel(&one);
}

/* --- forward --- */

typedef struct activation {
    const fbi_call *c;
    const fb_tensor *argument;
    fb_activation act;
} activation;

static void activate(const fbi_mm *g, int64_t m0, int64_t m1, int64_t n0, int64_t n1)
{
    const activation *a = g->with;
    fb_tensor x = part_of(a->argument, g->n, m0, m1, n0, n1);
    fb_tensor y = part_of(a->c->out[0], g->n, m0, m1, n0, n1);
    if (a->act == FB_ACT_RELU)
        apply(a->c, FBI_KERNEL(relu), FBI_OP_relu, (fb_tensor *[]){&x}, 1, &y);
    else
        apply(a->c, FBI_KERNEL(gelu_tanh), FBI_OP_gelu_tanh, (fb_tensor *[]){&x}, 1, &y);
}

fb_status FBI_KERNEL(linear_act)(const fbi_call *c)
{
    const fbi_attrs_linear_act *p = c->attrs;
    fb_tensor *argument = p->act == FB_ACT_RELU ? c->out[0] : c->out[1];
    activation a = {c, argument, (fb_activation)p->act};
    fbi_call product = product_of(c, 3, &argument);
    return fbi_linear_then(&product, activate, &a);
}

/* --- backward --- */

/* dz = g * the derivative, which may take the place of g. The sums of each panel of rows go to
 * `part`, F32 or F64 as dz: panels depend on the sizes only. */
typedef struct gradient {
    const fbi_call *c;
    const fb_tensor *g, *s;
    fb_activation act;
    int64_t panel;
    void *part;
} gradient;

#define T     float
#define FN(x) x##_f32
#include "core/cpu/linear_act_t.h"
#undef T
#undef FN
#define T     double
#define FN(x) x##_f64
#include "core/cpu/linear_act_t.h"

static void argument_gradient(const fbi_mm *p, int64_t m0, int64_t m1, int64_t n0, int64_t n1)
{
    const gradient *q = p->with;
    fb_tensor g = part_of(q->g, p->n, m0, m1, n0, n1), s = part_of(q->s, p->n, m0, m1, n0, n1);
    fb_tensor dz = part_of(q->c->out[0], p->n, m0, m1, n0, n1);
    fb_tensor *in[2] = {&g, &s};
    if (q->act == FB_ACT_RELU)
        apply(q->c, FBI_KERNEL(relu_bwd), FBI_OP_relu_bwd, in, 2, &dz);
    else
        apply(q->c, FBI_KERNEL(gelu_tanh_bwd), FBI_OP_gelu_tanh_bwd, in, 2, &dz);
    if (dz.dtype == FB_F32)
        panel_sums_f32(q, p->n, m0, m1, n0, n1);
    else
        panel_sums_f64(q, p->n, m0, m1, n0, n1);
}

/* g and s are row-major. */
static fb_status gradient_open(gradient *q, int64_t rows)
{
    const fb_tensor *db = q->c->out[1];
    q->panel = fbi_mm_panel(rows);
    int64_t panels = (rows + q->panel - 1) / q->panel;
    q->part =
        fbi_cpu_scratch(q->c, (size_t)(panels * db->numel) * fb_dtype_size((fb_dtype)db->dtype));
    return q->part ? FB_OK : q->c->ctx->status;
}

/* Writes db. */
static void gradient_close(gradient *q, int64_t rows)
{
    fb_tensor *db = q->c->out[1];
    int64_t panels = (rows + q->panel - 1) / q->panel;
    if (db->dtype == FB_F32)
        join_f32(q, panels, fbi_ptr(db), db->numel);
    else
        join_f64(q, panels, fbi_ptr(db), db->numel);
    free(q->part);
}

static int64_t rows_of(const fbi_call *c)
{
    int64_t cols = c->out[1]->numel;
    return cols ? c->out[0]->numel / cols : 0;
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

/* Blocks of panels, which threads share. */
static void all_rows(const fbi_call *c, gradient *q)
{
    int64_t rows = rows_of(c), each = 4 * q->panel, blocks = (rows + each - 1) / each;
    const fbi_mm p = {.m = rows, .n = c->out[1]->numel, .with = q};
    int threads = c->out[0]->numel > FBI_PAR_MIN ? c->threads : 1;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t i = 0; i < blocks; i++)
        argument_gradient(&p, i * each, i * each + each < rows ? i * each + each : rows, 0, p.n);
}

fb_status FBI_KERNEL(linear_act_dz)(const fbi_call *c)
{
    const fbi_attrs_linear_act_dz *a = c->attrs;
    fbi_storage storage[2] = {{.data = NULL}};
    fb_tensor copy[2];
    gradient q = {.c = c, .act = (fb_activation)a->act};
    q.g = row_major(c, c->in[0], &copy[0], &storage[0]);
    q.s = q.g ? row_major(c, c->in[1], &copy[1], &storage[1]) : NULL;
    fb_status st = q.s ? gradient_open(&q, rows_of(c)) : c->ctx->status;
    if (!st) {
        all_rows(c, &q);
        gradient_close(&q, rows_of(c));
    }
    free(storage[0].data);
    free(storage[1].data);
    return st;
}

fb_status FBI_KERNEL(linear_dact)(const fbi_call *c)
{
    const fbi_attrs_linear_dact *a = c->attrs;
    fbi_storage storage = {.data = NULL};
    fb_tensor copy;
    gradient q = {.c = c, .g = c->out[0], .act = (fb_activation)a->act};
    fbi_call product = product_of(c, 2, c->out);
    q.s = row_major(c, c->in[2], &copy, &storage);
    fb_status st = q.s ? gradient_open(&q, rows_of(c)) : c->ctx->status;
    if (!st) {
        st = fbi_linear_dx_then(&product, argument_gradient, &q);
        gradient_close(&q, rows_of(c));
    }
    free(storage.data);
    return st;
}
