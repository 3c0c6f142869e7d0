/* A table of a model: what each module gives for an example, what it holds, what it costs. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/create.h>

#include "core/nn/nn_priv.h"

typedef struct row {
    fb_module *m;
    char *name; /* indented */
    bool training;
    int64_t calls, parameters, trainable, macs;
    fb_shape out; /* of the last call */
} row;

typedef struct table {
    row *rows;
    int64_t n, cap;
} table;

static row *row_of(table *t, const fb_module *m)
{
    for (int64_t i = 0; i < t->n; i++)
        if (t->rows[i].m == m)
            return &t->rows[i];
    return NULL;
}

static fb_status add_row(const char *path, fb_module *m, void *user)
{
    table *t = user;
    if (t->n == t->cap) {
        int64_t cap = t->cap ? 2 * t->cap : 32;
        row *rows = realloc(t->rows, (size_t)cap * sizeof *rows);
        if (!rows)
            return fbi_fail(m->ctx, FB_E_NOMEM, "fb_nn_summary: no memory");
        t->rows = rows;
        t->cap = cap;
    }
    int depth = *path ? 1 : 0;
    for (const char *p = path; *p; p++)
        depth += *p == '.';
    const char *dot = strrchr(path, '.');
    const char *last = !*path ? m->type->name : dot ? dot + 1 : path;
    row *r = &t->rows[t->n];
    *r = (row){.m = m, .training = m->training};
    if (asprintf(&r->name, "%*s%s", 2 * depth, "", last) < 0)
        return fbi_fail(m->ctx, FB_E_NOMEM, "fb_nn_summary: no memory");
    t->n++;
    return FB_OK;
}

static fb_status count_parameters(table *t, fb_module *root)
{
    fbi_named_list params;
    fb_status st = fbi_nn_collect(root, FB_FIELD_PARAM, true, &params);
    for (int64_t i = 0; i < params.n; i++) {
        row *r = row_of(t, params.v[i].owner);
        r->parameters += params.v[i].t->numel;
        r->trainable += fb_needs_grad(params.v[i].t) ? params.v[i].t->numel : 0;
    }
    fbi_named_free(&params);
    return st;
}

/* --- costs --- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static int64_t per(int64_t n, int64_t d)
{
    return d > 0 ? n / d : 0;
}

/* Multiplications of one weight in one call. */
static int64_t macs_of(const fb_module *m, const fb_tensor *w, const fb_tensor *x,
                       const fb_tensor *y)
{
    const char *type = m->type->name;
    if (w->ndim < 2 || begins(type, "Embedding"))
        return 0;
    int64_t first = fb_size(w, 0);
    if (begins(type, "ConvTranspose")) /* each input meets all weights of its channel */
        return x ? x->numel * per(w->numel, first) : 0;
    if (w->ndim >= 3 && !begins(type, "Bilinear")) /* so does each output of a convolution */
        return y->numel * per(w->numel, first);
    return per(y->numel, y->ndim ? fb_size(y, -1) : 1) * w->numel; /* a matrix, once for a row */
}

static void called(void *user, fb_module *m, const fb_tensor *x, const fb_tensor *y)
{
    row *r = row_of(user, m);
    if (!r)
        return;
    r->calls++;
    r->out = fb_shape_of(y);
    for (const fb_field *f = m->type->fields; f && f->kind; f++) {
        const fb_tensor *w = f->kind == FB_FIELD_PARAM ? *fbi_nn_slot(m, f) : NULL;
        if (w)
            r->macs += macs_of(m, w, x, y);
    }
}

/* --- the table --- */

static int widest(const table *t)
{
    int width = 4;
    for (int64_t i = 0; i < t->n; i++) {
        int n = (int)strlen(t->rows[i].name);
        width = n > width ? n : width;
    }
    return width;
}

static void print_rows(const table *t, const fb_summary *sum)
{
    int width = widest(t);
    printf("%-*s  %-18s %-20s %12s %12s %14s\n", width, "name", "type", "output", "parameters",
           "trainable", "MACs");
    for (int64_t i = 0; i < t->n; i++) {
        const row *r = &t->rows[i];
        char shape[96] = "-";
        if (r->calls)
            fb_shape_text(r->out, shape, sizeof shape);
        printf("%-*s  %-18s %-20s %12" PRId64 " %12" PRId64 " %14" PRId64 "\n", width, r->name,
               r->m->type->name, shape, r->parameters, r->trainable, r->macs);
    }
    printf("%" PRId64 " parameters, %" PRId64 " trainable; %" PRId64 " MACs, %" PRId64 " FLOPs\n",
           sum->parameters, sum->trainable, sum->macs, 2 * sum->macs);
}

static fb_status run(fb_module *m, table *t, fb_dtype dtype, fb_shape shape)
{
    fb_module *root = fbi_nn_root(m);
    fbi_call_note note = {t, called};
    FB_SCOPE(m->ctx);
    fb_no_grad(m->ctx);
    fb_tensor *x = fb_zeros(m->ctx, dtype ? dtype : FB_F32, shape);
    fb_nn_eval(m); /* neither statistics nor random numbers move */
    root->note = &note;
    fb_tensor *y = fb_nn_forward(m, x);
    root->note = NULL;
    for (int64_t i = 0; i < t->n; i++)
        t->rows[i].m->training = t->rows[i].training;
    return y ? FB_OK : m->ctx->status;
}

fb_status fb_nn_summary(fb_module *root, fb_dtype dtype, fb_shape shape, fb_summary *totals)
{
    fb_summary sum = {0};
    if (totals)
        *totals = sum;
    if (!root)
        return FB_E_ARG;
    FBI_ENTRY(root->ctx);
    if (!fbi_nn_enter(root))
        return root->ctx->status;
    table t = {0};
    fb_status st = fb_nn_materialize(root);
    if (!st)
        st = fbi_nn_each_module(root, add_row, &t);
    if (!st)
        st = count_parameters(&t, root);
    if (!st)
        st = run(root, &t, dtype, shape);
    for (int64_t i = 0; i < t.n && !st; i++) {
        sum.parameters += t.rows[i].parameters;
        sum.trainable += t.rows[i].trainable;
        sum.macs += t.rows[i].macs;
    }
    if (!st)
        print_rows(&t, &sum);
    if (!st && totals)
        *totals = sum;
    for (int64_t i = 0; i < t.n; i++)
        free(t.rows[i].name);
    free(t.rows);
    return st;
}
