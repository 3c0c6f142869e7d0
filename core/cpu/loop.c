/* See loop.h. The dimensions are ordered by the output's strides and merged where all operands
 * allow. */
#include "core/cpu/loop.h"

#include <string.h>

#include "core/base/stream_priv.h"

enum {
    FBI_LOOP_ARGS = 5,
    FBI_LOOP_CHUNK = 512,
    FBI_LOOP_PAST = 256,
    FBI_LOOP_AHEAD = 16 << 10,
    FBI_LOOP_PAR_MIN = 32768
};

typedef struct fbi_plan {
    int n_args, ndim;
    int64_t n, size[FB_MAX_DIMS], stride[FBI_LOOP_ARGS][FB_MAX_DIMS]; /* innermost dimension is 0 */
    char *data[FBI_LOOP_ARGS];
    fb_dtype dtype[FBI_LOOP_ARGS], as[FBI_LOOP_ARGS];
    int64_t bytes[FBI_LOOP_ARGS];
    bool past;          /* the output goes past the caches */
    fbi_inner own_past; /* what brings it there, or NULL */
} fbi_plan;

/* Indices of the output's dimensions, smallest stride first; ties keep the later dimension inside.
 */
static void fbi_order(const fb_tensor *o, int *order)
{
    for (int i = 0; i < o->ndim; i++) {
        int d = o->ndim - 1 - i, k = i;
        while (k > 0 && o->size[d] > 1 && o->stride[order[k - 1]] > o->stride[d]) {
            order[k] = order[k - 1];
            k--;
        }
        order[k] = d;
    }
}

static bool fbi_merges(const fbi_plan *p, const int64_t *next)
{
    int top = p->ndim - 1;
    for (int a = 0; a < p->n_args; a++)
        if (next[a] != p->stride[a][top] * p->size[top])
            return false;
    return true;
}

static void fbi_plan_dims(fbi_plan *p, const fb_tensor *const *t)
{
    int order[FB_MAX_DIMS];
    const fb_tensor *o = t[0];
    fbi_order(o, order);
    for (int i = 0; i < o->ndim; i++) {
        int d = order[i];
        if (o->size[d] == 1)
            continue;
        int64_t next[FBI_LOOP_ARGS];
        for (int a = 0; a < p->n_args; a++)
            next[a] = t[a] ? t[a]->stride[d] : 0;
        if (p->ndim && fbi_merges(p, next)) {
            p->size[p->ndim - 1] *= o->size[d];
            continue;
        }
        for (int a = 0; a < p->n_args; a++)
            p->stride[a][p->ndim] = next[a];
        p->size[p->ndim++] = o->size[d];
    }
    if (!p->ndim) {
        p->ndim = 1;
        p->size[0] = 1;
        for (int a = 0; a < p->n_args; a++)
            p->stride[a][0] = 1;
    }
}

static void fbi_plan_make(fbi_plan *p, const fb_tensor *const *t, int n_args, const fb_dtype *as)
{
    memset(p, 0, sizeof *p);
    p->n_args = n_args;
    p->n = t[0]->numel;
    for (int a = 0; a < n_args; a++) {
        if (!t[a])
            continue;
        p->dtype[a] = (fb_dtype)t[a]->dtype;
        p->as[a] = as ? as[a] : p->dtype[a];
        p->bytes[a] = (int64_t)fb_dtype_size(p->dtype[a]);
        p->data[a] = p->n ? (char *)fbi_ptr(t[a]) : NULL;
    }
    fbi_plan_dims(p, t);
}

/* Memory in which an operand lies is in the caches when it is written. */
static bool fbi_goes_past(const fb_tensor *const *t, int n_args)
{
    for (int a = 1; a < n_args; a++)
        if (t[a] && t[a]->storage == t[0]->storage)
            return false;
    return fbi_streams((size_t)t[0]->numel * fb_dtype_size((fb_dtype)t[0]->dtype));
}

