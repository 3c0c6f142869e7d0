/* Elementwise sums and their like of several arrays along a program: comm/reduce.c on the card,
 * with the same bits (of NaN only that it is one). One launch joins at most eight operands, each
 * thread for its elements alone; larger subtrees go through temporary memory. */
#include "core/cuda/kernel_priv.h"

enum { OPERANDS = 8, DEPTH = 16 };

template <class T> static __device__ inline T join(int op, T a, T b)
{
    switch (op) {
    case FBI_COMBINE_PROD:
        return (T)(a * b);
    case FBI_COMBINE_MIN:
        return a < b || a != a ? a : b;
    case FBI_COMBINE_MAX:
        return a > b || a != a ? a : b;
    default:
        return (T)(a + b);
    }
}

/* Elements of type T, or 16-bit floats that are added as float; `wide`: they lie there as float. */
template <class T> struct plain {
    typedef T value;
    static __device__ T get(const void *p, int64_t i, bool) { return ((const T *)p)[i]; }
    static __device__ void put(void *p, int64_t i, T v, bool) { ((T *)p)[i] = v; }
};
template <int DTYPE> struct half_of {
    typedef float value;
    static __device__ float get(const void *p, int64_t i, bool wide)
    {
        return wide ? ((const float *)p)[i] : fbi_load<float>(p, DTYPE, i);
    }
    static __device__ void put(void *p, int64_t i, float v, bool wide)
    {
        fbi_store<float>(p, wide ? FB_F32 : DTYPE, i, v);
    }
};

/* Behind operand k come (joins >> 4 k) % 16 joins; bit k of `wide` is the operand's, and bit
 * OPERANDS the result's. The newest value is s[0]: fixed places stay in registers. */
template <class E, bool SUM>
__global__ void combine(int64_t count, int n, uint64_t joins, unsigned wide, int op, void *out,
                        const void *p0, const void *p1, const void *p2, const void *p3,
                        const void *p4, const void *p5, const void *p6, const void *p7)
{
    typedef typename E::value T;
    const void *p[OPERANDS] = {p0, p1, p2, p3, p4, p5, p6, p7};
    FBI_EACH(i, count)
    {
        T v[OPERANDS], s[OPERANDS] = {};
        for (int k = 0; k < OPERANDS; k++)
            v[k] = k < n ? E::get(p[k], i, wide >> k & 1) : (T)0;
        for (int k = 0; k < OPERANDS; k++) {
            if (k >= n)
                break;
            for (int j = OPERANDS - 1; j > 0; j--)
                s[j] = s[j - 1];
            s[0] = v[k];
            for (unsigned left = joins >> 4 * k & 15; left > 0; left--) {
                s[0] = SUM ? (T)(s[1] + s[0]) : join<T>(op, s[1], s[0]);
                for (int j = 1; j < OPERANDS - 1; j++)
                    s[j] = s[j + 1];
            }
        }
        E::put(out, i, s[0], wide >> OPERANDS & 1);
    }
}

/* --- the host's side: a program in pieces of at most eight operands --- */

namespace
{
/* A subtree that is not computed yet. */
struct subtree {
    int n;
    uint64_t joins;
    const void *p[OPERANDS];
    fbi_storage *own[OPERANDS]; /* NULL: the caller's memory, in the dtype of the call */
};

struct task {
    fb_context *ctx;
    int op;
    fb_dtype dtype, out_dtype;
    int64_t count;
};
} /* namespace */

static bool is_half(fb_dtype dtype)
{
    return dtype == FB_F16 || dtype == FB_BF16;
}

