/* Kernels of ctc and ctc_bwd: a block an item, a step after the other; sums are in an order that
 * only the sizes decide. See core/ops/ctc.c. */
#include "core/cuda/index_priv.h"

struct ctc_sizes {
    int64_t steps, items, classes, labels, places, blank;
    fbi_indices label;
    __device__ int64_t class_of(const void *labels_, int64_t n, int64_t place) const
    {
        int64_t k = place % 2 ? label.at(labels_, n * labels + place / 2) : blank;
        return k < 0 ? blank : k;
    }
    __device__ bool jumps(const void *labels_, int64_t n, int64_t place) const
    {
        return place % 2 && place > 1 &&
               class_of(labels_, n, place) != class_of(labels_, n, place - 2);
    }
};

template <class T> static __device__ inline T log_sum(T a, T b, T c)
{
    T most = a > b ? a : b;
    most = c > most ? c : most;
    if (most == -(T)INFINITY)
        return most;
    return most + fbi_ln(fbi_e(a - most) + fbi_e(b - most) + fbi_e(c - most));
}

template <class T>
__global__ void ctc_forward(ctc_sizes z, const T *x, const void *labels, const int64_t *input,
                            const int64_t *target, T *loss, T *alpha)
{
    int64_t n = blockIdx.x, steps = input[n], end = 2 * target[n];
    T *row = alpha + n * z.steps * z.places;
    const T never = -(T)INFINITY;
    for (int64_t i = threadIdx.x; i < z.steps * z.places; i += blockDim.x)
        row[i] = never;
    __syncthreads();
    for (int64_t t = 0; t < steps; t++, row += z.places) {
        const T *emits = x + (t * z.items + n) * z.classes, *last = row - z.places;
        for (int64_t s = threadIdx.x; s <= end; s += blockDim.x) {
            T come = s < 2 ? (T)0 : never;
            if (t)
                come = log_sum<T>(last[s], s > 0 ? last[s - 1] : never,
                                  z.jumps(labels, n, s) ? last[s - 2] : never);
            row[s] = come + emits[z.class_of(labels, n, s)];
        }
        __syncthreads();
    }
    if (threadIdx.x)
        return;
    T total = end == 0 ? (T)0 : never;
    if (steps)
        total = log_sum<T>(row[end - z.places], end ? row[end - 1 - z.places] : never, never);
    loss[n] = -total;
}

/* What follows a place at step t; `after`: the row of the step behind it. */
template <class T>
static __device__ inline T follows(const ctc_sizes &z, const T *emits, const void *labels,
                                   int64_t n, int64_t s, int64_t end, const T *after)
{
    const T never = -(T)INFINITY;
    T v[3] = {never, never, never};
    for (int k = 0; k < 3 && s + k <= end; k++)
        if (k < 2 || z.jumps(labels, n, s + 2))
            v[k] = after[s + k] + emits[z.class_of(labels, n, s + k)];
    return log_sum<T>(v[0], v[1], v[2]);
}

/* Of a label that comes for the first time at place s: how likely all its places are. */
template <class T>
static __device__ inline T sum_of_label(const ctc_sizes &z, const void *labels, int64_t n,
                                        int64_t s, int64_t end, const T *likely, bool *first)
{
    int64_t k = z.class_of(labels, n, s);
    T sum = 0;
    *first = k != z.blank;
    for (int64_t r = 1; r < s && *first; r += 2)
        *first = z.class_of(labels, n, r) != k;
    for (int64_t r = s; r <= end && *first; r += 2)
        sum += z.class_of(labels, n, r) == k ? likely[r] : (T)0;
    return sum;
}

