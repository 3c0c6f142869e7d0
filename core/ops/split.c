/* Several tensors from one, or several brought to one shape; made of narrow and expand. The pieces
 * of one tensor have one node, which sees all their gradients together. */
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/split.h>
#include <flambeau/core/ops/view.h>

#include <stdlib.h>
#include <string.h>

#include "core/autograd/pass_priv.h"
#include "core/ops/op_priv.h"

static fb_status nothing(fb_tensor **out, int n, fb_status st)
{
    for (int i = 0; out && i < n; i++)
        out[i] = NULL;
    return st;
}

/* Whether there is somewhere for the results, and for n > 0 what says how to make them. */
static bool has_place(fb_context *ctx, const char *op, int n, const void *how, fb_tensor **out)
{
    if (out && (how || n < 1))
        return true;
    fbi_fail(ctx, FB_E_ARG, "%s: %s is NULL", op, out ? "the list of sizes or places" : "out");
    return false;
}

/* Begins a function that fills n places: the dimension, or -1 with the error set. */
static int begin(fb_tensor *t, const char *op, int dim, int n, fb_tensor **out)
{
    nothing(out, n, FB_OK);
    if (!t || !fbi_enter(t->ctx) || !fbi_tensor_check(t->ctx, t, op, "the tensor") ||
        !has_place(t->ctx, op, 0, NULL, out))
        return -1;
    return fbi_dim(t->ctx, t, dim, op);
}

static fb_status failed(const fb_tensor *t)
{
    return t && t->ctx->status ? t->ctx->status : FB_E_ARG;
}

/* --- the node of the pieces --- */

/* What was cut along dim; piece i has len[i] of it. */
typedef struct cut {
    fb_shape whole;
    fb_dtype dtype;
    int dim;
    int64_t len[];
} cut;

/* Zeros for a piece that nobody used. */
static fb_tensor *no_gradient(fb_context *ctx, const cut *u, int i)
{
    fb_shape s = u->whole;
    s.d[u->dim] = u->len[i];
    fb_tensor *zero = fbi_grad_const(ctx, u->dtype, FB_SCALAR, 0);
    return zero ? fb_expand(zero, s) : NULL;
}

/* Gradients that lie beside each other as the pieces do, as attention makes them, seen as one;
 * NULL: they do not. */
static fb_tensor *side_by_side(const cut *u, fb_tensor *const *g, int n)
{
    fb_shape strides = {.n = u->whole.n};
    int64_t step = 1, at = g[0]->offset;
    for (int d = u->whole.n - 1; d >= 0; d--) {
        strides.d[d] = step;
        step *= u->whole.d[d];
    }
    for (int i = 0; i < n; i++) {
        if (g[i]->storage != g[0]->storage || g[i]->offset != at || g[i]->numel == 0)
            return NULL;
        for (int d = 0; d < u->whole.n; d++)
            if (g[i]->size[d] != 1 && g[i]->stride[d] != strides.d[d])
                return NULL;
        at += u->len[i] * strides.d[u->dim];
    }
    return fbi_view(g[0], u->whole, strides, g[0]->offset);
}

static fb_status cut_backward(void *self, fbi_pass *pass, fbi_node *n, fb_tensor *const *grad,
                              fb_tensor **in_grad)
{
    const cut *u = self;
    fb_tensor *g[UINT8_MAX], *whole = NULL;
    bool all = !pass->linked;
    for (int i = 0; i < n->n_out; i++) {
        all = all && grad[i];
        g[i] = grad[i] ? grad[i] : no_gradient(pass->ctx, u, i);
        if (!g[i])
            return pass->ctx->status;
    }
    if (all)
        whole = side_by_side(u, g, n->n_out);
    if (!whole && !pass->ctx->status)
        whole = fb_cat((fb_tensors){g, n->n_out}, u->dim);
    if (!whole)
        return pass->ctx->status;
    fbi_tensor_ref(whole);
    in_grad[0] = whole;
    return FB_OK;
}

