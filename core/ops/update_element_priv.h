/* One element of type T; included twice by update_priv.h, hence no guard. `S` states are in s. */

/* Numbers of a row, in the type that elements are computed in. */
typedef struct NAME(fbi_numbers) {
    T scale, limit, lr, shrink, decay, mu, fresh, kept, b1, b2, c1, c2, eps, step_size, per_root2,
        next_size, low, high;
    bool nesterov, centered, first, clamps;
} NAME(fbi_numbers);

static inline FBI_BOTH void NAME(fbi_numbers_of)(const fbi_method_numbers *m, const fbi_factors *f,
                                                 NAME(fbi_numbers) * k)
{
    k->scale = (T)f->scale;
    k->clamps = m->limit > 0;
    k->limit = (T)m->limit;
    k->lr = (T)f->lr;
    k->shrink = (T)f->shrink;
    k->decay = (T)f->weight_decay;
    k->mu = (T)m->momentum;
    k->fresh = f->first ? (T)1 : (T)(1 - m->dampening);
    k->kept = f->first ? (T)0 : (T)m->momentum;
    k->b1 = (T)m->beta1;
    k->b2 = (T)m->beta2;
    k->c1 = (T)(1 - m->beta1);
    k->c2 = (T)(1 - m->beta2);
    k->eps = (T)m->eps;
    k->step_size = (T)f->step_size;
    k->per_root2 = (T)f->per_root2;
    k->next_size = (T)f->next_size;
    k->low = (T)m->low;
    k->high = (T)m->high;
    k->nesterov = m->nesterov;
    k->centered = m->centered;
    k->first = f->first != 0;
}

/* The gradient that a method sees of weight w; NaN stays. */
static inline FBI_BOTH T NAME(fbi_seen)(const NAME(fbi_numbers) * k, T w, T g)
{
    T d = g * k->scale;
    if (k->clamps) {
        d = d > k->limit ? k->limit : d;
        d = d < -k->limit ? -k->limit : d;
    }
    return d + k->decay * w;
}

static inline FBI_BOTH T NAME(fbi_sign)(T x)
{
    return (T)((x > 0) - (x < 0));
}

/* Robbins, Monro; momentum: Sutskever et al., ICML 2013. */
static inline FBI_BOTH T NAME(fbi_next_sgd)(const NAME(fbi_numbers) * k, T p, T g, T *s, int S)
{
    T d = NAME(fbi_seen)(k, p, g);
    if (S == 0)
        return p - k->lr * d;
    T b = k->kept * s[0] + k->fresh * d;
    s[0] = b;
    return p - k->lr * (k->nesterov ? d + k->mu * b : b);
}

/* Means of gradients and of their squares. */
static inline FBI_BOTH void NAME(fbi_moments)(const NAME(fbi_numbers) * k, T d, T *s)
{
    s[0] = s[0] + k->c1 * (d - s[0]);
    s[1] = k->b2 * s[1] + k->c2 * (d * d);
}

static inline FBI_BOTH T NAME(fbi_next_adam)(const NAME(fbi_numbers) * k, T p, T g, T *s, int S)
{
    T w = p * k->shrink, most;
    NAME(fbi_moments)(k, NAME(fbi_seen)(k, w, g), s);
    most = s[1];
    if (S > 2)
        most = s[2] = s[2] > most ? s[2] : most;
    return w - k->step_size * (s[0] / (ROOT(most) * k->per_root2 + k->eps));
}

static inline FBI_BOTH T NAME(fbi_next_rmsprop)(const NAME(fbi_numbers) * k, T p, T g, T *s, int S)
{
    T d = NAME(fbi_seen)(k, p, g), square = k->b2 * s[0] + k->c2 * (d * d);
    s[0] = square;
    if (k->centered && S > 1) {
        s[1] = s[1] + k->c2 * (d - s[1]);
        square = square - s[1] * s[1];
    }
    T step = d / (ROOT(square) + k->eps);
    if (S > 2 || (S == 2 && !k->centered))
        step = s[S - 1] = k->mu * s[S - 1] + step;
    return p - k->lr * step;
}

static inline FBI_BOTH T NAME(fbi_next_adagrad)(const NAME(fbi_numbers) * k, T p, T g, T *s, int S)
{
    (void)S;
    T d = NAME(fbi_seen)(k, p, g), sum = (k->first ? k->low : s[0]) + d * d;
    s[0] = sum;
    return p - k->step_size * (d / (ROOT(sum) + k->eps));
}

static inline FBI_BOTH T NAME(fbi_next_adadelta)(const NAME(fbi_numbers) * k, T p, T g, T *s, int S)
{
    (void)S;
    T d = NAME(fbi_seen)(k, p, g), square = k->b2 * s[0] + k->c2 * (d * d);
    T step = ROOT(s[1] + k->eps) / ROOT(square + k->eps) * d;
    s[0] = square;
    s[1] = k->b2 * s[1] + k->c2 * (step * step);
    return p - k->lr * step;
}

static inline FBI_BOTH T NAME(fbi_next_adamax)(const NAME(fbi_numbers) * k, T p, T g, T *s, int S)
{
    (void)S;
    T d = NAME(fbi_seen)(k, p, g), old = k->b2 * s[1], now = SIZE(d) + k->eps;
    T most = old > now ? old : now;
    s[0] = s[0] + k->c1 * (d - s[0]);
    s[1] = most;
    return p - k->step_size * (s[0] / most);
}

static inline FBI_BOTH T NAME(fbi_next_nadam)(const NAME(fbi_numbers) * k, T p, T g, T *s, int S)
{
    (void)S;
    T w = p * k->shrink, d = NAME(fbi_seen)(k, w, g);
    NAME(fbi_moments)(k, d, s);
    T root = ROOT(s[1]) * k->per_root2 + k->eps;
    return w - k->step_size * (d / root) - k->next_size * (s[0] / root);
}

static inline FBI_BOTH T NAME(fbi_next_radam)(const NAME(fbi_numbers) * k, T p, T g, T *s, int S)
{
    (void)S;
    T w = p * k->shrink;
    NAME(fbi_moments)(k, NAME(fbi_seen)(k, w, g), s);
    T step = k->step_size * s[0];
    return w - (k->next_size > 0 ? step * (k->next_size / (ROOT(s[1]) + k->eps)) : step);
}

/* s: the gradient before, and the size of steps. */
static inline FBI_BOTH T NAME(fbi_next_rprop)(const NAME(fbi_numbers) * k, T p, T g, T *s, int S)
{
    (void)S;
    T d = NAME(fbi_seen)(k, p, g), same = NAME(fbi_sign)(d * s[0]);
    T size = (k->first ? k->lr : s[1]) * (same > 0 ? k->b2 : same < 0 ? k->b1 : (T)1);
    size = size < k->low ? k->low : size;
    size = size > k->high ? k->high : size;
    d = same < 0 ? (T)0 : d;
    s[0] = d;
    s[1] = size;
    return p - NAME(fbi_sign)(d) * size;
}

/* Chen et al.: arXiv:2302.06675. */
static inline FBI_BOTH T NAME(fbi_next_lion)(const NAME(fbi_numbers) * k, T p, T g, T *s, int S)
{
    (void)S;
    T w = p * k->shrink, d = NAME(fbi_seen)(k, w, g);
    T way = NAME(fbi_sign)(s[0] + k->c1 * (d - s[0]));
    s[0] = s[0] + k->c2 * (d - s[0]);
    return w - k->lr * way;
}

#undef T
#undef NAME
#undef ROOT
#undef SIZE
