/* Kernels of set_elements, join_elements, set_slices and index_places. (place, position) is sorted,
 * and what meets at one place is joined in the order of the positions, as on the CPU. */
#include "core/cuda/index_priv.h"
#include "core/ops/scatter_priv.h"

/* b joined to a; NaN wins of extremes. */
template <class T> static __device__ inline T joined(int64_t how, T a, T b)
{
    switch (how) {
    case FBI_SET_COPY:
        return b;
    case FBI_SET_PROD:
        return a * b;
    case FBI_SET_MAX:
        return b > a || b != b ? b : a;
    case FBI_SET_MIN:
        return b < a || b != b ? b : a;
    default:
        return a + b;
    }
}

/* Integers wrap around. */
template <> __device__ inline int64_t joined<int64_t>(int64_t how, int64_t a, int64_t b)
{
    switch (how) {
    case FBI_SET_COPY:
        return b;
    case FBI_SET_PROD:
        return (int64_t)((uint64_t)a * (uint64_t)b);
    case FBI_SET_MAX:
        return b > a ? b : a;
    case FBI_SET_MIN:
        return b < a ? b : a;
    default:
        return (int64_t)((uint64_t)a + (uint64_t)b);
    }
}

template <class T> static __device__ inline T mean(T sum, int64_t n)
{
    return sum / (T)n;
}

template <> __device__ inline int64_t mean<int64_t>(int64_t sum, int64_t n)
{
    return sum / n - (sum % n < 0);
}

struct fbi_joining {
    int64_t how;
    bool self; /* the output's own element counts */
};

/* The run of keys that begins at i joins its elements of src (NULL: value) at its place. */
template <class T>
__global__ void join_runs(const fbi_key *keys, int64_t n, fbi_line l, const T *src, T value,
                          fbi_joining j, T *out)
{
    FBI_EACH(t, l.outer * n * l.inner)
    {
        int64_t k = t % l.inner, i = t / l.inner % n, o = t / l.inner / n, met = 0;
        uint64_t place = keys[i].place;
        if (place == (uint64_t)FBI_NOWHERE || (i > 0 && keys[i - 1].place == place))
            continue;
        T *to = out + (o * l.n + (int64_t)place) * l.inner + k, v = *to;
        for (; i < n && keys[i].place == place; i++, met++) {
            T s = src ? src[(o * n + (int64_t)keys[i].position) * l.inner + k] : value;
            v = met == 0 && !j.self ? s : joined<T>(j.how, v, s);
        }
        *to = j.how == FBI_SET_MEAN ? mean<T>(v, met + j.self) : v;
    }
}

/* What both kinds begin with: out = x, dense operands, memory for the keys. */
struct fbi_scattering {
    const void *index, *src;
    fbi_key *keys;
    int64_t n, padded;
};

static fb_status prepare(const fbi_call *c, fbi_temps *temps, fbi_scattering *s)
{
    s->n = c->in[1]->numel;
    s->padded = fbi_padded_of(s->n);
    fb_status st = c->out[0] == c->in[0] ? FB_OK : fbi_cuda_copy_strided(c, c->out[0], c->in[0]);
    if (st || s->n == 0)
        return st;
    s->index = temps->dense(c->in[1]);
    s->src = s->index && c->in[2] ? temps->dense(c->in[2]) : NULL;
    s->keys = s->index && (s->src || !c->in[2]) ? temps->array<fbi_key>(s->padded) : NULL;
    return s->keys ? FB_OK : c->ctx->status;
}

template <class T>
static fb_status join(const fbi_call *c, const fbi_scattering &s, fbi_line l, fbi_joining j,
                      double value)
{
    fb_status st = fbi_sort_keys(c, s.keys, s.padded);
    if (st)
        return st;
    FBI_LAUNCH(c, join_runs<T>, fbi_blocks(c->ctx, l.outer * s.n * l.inner), FBI_BLOCK,
               (const fbi_key *)s.keys, s.n, l, (const T *)s.src, (T)value, j,
               (T *)fbi_cuda_data(c->out[0]));
    return fbi_cuda_checked(c);
}