/* The node of n pieces of t, which have none yet. */
static fb_status join_pieces(fb_tensor *t, int d, fb_tensor **out, int n)
{
    fb_context *ctx = t->ctx;
    fbi_node *node = fbi_node_new(ctx, 0, 1, n, 0, sizeof(fbi_custom));
    cut *u = malloc(sizeof *u + (size_t)n * sizeof u->len[0]);
    if (!node || !u) {
        fbi_node_unref(ctx, node);
        free(u);
        return ctx->status ? ctx->status : fbi_fail(ctx, FB_E_NOMEM, "chunk: no memory");
    }
    *u = (cut){.whole = fb_shape_of(t), .dtype = (fb_dtype)t->dtype, .dim = d};
    if (ctx->anomaly)
        fbi_anomaly_note(ctx, node, &t, 1);
    const fbi_custom custom = {"chunk", u, cut_backward, free};
    memcpy(fbi_attrs(node), &custom, sizeof custom);
    node->flags |= FBI_NODE_CUSTOM;
    t->node->refs++;
    fbi_edges(node)[0] = (fbi_edge){t->node, t->out_index};
    for (int i = 0; i < n; i++) {
        u->len[i] = out[i]->size[d];
        out[i]->node = node;
        out[i]->out_index = (uint8_t)i;
        node->refs++;
    }
    fbi_node_unref(ctx, node);
    return FB_OK;
}

/* Pieces [at[i], at[i + 1]); those beyond `real` stay NULL. */
static fb_status pieces(fb_tensor *t, int d, int real, fb_tensor **out,
                        void (*piece)(const void *how, int i, int64_t *start, int64_t *len),
                        const void *how, int n)
{
    fb_context *ctx = t->ctx;
    bool on = ctx->grad_on;
    /* pieces of a leaf may be met by several backwards: they stay apart */
    bool together = on && t->node && real > 1 && real <= UINT8_MAX;
    ctx->grad_on = on && !together;
    for (int i = 0; i < real; i++) {
        int64_t start, len;
        piece(how, i, &start, &len);
        out[i] = fb_narrow(t, d, start, len);
        if (!out[i])
            break;
    }
    ctx->grad_on = on;
    if (ctx->status || (together && join_pieces(t, d, out, real)))
        return nothing(out, n, failed(t));
    return FB_OK;
}

typedef struct equal_pieces {
    int64_t len, size;
} equal_pieces;

static void equal_piece(const void *how, int i, int64_t *start, int64_t *len)
{
    const equal_pieces *e = how;
    int64_t left = e->size - i * e->len;
    *start = left > 0 ? i * e->len : e->size;
    *len = left < 0 ? 0 : left < e->len ? left : e->len;
}

fb_status fb_chunk(fb_tensor *t, int n, int dim, fb_tensor **out)
{
    FBI_ENTRY(fb_context_of(t));
    int d = begin(t, "chunk", dim, n, out);
    if (d < 0)
        return failed(t);
    if (n < 1)
        return fbi_fail(t->ctx, FB_E_ARG, "chunk: %d pieces of dimension %d of %s", n, d,
                        fbi_text(t));
    equal_pieces e = {(t->size[d] + n - 1) / n, t->size[d]};
    int real = e.len ? (int)((e.size + e.len - 1) / e.len) : n;
    return pieces(t, d, real, out, equal_piece, &e, n);
}

fb_status fb_split(fb_tensor *t, int64_t len, int dim, int n, fb_tensor **out)
{
    FBI_ENTRY(fb_context_of(t));
    int d = begin(t, "split", dim, n, out);
    if (d < 0)
        return failed(t);
    int64_t size = t->size[d];
    if (len < 0 || (len == 0 && size > 0))
        return fbi_fail(t->ctx, FB_E_ARG, "split: pieces of size %lld of dimension %d of %s",
                        (long long)len, d, fbi_text(t));
    int64_t count = size ? (size - 1) / len + 1 : 1;
    if (count != n)
        return fbi_fail(t->ctx, FB_E_ARG,
                        "split: dimension %d of %s has %lld pieces of size %lld, out has %d places",
                        d, fbi_text(t), (long long)count, (long long)len, n);
    return pieces(t, d, n, out, equal_piece, &(equal_pieces){len, size}, n);
}

