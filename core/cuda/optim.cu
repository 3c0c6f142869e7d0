/* One step of an optimizer (core/ops/backend.h): measure the gradients, judge, update. One launch
 * for all parameters that lie in the same blocks; core/ops/update_element_priv.h has the methods.
 */
#include <float.h>

#include "core/cuda/kernel_priv.h"
#include "core/ops/loss_scale_priv.h"
#include "core/ops/update_priv.h"

/* --- measure --- */

/* Elements of a chunk that begins at `at`. */
static __device__ inline int64_t chunk_at(int64_t n, int64_t at)
{
    return n - at < FBI_CHUNK ? n - at : (int64_t)FBI_CHUNK;
}

/* The last of n spans or rows that begins at chunk c or before: those without elements have the
 * number of the next one. */
template <class R> static __device__ inline int64_t owner_of(const R *rows, int64_t n, int64_t c)
{
    int64_t low = 0;
    while (n > 1) {
        int64_t half = n / 2;
        if (rows[low + half].chunk <= c)
            low += half;
        n -= half;
    }
    return low;
}

/* N elements in a row that begin where their size says. */
template <class T, int N> struct alignas(sizeof(T) * N) fbi_vec {
    T v[N];
};

static __device__ inline double wide(float v)
{
    return (double)v;
}
static __device__ inline double wide(double v)
{
    return v;
}
/* Halves by their bits. */
struct fbi_half {
    uint16_t bits;
};
struct fbi_brain {
    uint16_t bits;
};
static __device__ inline double wide(fbi_half v)
{
    return (double)fbi_f16_to_f32(v.bits);
}
static __device__ inline double wide(fbi_brain v)
{
    return (double)fbi_bf16_to_f32(v.bits);
}

template <class T>
__global__ void measure(const T *data, const fbi_stretch *spans, int64_t n_spans, int64_t chunk,
                        bool norm, fbi_chunk *out)
{
    int64_t c = chunk + blockIdx.x;
    const fbi_stretch *s = &spans[owner_of(spans, n_spans, c)];
    int64_t at = (c - s->chunk) * FBI_CHUNK, n = chunk_at(s->n, at);
    const T *x = data + s->begin + at;
    double sum = 0;
    int bad = 0;
    enum { PACK = 16 / sizeof(T) };
    int64_t packs = (uintptr_t)x % 16 ? 0 : n / PACK;
    for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
        fbi_vec<T, PACK> pack = ((const fbi_vec<T, PACK> *)x)[i];
        for (int k = 0; k < PACK; k++) {
            double v = wide(pack.v[k]);
            sum += v * v;
            bad |= !isfinite(v);
        }
    }
    for (int64_t i = packs * PACK + threadIdx.x; i < n; i += blockDim.x) {
        double v = wide(x[i]);
        sum += v * v;
        bad |= !isfinite(v);
    }
    sum = fbi_join_block<fbi_add<double>>(sum);
    bad = __syncthreads_or(bad);
    if (threadIdx.x == 0) {
        out[c].squares = norm ? sum : 0;
        out[c].bad = bad;
    }
}

template <class T> static fb_status launch_measure(fb_context *ctx, const fbi_look *l)
{
    FBI_LAUNCH_ON(ctx, measure<T>, l->chunks, FBI_BLOCK, (const T *)l->data, l->spans, l->n_spans,
                  l->chunk, l->norm, l->out);
    return FB_OK;
}

extern "C" fb_status fbi_cuda_measure(fb_context *ctx, const fbi_look *l)
{
    fb_status st = fbi_cuda_use(ctx);
    if (st || l->chunks == 0)
        return st;
    return l->dtype == FB_F64    ? launch_measure<double>(ctx, l)
           : l->dtype == FB_F16  ? launch_measure<fbi_half>(ctx, l)
           : l->dtype == FB_BF16 ? launch_measure<fbi_brain>(ctx, l)
                                 : launch_measure<float>(ctx, l);
}

/* --- judge --- */

/* The smaller; first() is larger than any number of a chunk. */
struct fbi_first {
    static __device__ int64_t first() { return INT64_MAX; }
    static __device__ int64_t join(int64_t a, int64_t b) { return a < b ? a : b; }
};