static fb_status join_any(const fbi_call *c, const fbi_scattering &s, fbi_line l, fbi_joining j,
                          double value)
{
    int dtype = c->out[0]->dtype;
    return dtype == FB_F32   ? join<float>(c, s, l, j, value)
           : dtype == FB_F64 ? join<double>(c, s, l, j, value)
                             : join<int64_t>(c, s, l, j, value);
}

static fb_status elements(const fbi_call *c, int64_t dim, fbi_joining j, double value)
{
    fbi_temps temps(c);
    fbi_scattering s = {};
    fb_tensor *o = c->out[0];
    fbi_walk w = fbi_walk_of(c->in[1], o, dim);
    fb_status st = prepare(c, &temps, &s);
    if (st || s.n == 0)
        return st;
    FBI_LAUNCH(c, fbi_keys_of_elements, fbi_blocks(c->ctx, s.padded), FBI_BLOCK,
               fbi_indices_of(c, o->size[w.dim]), w, s.index, s.n, s.padded, s.keys);
    return join_any(c, s, fbi_line{1, o->numel, 1}, j, value);
}

FBI_CUDA_KERNEL(set_elements)
{
    const fbi_attrs_set_elements &a = FBI_ATTRS(set_elements);
    return elements(c, a.dim, fbi_joining{a.how, a.self != 0}, a.value);
}

FBI_CUDA_KERNEL(join_elements)
{
    const fbi_attrs_join_elements &a = FBI_ATTRS(join_elements);
    return elements(c, a.dim, fbi_joining{a.how, a.self != 0}, 0);
}

FBI_CUDA_KERNEL(set_slices)
{
    fbi_temps temps(c);
    fbi_scattering s = {};
    const fbi_attrs_set_slices &a = FBI_ATTRS(set_slices);
    fbi_line l = fbi_line_of(c->out[0], a.dim);
    fb_status st = prepare(c, &temps, &s);
    if (st || s.n * l.outer * l.inner == 0)
        return st;
    FBI_LAUNCH(c, fbi_keys_of_slices, fbi_blocks(c->ctx, s.padded), FBI_BLOCK,
               fbi_indices_of(c, l.n), s.index, s.n, FBI_NOWHERE, s.padded, s.keys);
    return join_any(c, s, l, fbi_joining{a.how, true}, a.value);
}

/* --- several indices as one --- */

__global__ void next_place(fbi_indices ix, const void *index, int64_t n, bool first, int64_t *out)
{
    FBI_EACH(i, n)
    {
        int64_t v = fbi_load_int(index, ix.dtype, i), at = v < 0 ? v + ix.size : v;
        if (at < 0 || at >= ix.size) {
            fbi_note_bad(ix.bad, ix.op, v, i, ix.size, 0);
            at = 0;
        }
        out[i] = (first ? 0 : out[i] * ix.size) + at;
    }
}

FBI_CUDA_KERNEL(index_places)
{
    fbi_temps temps(c);
    const fbi_attrs_index_places &a = FBI_ATTRS(index_places);
    int64_t n = c->out[0]->numel;
    for (int d = 0; d < c->n_in && n; d++) {
        fbi_indices ix = {fbi_noted_op(c), c->in[d]->dtype, a.sizes.d[d], fbi_cuda_of(c->ctx)->bad};
        const void *index = temps.dense(c->in[d]);
        if (!index)
            return c->ctx->status;
        FBI_LAUNCH(c, next_place, fbi_blocks(c->ctx, n), FBI_BLOCK, ix, index, n, d == 0,
                   (int64_t *)fbi_cuda_data(c->out[0]));
    }
    return fbi_cuda_checked(c);
}
