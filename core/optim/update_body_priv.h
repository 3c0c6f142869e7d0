/* Update loops for one element type T; included twice by update.c, hence no guard. */

static void NAME(sgd)(const fbi_run *r, const fbi_sgd_numbers *k)
{
    T *restrict p = r->p, *restrict buf = r->s[0];
    const T *restrict g = r->g;
    T lr = (T)k->lr, decay = (T)k->weight_decay, scale = (T)k->scale, mu = (T)k->momentum;
    T fresh = k->first ? 1 : (T)(1 - k->dampening), kept = k->first ? 0 : mu;
    bool parallel = r->n > MIN_PARALLEL;
    if (!buf) {
#pragma omp parallel for simd num_threads(r->threads) if (parallel)
        for (int64_t i = 0; i < r->n; i++)
            p[i] -= lr * (g[i] * scale + decay * p[i]);
    } else if (k->nesterov) {
#pragma omp parallel for simd num_threads(r->threads) if (parallel)
        for (int64_t i = 0; i < r->n; i++) {
            T d = g[i] * scale + decay * p[i];
            buf[i] = kept * buf[i] + fresh * d;
            p[i] -= lr * (d + mu * buf[i]);
        }
    } else {
#pragma omp parallel for simd num_threads(r->threads) if (parallel)
        for (int64_t i = 0; i < r->n; i++) {
            buf[i] = kept * buf[i] + fresh * (g[i] * scale + decay * p[i]);
            p[i] -= lr * buf[i];
        }
    }
}

static void NAME(adam)(const fbi_run *r, const fbi_adam_numbers *k)
{
    T *restrict p = r->p, *restrict m = r->s[0], *restrict v = r->s[1], *restrict top = r->s[2];
    const T *restrict g = r->g;
    T shrink = (T)k->shrink, decay = (T)k->weight_decay, scale = (T)k->scale, eps = (T)k->eps;
    T c1 = (T)(1 - k->beta1), b2 = (T)k->beta2, c2 = (T)(1 - k->beta2);
    T step_size = (T)k->step_size, per_root2 = (T)(1 / k->root2);
    bool parallel = r->n > MIN_PARALLEL;
    if (!top) {
#pragma omp parallel for simd num_threads(r->threads) if (parallel)
        for (int64_t i = 0; i < r->n; i++) {
            T w = p[i] * shrink, d = g[i] * scale + decay * w;
            m[i] += c1 * (d - m[i]);
            v[i] = b2 * v[i] + c2 * (d * d);
            p[i] = w - step_size * (m[i] / (SQRT(v[i]) * per_root2 + eps));
        }
    } else {
#pragma omp parallel for simd num_threads(r->threads) if (parallel)
        for (int64_t i = 0; i < r->n; i++) {
            T w = p[i] * shrink, d = g[i] * scale + decay * w;
            m[i] += c1 * (d - m[i]);
            v[i] = b2 * v[i] + c2 * (d * d);
            top[i] = MAX(top[i], v[i]);
            p[i] = w - step_size * (m[i] / (SQRT(top[i]) * per_root2 + eps));
        }
    }
}

#undef T
#undef NAME
#undef SQRT
#undef MAX
