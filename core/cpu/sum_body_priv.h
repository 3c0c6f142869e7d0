/* Sums and variances of one floating type T over rows and columns. Included with T and X(name)
 * defined; no guard. The order of a sum depends on the sizes only (core/cpu/lanes_priv.h). */

/* out[o] = sum over n contiguous elements. */
static bool X(rows)(const fbi_call *c, const T *x, T *out, int64_t outer, int64_t n)
{
    int team = fbi_team(c, outer * n);
    if (team == 1 || outer >= team) {
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
        for (int64_t o = 0; o < outer; o++)
            out[o] = X(run)(x + o * n, n, 0, false);
        return true;
    }
    int64_t blocks = (n + FBI_BLOCK - 1) / FBI_BLOCK;
    T *part = fbi_scratch(c, blocks, sizeof(T));
    if (!part)
        return false;
    for (int64_t o = 0; o < outer; o++) {
#pragma omp parallel for num_threads(team) schedule(static)
        for (int64_t b = 0; b < blocks; b++) {
            int64_t left = n - b * FBI_BLOCK;
            part[b] =
                X(block)(x + o * n + b * FBI_BLOCK, left < FBI_BLOCK ? left : FBI_BLOCK, 0, false);
        }
        out[o] = X(join)(part, blocks);
    }
    free(part);
    return true;
}

/* out[o][k] = sum over j of x[o][j][k]: blocks of 64 rows, joined pairwise. */
static bool X(columns)(const fbi_call *c, const T *x, T *out, int64_t outer, int64_t n,
                       int64_t inner)
{
    int64_t blocks = n ? (n + 63) / 64 : 1;
    int team = fbi_team(c, outer * n * inner);
    T *part = out;
    if (blocks > 1 && !(part = fbi_scratch(c, outer * blocks * inner, sizeof(T))))
        return false;
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t w = 0; w < outer * blocks; w++) {
        int64_t o = w / blocks, first = w % blocks * 64, end = first + 64 < n ? first + 64 : n;
        T *restrict p = part + w * inner;
        memset(p, 0, (size_t)inner * sizeof(T));
        for (int64_t j = first; j < end; j++) {
            const T *restrict row = x + (o * n + j) * inner;
            for (int64_t k = 0; k < inner; k++)
                p[k] += row[k];
        }
    }
    if (blocks == 1)
        return true;
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t o = 0; o < outer; o++) {
        T *p = part + o * blocks * inner;
        for (int64_t s = 1; s < blocks; s *= 2)
            for (int64_t b = 0; b + s < blocks; b += 2 * s)
                for (int64_t k = 0; k < inner; k++)
                    p[b * inner + k] += p[(b + s) * inner + k];
        memcpy(out + o * inner, p, (size_t)inner * sizeof(T));
    }
    free(part);
    return true;
}

static fb_status X(sum)(const fbi_call *c, const fbi_reduction *r, bool mean)
{
    T *out = fbi_ptr(c->out[0]);
    const T *x = r->flat.p;
    if (!(r->inner == 1 ? X(rows)(c, x, out, r->outer, r->n)
                        : X(columns)(c, x, out, r->outer, r->n, r->inner)))
        return FB_E_NOMEM;
    for (int64_t i = 0; mean && i < c->out[0]->numel; i++)
        out[i] /= (T)r->n;
    return FB_OK;
}

/* Two passes over each row; inner is 1. */
static void X(var)(const fbi_call *c, const fbi_reduction *r, double correction)
{
    T *out = fbi_ptr(c->out[0]);
    const T *x = r->flat.p;
    int64_t n = r->n;
    int team = fbi_team(c, r->outer * n);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t o = 0; o < r->outer; o++) {
        T mean = X(run)(x + o * n, n, 0, false) / (T)n;
        double down = (double)n - correction;
        out[o] = X(run)(x + o * n, n, mean, true) / (T)(down > 0 ? down : 0);
    }
}
