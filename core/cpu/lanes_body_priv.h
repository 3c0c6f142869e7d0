/* Sums of one floating type T with a fixed order. Included with T, V and I (vectors of T and of
 * integers) and X(name) defined; no guard. A block of 4096 elements is summed in 256 bytes of
 * lanes, then halved; blocks are joined pairwise by index, so no thread count and no vector width
 * shows in the bits. */

/* Sum of x - shift, or of its square. shift 0 and no square: plain. n <= FBI_BLOCK */
static inline T X(block)(const T *x, int64_t n, T shift, bool square)
{
    enum { LANES = 256 / sizeof(T), VECTORS = 256 / sizeof(V) };
    V sum[VECTORS] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma GCC unroll 16
        for (int k = 0; k < VECTORS; k++) {
            V v;
            memcpy(&v, x + i + k * (int)(sizeof(V) / sizeof(T)), sizeof v);
            if (square)
                v = (v - shift) * (v - shift);
            sum[k] += v;
        }
    }
    T lane[LANES];
    memcpy(lane, sum, sizeof lane);
    for (int k = 0; k < LANES && i < n; k++, i++)
        lane[k] += square ? (x[i] - shift) * (x[i] - shift) : x[i];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            lane[k] += lane[k + half];
    return lane[0];
}

static inline T X(join)(const T *p, int64_t n)
{
    if (n == 1)
        return p[0];
    int64_t half = (n + 1) / 2;
    return X(join)(p, half) + X(join)(p + half, n - half);
}

/* The same order without an array of blocks. */
static inline T X(run)(const T *x, int64_t n, T shift, bool square)
{
    if (n <= FBI_BLOCK)
        return X(block)(x, n, shift, square);
    int64_t half = ((n + FBI_BLOCK - 1) / FBI_BLOCK + 1) / 2 * FBI_BLOCK;
    return X(run)(x, half, shift, square) + X(run)(x + half, n - half, shift, square);
}

static inline V X(larger)(V a, V b)
{
    I is = a > b;
    return (V)(((I)a & is) | ((I)b & ~is));
}

/* Largest of n values, -inf for none; NaN is passed over. */
static inline T X(largest)(const T *x, int64_t n)
{
    enum { WIDTH = sizeof(V) / sizeof(T), VECTORS = 4, LANES = WIDTH * VECTORS };
    const V none = (V){0} - (T)__builtin_inf();
    V top[VECTORS] = {none, none, none, none};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++) {
            V v;
            memcpy(&v, x + i + k * WIDTH, sizeof v);
            top[k] = X(larger)(v, top[k]);
        }
    }
    V most = X(larger)(X(larger)(top[0], top[1]), X(larger)(top[2], top[3]));
    T lane[WIDTH];
    memcpy(lane, &most, sizeof lane);
    for (int half = WIDTH / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            lane[k] = lane[k] > lane[k + half] ? lane[k] : lane[k + half];
    T best = lane[0];
    for (; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return best == 0 ? 0 : best; /* of zeros +0, in whatever order */
}