/* One block; its threads' sums are in an order that only n decides. */
__global__ void conclude(const fbi_chunk *of, int64_t chunk, int64_t n, const fbi_stretch *spans,
                         int64_t n_spans, const double *count, double scale,
                         const fbi_loss_scale *loss_scale, bool finite, fbi_part *part)
{
    double sum = 0, counted = count ? *count : 1;
    int64_t bad = fbi_first::first();
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        sum += of[chunk + i].squares;
        if (of[chunk + i].bad)
            bad = fbi_first::join(bad, chunk + i);
    }
    sum = fbi_join_block<fbi_add<double>>(sum);
    bad = fbi_join_block<fbi_first>(bad);
    if (threadIdx.x)
        return;
    if (count)
        scale = counted > 0 ? 1 / counted : 1;
    if (loss_scale)
        scale /= loss_scale->scale;
    part->scale = scale;
    part->count = counted;
    part->norm2 = sum * scale * scale;
    part->bad = bad == fbi_first::first() ? -1 : owner_of(spans, n_spans, bad);
    part->fine = !finite || bad == fbi_first::first();
}

extern "C" fb_status fbi_cuda_ask(fb_context *ctx, const fbi_ask *a)
{
    fb_status st = fbi_cuda_use(ctx);
    if (st)
        return st;
    FBI_LAUNCH_ON(ctx, conclude, 1, FBI_BLOCK, a->of, a->chunk, a->n, a->spans, a->n_spans,
                  a->count, a->scale, a->loss_scale, a->finite, a->part);
    return FB_OK;
}

static __device__ inline fbi_verdict decide(const fbi_part *parts, int64_t n, double norm2,
                                            double max_norm, bool apply)
{
    fbi_verdict v = {norm2, 1, apply};
    for (int64_t i = 0; i < n; i++) {
        v.norm2 += parts[i].norm2;
        v.apply = v.apply && parts[i].fine && parts[i].count > 0;
    }
    if (max_norm > 0) {
        double factor = max_norm / (sqrt(v.norm2) + 1e-6);
        v.apply = v.apply && isfinite(v.norm2);
        v.factor = factor < 1 ? factor : 1;
    }
    return v;
}

static __device__ inline bool all_fine(const fbi_part *parts, int64_t n)
{
    bool fine = true;
    for (int64_t i = 0; i < n; i++)
        fine = fine && parts[i].fine;
    return fine;
}

/* `halted`: pinned memory of the host. */
__global__ void judge(const fbi_part *parts, int64_t n_parts, double norm2, double max_norm,
                      bool apply, const volatile int64_t *halted, fbi_verdict *verdict,
                      const fbi_row *rows, int64_t n_rows, int64_t *steps, fbi_factors *factors,
                      fbi_method_numbers method, fbi_loss_scale *loss_scale)
{
    __shared__ fbi_verdict v;
    if (threadIdx.x == 0)
        *verdict = v = decide(parts, n_parts, norm2, max_norm, apply && !*halted);
    if (threadIdx.x == 0 && loss_scale)
        fbi_loss_scale_note(loss_scale, all_fine(parts, n_parts));
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n_rows && v.apply; i += blockDim.x) {
        const fbi_row *r = &rows[i];
        factors[i] = fbi_factors_of(&method, r->lr_scale, r->weight_decay,
                                    (double)++steps[r->entry], parts[r->part].scale * v.factor);
    }
}

extern "C" fb_status fbi_cuda_judge(fb_context *ctx, const fbi_judgement *j)
{
    fb_status st = fbi_cuda_use(ctx);
    if (st)
        return st;
    FBI_LAUNCH_ON(ctx, judge, 1, FBI_BLOCK, j->parts, j->n_parts, j->norm2, j->max_norm, j->apply,
                  (const volatile int64_t *)fbi_cuda_of(ctx)->halted, j->verdict, j->rows,
                  j->n_rows, j->steps, j->factors, j->method, j->loss_scale);
    return FB_OK;
}

__global__ void advance(fbi_loss_scale *scale)
{
    fbi_loss_scale_advance(scale);
}

extern "C" fb_status fbi_cuda_advance(fb_context *ctx, fbi_loss_scale *scale)
{
    fb_status st = fbi_cuda_use(ctx);
    if (st)
        return st;
    FBI_LAUNCH_ON(ctx, advance, 1, 1, scale);
    return FB_OK;
}

/* --- update --- */

/* Numbers of a row by the type that elements have. */
template <class T> struct fbi_numbers;
template <> struct fbi_numbers<float> : fbi_numbers_f32 {
    __device__ fbi_numbers(const fbi_method_numbers &m, const fbi_factors &f)
    {
        fbi_numbers_of_f32(&m, &f, this);
    }
};
template <> struct fbi_numbers<double> : fbi_numbers_f64 {
    __device__ fbi_numbers(const fbi_method_numbers &m, const fbi_factors &f)
    {
        fbi_numbers_of_f64(&m, &f, this);
    }
};

