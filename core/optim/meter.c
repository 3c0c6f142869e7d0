/* Means over batches, kept per leaf so that any number of ranks adds in the same order. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/optim/optimizer_priv.h"
#include "core/tensor/device_priv.h"

enum { PAIR = FBI_METER_PAIR, SCALAR_NAME = 32 };

struct fb_meter {
    fb_context *ctx;
    char *name;
    double *values; /* [leaves][PAIR] */
    int leaves;
    fbi_storage
        *sums; /* on a device: the sums of `values` are there, doubles; NULL: they are here */
    char (*names)[SCALAR_NAME]; /* of the scalars, made when first asked for */
};

static void meter_free(void *object)
{
    fb_meter *m = object;
    fbi_storage_unref(m->ctx, m->sums);
    free(m->names);
    free(m->values);
    free(m->name);
    free(m);
}

/* --- on a device: nobody waits for a value before the mean is wanted --- */

static fb_status fetch(fb_meter *m)
{
    double *sums = m->sums ? malloc((size_t)m->leaves * sizeof *sums) : NULL;
    if (!m->sums)
        return FB_OK;
    if (!sums)
        return fbi_fail(m->ctx, FB_E_NOMEM, "meter %s: no memory", m->name);
    fb_status st =
        m->ctx->backend->copy_out(m->ctx, sums, m->sums->data, (size_t)m->leaves * sizeof *sums);
    for (int i = 0; i < m->leaves && !st; i++)
        m->values[i * PAIR] = sums[i];
    free(sums);
    fbi_storage_unref(m->ctx, m->sums);
    m->sums = NULL;
    return st;
}

static fb_status grow(fb_meter *m, int leaves)
{
    if (leaves <= m->leaves)
        return FB_OK;
    if (fetch(m))
        return m->ctx->status;
    double *v = realloc(m->values, (size_t)leaves * PAIR * sizeof *v);
    if (!v)
        return fbi_fail(m->ctx, FB_E_NOMEM, "meter %s: no memory", m->name);
    memset(v + m->leaves * PAIR, 0, (size_t)(leaves - m->leaves) * PAIR * sizeof *v);
    m->values = v;
    m->leaves = leaves;
    return FB_OK;
}

static fb_status send(fb_meter *m)
{
    fb_context *ctx = m->ctx;
    size_t bytes = (size_t)m->leaves * sizeof(double);
    double *sums = malloc(bytes + 1);
    if (!sums)
        return fbi_fail(ctx, FB_E_NOMEM, "meter %s: no memory", m->name);
    for (int i = 0; i < m->leaves; i++)
        sums[i] = m->values[i * PAIR];
    m->sums = fbi_storage_new(ctx, bytes);
    fb_status st = m->sums ? ctx->backend->copy_in(ctx, m->sums->data, sums, bytes) : ctx->status;
    free(sums);
    return st;
}

static fb_status add_on_device(fb_meter *m, int leaf, const fb_tensor *x, double n)
{
    fb_status st = m->sums ? FB_OK : send(m);
    return st ? st
              : m->ctx->backend->add_to(m->ctx, (double *)m->sums->data + leaf, (fb_dtype)x->dtype,
                                        fbi_ptr(x), n, false);
}

fb_meter *fb_meter_open(fb_context *ctx, const char *name)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_meter *m = calloc(1, sizeof *m);
    if (m)
        m->name = strdup(name ? name : "");
    if (!m || !m->name) {
        free(m);
        fbi_fail(ctx, FB_E_NOMEM, "fb_meter_open: no memory");
        return NULL;
    }
    m->ctx = ctx;
    if (fbi_context_adopt(ctx, m, meter_free)) {
        meter_free(m);
        return NULL;
    }
    return m;
}

fb_status fb_meter_add(fb_meter *m, fb_tensor *value, double n)
{
    if (!m)
        return FB_E_ARG;
    fb_context *ctx = m->ctx;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx) || !fbi_tensor_check(ctx, value, "fb_meter_add", m->name))
        return ctx->status;
    if (!(n >= 0))
        return fbi_fail(ctx, FB_E_ARG, "fb_meter_add: %s: %g samples", m->name, n);
    bool host = ctx->backend->host_memory || value->numel != 1; /* fb_item says what is wrong */
    double x = host ? fb_item(value) : 0;
    int leaf = ctx->in_step ? (int)ctx->batch.shard : ctx->hooks.first_leaf;
    fb_status st = ctx->status ? ctx->status : grow(m, leaf + 1);
    if (!st && !host && n > 0)
        st = add_on_device(m, leaf, value, n);
    if (st || n == 0)
        return st;
    if (host)
        m->values[leaf * PAIR] += x * n;
    m->values[leaf * PAIR + 1] += n;
    return FB_OK;
}

double fb_meter_mean(fb_meter *m)
{
    if (!m)
        return NAN;
    fb_context *ctx = m->ctx;
    FBI_ENTRY(ctx);
    double total[PAIR] = {0};
    if (!fbi_enter(ctx) || fetch(m))
        return NAN;
    if (ctx->hooks.leaf_sum) {
        if (m->leaves > ctx->hooks.shards) {
            fbi_fail(ctx, FB_E_ARG, "meter %s: leaf %d, but a step has %d", m->name, m->leaves - 1,
                     ctx->hooks.shards);
            return NAN;
        }
        if (grow(m, ctx->hooks.shards) ||
            ctx->hooks.leaf_sum(ctx->hooks.self, m->values, PAIR, total))
            return NAN;
    } else {
        for (int i = 0; i < m->leaves; i++)
            for (int k = 0; k < PAIR; k++)
                total[k] += m->values[i * PAIR + k];
    }
    fb_meter_reset(m);
    return total[1] > 0 ? total[0] / total[1] : NAN;
}

void fb_meter_reset(fb_meter *m)
{
    if (!m)
        return;
    fbi_storage_unref(m->ctx, m->sums);
    m->sums = NULL;
    if (m->leaves)
        memset(m->values, 0, (size_t)m->leaves * PAIR * sizeof *m->values);
}

void fb_meter_close(fb_meter *m)
{
    if (!m)
        return;
    fbi_context_forget(m->ctx, m);
    meter_free(m);
}

double *fbi_meter_values(fb_meter *m)
{
    return fetch(m) || grow(m, m->ctx->hooks.shards > 0 ? m->ctx->hooks.shards : 1) ? NULL
                                                                                    : m->values;
}

int fbi_meter_scalars(fb_meter *m, fbi_scalar *out, int n)
{
    if (!fbi_meter_values(m))
        return 0;
    int leaves = m->leaves;
    char(*names)[SCALAR_NAME] = realloc(m->names, (size_t)leaves * PAIR * SCALAR_NAME);
    if (names)
        m->names = names;
    if (!names)
        return 0;
    for (int i = 0; i < leaves * PAIR; i++) {
        snprintf(names[i], SCALAR_NAME, "%s.%d", i % PAIR ? "count" : "sum", i / PAIR);
        if (i < n)
            out[i] = (fbi_scalar){.name = names[i], .f = &m->values[i]};
    }
    return leaves * PAIR;
}