/* A run whose output goes past the caches: short pieces, so that reads and writes overlap. */
static void fbi_run_past(const fbi_plan *p, char *const *at, int64_t n, fbi_inner fn,
                         const void *attrs)
{
    _Alignas(64) char buf[FBI_LOOP_PAST * 8];
    const void *in[FBI_LOOP_ARGS];
    int64_t bytes = p->bytes[0], head = -(intptr_t)at[0] % 64 & 63, i = head / bytes;
    i = i < n ? i : n;
    for (int a = 1; a < p->n_args; a++)
        in[a - 1] = at[a];
    fn(at[0], in, i, attrs);
    for (; i + FBI_LOOP_PAST <= n; i += FBI_LOOP_PAST) {
        for (int a = 1; a < p->n_args; a++)
            in[a - 1] = at[a] ? at[a] + i * p->bytes[a] : NULL;
        for (int a = 1; a < p->n_args; a++)
            for (int64_t k = 0; in[a - 1] && k < FBI_LOOP_PAST * p->bytes[a]; k += 64)
                __builtin_prefetch((const char *)in[a - 1] + FBI_LOOP_AHEAD + k);
        fbi_stream_ahead(at[0] + i * bytes, (size_t)(FBI_LOOP_PAST * bytes));
        if (p->own_past) {
            p->own_past(at[0] + i * bytes, in, FBI_LOOP_PAST, attrs);
            continue;
        }
        fn(buf, in, FBI_LOOP_PAST, attrs);
        fbi_stream_lines(at[0] + i * bytes, buf, (size_t)(FBI_LOOP_PAST * bytes));
    }
    for (int a = 1; a < p->n_args; a++)
        in[a - 1] = at[a] ? at[a] + i * p->bytes[a] : NULL;
    fn(at[0] + i * bytes, in, n - i, attrs);
}

/* One run of the innermost dimension: n elements at byte positions at[]. */
static void fbi_run_inner(const fbi_plan *p, char *const *at, int64_t n, fbi_inner fn,
                          const void *attrs)
{
    _Alignas(64) char buf[FBI_LOOP_ARGS][FBI_LOOP_CHUNK * 8];
    bool direct[FBI_LOOP_ARGS], all = true;
    for (int a = 0; a < p->n_args; a++) {
        direct[a] = !p->data[a] || (p->dtype[a] == p->as[a] && p->stride[a][0] == 1);
        all = all && direct[a];
    }
    if (all && p->past) {
        fbi_run_past(p, at, n, fn, attrs);
        return;
    }
    int64_t step = all ? n : FBI_LOOP_CHUNK;
    for (int64_t i = 0; i < n; i += step) {
        int64_t m = n - i < step ? n - i : step;
        const void *in[FBI_LOOP_ARGS];
        for (int a = 1; a < p->n_args; a++) {
            const char *src = at[a] ? at[a] + i * p->stride[a][0] * p->bytes[a] : NULL;
            in[a - 1] = src;
            if (!direct[a] && (p->stride[a][0] != 0 || i == 0))
                fbi_convert(buf[a], p->as[a], 1, src, p->dtype[a], p->stride[a][0], m);
            if (!direct[a])
                in[a - 1] = buf[a];
        }
        char *dst = at[0] + i * p->stride[0][0] * p->bytes[0];
        fn(direct[0] ? dst : buf[0], in, m, attrs);
        if (!direct[0])
            fbi_convert(dst, p->dtype[0], p->stride[0][0], buf[0], p->as[0], 1, m);
    }
}