/* The methods: one element with S states (core/ops/update_element_priv.h). */
#define METHOD(method)                                                                            \
    template <int S> struct method {                                                              \
        static const int states = S;                                                              \
        static __device__ inline float next(const fbi_numbers_f32 &k, float p, float g, float *s) \
        {                                                                                         \
            return fbi_next_##method##_f32(&k, p, g, s, S);                                       \
        }                                                                                         \
        static __device__ inline double next(const fbi_numbers_f64 &k, double p, double g,        \
                                             double *s)                                           \
        {                                                                                         \
            return fbi_next_##method##_f64(&k, p, g, s, S);                                       \
        }                                                                                         \
    };
METHOD(sgd)
METHOD(adam)
METHOD(rmsprop)
METHOD(adagrad)
METHOD(adadelta)
METHOD(adamax)
METHOD(nadam)
METHOD(radam)
METHOD(rprop)
METHOD(lion)

/* What parameters and gradients are stored as: as they are computed with, or as halves, which are
 * the rounding of a master in F32. */
template <class T> struct whole {
    typedef T value, stored;
    static const bool half = false;
    static __device__ T wide(T v) { return v; }
    static __device__ T narrow(T v) { return v; }
};
struct f16 {
    typedef float value;
    typedef uint16_t stored;
    static const bool half = true;
    static __device__ float wide(uint16_t v) { return fbi_f16_to_f32(v); }
    static __device__ uint16_t narrow(float v) { return fbi_f32_to_f16(v); }
};
struct bf16 {
    typedef float value;
    typedef uint16_t stored;
    static const bool half = true;
    static __device__ float wide(uint16_t v) { return fbi_bf16_to_f32(v); }
    static __device__ uint16_t narrow(float v) { return fbi_f32_to_bf16(v); }
};

/* N elements from i on. A half that is not its master's rounding was changed by somebody, who is
 * right. */
template <class E, class M, int N>
static __device__ inline void update(const fbi_numbers<typename E::value> &k, int64_t i,
                                     typename E::value *p, typename E::stored *half,
                                     const typename E::stored *g, typename E::value *const *state)
{
    typedef fbi_vec<typename E::value, N> pack;
    typedef fbi_vec<typename E::stored, N> stored;
    pack w = ((pack *)p)[i], s[M::states + 1];
    stored d = ((const stored *)g)[i], h = {};
    if (E::half)
        h = ((stored *)half)[i];
    for (int j = 0; j < M::states; j++)
        s[j] = ((pack *)state[j])[i];
    for (int e = 0; e < N; e++) {
        typename E::value mine[M::states + 1];
        for (int j = 0; j < M::states; j++)
            mine[j] = s[j].v[e];
        if (E::half && E::narrow(w.v[e]) != h.v[e])
            w.v[e] = E::wide(h.v[e]);
        w.v[e] = M::next(k, w.v[e], E::wide(d.v[e]), mine);
        if (E::half)
            h.v[e] = E::narrow(w.v[e]);
        for (int j = 0; j < M::states; j++)
            s[j].v[e] = mine[j];
    }
    ((pack *)p)[i] = w;
    if (E::half)
        ((stored *)half)[i] = h;
    for (int j = 0; j < M::states; j++)
        ((pack *)state[j])[i] = s[j];
}

template <class E, class M>
__global__ void sweep(fbi_method_numbers method, const fbi_row *rows, int64_t n_rows,
                      const fbi_factors *factors, const fbi_verdict *verdict, typename E::value *p,
                      typename E::stored *half, const typename E::stored *g, typename E::value *s0,
                      typename E::value *s1, typename E::value *s2)
{
    enum { PACK = 16 / sizeof(typename E::value) };
    if (!verdict->apply)
        return;
    int64_t r = owner_of(rows, n_rows, blockIdx.x);
    const fbi_row *row = &rows[r];
    const fbi_numbers<typename E::value> numbers(method, factors[r]);
    int64_t at = (blockIdx.x - row->chunk) * FBI_CHUNK;
    int64_t n = chunk_at(row->n, at);
    typename E::value *state[3] = {s0, s1, s2};
    p += row->p + at;
    g += row->g + at;
    uintptr_t odd = (uintptr_t)p | (uintptr_t)g;
    if (E::half) {
        half += row->half + at;
        odd |= (uintptr_t)half;
    }
    for (int k = 0; k < M::states; k++) {
        state[k] += row->s[k] + at;
        odd |= (uintptr_t)state[k];
    }
    int64_t packs = odd % 16 ? 0 : n / PACK;
    for (int64_t i = threadIdx.x; i < packs; i += blockDim.x)
        update<E, M, PACK>(numbers, i, p, half, g, state);
    for (int64_t i = packs * PACK + threadIdx.x; i < n; i += blockDim.x)
        update<E, M, 1>(numbers, i, p, half, g, state);
}

