/* Copies and fills. */
#include "tests/cudasim/sim.h"

using namespace sim;
typedef cudaError_t E;

extern "C" {
static void copy2(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h)
{
    if (h == 1)
        memmove(d, s, w);
    else
        for (size_t i = 0; i < h; i++)
            memmove((char *)d + i * dp, (const char *)s + i * sp, w);
}
/* Its copy waits for the stream in the call itself, where nobody looks after the other ranks. */
static void check_pageable_result(const char *me, CUstream_st *q)
{
    auto reach = ancestors(q);
    for (auto *s : S().streams)
        for (auto &o : s->q)
            if (o.order && o.seq <= reach[s]) {
                finding(me, cudaSuccess,
                        "to pageable memory waits for %s inside the call, for ever if a rank is "
                        "dead: wait for the stream first",
                        label(o).c_str());
                return;
            }
}
static E copy(Lock &lk, const char *me, void *d, size_t dp, const void *s, size_t sp, size_t w,
              size_t h, cudaMemcpyKind k, CUstream_st *q, bool sync, bool peer = false)
{
    if (!w || !h)
        return cudaSuccess;
    if (h > 1 && (w > dp || w > sp))
        return ret(cudaErrorInvalidPitchValue);
    if (sync)
        if (E e = no_capture(me, nullptr))
            return ret(e);
    Alloc *a = find(d), *b = find(s);
    bool dd = a && a->kind == DEVICE, sd = b && b->kind == DEVICE, ma = a && a->kind == MANAGED,
         mb = b && b->kind == MANAGED;
    bool wd = k == cudaMemcpyHostToDevice || k == cudaMemcpyDeviceToDevice,
         ws = k == cudaMemcpyDeviceToHost || k == cudaMemcpyDeviceToDevice;
    static const char *const kn[] = {"HostToHost", "HostToDevice", "DeviceToHost", "DeviceToDevice",
                                     "Default"};
    if ((unsigned)k > 4)
        return ret(cudaErrorInvalidMemcpyDirection);
    if (k != cudaMemcpyDefault &&
        ((wd != dd && !ma && !(wd && a)) || (ws != sd && !mb && !(ws && b)))) {
        finding(me, cudaSuccess,
                "kind cudaMemcpy%s but the destination is %s and the source is %s memory", kn[k],
                dd ? "device" : "host", sd ? "device" : "host");
        return ret(cudaErrorInvalidValue);
    }
    Ref rd{d, (h - 1) * dp + w, -1, true}, rs{s, (h - 1) * sp + w, -1, false};
    Op op{};
    op.api = me;
    for (auto *r : {&rd, &rs})
        if (Alloc *x = find(r->p)) {
            if (E e = check_access(me, peer ? "peer" : "", *r,
                                   peer || x->kind != DEVICE ? x->dev : q->dev, false))
                return ret(e);
            op.refs.push_back(*r);
            if (peer)
                op.what = "peer";
        }
    bool to_pageable = !a, from_pageable = !b && !q->cap;
    if (!sync && from_pageable && a)
        finding(me, cudaSuccess,
                "from pageable memory: it is copied in the call, nothing overlaps");
    if (!sync && to_pageable && b && !q->cap)
        check_pageable_result(me, q);
    if (!sync && a && a->kind == PINNED && !q->cap && !in_use(d, (h - 1) * dp + w))
        for (size_t i = 0; i < h; i++) /* who looks before the copy is done sees no old result */
            memset((char *)d + i * dp, 0xff, w);
    if (from_pageable &&
        a) { /* staged now, as the driver does; the DMA itself is still asynchronous */
        if (sync)
            wait(lk, me, [q] { return q->done >= q->enq; });
        auto st = std::make_shared<std::vector<char>>(w * h);
        copy2(st->data(), w, s, sp, w, h);
        op.run = [=](Op &, Lock &) {
            copy2(d, dp, st->data(), w, w, h);
            return DONE;
        };
        return ret(submit(lk, q, std::move(op)));
    }
    op.run = [=](Op &, Lock &) {
        copy2(d, dp, s, sp, w, h);
        return DONE;
    };
    if (E e = submit(lk, q, std::move(op)))
        return ret(e);
    if (q->cap || (dd && sd) || (!sync && !to_pageable))
        return cudaSuccess; /* even the "blocking" device to device copy does not wait */
    uint64_t seq = q->enq;
    return ret(wait(lk, me, [q, seq] { return q->done >= seq; }));
}
E cudaMemcpy(void *d, const void *s, size_t n, cudaMemcpyKind k)
{
    ENTER(cudaMemcpy);
    return copy(lk, me, d, n, s, n, n, 1, k, st.legacy[(size_t)t_dev], true);
}
E cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind k, cudaStream_t h)
{
    ENTER(cudaMemcpyAsync);
    STREAM(q, h);
    return copy(lk, me, d, n, s, n, n, 1, k, q, false);
}
E cudaMemcpy2D(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h, cudaMemcpyKind k)
{
    ENTER(cudaMemcpy2D);
    return copy(lk, me, d, dp, s, sp, w, h, k, st.legacy[(size_t)t_dev], true);
}
E cudaMemcpy2DAsync(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h,
                    cudaMemcpyKind k, cudaStream_t hs)
{
    ENTER(cudaMemcpy2DAsync);
    STREAM(q, hs);
    return copy(lk, me, d, dp, s, sp, w, h, k, q, false);
}
E cudaMemcpyPeerAsync(void *d, int, const void *s, int, size_t n, cudaStream_t h)
{
    ENTER(cudaMemcpyPeerAsync);
    STREAM(q, h);
    return copy(lk, me, d, n, s, n, n, 1, cudaMemcpyDeviceToDevice, q, false, true);
}
static E fill(Lock &lk, const char *me, void *p, size_t pitch, int v, size_t w, size_t h,
              CUstream_st *q)
{
    if (!w || !h)
        return cudaSuccess;
    Ref r{p, (h - 1) * pitch + w, -1, true};
    if (E e = check_access(me, "", r, q->dev, false))
        return ret(e);
    Op op{};
    op.api = me;
    op.refs.push_back(r);
    op.run = [=](Op &, Lock &) {
        for (size_t i = 0; i < h; i++)
            memset((char *)p + i * pitch, v, w);
        return DONE;
    };
    return ret(submit(lk, q, std::move(op)));
}
E cudaMemset(void *p, int v, size_t n)
{
    ENTER(cudaMemset);
    return fill(lk, me, p, n, v, n, 1, st.legacy[(size_t)t_dev]);
}
E cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t h)
{
    ENTER(cudaMemsetAsync);
    STREAM(q, h);
    return fill(lk, me, p, n, v, n, 1, q);
}
E cudaMemset2DAsync(void *p, size_t pitch, int v, size_t w, size_t h, cudaStream_t hs)
{
    ENTER(cudaMemset2DAsync);
    STREAM(q, hs);
    return fill(lk, me, p, pitch, v, w, h, q);
}
static E
to_symbol(Lock &lk, const char *me, const void *sym, const void *src, size_t n, size_t off,
          CUstream_st *q) /* a __constant__ or __device__ variable is an ordinary global here */
{
    Op op{};
    op.api = me;
    std::shared_ptr<std::vector<char>> st;
    char *d = (char *)sym + off;
    if (find(src))
        op.refs.push_back(Ref{src, n, -1, false});
    else
        st = std::make_shared<std::vector<char>>((const char *)src, (const char *)src + n);
    op.run = [=](Op &, Lock &) {
        memcpy(d, st ? st->data() : src, n);
        return DONE;
    };
    return ret(submit(lk, q, std::move(op)));
}
E cudaMemcpyToSymbol(const void *y, const void *s, size_t n, size_t o, cudaMemcpyKind)
{
    ENTER(cudaMemcpyToSymbol);
    return to_symbol(lk, me, y, s, n, o, st.legacy[(size_t)t_dev]);
}
E cudaMemcpyToSymbolAsync(const void *y, const void *s, size_t n, size_t o, cudaMemcpyKind,
                          cudaStream_t h)
{
    ENTER(cudaMemcpyToSymbolAsync);
    STREAM(q, h);
    return to_symbol(lk, me, y, s, n, o, q);
}
}
