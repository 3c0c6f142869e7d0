/* oneDNN: engine, primitive cache, scratch memory.
 *
 * Creating a primitive costs 25 us to 1 ms and running a small one 0.3 us, so each is made once per
 * key and its memory objects are re-aimed. oneDNN's results depend on the thread count at creation
 * and at execution, and are wrong when the team is shorter than it believes: both happen under
 * c->threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <omp.h> /* a build without OpenMP takes dnn_none.c */

#include "core/cpu/dnn_state_priv.h"
#include "core/cpu/state_priv.h"

enum { SLOTS = 8192, MOST = 4096 }; /* the cache is emptied when MOST primitives are in it */

int fbi_dnn_threads_begin(int threads)
{
    int before = omp_get_max_threads();
    if (before != threads)
        omp_set_num_threads(threads);
    return before;
}

void fbi_dnn_threads_end(int before)
{
    if (before != omp_get_max_threads())
        omp_set_num_threads(before);
}

static void reorder_close(fbi_dnn_reorder *r)
{
    if (r->primitive)
        dnnl_primitive_destroy(r->primitive);
    if (r->from)
        dnnl_memory_destroy(r->from);
    if (r->to)
        dnnl_memory_destroy(r->to);
}

static void entry_close(fbi_dnn_entry *e)
{
    for (int i = 0; i < e->n_args; i++)
        dnnl_memory_destroy(e->args[i].memory);
    if (e->primitive)
        dnnl_primitive_destroy(e->primitive);
    reorder_close(&e->reorder);
    reorder_close(&e->add);
    free(e);
}

static void empty(fbi_dnn *d)
{
    for (int i = 0; i < SLOTS; i++) {
        if (d->table[i])
            entry_close(d->table[i]);
        d->table[i] = NULL;
    }
    d->n = 0;
}

static void dnn_close(void *self)
{
    fbi_dnn *d = self;
    fbi_cpu_state_of(d->ctx)->dnn = NULL;
    if (d->table)
        empty(d);
    free(d->table);
    if (d->stream)
        dnnl_stream_destroy(d->stream);
    if (d->engine)
        dnnl_engine_destroy(d->engine);
    free(d->arena);
    free(d);
}

static fbi_dnn *dnn_open(fb_context *ctx)
{
    fbi_dnn *d = calloc(1, sizeof *d);
    if (!d)
        goto failed;
    d->ctx = ctx;
    d->table = calloc(SLOTS, sizeof(fbi_dnn_entry *));
    if (!d->table || dnnl_engine_create(&d->engine, dnnl_cpu, 0) ||
        dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags) ||
        fbi_context_adopt(ctx, d, dnn_close))
        goto failed;
    return d;

failed:
    if (d)
        dnn_close(d);
    fbi_fail(ctx, FB_E_NOMEM, "cpu: oneDNN does not open");
    return NULL;
}

fbi_dnn *fbi_dnn_of(fb_context *ctx)
{
    fbi_cpu_state *s = fbi_cpu_state_of(ctx);
    if (!s->dnn)
        s->dnn = dnn_open(ctx);
    return s->dnn;
}

void fbi_dnn_version(char *out, size_t size)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(out, size, "%d.%d.%d", v->major, v->minor, v->patch);
}

static uint64_t hash_of(const fbi_dnn_key *key)
{
    const int64_t *v = (const int64_t *)(const void *)key;
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < sizeof *key / sizeof *v; i++) {
        h = (h ^ (uint64_t)v[i]) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return h;
}

fbi_dnn_entry *fbi_dnn_find(fbi_dnn *d, const fbi_dnn_key *key, bool *found)
{
    size_t i = hash_of(key) % SLOTS;
    for (; d->table[i]; i = (i + 1) % SLOTS)
        if (memcmp(&d->table[i]->key, key, sizeof *key) == 0) {
            *found = true;
            return d->table[i];
        }
    *found = false;
    if (d->n == MOST) {
        empty(d);
        i = hash_of(key) % SLOTS;
    }
    fbi_dnn_entry *e = calloc(1, sizeof *e);
    if (!e) {
        fbi_fail(d->ctx, FB_E_NOMEM, "cpu: no memory for a primitive of oneDNN");
        return NULL;
    }
    e->key = *key;
    d->table[i] = e;
    d->n++;
    return e;
}