template <class E, class M> static fb_status launch_sweep(fb_context *ctx, const fbi_sweep *s)
{
    typedef typename E::value T;
    typedef typename E::stored stored;
    FBI_LAUNCH_ON(ctx, (sweep<E, M>), s->chunks, FBI_BLOCK, s->method, s->rows, s->n_rows,
                  s->factors, s->verdict, (T *)s->p, (stored *)s->half, (const stored *)s->g,
                  (T *)s->s[0], (T *)s->s[1], (T *)s->s[2]);
    return FB_OK;
}

template <class E> static fb_status sweep_method(fb_context *ctx, const fbi_sweep *s)
{
    switch (s->method.kind) {
    case FBI_UPDATE_SGD:
        return s->s[0] ? launch_sweep<E, sgd<1>>(ctx, s) : launch_sweep<E, sgd<0>>(ctx, s);
    case FBI_UPDATE_ADAM:
        return s->s[2] ? launch_sweep<E, adam<3>>(ctx, s) : launch_sweep<E, adam<2>>(ctx, s);
    case FBI_UPDATE_RMSPROP:
        return s->s[2]   ? launch_sweep<E, rmsprop<3>>(ctx, s)
               : s->s[1] ? launch_sweep<E, rmsprop<2>>(ctx, s)
                         : launch_sweep<E, rmsprop<1>>(ctx, s);
    case FBI_UPDATE_ADAGRAD:
        return launch_sweep<E, adagrad<1>>(ctx, s);
    case FBI_UPDATE_ADADELTA:
        return launch_sweep<E, adadelta<2>>(ctx, s);
    case FBI_UPDATE_ADAMAX:
        return launch_sweep<E, adamax<2>>(ctx, s);
    case FBI_UPDATE_NADAM:
        return launch_sweep<E, nadam<2>>(ctx, s);
    case FBI_UPDATE_RADAM:
        return launch_sweep<E, radam<2>>(ctx, s);
    case FBI_UPDATE_RPROP:
        return launch_sweep<E, rprop<2>>(ctx, s);
    case FBI_UPDATE_LION:
        return launch_sweep<E, lion<1>>(ctx, s);
    case FBI_UPDATE_KINDS:
        break;
    }
    return FB_OK;
}

extern "C" fb_status fbi_cuda_sweep(fb_context *ctx, const fbi_sweep *s)
{
    fb_status st = fbi_cuda_use(ctx);
    if (st || s->chunks == 0)
        return st;
    return s->dtype == FB_F64    ? sweep_method<whole<double>>(ctx, s)
           : s->dtype == FB_F16  ? sweep_method<f16>(ctx, s)
           : s->dtype == FB_BF16 ? sweep_method<bf16>(ctx, s)
                                 : sweep_method<whole<float>>(ctx, s);
}

/* --- averages, and single numbers --- */

template <class T> __global__ void average(int64_t n, T *a, const T *x, T d)
{
    FBI_EACH(i, n)
    a[i] = d * a[i] + (1 - d) * x[i];
}

extern "C" fb_status fbi_cuda_average(fb_context *ctx, const fbi_average *a)
{
    fb_status st = fbi_cuda_use(ctx);
    unsigned grid = fbi_blocks(ctx, a->n);
    if (st || a->n == 0)
        return st;
    if (a->dtype == FB_F64)
        FBI_LAUNCH_ON(ctx, average<double>, grid, FBI_BLOCK, a->n, (double *)a->a,
                      (const double *)a->x, a->decay);
    else
        FBI_LAUNCH_ON(ctx, average<float>, grid, FBI_BLOCK, a->n, (float *)a->a,
                      (const float *)a->x, (float)a->decay);
    return FB_OK;
}

__global__ void add_to(double *sum, const void *x, int dtype, double factor, bool count)
{
    double v = fbi_load<double>(x, dtype, 0);
    if (count && !(v >= 0 && v <= DBL_MAX))
        v = NAN;
    *sum += v * factor;
}

extern "C" fb_status fbi_cuda_add_to(fb_context *ctx, double *sum, fb_dtype dtype, const void *x,
                                     double factor, bool count)
{
    fb_status st = fbi_cuda_use(ctx);
    if (st)
        return st;
    FBI_LAUNCH_ON(ctx, add_to, 1, 1, sum, x, (int)dtype, factor, count);
    return FB_OK;
}
