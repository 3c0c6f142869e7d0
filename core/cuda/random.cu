/* Kernels that draw: uniform, normal, exponential; for parameters in tensors; orders. The words are
 * the CPU's. A parameter that is not allowed is noted. */
#include "core/cuda/index_priv.h"
#include "core/ops/random_priv.h"

/* A double's bits, which have its order if it is not negative. */
static __device__ inline int64_t fbi_bits_of(double v)
{
    int64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* --- filled --- */

enum { UNIFORM, NORMAL, EXPONENTIAL };

struct fbi_drawing {
    double a, b;
    uint64_t key, stream;
    int kind;
    __device__ double at(uint64_t i) const
    {
        if (kind == NORMAL)
            return a + b * fbi_draw_normal(key, stream, i);
        double u = fbi_draw_unit(key, stream, i);
        return kind == UNIFORM ? a + (b - a) * u : -log1p(-u) / a;
    }
};

__global__ void draw_all(fbi_drawing d, void *out, int dtype, int64_t n)
{
    FBI_EACH(i, n)
    fbi_store_double(out, dtype, i, d.at((uint64_t)i));
}

static fb_status fill(const fbi_call *c, const fbi_drawing &d)
{
    const fb_tensor *o = c->out[0];
    if (o->numel)
        FBI_LAUNCH(c, draw_all, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, d, fbi_cuda_data(o),
                   (int)o->dtype, o->numel);
    return FB_OK;
}

FBI_CUDA_KERNEL(uniform)
{
    const fbi_attrs_uniform &a = FBI_ATTRS(uniform);
    return fill(c, fbi_drawing{a.from, a.to, a.key, a.stream, UNIFORM});
}

FBI_CUDA_KERNEL(normal)
{
    const fbi_attrs_normal &a = FBI_ATTRS(normal);
    return fill(c, fbi_drawing{a.mean, a.deviation, a.key, a.stream, NORMAL});
}

FBI_CUDA_KERNEL(exponential)
{
    const fbi_attrs_exponential &a = FBI_ATTRS(exponential);
    return fill(c, fbi_drawing{a.rate, 0, a.key, a.stream, EXPONENTIAL});
}

/* --- for each element --- */

struct fbi_note {
    int op;
    fbi_cuda_bad *bad;
    __device__ void parameter(double p, int64_t i) const
    {
        fbi_note_bad(bad, op, fbi_bits_of(p), i, FBI_BAD_PARAMETER, 0);
    }
    __device__ void row(int64_t i) const { fbi_note_bad(bad, op, 0, i, FBI_BAD_ROW, 0); }
};

static fbi_note note_of(const fbi_call *c)
{
    return fbi_note{c->op->op, fbi_cuda_of(c->ctx)->bad};
}

struct fbi_bernoulli {
    static __device__ bool allows(double p) { return fbi_is_probability(p); }
    static __device__ double draw(double p, uint64_t key, uint64_t stream, uint64_t i)
    {
        return fbi_draw_unit(key, stream, i) < p ? 1 : 0;
    }
};

struct fbi_poisson {
    static __device__ bool allows(double p) { return fbi_is_rate(p); }
    static __device__ double draw(double p, uint64_t key, uint64_t stream, uint64_t i)
    {
        return fbi_draw_poisson(p, key, stream, i);
    }
};

struct fbi_gamma {
    static __device__ bool allows(double p) { return fbi_is_gamma_shape(p); }
    static __device__ double draw(double p, uint64_t key, uint64_t stream, uint64_t i)
    {
        return fbi_draw_gamma(p, key, stream, i);
    }
};

template <class D>
__global__ void draw_each(fbi_note note, const void *x, int dtype, void *out, int64_t n,
                          uint64_t key, uint64_t stream)
{
    FBI_EACH(i, n)
    {
        double p = fbi_load<double>(x, dtype, i);
        if (!D::allows(p))
            note.parameter(p, i);
        fbi_store<double>(out, dtype, i,
                          D::allows(p) ? D::draw(p, key, stream, (uint64_t)i) : (double)NAN);
    }
}

template <class D> static fb_status run_each(const fbi_call *c, uint64_t key, uint64_t stream)
{
    fbi_temps temps(c);
    const fb_tensor *o = c->out[0];
    const void *x = o->numel ? temps.dense(c->in[0]) : NULL;
    if (!x)
        return c->ctx->status;
    FBI_LAUNCH(c, draw_each<D>, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, note_of(c), x,
               (int)o->dtype, fbi_cuda_data(o), o->numel, key, stream);
    return fbi_cuda_checked(c);
}

FBI_CUDA_KERNEL(bernoulli)
{
    return run_each<fbi_bernoulli>(c, FBI_ATTRS(bernoulli).key, FBI_ATTRS(bernoulli).stream);
}

FBI_CUDA_KERNEL(poisson)
{
    return run_each<fbi_poisson>(c, FBI_ATTRS(poisson).key, FBI_ATTRS(poisson).stream);
}

FBI_CUDA_KERNEL(gamma)
{
    return run_each<fbi_gamma>(c, FBI_ATTRS(gamma).key, FBI_ATTRS(gamma).stream);
}

/* --- multinomial --- */

__global__ void sum_chunks(fbi_note note, const double *w, int64_t rows, int64_t n, int64_t chunks,
                           double *sums, int64_t *above)
{
    FBI_EACH(t, rows * chunks)
    {
        int64_t row = t / chunks, begin = t % chunks * FBI_WEIGHT_CHUNK, count = 0;
        int64_t end = begin + FBI_WEIGHT_CHUNK < n ? begin + FBI_WEIGHT_CHUNK : n;
        double sum = 0;
        for (int64_t i = begin; i < end; i++) {
            double v = w[row * n + i];
            if (!fbi_is_rate(v))
                note.parameter(v, row * n + i);
            sum += v;
            count += v > 0;
        }
        sums[t] = sum;
        above[t] = count;
    }
}

/* sums become those of the chunks before; totals[row]: all. */
__global__ void sum_rows(fbi_note note, int64_t rows, int64_t chunks, int64_t least, double *sums,
                         const int64_t *above, double *totals)
{
    FBI_EACH(row, rows)
    {
        double sum = 0;
        int64_t count = 0;
        for (int64_t k = row * chunks; k < (row + 1) * chunks; k++) {
            double chunk = sums[k];
            sums[k] = sum;
            sum += chunk;
            count += above[k];
        }
        totals[row] = sum;
        if (count < least)
            note.row(row);
    }
}

__global__ void pick_all(fbi_attrs_multinomial a, const double *w, int64_t rows, int64_t n,
                         int64_t chunks, const double *before, const double *totals, int64_t *out)
{
    FBI_EACH(t, rows * a.count)
    {
        int64_t row = t / a.count;
        double u = fbi_draw_unit(a.key, a.stream, (uint64_t)t);
        out[t] = fbi_pick(w + row * n, n, before + row * chunks, chunks, u * totals[row]);
    }
}

/* Times are not negative, so their bits have their order. */
__global__ void start_race(fbi_attrs_multinomial a, const double *w, int64_t row, int64_t n,
                           int64_t padded, fbi_key *keys)
{
    FBI_EACH(i, padded)
    {
        double time = i < n
                          ? fbi_race_time(w[row * n + i], a.key, a.stream, (uint64_t)(row * n + i))
                          : (double)INFINITY;
        keys[i] = fbi_key{(uint64_t)fbi_bits_of(time), (uint64_t)i};
    }
}

__global__ void take_positions(const fbi_key *keys, int64_t n, int64_t *out)
{
    FBI_EACH(i, n)
    out[i] = (int64_t)keys[i].position;
}

static fb_status race(const fbi_call *c, fbi_temps *temps, const double *w, int64_t rows, int64_t n)
{
    const fbi_attrs_multinomial &a = FBI_ATTRS(multinomial);
    int64_t padded = fbi_padded_of(n), *out = (int64_t *)fbi_cuda_data(c->out[0]);
    fbi_key *keys = temps->array<fbi_key>(padded);
    for (int64_t row = 0; keys && row < rows; row++) {
        FBI_LAUNCH(c, start_race, fbi_blocks(c->ctx, padded), FBI_BLOCK, a, w, row, n, padded,
                   keys);
        fb_status st = fbi_sort_keys(c, keys, padded);
        if (st)
            return st;
        FBI_LAUNCH(c, take_positions, fbi_blocks(c->ctx, a.count), FBI_BLOCK, (const fbi_key *)keys,
                   a.count, out + row * a.count);
    }
    return keys ? FB_OK : c->ctx->status;
}

/* x as dense doubles; NULL: the error is set. */
static const double *doubles_of(const fbi_call *c, fbi_temps *temps, const fb_tensor *x)
{
    fb_tensor wide = *x;
    int64_t step = 1;
    if (x->dtype == FB_F64)
        return (const double *)temps->dense(x);
    if (!temps->get(x->numel * (int64_t)sizeof(double)))
        return NULL;
    wide.dtype = FB_F64;
    wide.offset = 0;
    wide.storage = temps->s[temps->n - 1];
    for (int i = x->ndim - 1; i >= 0; i--) {
        wide.stride[i] = step;
        step *= x->size[i];
    }
    return fbi_cuda_copy_strided(c, &wide, x) ? NULL : (const double *)wide.storage->data;
}

FBI_CUDA_KERNEL(multinomial)
{
    fbi_temps temps(c);
    const fbi_attrs_multinomial &a = FBI_ATTRS(multinomial);
    const fb_tensor *x = c->in[0];
    int64_t n = x->size[x->ndim - 1], rows = x->numel / n;
    int64_t chunks = (n + FBI_WEIGHT_CHUNK - 1) / FBI_WEIGHT_CHUNK;
    if (rows == 0)
        return FB_OK;
    const double *w = doubles_of(c, &temps, x);
    double *sums = w ? temps.array<double>(rows * chunks) : NULL;
    double *totals = sums ? temps.array<double>(rows) : NULL;
    int64_t *above = totals ? temps.array<int64_t>(rows * chunks) : NULL;
    if (!above)
        return c->ctx->status;
    FBI_LAUNCH(c, sum_chunks, fbi_blocks(c->ctx, rows * chunks), FBI_BLOCK, note_of(c), w, rows, n,
               chunks, sums, above);
    FBI_LAUNCH(c, sum_rows, fbi_blocks(c->ctx, rows), FBI_BLOCK, note_of(c), rows, chunks,
               a.replacement ? (int64_t)1 : a.count, sums, (const int64_t *)above, totals);
    if (!a.replacement) {
        fb_status st = race(c, &temps, w, rows, n);
        return st ? st : fbi_cuda_checked(c);
    }
    FBI_LAUNCH(c, pick_all, fbi_blocks(c->ctx, rows * a.count), FBI_BLOCK, a, w, rows, n, chunks,
               (const double *)sums, (const double *)totals, (int64_t *)fbi_cuda_data(c->out[0]));
    return fbi_cuda_checked(c);
}

/* --- randperm --- */

__global__ void draw_tickets(uint64_t key, uint64_t stream, int64_t n, int64_t padded,
                             fbi_key *keys)
{
    FBI_EACH(i, padded)
    {
        uint32_t w[4];
        fbi_philox(key, stream, (uint64_t)i / 2, w);
        int at = (int)(i % 2) * 2;
        uint64_t word = ((uint64_t)w[at + 1] << 32 | w[at]) >> 1; /* below what pads */
        keys[i] = fbi_key{i < n ? word : ~(uint64_t)0, (uint64_t)i};
    }
}

FBI_CUDA_KERNEL(randperm)
{
    fbi_temps temps(c);
    const fbi_attrs_randperm &a = FBI_ATTRS(randperm);
    int64_t padded = fbi_padded_of(a.n);
    if (a.n == 0)
        return FB_OK;
    fbi_key *keys = temps.array<fbi_key>(padded);
    if (!keys)
        return c->ctx->status;
    FBI_LAUNCH(c, draw_tickets, fbi_blocks(c->ctx, padded), FBI_BLOCK, a.key, a.stream, a.n, padded,
               keys);
    fb_status st = fbi_sort_keys(c, keys, padded);
    if (st)
        return st;
    FBI_LAUNCH(c, take_positions, fbi_blocks(c->ctx, a.n), FBI_BLOCK, (const fbi_key *)keys, a.n,
               (int64_t *)fbi_cuda_data(c->out[0]));
    return FB_OK;
}
