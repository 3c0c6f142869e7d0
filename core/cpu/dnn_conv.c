/* Convolutions by oneDNN: channels-last activations, plain weights outside, oneDNN's own layout of
 * the weights inside. The reorder costs 1-4 % of the convolution. */
#include <string.h>

#include "core/cpu/dnn_state_priv.h"
#include "core/ops/op_priv.h"

typedef struct descriptors {
    fbi_md src, weight, weight_any, bias, dst;
} descriptors;

static fbi_md images(int64_t n, int64_t c, int64_t h, int64_t w)
{
    return fbi_md_strided(4, (int64_t[]){n, c, h, w}, (int64_t[]){h * w * c, 1, w * c, c});
}

static bool describe(const fbi_conv *p, bool bias, descriptors *d)
{
    int64_t cg = p->c / p->groups, kg = p->k / p->groups, s = p->kh * p->kw;
    bool grouped = p->groups > 1;
    int64_t dims[5] = {p->groups, kg, cg, p->kh, p->kw};
    int64_t strides[5] = {kg * cg * s, cg * s, s, p->kw, 1};
    int from = grouped ? 0 : 1, n = 5 - from;
    d->src = images(p->n, p->c, p->h, p->w);
    d->dst = images(p->n, p->k, p->oh, p->ow);
    d->weight = fbi_md_strided(n, dims + from, strides + from);
    d->weight_any = fbi_md_any(n, dims + from);
    d->bias = bias ? fbi_md_strided(1, &p->k, (int64_t[]){1}) : NULL;
    return d->src && d->dst && d->weight && d->weight_any && (d->bias || !bias);
}

/* Arguments in the order src, weights, dst, bias, with the names that the direction gives them. */
static dnnl_status_t add_args(fbi_dnn *d, fbi_dnn_entry *e, fbi_conv_kind kind,
                              const descriptors *m, fbi_cmd weight)
{
    static const int what[3][3] = {
        [FBI_CONV_FWD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
        [FBI_CONV_DATA] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
        [FBI_CONV_WEIGHT] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
    dnnl_status_t st = fbi_dnn_arg(d, e, what[kind][0], m->src);
    st = st ? st : fbi_dnn_arg(d, e, what[kind][1], weight);
    st = st ? st : fbi_dnn_arg(d, e, what[kind][2], m->dst);
    if (m->bias)
        st = st ? st : fbi_dnn_arg(d, e, DNNL_ARG_BIAS, m->bias);
    return st;
}

static dnnl_status_t make(fbi_dnn *d, fbi_dnn_entry *e, fbi_conv_kind kind, const fbi_conv *p,
                          bool bias)
{
    descriptors m = {NULL};
    int64_t dilation[2] = {p->dilation[0] - 1, p->dilation[1] - 1};
    dnnl_primitive_attr_t attr = fbi_dnn_attr(false);
    dnnl_primitive_desc_t forward = NULL, pd = NULL;
    dnnl_status_t st = describe(p, bias, &m) && attr ? dnnl_success : dnnl_unimplemented;
    fbi_pd_conv_args a = {.src = m.src,
                          .weight = m.weight_any,
                          .bias = m.bias,
                          .dst = m.dst,
                          .stride = p->stride,
                          .dilation = dilation,
                          .padding = p->padding,
                          .attr = attr};
    if (kind != FBI_CONV_FWD) {
        st = st ? st : fbi_pd_conv(&forward, d->engine, FBI_CONV_FWD, &a);
        a.hint = forward;
    }
    st = st ? st : fbi_pd_conv(&pd, d->engine, kind, &a);
    if (!st) {
        bool out = kind == FBI_CONV_WEIGHT;
        fbi_cmd w = dnnl_primitive_desc_query_md(
            pd, out ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
        bool same = dnnl_memory_desc_equal(w, m.weight);
        e->reorder.bytes = dnnl_memory_desc_get_size(w);
        if (!same)
            st = out ? fbi_dnn_reorder_make(d, &e->reorder, w, m.weight, false)
                     : fbi_dnn_reorder_make(d, &e->reorder, m.weight, w, false);
        if (!st && out)
            st = fbi_dnn_reorder_make(d, &e->add, w, m.weight, true);
        st = st ? st : add_args(d, e, kind, &m, w);
        st = st ? st : fbi_dnn_make(d, e, pd);
    }
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (forward)
        dnnl_primitive_desc_destroy(forward);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    fbi_md_free(m.src);
    fbi_md_free(m.weight);
    fbi_md_free(m.weight_any);
    fbi_md_free(m.bias);
    fbi_md_free(m.dst);
    return st;
}

static dnnl_status_t execute(fbi_dnn *d, fbi_dnn_entry *e, fbi_conv_kind kind, void *src,
                             void *weight, const void *bias, void *dst, float beta, char *arena)
{
    fbi_dnn_reorder *r = beta != 0 ? &e->add : &e->reorder;
    char *inner = r->primitive ? arena : weight;
    void *data[4] = {src, inner, dst, (void *)(uintptr_t)bias};
    dnnl_status_t st = dnnl_success;
    if (r->primitive && kind != FBI_CONV_WEIGHT)
        st = fbi_dnn_reorder_run(d, r, weight, inner);
    st = st ? st : fbi_dnn_run(d, e, data, arena + fbi_dnn_round(e->reorder.bytes));
    if (!st && r->primitive && kind == FBI_CONV_WEIGHT)
        st = fbi_dnn_reorder_run(d, r, inner, weight);
    return st;
}

fb_status fbi_dnn_conv(const fbi_call *c, fbi_conv_kind kind, const fbi_conv *p, void *src,
                       void *weight, const void *bias, void *dst, float beta)
{
    fbi_dnn *d = p->dtype == FB_F32 ? fbi_dnn_of(c->ctx) : NULL;
    if (!d)
        return p->dtype == FB_F32 ? c->ctx->status : FB_E_UNSUPPORTED;
    double flops =
        2.0 * (double)(p->n * p->k * p->oh * p->ow) * (double)(p->c / p->groups * p->kh * p->kw);
    int threads = flops < 1e6 ? 1 : c->threads;
    fbi_dnn_key key = {.kind = 2 + (int64_t)kind,
                       .threads = threads,
                       .v = {p->n, p->c, p->h, p->w, p->k, p->oh, p->ow, p->kh, p->kw, p->stride[0],
                             p->stride[1], p->padding[0], p->padding[1], p->dilation[0],
                             p->dilation[1], p->groups, bias != NULL}};
    bool found;
    fbi_dnn_entry *e = fbi_dnn_find(d, &key, &found);
    if (!e)
        return c->ctx->status;
    int before = fbi_dnn_threads_begin(threads);
    if (!found)
        make(d, e, kind, p, bias != NULL); /* on failure the entry has no primitive */
    fb_status result = FB_E_UNSUPPORTED;
    if (e->primitive) {
        char *arena = fbi_dnn_arena(d, fbi_dnn_round(e->reorder.bytes) + e->scratchpad_bytes);
        if (!arena)
            result = c->ctx->status;
        else if (execute(d, e, kind, src, weight, bias, dst, beta, arena))
            result = fbi_fail(c->ctx, FB_E_DEVICE, "%s: oneDNN failed", c->op->name);
        else
            result = FB_OK;
    }
    fbi_dnn_threads_end(before);
    return result;
}
