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

/* New parameters of n elements from `at` on, as to[n]; the state in place. */
static void NAME(adam_block)(const fbi_update *u, int64_t at, int64_t n, T *restrict to)
{
    const T *restrict p = (const T *)u->p + at, *restrict g = (const T *)u->g + at;
    T *restrict m = (T *)u->s[0] + at, *restrict v = (T *)u->s[1] + at;
    T *restrict top = u->s[2] ? (T *)u->s[2] + at : NULL;
    T shrink = (T)u->shrink, decay = (T)u->weight_decay, scale = (T)u->scale, eps = (T)u->eps;
    T c1 = (T)(1 - u->beta1), b2 = (T)u->beta2, c2 = (T)(1 - u->beta2);
    T step_size = (T)u->step_size, per_root2 = (T)(1 / u->root2);
    if (!top) {
        for (int64_t i = 0; i < n; i++) {
            T w = p[i] * shrink, d = g[i] * scale + decay * w;
            m[i] += c1 * (d - m[i]);
            v[i] = b2 * v[i] + c2 * (d * d);
            to[i] = w - step_size * (m[i] / (SQRT(v[i]) * per_root2 + eps));
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            T w = p[i] * shrink, d = g[i] * scale + decay * w;
            m[i] += c1 * (d - m[i]);
            v[i] = b2 * v[i] + c2 * (d * d);
            top[i] = MAX(top[i], v[i]);
            to[i] = w - step_size * (m[i] / (SQRT(top[i]) * per_root2 + eps));
        }
    }
}

/* All threads have read all parameters in forward, so the new ones are written past the caches. */
static void NAME(adam)(const fbi_update *u)
{
    bool parallel = u->n > MIN_PARALLEL && u->threads > 1;
#pragma omp parallel num_threads(u->threads) if (parallel)
    {
        _Alignas(64) T to[BLOCK];
#pragma omp for schedule(static)
        for (int64_t at = 0; at < u->n; at += BLOCK) {
            int64_t n = u->n - at < BLOCK ? u->n - at : BLOCK;
            size_t bytes = (size_t)n * sizeof(T);
            NAME(adam_block)(u, at, n, to);
            if (parallel)
                fbi_stream((T *)u->p + at, to, bytes);
            else
                memcpy((T *)u->p + at, to, bytes);
        }
        fbi_stream_end();
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
