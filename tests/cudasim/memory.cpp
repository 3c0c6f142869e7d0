/* Allocations with guards and poison, and the checks of every pointer. */
#include "tests/cudasim/sim.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

using namespace sim;
typedef cudaError_t E;

namespace sim
{
Alloc *find(const void *p, bool end_ok)
{
    auto &m = S().mem;
    auto i = m.upper_bound((uintptr_t)p);
    if (i == m.begin())
        return nullptr;
    Alloc *a = (--i)->second;
    uintptr_t o = (uintptr_t)p - a->base;
    return o < a->size || (end_ok && o == a->size) ? a : nullptr;
}
#ifdef SIM_ASAN
static const size_t GUARD = 0; /* the sanitizer's own red zones are exact */
#else
static const size_t GUARD = 256;
#endif
static void access(bool on)
{
    S().open = on;
    if (!S().any_mapped)
        return;
    for (auto &m : S().mem)
        if (m.second->mapped)
            mprotect(m.second->raw, m.second->rawsize, on ? PROT_READ | PROT_WRITE : PROT_NONE);
}
void open_access()
{
    if (!S().open)
        access(true);
}
void close_access()
{
    if (S().open)
        access(false);
}
void poison(Alloc *a)
{
    memset((void *)a->base, 0xff, a->size);
}
Alloc *new_alloc(size_t n, Kind k, int dev)
{
    State &st = S();
    size_t raw = GUARD ? (n + 255) / 256 * 256 + 2 * GUARD : n;
    void *p;
    bool map = st.protect && k == DEVICE;
    if (map) {
        st.any_mapped = true;
        catch_faults();
        raw = (raw + 4095) / 4096 * 4096;
        p = mmap(nullptr, raw, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return nullptr;
    } else if (posix_memalign(&p, 256, raw))
        return nullptr;
    auto *a = new Alloc{(uintptr_t)p + GUARD, n, dev, k, p, raw, true, false, false, map};
    memset(p, 0xa5, raw);
    poison(a);
#ifdef SIM_ASAN
    for (auto i = st.mem.upper_bound(a->base + n);
         i != st.mem.begin() &&
         std::prev(i)->second->base + std::prev(i)->second->size > a->base;) {
        --i;
        delete i->second;
        i = st.mem.erase(i);
    }
#endif
    if (map && !st.open)
        mprotect(p, raw, PROT_NONE);
    st.mem[a->base] = a;
    if (k != PINNED)
        st.used[(size_t)dev] += n;
    return a;
}
void check_guard(const char *what, Alloc *a)
{
    if (!GUARD || !a->raw)
        return;
    if (a->mapped)
        open_access();
    auto bad = [&](unsigned char *p, size_t n, const char *side) {
        for (size_t i = 0; i < n; i++)
            if (p[i] != 0xa5) {
                finding(what, cudaErrorIllegalAddress,
                        "out-of-bounds write %s the allocation of %zu bytes at %p (first bad byte "
                        "at offset %td)",
                        side, a->size, (void *)a->base, p + i - (unsigned char *)a->base);
                memset(p, 0xa5, n);
                return;
            }
    };
    unsigned char *u = (unsigned char *)a->base;
    bad((unsigned char *)a->raw, GUARD, "before");
    bad(u + a->size, (size_t)((unsigned char *)a->raw + a->rawsize - u) - a->size, "behind");
}
void release(const char *api, Alloc *a)
{
    State &st = S();
    open_access();
    check_guard(api, a);
    a->dead = true;
    if (a->kind != PINNED)
        st.used[(size_t)a->dev] -= a->size;
#ifdef SIM_ASAN
    if (a->mapped)
        munmap(a->raw, a->rawsize), a->mapped = false;
    else
        free(a->raw);
    a->raw = nullptr; /* the entry stays to explain a later use */
#else
    poison(a);
    st.quarantine.push_back(a);
    st.qbytes += a->size; /* the address is not reused soon */
    while (st.qbytes > 64u << 20) {
        Alloc *o = st.quarantine.front();
        st.quarantine.pop_front();
        st.qbytes -= o->size;
        check_guard("write after free", o);
        if (o->mapped)
            munmap(o->raw, o->rawsize);
        else
            free(o->raw);
        st.mem.erase(o->base);
        delete o;
    }
#endif
}
E check_access(const char *api, const char *what, const Ref &r, int dev, bool exec_time)
{
    Alloc *a = find(r.p, true);
    std::string w = *what ? std::string(what) + " " : "";
    char ab[32] = "pointer";
    if (r.arg >= 0)
        snprintf(ab, sizeof ab, "argument %d", r.arg);
    E e = cudaSuccess;
    if (!a)
        finding(api, e = cudaErrorIllegalAddress,
                "%s%s %p is not device memory (a host pointer, or long freed)", w.c_str(), ab, r.p);
    else if (a->dead || (!exec_time && a->free_called))
        finding(api, e = cudaErrorIllegalAddress,
                "%s%s %p: use after free of the allocation of %zu bytes", w.c_str(), ab, r.p,
                a->size);
    else if (exec_time && a->graph && !a->ready)
        e = graph_lacks(api, what, r);
    else if (exec_time && !a->ready)
        finding(api, e = cudaErrorIllegalAddress,
                "%s%s %p: used before its cudaMallocAsync on another stream (missing event wait)",
                w.c_str(), ab, r.p);
    else if ((uintptr_t)r.p - a->base + r.bytes > a->size)
        finding(api, e = cudaErrorInvalidValue,
                "%s%s %p + %zu bytes runs past the allocation of %zu bytes", w.c_str(), ab, r.p,
                r.bytes, a->size);
    else if (a->kind == DEVICE && a->dev != dev && !S().peers.count({dev, a->dev}) &&
             what != std::string("peer"))
        finding(api, e = cudaErrorInvalidDevice,
                "%s%s %p is memory of device %d, used on device %d without peer access", w.c_str(),
                ab, r.p, a->dev, dev);
    return e;
}
} /* namespace sim */

extern "C" {
static E alloc(void **p, size_t n, Kind k)
{
    State &st = S();
    if (!n) {
        *p = nullptr;
        return cudaSuccess;
    }
    if (k != PINNED && st.used[(size_t)t_dev] + n > st.capacity)
        return ret(cudaErrorMemoryAllocation);
    Alloc *a = new_alloc(n, k, t_dev);
    if (!a)
        return ret(cudaErrorMemoryAllocation);
    *p = (void *)a->base;
    return cudaSuccess;
}
E cudaMalloc(void **p, size_t n)
{
    ENTER(cudaMalloc);
    if (E e = no_capture(me, nullptr))
        return ret(e);
    return alloc(p, n, DEVICE);
}
E cudaMallocManaged(void **p, size_t n, unsigned)
{
    ENTER(cudaMallocManaged);
    return alloc(p, n, MANAGED);
}
E cudaMallocHost(void **p, size_t n)
{
    ENTER(cudaMallocHost);
    return alloc(p, n, PINNED);
}
E cudaHostAlloc(void **p, size_t n, unsigned)
{
    ENTER(cudaHostAlloc);
    return alloc(p, n, PINNED);
}
E cudaHostGetDevicePointer(void **d, void *h, unsigned)
{
    *d = h;
    return cudaSuccess;
}
E cudaHostRegister(void *p, size_t n, unsigned)
{
    ENTER(cudaHostRegister);
    st.mem[(uintptr_t)p] =
        new Alloc{(uintptr_t)p, n, t_dev, PINNED, nullptr, 0, true, false, false, false};
    return cudaSuccess;
}
E cudaHostUnregister(void *p)
{
    ENTER(cudaHostUnregister);
    E e = drain(lk, me, t_dev);
    auto i = st.mem.find((uintptr_t)p);
    if (i == st.mem.end() || i->second->raw)
        return ret(cudaErrorInvalidValue);
    delete i->second;
    st.mem.erase(i);
    return ret(e);
}
static E free_sync(Lock &lk, const char *me, void *p, bool host)
{
    if (!p)
        return cudaSuccess;
    Alloc *a = find(p);
    if (!a || a->base != (uintptr_t)p || (a->kind == PINNED) != host || (!a->raw && !a->dead)) {
        finding(me, cudaSuccess, "%p is not a live allocation of this kind", p);
        return ret(cudaErrorInvalidValue);
    }
    if (a->dead || a->free_called || (a->graph && !a->held)) {
        finding(me, cudaSuccess, "double free of %p", p);
        return ret(cudaErrorInvalidValue);
    }
    if (E e = no_capture(me, nullptr))
        return ret(e);
    E e = host ? cudaSuccess
               : drain(lk, me, a->dev); /* as the real one, cudaFree waits for the device */
    if (host)
        for (int d = 0; d < S().ndev; d++)
            drain(lk, me, d);
    give_back(me, a);
    a->held = false;
    return ret(e);
}
E cudaFree(void *p)
{
    ENTER(cudaFree);
    return free_sync(lk, me, p, false);
}
E cudaFreeHost(void *p)
{
    ENTER(cudaFreeHost);
    return free_sync(lk, me, p, true);
}
E cudaMallocAsync(void **p, size_t n, cudaStream_t h)
{
    ENTER(cudaMallocAsync);
    STREAM(s, h);
    if (s->cap)
        return ret(graph_malloc(me, p, n, s));
    if (E e = alloc(p, n, DEVICE))
        return e;
    Alloc *a = find(*p);
    if (!a)
        return cudaSuccess;
    a->dev = s->dev;
    a->ready = false;
    Op op{};
    op.api = me;
    op.refs.push_back(Ref{*p, n, CLAIM, true});
    op.run = [a](Op &, Lock &) {
        a->ready = true;
        return DONE;
    };
    return ret(submit(lk, s, std::move(op)));
}
E cudaFreeAsync(void *p, cudaStream_t h)
{
    ENTER(cudaFreeAsync);
    STREAM(s, h);
    if (!p)
        return cudaSuccess;
    if (s->cap)
        return ret(graph_free(me, p, s));
    Alloc *a = find(p);
    if (!a || a->kind != DEVICE || a->base != (uintptr_t)p) {
        finding(me, cudaSuccess, "%p is not a live device allocation", p);
        return ret(cudaErrorInvalidValue);
    }
    if (a->dead || a->free_called || (a->graph && !a->held)) {
        finding(me, cudaSuccess, "double free of %p", p);
        return ret(cudaErrorInvalidValue);
    }
    auto reach = ancestors(s); /* does all queued work on this memory happen before the free? */
    for (auto *t : st.streams)
        for (auto &o : t->q)
            if (o.seq > reach[t])
                for (auto &r : o.refs)
                    if (find(r.p) == a) {
                        finding(me, cudaErrorIllegalAddress,
                                "%p is freed on a stream that does not wait for %s queued on "
                                "another stream",
                                p, label(o).c_str());
                        goto out;
                    }
out:
    Op op{};
    op.api = me;
    auto graph = a->graph ? a->graph->shared_from_this() : nullptr;
    op.run = [a, graph](Op &, Lock &) {
        give_back("cudaFreeAsync", a);
        return DONE;
    };
    if (graph) /* the next launch has to wait for it */
        op.refs.push_back(Ref{p, a->size, CLAIM, true});
    a->free_called = !graph;
    E e = submit(lk, s, std::move(op));
    a->held = false;
    return ret(e);
}
E cudaMemGetInfo(size_t *f, size_t *t)
{
    Lock lk(S().mu);
    *t = S().capacity;
    *f = *t - S().used[(size_t)t_dev];
    return cudaSuccess;
}
E cudaDeviceGetDefaultMemPool(cudaMemPool_t *p, int)
{
    *p = (cudaMemPool_t)1;
    return cudaSuccess;
}
E cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void *)
{
    return cudaSuccess;
}
E cudaMemPoolTrimTo(cudaMemPool_t, size_t)
{
    return cudaSuccess;
}
E cudaPointerGetAttributes(cudaPointerAttributes *o, const void *p)
{
    ENTER(cudaPointerGetAttributes);
    memset(o, 0, sizeof *o);
    Alloc *a = find(p);
    if (a && a->dead)
        a = nullptr;
    o->type = !a                   ? cudaMemoryTypeUnregistered
              : a->kind == PINNED  ? cudaMemoryTypeHost
              : a->kind == MANAGED ? cudaMemoryTypeManaged
                                   : cudaMemoryTypeDevice;
    o->device = a ? a->dev : -1;
    if (a)
        o->devicePointer = (void *)p;
    if (!a || a->kind != DEVICE)
        o->hostPointer = (void *)p;
    return cudaSuccess;
}
}
