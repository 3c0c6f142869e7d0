/* Matrix products by oneDNN: batches, transposed and sliced views, bias, sum into the result. */
#include <string.h>

#include "core/cpu/dnn_state_priv.h"
#include "core/ops/op_priv.h"

/* Strides of a rows x cols matrix in a form that oneDNN takes; false: neither is 1. A dimension of
 * size 1 may have any stride in a view, so it gets one that fits. */
static bool plain_strides(int64_t rows, int64_t cols, int64_t *rs, int64_t *cs)
{
    if (cols == 1) {
        *cs = 1;
        *rs = rows == 1 ? 1 : *rs;
    } else if (rows == 1) {
        *rs = *cs == 1 ? cols : 1;
    }
    return (*cs == 1 && *rs >= cols) || (*rs == 1 && *cs >= rows);
}

typedef struct shapes {
    int n;
    int64_t a[3], b[3], c[3], bias[3], as[3], bs[3], cs[3], biass[3];
} shapes;

static shapes shapes_of(const fbi_mm *g)
{
    shapes s = {.n = g->batch > 1 ? 3 : 2};
    int o = s.n - 2;
    if (o) {
        bool one_a = g->a_b == 0,
             one_b = g->b_b == 0; /* the same matrix for all: oneDNN broadcasts */
        s.a[0] = one_a ? 1 : g->batch;
        s.b[0] = one_b ? 1 : g->batch;
        s.c[0] = g->batch;
        s.bias[0] = 1;
        s.as[0] = one_a ? g->m * g->k : g->a_b;
        s.bs[0] = one_b ? g->k * g->n : g->b_b;
        s.cs[0] = g->c_b;
        s.biass[0] = g->n;
    }
    memcpy(s.a + o, (int64_t[]){g->m, g->k}, 16);
    memcpy(s.b + o, (int64_t[]){g->k, g->n}, 16);
    memcpy(s.c + o, (int64_t[]){g->m, g->n}, 16);
    memcpy(s.bias + o, (int64_t[]){1, g->n}, 16);
    memcpy(s.as + o, (int64_t[]){g->a_m, g->a_k}, 16);
    memcpy(s.bs + o, (int64_t[]){g->b_k, g->b_n}, 16);
    memcpy(s.cs + o, (int64_t[]){g->c_m, 1}, 16);
    memcpy(s.biass + o, (int64_t[]){g->n, 1}, 16);
    return s;
}

static dnnl_status_t make(fbi_dnn *d, fbi_dnn_entry *e, const fbi_mm *g)
{
    shapes s = shapes_of(g);
    fbi_md a = fbi_md_strided(s.n, s.a, s.as), b = fbi_md_strided(s.n, s.b, s.bs);
    fbi_md c = fbi_md_strided(s.n, s.c, s.cs);
    fbi_md bias = g->bias ? fbi_md_strided(s.n, s.bias, s.biass) : NULL;
    dnnl_primitive_attr_t attr = fbi_dnn_attr(g->beta != 0);
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t st = dnnl_unimplemented;
    if (a && b && c && attr && (bias || !g->bias))
        st = fbi_pd_matmul(&pd, d->engine, a, b, bias, c, attr);
    st = st ? st : fbi_dnn_arg(d, e, DNNL_ARG_SRC, a);
    st = st ? st : fbi_dnn_arg(d, e, DNNL_ARG_WEIGHTS, b);
    st = st ? st : fbi_dnn_arg(d, e, DNNL_ARG_DST, c);
    if (bias)
        st = st ? st : fbi_dnn_arg(d, e, DNNL_ARG_BIAS, bias);
    st = st ? st : fbi_dnn_make(d, e, pd);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    fbi_md_free(a);
    fbi_md_free(b);
    fbi_md_free(c);
    fbi_md_free(bias);
    return st;
}

fb_status fbi_dnn_matmul(const fbi_call *c, const fbi_mm *call)
{
    fbi_mm g = *call;
    if (g.dtype != FB_F32 || !plain_strides(g.m, g.k, &g.a_m, &g.a_k) ||
        !plain_strides(g.k, g.n, &g.b_k, &g.b_n))
        return FB_E_UNSUPPORTED;
    g.c_m = g.m == 1 ? g.n : g.c_m;
    fbi_dnn *d = fbi_dnn_of(c->ctx);
    if (!d)
        return c->ctx->status;

    /* A product below 1 MFLOP gains nothing from a team, and loses much when a core is busy. */
    double flops = 2.0 * (double)g.batch * (double)g.m * (double)g.n * (double)g.k;
    int threads = flops < 1e6 ? 1 : c->threads;
    fbi_dnn_key key = {.kind = 1,
                       .threads = threads,
                       .v = {g.batch, g.m, g.n, g.k, g.batch > 1 ? g.a_b : 0, g.a_m, g.a_k,
                             g.batch > 1 ? g.b_b : 0, g.b_k, g.b_n, g.batch > 1 ? g.c_b : 0, g.c_m,
                             g.bias != NULL, g.beta != 0}};
    bool found;
    fbi_dnn_entry *e = fbi_dnn_find(d, &key, &found);
    if (!e)
        return c->ctx->status;
    int before = fbi_dnn_threads_begin(threads);
    if (!found)
        make(d, e, &g); /* on failure the entry has no primitive */
    fb_status result = FB_E_UNSUPPORTED;
    if (e->primitive) {
        char *scratch = e->scratchpad_bytes ? fbi_dnn_arena(d, e->scratchpad_bytes) : NULL;
        void *data[] = {(void *)(uintptr_t)g.a, (void *)(uintptr_t)g.b, g.c,
                        (void *)(uintptr_t)g.bias};
        result = FB_OK;
        if (e->scratchpad_bytes && !scratch)
            result = c->ctx->status;
        else if (fbi_dnn_run(d, e, data, scratch))
            result = fbi_fail(c->ctx, FB_E_DEVICE, "%s: oneDNN failed on %lld x %lld x %lld",
                              c->op->name, (long long)g.m, (long long)g.n, (long long)g.k);
    }
    fbi_dnn_threads_end(before);
    return result;
}
