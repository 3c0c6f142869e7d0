/* Vectors of one element type and squares of them, turned in registers: T, MASK (an integer of its
 * size) and FN(name). No include guard. */

typedef T FN(vec) __attribute__((vector_size(FBI_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef MASK FN(mask) __attribute__((vector_size(FBI_VECTOR_BYTES)));
enum { FN(lanes) = FBI_VECTOR_BYTES / sizeof(T) };

static inline FN(vec) FN(load)(const T *p)
{
    return *(const FN(vec) *)(const void *)p;
}

static inline void FN(store)(T *p, FN(vec) v)
{
    *(FN(vec) *)(void *)p = v;
}

/* r[i][j] and r[j][i] change places where bit s of i and j differs. */
static inline __attribute__((always_inline)) void FN(swap)(FN(vec) * r, const int s)
{
    FN(mask) low, high;
    for (int j = 0; j < FN(lanes); j++) {
        low[j] = j & s ? FN(lanes) + j - s : j;
        high[j] = j & s ? FN(lanes) + j : j + s;
    }
#pragma GCC unroll 16
    for (int i = 0; i < FN(lanes); i++) {
        if (i & s)
            continue;
        FN(vec) t = r[i], u = r[i + s];
        r[i] = __builtin_shuffle(t, u, low);
        r[i + s] = __builtin_shuffle(t, u, high);
    }
}

/* dst[j][i] = src[i][j] for a square of one vector; with `all` false only n rows are there, and the
 * others are 0. */
static inline __attribute__((always_inline)) void FN(turn)(const bool all, int64_t n, const T *src,
                                                           int64_t src_row, T *dst, int64_t dst_row)
{
    FN(vec) r[FN(lanes)];
#pragma GCC unroll 16
    for (int i = 0; i < FN(lanes); i++)
        r[i] = all || i < n ? FN(load)(src + i * src_row) : (FN(vec)){0};
    if (FN(lanes) == 16)
        FN(swap)(r, 8);
    if (FN(lanes) >= 8)
        FN(swap)(r, 4);
    if (FN(lanes) >= 4)
        FN(swap)(r, 2);
    FN(swap)(r, 1);
#pragma GCC unroll 16
    for (int i = 0; i < FN(lanes); i++)
        FN(store)(dst + i * dst_row, r[i]);
}