/* Pieces of equal size. */
static fb_status even_split(const void *site, const char *op, fb_tensor *t, int dim, int least,
                            int n, fb_tensor **out)
{
    fbi_site_guard guard __attribute__((cleanup(fbi_site_end), unused)) =
        fbi_site_begin(fb_context_of(t), site);
    int d = t && t->ndim < least ? -2 : begin(t, op, dim, n, out);
    if (d == -1)
        return failed(t);
    if (d == -2 || n < 1 || t->size[d] % n)
        return nothing(out, n,
                       fbi_fail(t->ctx, FB_E_SHAPE,
                                "%s: %d pieces of equal size of dimension %d of %s, which needs "
                                "%d dimensions",
                                op, n, dim, fbi_text(t), least));
    return pieces(t, d, n, out, equal_piece, &(equal_pieces){t->size[d] / n, t->size[d]}, n);
}

fb_status fb_hsplit(fb_tensor *t, int n, fb_tensor **out)
{
    return even_split(FBI_SITE, "hsplit", t, t && t->ndim == 1 ? 0 : 1, 1, n, out);
}

fb_status fb_vsplit(fb_tensor *t, int n, fb_tensor **out)
{
    return even_split(FBI_SITE, "vsplit", t, 0, 2, n, out);
}

fb_status fb_dsplit(fb_tensor *t, int n, fb_tensor **out)
{
    return even_split(FBI_SITE, "dsplit", t, 2, 3, n, out);
}

/* how: n + 1 places */
static void listed_piece(const void *how, int i, int64_t *start, int64_t *len)
{
    const int64_t *at = how;
    *start = at[i];
    *len = at[i + 1] > at[i] ? at[i + 1] - at[i] : 0;
}

/* how: n sizes */
static void sized_piece(const void *how, int i, int64_t *start, int64_t *len)
{
    const int64_t *sizes = how;
    *start = 0;
    for (int k = 0; k < i; k++)
        *start += sizes[k];
    *len = sizes[i];
}

fb_status fb_split_with_sizes(fb_tensor *t, const int64_t *sizes, int n, int dim, fb_tensor **out)
{
    FBI_ENTRY(fb_context_of(t));
    int d = begin(t, "split_with_sizes", dim, n, out);
    if (d < 0 || !has_place(t->ctx, "split_with_sizes", n, sizes, out))
        return failed(t);
    int64_t sum = 0;
    for (int i = 0; i < n; i++) {
        if (sizes[i] < 0 || __builtin_add_overflow(sum, sizes[i], &sum))
            return fbi_fail(t->ctx, FB_E_ARG, "split_with_sizes: size %d is %lld", i,
                            (long long)sizes[i]);
    }
    if (sum != t->size[d])
        return fbi_fail(t->ctx, FB_E_SHAPE,
                        "split_with_sizes: the sizes add up to %lld, dimension %d of %s does not",
                        (long long)sum, d, fbi_text(t));
    return pieces(t, d, n, out, sized_piece, sizes, n);
}

typedef struct even_pieces {
    int64_t n, size;
} even_pieces;

static void even_piece(const void *how, int i, int64_t *start, int64_t *len)
{
    const even_pieces *e = how;
    int64_t least = e->size / e->n, longer = e->size % e->n;
    *start = i * least + (i < longer ? i : longer);
    *len = least + (i < longer);
}

fb_status fb_tensor_split(fb_tensor *t, int n, int dim, fb_tensor **out)
{
    FBI_ENTRY(fb_context_of(t));
    int d = begin(t, "tensor_split", dim, n, out);
    if (d < 0)
        return failed(t);
    if (n < 1)
        return fbi_fail(t->ctx, FB_E_ARG, "tensor_split: %d pieces of dimension %d of %s", n, d,
                        fbi_text(t));
    return pieces(t, d, n, out, even_piece, &(even_pieces){n, t->size[d]}, n);
}

/* As Python's slices take a place. */
static int64_t clipped(int64_t place, int64_t size)
{
    place = place < 0 ? place + size : place;
    return place < 0 ? 0 : place > size ? size : place;
}