/* Elements [begin, end) in the plan's order. */
static void fbi_run_range(const fbi_plan *p, int64_t begin, int64_t end, fbi_inner fn,
                          const void *attrs)
{
    int64_t at[FB_MAX_DIMS] = {0}, rest = begin;
    for (int d = 0; d < p->ndim; d++) {
        at[d] = rest % p->size[d];
        rest /= p->size[d];
    }
    while (begin < end) {
        char *data[FBI_LOOP_ARGS] = {0};
        for (int a = 0; a < p->n_args; a++) {
            if (!p->data[a])
                continue;
            int64_t off = 0;
            for (int d = 0; d < p->ndim; d++)
                off += at[d] * p->stride[a][d];
            data[a] = p->data[a] + off * p->bytes[a];
        }
        int64_t n = p->size[0] - at[0];
        n = n < end - begin ? n : end - begin;
        fbi_run_inner(p, data, n, fn, attrs);
        begin += n;
        at[0] += n;
        for (int d = 0; d + 1 < p->ndim && at[d] == p->size[d]; d++) {
            at[d] = 0;
            at[d + 1]++;
        }
    }
    if (p->past)
        fbi_stream_end();
}

static void fbi_run_plan(const fbi_plan *p, int threads, fbi_inner fn, const void *attrs)
{
    if (!p->n)
        return;
    if (threads <= 1 || p->n < FBI_LOOP_PAR_MIN) {
        fbi_run_range(p, 0, p->n, fn, attrs);
        return;
    }
    int64_t per = ((p->n + threads - 1) / threads + 63) / 64 * 64;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; t++) {
        int64_t begin = t * per, end = begin + per < p->n ? begin + per : p->n;
        if (begin < end)
            fbi_run_range(p, begin, end, fn, attrs);
    }
}

/* t lies in memory as o does, in the dtype that is asked for. */
static bool fbi_lies_as(const fb_tensor *o, const fb_tensor *t, fb_dtype as)
{
    if (t->dtype != as)
        return false;
    for (int d = 0; d < o->ndim; d++)
        if (t->stride[d] != o->stride[d])
            return false;
    return true;
}

/* Small operands without gaps that lie alike need no plan, which takes longer than they do. */
static bool fbi_run_small(const fbi_call *c, int n_in, const fb_dtype *as, fbi_inner fn)
{
    const fb_tensor *o = c->out[0];
    const void *in[FBI_LOOP_ARGS];
    if (o->numel == 0 || (c->threads > 1 && o->numel >= FBI_LOOP_PAR_MIN) || o->dtype != as[0])
        return false;
    for (int i = 0; i < n_in; i++) {
        const fb_tensor *t = c->in[i];
        if (t && !fbi_lies_as(o, t, as[1 + i]))
            return false;
        in[i] = t ? fbi_ptr(t) : NULL;
    }
    if (!fbi_contiguous(o) && !fbi_dense(o))
        return false;
    fn(fbi_ptr(o), in, o->numel, c->attrs);
    return true;
}

fb_status fbi_loop_past(const fbi_call *c, int n_in, const fb_dtype *as, fbi_inner fn,
                        fbi_inner past)
{
    if (fbi_run_small(c, n_in, as, fn))
        return FB_OK;
    const fb_tensor *t[FBI_LOOP_ARGS] = {c->out[0]};
    for (int i = 0; i < n_in; i++)
        t[1 + i] = c->in[i];
    fbi_plan p;
    fbi_plan_make(&p, t, n_in + 1, as);
    p.past = fbi_goes_past(t, n_in + 1);
    p.own_past = past;
    fbi_run_plan(&p, c->threads, fn, c->attrs);
    return FB_OK;
}

fb_status fbi_loop(const fbi_call *c, int n_in, const fb_dtype *as, fbi_inner fn)
{
    return fbi_loop_past(c, n_in, as, fn, NULL);
}

static void fbi_inner_same(void *out, const void *const *in, int64_t n, const void *attrs)
{
    memcpy(out, in[0], (size_t)n * *(const size_t *)attrs);
}

void fbi_copy_strided(int threads, fb_tensor *dst, const fb_tensor *src)
{
    const fb_tensor *t[2] = {dst, src};
    fb_dtype as[2] = {(fb_dtype)dst->dtype, (fb_dtype)dst->dtype};
    size_t bytes = fb_dtype_size(as[0]);
    fbi_plan p;
    fbi_plan_make(&p, t, 2, as);
    fbi_run_plan(&p, threads, fbi_inner_same, &bytes);
}
