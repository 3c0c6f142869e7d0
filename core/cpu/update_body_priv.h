/* Update loops for one element type T; included twice by core/cpu/update.c, hence no guard. */

/* n elements from `at` on, of which S numbers are kept. */
#define BLOCK_OF(method, S)                                                                \
    static void NAME(method##_##S)(const fbi_update *u, const NAME(fbi_numbers) * numbers, \
                                   int64_t at, int64_t n)                                  \
    {                                                                                      \
        T *restrict p = (T *)u->p + at;                                                    \
        const T *restrict g = (const T *)u->g + at;                                        \
        T *restrict s0 = (S) > 0 ? (T *)u->s[0] + at : NULL;                               \
        T *restrict s1 = (S) > 1 ? (T *)u->s[1] + at : NULL;                               \
        T *restrict s2 = (S) > 2 ? (T *)u->s[2] + at : NULL;                               \
        const NAME(fbi_numbers) k = *numbers;                                              \
        for (int64_t i = 0; i < n; i++) {                                                  \
            T s[3] = {(S) > 0 ? s0[i] : 0, (S) > 1 ? s1[i] : 0, (S) > 2 ? s2[i] : 0};      \
            p[i] = NAME(fbi_next_##method)(&k, p[i], g[i], s, S);                          \
            if ((S) > 0)                                                                   \
                s0[i] = s[0];                                                              \
            if ((S) > 1)                                                                   \
                s1[i] = s[1];                                                              \
            if ((S) > 2)                                                                   \
                s2[i] = s[2];                                                              \
        }                                                                                  \
    }
BLOCK_OF(sgd, 0)
BLOCK_OF(sgd, 1)
BLOCK_OF(adam, 2)
BLOCK_OF(adam, 3)
BLOCK_OF(rmsprop, 1)
BLOCK_OF(rmsprop, 2)
BLOCK_OF(rmsprop, 3)
BLOCK_OF(adagrad, 1)
BLOCK_OF(adadelta, 2)
BLOCK_OF(adamax, 2)
BLOCK_OF(nadam, 2)
BLOCK_OF(radam, 2)
BLOCK_OF(rprop, 2)
BLOCK_OF(lion, 1)
#undef BLOCK_OF

typedef void (*NAME(block))(const fbi_update *u, const NAME(fbi_numbers) * k, int64_t at,
                            int64_t n);
static const NAME(block) NAME(blocks)[FBI_UPDATE_KINDS][FBI_MAX_STATES + 1] = {
    [FBI_UPDATE_SGD] = {[0] = NAME(sgd_0), [1] = NAME(sgd_1)},
    [FBI_UPDATE_ADAM] = {[2] = NAME(adam_2), [3] = NAME(adam_3)},
    [FBI_UPDATE_RMSPROP] = {[1] = NAME(rmsprop_1), [2] = NAME(rmsprop_2), [3] = NAME(rmsprop_3)},
    [FBI_UPDATE_ADAGRAD] = {[1] = NAME(adagrad_1)},
    [FBI_UPDATE_ADADELTA] = {[2] = NAME(adadelta_2)},
    [FBI_UPDATE_ADAMAX] = {[2] = NAME(adamax_2)},
    [FBI_UPDATE_NADAM] = {[2] = NAME(nadam_2)},
    [FBI_UPDATE_RADAM] = {[2] = NAME(radam_2)},
    [FBI_UPDATE_RPROP] = {[2] = NAME(rprop_2)},
    [FBI_UPDATE_LION] = {[1] = NAME(lion_1)}};

static void NAME(sweep)(const fbi_update *u)
{
    bool parallel = u->n > FBI_PAR_MIN && u->threads > 1;
    int states = 0;
    while (states < FBI_MAX_STATES && u->s[states])
        states++;
    NAME(block) block = NAME(blocks)[u->m.kind][states];
    NAME(fbi_numbers) k;
    NAME(fbi_numbers_of)(&u->m, &u->f, &k);
    if (!parallel) {
        block(u, &k, 0, u->n);
        return;
    }
#pragma omp parallel for num_threads(u->threads) schedule(static)
    for (int64_t at = 0; at < u->n; at += BLOCK) {
        int64_t left = u->n - at, n = left < BLOCK ? left : BLOCK, ahead = left - n;
        claim((const T *)u->p + at + n, (size_t)(ahead < BLOCK ? ahead : BLOCK) * sizeof(T));
        block(u, &k, at, n);
    }
}

static void NAME(average)(const fbi_average *u)
{
    T *restrict a = u->a, d = (T)u->decay;
    const T *restrict x = u->x;
    bool parallel = u->n > FBI_PAR_MIN && u->threads > 1;
#pragma omp parallel for simd num_threads(u->threads) if (parallel)
    for (int64_t i = 0; i < u->n; i++)
        a[i] = d * a[i] + (1 - d) * x[i];
}

#undef T
#undef NAME