/* `rows` [N, 3, L]: two steps of what follows, and how likely places are. */
template <class T>
__global__ void ctc_backward(ctc_sizes z, const T *g, const T *x, const void *labels,
                             const int64_t *input, const int64_t *target, const T *loss,
                             const T *alpha, T *rows, T *dx)
{
    int64_t n = blockIdx.x, steps = input[n], end = 2 * target[n];
    T *likely = rows + (n * 3 + 2) * z.places;
    for (int64_t t = 0; t < z.steps; t++)
        for (int64_t k = threadIdx.x; k < z.classes; k += blockDim.x)
            dx[(t * z.items + n) * z.classes + k] = 0;
    if (g[n] == 0)
        return;
    __syncthreads();
    for (int64_t t = steps - 1; t >= 0; t--) {
        T *now = rows + (n * 3 + t % 2) * z.places,
          *after = rows + (n * 3 + (t + 1) % 2) * z.places;
        T *to = dx + (t * z.items + n) * z.classes, blanks = 0;
        for (int64_t s = threadIdx.x; s <= end; s += blockDim.x) {
            now[s] = t < steps - 1  ? follows<T>(z, x + ((t + 1) * z.items + n) * z.classes, labels,
                                                n, s, end, after)
                     : s >= end - 1 ? (T)0
                                    : -(T)INFINITY;
            likely[s] = fbi_e(alpha[(n * z.steps + t) * z.places + s] + now[s] + loss[n]);
            blanks += z.class_of(labels, n, s) == z.blank ? likely[s] : (T)0;
        }
        blanks = fbi_join_block<fbi_add<T>>(blanks);
        __syncthreads();
        if (threadIdx.x == 0)
            to[z.blank] = blanks == 0 ? (T)0 : -g[n] * blanks;
        for (int64_t s = 1 + 2 * (int64_t)threadIdx.x; s <= end; s += 2 * blockDim.x) {
            bool first;
            T sum = sum_of_label<T>(z, labels, n, s, end, likely, &first);
            if (first)
                to[z.class_of(labels, n, s)] = sum == 0 ? (T)0 : -g[n] * sum;
        }
        __syncthreads();
    }
}

static ctc_sizes sizes_of(const fbi_call *c, int x, int64_t blank)
{
    const fb_tensor *t = c->in[x], *labels = c->in[x + 1];
    ctc_sizes z = {};
    z.steps = t->size[0];
    z.items = t->size[1];
    z.classes = t->size[2];
    z.labels = labels->size[1];
    z.places = 2 * z.labels + 1;
    z.blank = blank;
    z.label = fbi_indices{fbi_noted_op(c), labels->dtype, z.classes, fbi_cuda_of(c->ctx)->bad};
    return z;
}

template <class T> static fb_status run_ctc(const fbi_call *c)
{
    fbi_temps temps(c);
    ctc_sizes z = sizes_of(c, 0, FBI_ATTRS(ctc).blank);
    const void *in[4];
    for (int i = 0; i < 4; i++)
        if (!(in[i] = temps.dense(c->in[i])))
            return c->ctx->status;
    if (z.items)
        FBI_LAUNCH(c, (ctc_forward<T>), z.items, fbi_row_threads(z.places), z, (const T *)in[0],
                   in[1], (const int64_t *)in[2], (const int64_t *)in[3],
                   (T *)fbi_cuda_data(c->out[0]), (T *)fbi_cuda_data(c->out[1]));
    return fbi_cuda_checked(c);
}

FBI_CUDA_KERNEL(ctc)
{
    return c->in[0]->dtype == FB_F64 ? run_ctc<double>(c) : run_ctc<float>(c);
}

template <class T> static fb_status run_ctc_bwd(const fbi_call *c)
{
    fbi_temps temps(c);
    ctc_sizes z = sizes_of(c, 1, FBI_ATTRS(ctc_bwd).blank);
    const void *in[7];
    for (int i = 0; i < 7; i++)
        if (!(in[i] = temps.dense(c->in[i])))
            return c->ctx->status;
    T *rows = temps.array<T>(z.items * 3 * z.places);
    if (!rows)
        return c->ctx->status;
    if (z.items)
        FBI_LAUNCH(c, (ctc_backward<T>), z.items, fbi_row_threads(z.places), z, (const T *)in[0],
                   (const T *)in[1], in[2], (const int64_t *)in[3], (const int64_t *)in[4],
                   (const T *)in[5], (const T *)in[6], rows, (T *)fbi_cuda_data(c->out[0]));
    return FB_OK;
}

FBI_CUDA_KERNEL(ctc_bwd)
{
    return c->in[1]->dtype == FB_F64 ? run_ctc_bwd<double>(c) : run_ctc_bwd<float>(c);
}
