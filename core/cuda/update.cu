/* The loops of the optimizers over flat memory, element by element; core/optim/update.c is their
 * definition. */
#include "core/cuda/kernel_priv.h"

template <class T>
__global__ void sgd(int64_t n, T *p, const T *g, T *buf, T lr, T decay, T scale, T mu, T fresh,
                    T kept, bool nesterov)
{
    FBI_EACH(i, n)
    {
        T d = g[i] * scale + decay * p[i];
        if (!buf) {
            p[i] -= lr * d;
            continue;
        }
        T b = kept * buf[i] + fresh * d;
        buf[i] = b;
        p[i] -= lr * (nesterov ? d + mu * b : b);
    }
}

template <class T> struct fbi_adam {
    T shrink, decay, scale, c1, b2, c2, step_size, per_root2, eps;
};

template <class T> static __device__ inline T larger(T a, T b)
{
    return a < b || a != a ? b : a;
}

template <class T>
__global__ void adam(int64_t n, T *p, const T *g, T *m, T *v, T *top, fbi_adam<T> k)
{
    FBI_EACH(i, n)
    {
        T w = p[i] * k.shrink, d = g[i] * k.scale + k.decay * w;
        T first = m[i] + k.c1 * (d - m[i]), second = k.b2 * v[i] + k.c2 * (d * d), most = second;
        m[i] = first;
        v[i] = second;
        if (top)
            most = top[i] = larger(top[i], second);
        p[i] = w - k.step_size * (first / (fbi_root(most) * k.per_root2 + k.eps));
    }
}

template <class T> __global__ void average(int64_t n, T *a, const T *x, T d)
{
    FBI_EACH(i, n)
    a[i] = d * a[i] + (1 - d) * x[i];
}

template <class T> static fb_status update(fb_context *ctx, const fbi_update *u)
{
    T *p = (T *)u->p, *s[3] = {(T *)u->s[0], (T *)u->s[1], (T *)u->s[2]};
    const T *g = (const T *)u->g;
    unsigned grid = fbi_blocks(ctx, u->n);
    switch (u->kind) {
    case FBI_UPDATE_SGD:
        FBI_LAUNCH_ON(ctx, sgd<T>, grid, FBI_BLOCK, u->n, p, g, s[0], (T)u->lr, (T)u->weight_decay,
                      (T)u->scale, (T)u->momentum, u->first ? (T)1 : (T)(1 - u->dampening),
                      u->first ? (T)0 : (T)u->momentum, u->nesterov);
        break;
    case FBI_UPDATE_ADAM: {
        fbi_adam<T> k = {(T)u->shrink,      (T)u->weight_decay, (T)u->scale,
                         (T)(1 - u->beta1), (T)u->beta2,        (T)(1 - u->beta2),
                         (T)u->step_size,   (T)(1 / u->root2),  (T)u->eps};
        FBI_LAUNCH_ON(ctx, adam<T>, grid, FBI_BLOCK, u->n, p, g, s[0], s[1], s[2], k);
        break;
    }
    case FBI_UPDATE_AVERAGE:
        FBI_LAUNCH_ON(ctx, average<T>, grid, FBI_BLOCK, u->n, p, g, (T)u->decay);
        break;
    }
    return FB_OK;
}

extern "C" fb_status fbi_cuda_update(fb_context *ctx, const fbi_update *u)
{
    fb_status st = fbi_cuda_use(ctx);
    if (st || u->n == 0)
        return st;
    return u->dtype == FB_F64 ? update<double>(ctx, u) : update<float>(ctx, u);
}
