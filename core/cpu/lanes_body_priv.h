/* Sums of one floating type T with a fixed order. Included with T, V (64-byte vector of T) and
 * X(name) defined; no guard. A block of 4096 elements is summed in 4 vectors that are then halved;
 * blocks are joined pairwise by index, so no thread count and no vector width shows in the bits. */

/* Sum of x - shift, or of its square. shift 0 and no square: plain. n <= FBI_BLOCK */
static inline T X(block)(const T *x, int64_t n, T shift, bool square)
{
    enum { W = 64 / sizeof(T), LANES = 4 * W };
    union {
        V v[4];
        T t[LANES];
    } acc;
    V a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        V v[4];
        memcpy(v, x + i, sizeof v);
        if (square) {
            for (int k = 0; k < 4; k++)
                v[k] = (v[k] - shift) * (v[k] - shift);
        }
        a0 += v[0];
        a1 += v[1];
        a2 += v[2];
        a3 += v[3];
    }
    acc.v[0] = a0;
    acc.v[1] = a1;
    acc.v[2] = a2;
    acc.v[3] = a3;
    for (int k = 0; i < n; i++, k++)
        acc.t[k] += square ? (x[i] - shift) * (x[i] - shift) : x[i];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            acc.t[k] += acc.t[k + half];
    return acc.t[0];
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
