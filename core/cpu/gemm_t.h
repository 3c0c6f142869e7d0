/* The own product for one element type: T, and FN(name) to name its functions. No include guard.
 *
 * C is cut into tiles of FBI_MB x FBI_NB; K into blocks of FBI_KB whose partial sums are added in
 * order, so the bits depend neither on the number of threads nor on which thread has which tile. */

typedef T FN(vec) __attribute__((vector_size(32)));
enum { FN(lanes) = 32 / sizeof(T), FN(nr) = 2 * FN(lanes) };

/* acc[FBI_MR][nr] += a panel[k][FBI_MR] * b panel[k][nr]. */
static void FN(micro)(int64_t k, const T *a, const T *b, T *tile)
{
    FN(vec) s[FBI_MR][2] = {{{0}}};
    for (int64_t p = 0; p < k; p++) {
        FN(vec) b0, b1;
        memcpy(&b0, b + p * FN(nr), sizeof b0);
        memcpy(&b1, b + p * FN(nr) + FN(lanes), sizeof b1);
        for (int i = 0; i < FBI_MR; i++) {
            T x = a[p * FBI_MR + i];
            s[i][0] += x * b0;
            s[i][1] += x * b1;
        }
    }
    for (int i = 0; i < FBI_MR; i++)
        for (int h = 0; h < 2; h++) {
            FN(vec) t;
            T *at = tile + i * FBI_NB + h * FN(lanes);
            memcpy(&t, at, sizeof t);
            t += s[i][h];
            memcpy(at, &t, sizeof t);
        }
}

/* Panels of `width` columns of src (outer stride so, inner stride si), padded with zeros. */
static void FN(pack)(const T *src, int64_t outer, int64_t k, int64_t so, int64_t sk, int width,
                     T *dst)
{
    for (int64_t o = 0; o < outer; o += width)
        for (int64_t p = 0; p < k; p++)
            for (int i = 0; i < width; i++)
                *dst++ = o + i < outer ? src[(o + i) * so + p * sk] : 0;
}

static void FN(tile)(const fbi_mm *g, int64_t batch, int64_t m0, int64_t n0)
{
    T pa[FBI_MB * FBI_KB] __attribute__((aligned(64)));
    T pb[FBI_KB * FBI_NB] __attribute__((aligned(64)));
    T tile[FBI_MB * FBI_NB] __attribute__((aligned(64))) = {0};
    int64_t m = g->m - m0 < FBI_MB ? g->m - m0 : FBI_MB;
    int64_t n = g->n - n0 < FBI_NB ? g->n - n0 : FBI_NB;
    const T *a = (const T *)g->a + batch * g->a_b + m0 * g->a_m;
    const T *b = (const T *)g->b + batch * g->b_b + n0 * g->b_n;
    for (int64_t k0 = 0; k0 < g->k; k0 += FBI_KB) {
        int64_t k = g->k - k0 < FBI_KB ? g->k - k0 : FBI_KB;
        FN(pack)(a + k0 * g->a_k, m, k, g->a_m, g->a_k, FBI_MR, pa);
        FN(pack)(b + k0 * g->b_k, n, k, g->b_n, g->b_k, FN(nr), pb);
        for (int64_t i = 0; i < m; i += FBI_MR)
            for (int64_t j = 0; j < n; j += FN(nr))
                FN(micro)(k, pa + i * k, pb + j * k, tile + i * FBI_NB + j);
    }
    const T *bias = g->bias ? (const T *)g->bias + n0 : NULL;
    for (int64_t i = 0; i < m; i++) {
        T *c = (T *)g->c + batch * g->c_b + (m0 + i) * g->c_m + n0;
        for (int64_t j = 0; j < n; j++) {
            T v = tile[i * FBI_NB + j] + (bias ? bias[j] : 0);
            c[j] = g->beta != 0 ? c[j] + v : v;
        }
    }
}

static void FN(gemm)(const fbi_mm *g, int threads)
{
    int64_t mt = (g->m + FBI_MB - 1) / FBI_MB, nt = (g->n + FBI_NB - 1) / FBI_NB;
    int64_t tiles = g->batch * mt * nt;
#pragma omp parallel for num_threads(threads) if (threads > 1 && tiles > 1) schedule(static)
    for (int64_t t = 0; t < tiles; t++)
        FN(tile)(g, t / (mt * nt), t / nt % mt * FBI_MB, t % nt * FBI_NB);
}