fb_status fb_tensor_split_at(fb_tensor *t, const int64_t *places, int n, int dim, fb_tensor **out)
{
    FBI_ENTRY(fb_context_of(t));
    int d = n < 0 ? -1 : begin(t, "tensor_split_at", dim, n + 1, out);
    if (d < 0 || !has_place(t->ctx, "tensor_split_at", n, places, out))
        return failed(t);
    for (int i = 0; i <= n; i++) {
        int64_t at[2] = {i ? clipped(places[i - 1], t->size[d]) : 0,
                         i < n ? clipped(places[i], t->size[d]) : t->size[d]};
        fb_status st = pieces(t, d, 1, out + i, listed_piece, at, 1);
        if (st)
            return nothing(out, n + 1, st);
    }
    return FB_OK;
}

fb_status fb_unbind(fb_tensor *t, int dim, int n, fb_tensor **out)
{
    FBI_ENTRY(fb_context_of(t));
    int d = begin(t, "unbind", dim, n, out);
    if (d < 0)
        return failed(t);
    if (t->size[d] != n)
        return fbi_fail(t->ctx, FB_E_ARG, "unbind: dimension %d of %s for %d places", d,
                        fbi_text(t), n);
    for (int i = 0; i < n; i++) {
        out[i] = fb_select(t, d, i);
        if (!out[i])
            return nothing(out, n, failed(t));
    }
    return FB_OK;
}

/* Begins a function of a list; NULL: the error is set where one can be. */
static fb_context *begin_list(fb_tensors t, const char *op, fb_tensor **out)
{
    fb_context *ctx = NULL;
    nothing(out, t.n, FB_OK);
    for (int i = 0; i < t.n && !ctx; i++)
        ctx = fb_context_of(t.t[i]);
    if (!ctx || !fbi_enter(ctx) || !has_place(ctx, op, 0, NULL, out))
        return NULL;
    for (int i = 0; i < t.n; i++) {
        if (!t.t[i]) {
            fbi_fail(ctx, FB_E_ARG, "%s: input %d is NULL", op, i);
            return NULL;
        }
        if (!fbi_tensor_check(ctx, t.t[i], op, "an input"))
            return NULL;
    }
    return ctx;
}

static fb_status expand_all(fb_context *ctx, fb_tensors t, fb_shape to, fb_tensor **out)
{
    for (int i = 0; i < t.n; i++) {
        out[i] = fb_broadcast_to(t.t[i], to);
        if (!out[i])
            return nothing(out, t.n, ctx->status);
    }
    return FB_OK;
}

fb_status fb_broadcast_tensors(fb_tensors t, fb_tensor **out)
{
    fb_context *ctx = begin_list(t, "broadcast_tensors", out);
    if (!ctx)
        return FB_E_ARG;
    FBI_ENTRY(ctx);
    fb_shape s = FB_SCALAR;
    for (int i = 0; i < t.n; i++)
        if (!fbi_broadcast(s, fb_shape_of(t.t[i]), &s))
            return fbi_fail(ctx, FB_E_SHAPE,
                            "broadcast_tensors: input %d %s cannot be broadcast with those before",
                            i, fbi_text(t.t[i]));
    return expand_all(ctx, t, s, out);
}

fb_status fb_meshgrid(fb_tensors t, bool xy, fb_tensor **out)
{
    fb_context *ctx = begin_list(t, "meshgrid", out);
    if (!ctx)
        return FB_E_ARG;
    FBI_ENTRY(ctx);
    if (t.n > FB_MAX_DIMS)
        return fbi_fail(ctx, FB_E_ARG, "meshgrid: %d vectors, at most %d", t.n, FB_MAX_DIMS);
    fb_shape grid = {.n = t.n};
    bool turned = xy && t.n > 1;
    for (int i = 0; i < t.n; i++) {
        if (t.t[i]->ndim > 1)
            return fbi_fail(ctx, FB_E_SHAPE, "meshgrid: input %d %s is no vector", i,
                            fbi_text(t.t[i]));
        grid.d[turned && i < 2 ? 1 - i : i] = t.t[i]->numel;
    }
    for (int i = 0; i < t.n; i++) {
        int along = turned && i < 2 ? 1 - i : i;
        fb_shape line = {.n = t.n};
        for (int k = 0; k < t.n; k++)
            line.d[k] = k == along ? t.t[i]->numel : 1;
        out[i] = fb_view(t.t[i], line);
        out[i] = out[i] ? fb_expand(out[i], grid) : NULL;
        if (!out[i])
            return nothing(out, t.n, ctx->status);
    }
    return FB_OK;
}
