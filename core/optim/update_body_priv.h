/* Update loops for one element type T; included twice by update.c, hence no guard. */

static void NAME(sgd)(const fbi_update *u)
{
    T *restrict p = u->p, *restrict buf = u->s[0];
    const T *restrict g = u->g;
    T lr = (T)u->lr, decay = (T)u->weight_decay, scale = (T)u->scale, mu = (T)u->momentum;
    T fresh = u->first ? 1 : (T)(1 - u->dampening), kept = u->first ? 0 : mu;
    bool parallel = u->n > MIN_PARALLEL;
    if (!buf) {
#pragma omp parallel for simd num_threads(u->threads) if (parallel)
        for (int64_t i = 0; i < u->n; i++)
            p[i] -= lr * (g[i] * scale + decay * p[i]);
    } else if (u->nesterov) {
#pragma omp parallel for simd num_threads(u->threads) if (parallel)
        for (int64_t i = 0; i < u->n; i++) {
            T d = g[i] * scale + decay * p[i];
            buf[i] = kept * buf[i] + fresh * d;
            p[i] -= lr * (d + mu * buf[i]);
        }
    } else {
#pragma omp parallel for simd num_threads(u->threads) if (parallel)
        for (int64_t i = 0; i < u->n; i++) {
            buf[i] = kept * buf[i] + fresh * (g[i] * scale + decay * p[i]);
            p[i] -= lr * buf[i];
        }
    }
}

static void NAME(adam)(const fbi_update *u)
{
    T *restrict p = u->p, *restrict m = u->s[0], *restrict v = u->s[1], *restrict top = u->s[2];
    const T *restrict g = u->g;
    T shrink = (T)u->shrink, decay = (T)u->weight_decay, scale = (T)u->scale, eps = (T)u->eps;
    T c1 = (T)(1 - u->beta1), b2 = (T)u->beta2, c2 = (T)(1 - u->beta2);
    T step_size = (T)u->step_size, per_root2 = (T)(1 / u->root2);
    bool parallel = u->n > MIN_PARALLEL;
    if (!top) {
#pragma omp parallel for simd num_threads(u->threads) if (parallel)
        for (int64_t i = 0; i < u->n; i++) {
            T w = p[i] * shrink, d = g[i] * scale + decay * w;
            m[i] += c1 * (d - m[i]);
            v[i] = b2 * v[i] + c2 * (d * d);
            p[i] = w - step_size * (m[i] / (SQRT(v[i]) * per_root2 + eps));
        }
    } else {
#pragma omp parallel for simd num_threads(u->threads) if (parallel)
        for (int64_t i = 0; i < u->n; i++) {
            T w = p[i] * shrink, d = g[i] * scale + decay * w;
            m[i] += c1 * (d - m[i]);
            v[i] = b2 * v[i] + c2 * (d * d);
            top[i] = MAX(top[i], v[i]);
            p[i] = w - step_size * (m[i] / (SQRT(top[i]) * per_root2 + eps));
        }
    }
}

static void NAME(average)(const fbi_update *u)
{
    T *restrict a = u->p, d = (T)u->decay;
    const T *restrict x = u->g;
    bool parallel = u->n > MIN_PARALLEL;
#pragma omp parallel for simd num_threads(u->threads) if (parallel)
    for (int64_t i = 0; i < u->n; i++)
        a[i] = d * a[i] + (1 - d) * x[i];
}

#undef T
#undef NAME
#undef SQRT
#undef MAX