template <class E>
static fb_status launch(const task *t, const subtree *s, void *out, unsigned wide)
{
    unsigned grid = fbi_blocks(t->ctx, t->count);
    const void *const *p = s->p;
    if (t->op == FBI_COMBINE_SUM)
        FBI_LAUNCH_ON(t->ctx, (combine<E, true>), grid, FBI_BLOCK, t->count, s->n, s->joins, wide,
                      t->op, out, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
    else
        FBI_LAUNCH_ON(t->ctx, (combine<E, false>), grid, FBI_BLOCK, t->count, s->n, s->joins, wide,
                      t->op, out, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
    return FB_OK;
}

/* Compute a subtree; `last`: into the result of the call, else into temporary memory. */
static fb_status compute(const task *t, const subtree *s, void *out, bool last)
{
    fb_dtype narrow = is_half(t->dtype) ? t->dtype : t->out_dtype;
    unsigned wide = !last || !is_half(t->out_dtype) ? 1u << OPERANDS : 0;
    bool orders =
        t->op == FBI_COMBINE_MIN || t->op == FBI_COMBINE_MAX; /* else signs do not matter */
    for (int k = 0; k < s->n; k++)
        if (s->own[k] || !is_half(t->dtype))
            wide |= 1u << k;
    switch (narrow) {
    case FB_F32:
        return launch<plain<float>>(t, s, out, wide);
    case FB_F64:
        return launch<plain<double>>(t, s, out, wide);
    case FB_F16:
        return launch<half_of<FB_F16>>(t, s, out, wide);
    case FB_BF16:
        return launch<half_of<FB_BF16>>(t, s, out, wide);
    case FB_I32:
        return orders ? launch<plain<int32_t>>(t, s, out, wide)
                      : launch<plain<uint32_t>>(t, s, out, wide);
    case FB_I64:
        return orders ? launch<plain<int64_t>>(t, s, out, wide)
                      : launch<plain<uint64_t>>(t, s, out, wide);
    default:
        return launch<plain<uint8_t>>(t, s, out, wide);
    }
}

static void drop(const task *t, subtree *s)
{
    for (int k = 0; k < s->n; k++)
        if (s->own[k])
            fbi_cuda_of(t->ctx)->core->storage_unref(t->ctx, s->own[k]);
    s->n = 0;
}

/* It becomes one operand. */
static fb_status shrink(const task *t, subtree *s)
{
    const fbi_core_api *core = fbi_cuda_of(t->ctx)->core;
    size_t size = is_half(t->dtype) ? sizeof(float) : (size_t)fbi_cuda_bytes(t->dtype);
    fbi_storage *room = core->storage_new(t->ctx, (size_t)t->count * size);
    fb_status st = room ? compute(t, s, room->data, false) : t->ctx->status;
    drop(t, s); /* in the order of the stream: behind the kernel */
    if (!room)
        return st;
    *s = subtree{1, 0, {room->data}, {room}};
    return st;
}

/* left = left and right. */
static fb_status join_subtrees(const task *t, subtree *left, subtree *right)
{
    fb_status st = FB_OK;
    while (left->n + right->n > OPERANDS && !st)
        st = shrink(t, left->n >= right->n ? left : right);
    if (st)
        return st;
    for (int k = 0; k < right->n; k++) {
        left->p[left->n + k] = right->p[k];
        left->own[left->n + k] = right->own[k];
    }
    left->joins |= right->joins << 4 * left->n;
    left->n += right->n;
    left->joins += 1ull << 4 * (left->n - 1);
    right->n = 0;
    return FB_OK;
}

static fb_status follow(const task *t, const int16_t *program, int n, const void *const *operands,
                        subtree *stack, int *top)
{
    fb_status st = FB_OK;
    for (int i = 0; i < n && !st; i++) {
        if (program[i] == FBI_COMBINE_JOIN) {
            st = join_subtrees(t, &stack[*top - 2], &stack[*top - 1]);
            *top -= !st;
        } else {
            assert(*top < DEPTH);
            stack[(*top)++] = subtree{1, 0, {operands[program[i]]}, {NULL}};
        }
    }
    return st;
}

extern "C" fb_status fbi_cuda_combine(fb_context *ctx, int op, fb_dtype dtype, fb_dtype out_dtype,
                                      const int16_t *program, int n, const void *const *operands,
                                      void *out, int64_t count)
{
    const task t = {ctx, op, dtype, out_dtype, count};
    subtree stack[DEPTH];
    int top = 0;
    fb_status st = fbi_cuda_use(ctx);
    if (st || count == 0)
        return st;
    if (n == 0) {
        FBI_CUDA_TRY(ctx, cudaMemsetAsync(out, 0, (size_t)(count * fbi_cuda_bytes(out_dtype)),
                                          fbi_cuda_of(ctx)->stream));
        return FB_OK;
    }
    st = follow(&t, program, n, operands, stack, &top);
    if (!st)
        st = compute(&t, &stack[0], out, true);
    while (top > 0)
        drop(&t, &stack[--top]);
    return st;
}