dnnl_status_t fbi_dnn_arg(fbi_dnn *d, fbi_dnn_entry *e, int what, fbi_cmd md)
{
    dnnl_memory_t m;
    dnnl_status_t st = dnnl_memory_create(&m, md, d->engine, DNNL_MEMORY_NONE);
    if (!st)
        e->args[e->n_args++] = (dnnl_exec_arg_t){what, m};
    return st;
}

dnnl_status_t fbi_dnn_make(fbi_dnn *d, fbi_dnn_entry *e, dnnl_primitive_desc_t pd)
{
    fbi_cmd scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    e->scratchpad_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    if (e->scratchpad_bytes) {
        dnnl_status_t st = fbi_dnn_arg(d, e, DNNL_ARG_SCRATCHPAD, scratch);
        if (st)
            return st;
    }
    return dnnl_primitive_create(&e->primitive, pd);
}

dnnl_primitive_attr_t fbi_dnn_attr(bool sum)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    if (dnnl_primitive_attr_create(&attr))
        return NULL;
    dnnl_status_t st = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!st && sum) {
        st = dnnl_post_ops_create(&ops);
        st = st ? st : fbi_post_sum(ops);
        st = st ? st : dnnl_primitive_attr_set_post_ops(attr, ops);
        if (ops)
            dnnl_post_ops_destroy(ops);
    }
    if (st) {
        dnnl_primitive_attr_destroy(attr);
        return NULL;
    }
    return attr;
}

dnnl_status_t fbi_dnn_reorder_make(fbi_dnn *d, fbi_dnn_reorder *r, fbi_cmd from, fbi_cmd to,
                                   bool add)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t st = dnnl_out_of_memory;
    if (add) {
        dnnl_post_ops_t ops = NULL;
        st = dnnl_primitive_attr_create(&attr);
        st = st ? st : dnnl_post_ops_create(&ops);
        st = st ? st : fbi_post_sum(ops);
        st = st ? st : dnnl_primitive_attr_set_post_ops(attr, ops);
        if (ops)
            dnnl_post_ops_destroy(ops);
        if (st)
            goto done;
    }
    st = dnnl_reorder_primitive_desc_create(&pd, from, d->engine, to, d->engine, attr);
    st = st ? st : dnnl_memory_create(&r->from, from, d->engine, DNNL_MEMORY_NONE);
    st = st ? st : dnnl_memory_create(&r->to, to, d->engine, DNNL_MEMORY_NONE);
    st = st ? st : dnnl_primitive_create(&r->primitive, pd);

done:
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return st;
}

char *fbi_dnn_arena(fbi_dnn *d, size_t bytes)
{
    if (bytes > d->arena_bytes) {
        free(d->arena);
        d->arena_bytes = fbi_dnn_round(bytes + bytes / 4);
        d->arena = aligned_alloc(4096, d->arena_bytes);
        if (!d->arena) {
            d->arena_bytes = 0;
            fbi_fail(d->ctx, FB_E_NOMEM, "cpu: no memory for %zu bytes of scratch", bytes);
        }
    }
    return d->arena;
}

dnnl_status_t fbi_dnn_run(fbi_dnn *d, fbi_dnn_entry *e, void *const *data, void *scratch)
{
    for (int i = 0, k = 0; i < e->n_args; i++) {
        bool pad = e->args[i].arg == DNNL_ARG_SCRATCHPAD;
        dnnl_status_t st =
            dnnl_memory_set_data_handle(e->args[i].memory, pad ? scratch : data[k++]);
        if (st)
            return st;
    }
    return dnnl_primitive_execute(e->primitive, d->stream, e->n_args, e->args);
}

dnnl_status_t fbi_dnn_reorder_run(fbi_dnn *d, fbi_dnn_reorder *r, void *from, void *to)
{
    dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, r->from}, {DNNL_ARG_TO, r->to}};
    dnnl_status_t st = dnnl_memory_set_data_handle(r->from, from);
    st = st ? st : dnnl_memory_set_data_handle(r->to, to);
    return st ? st : dnnl_primitive_execute(r->primitive, d->stream, 2, args);
}
