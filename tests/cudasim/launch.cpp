/* Launches of kernels: limits of a card, and the pointers among the arguments. */
#include "tests/cudasim/cuda_on_host.h"
#include "tests/cudasim/sim.h"
#include <sys/mman.h>
#include <unistd.h>

using namespace sim;

/* A word of a struct: device memory that may be written, else wrong if it is an address at all. */
static bool add_inside(Op &op, const cudasim::arg &a)
{
    static const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char resident;
    if (find(a.p)) {
        op.refs.push_back(Ref{a.p, 0, a.index, true});
        return true;
    }
    if (mincore((void *)((uintptr_t)a.p & ~(page - 1)), 1, &resident) != 0)
        return true;
    finding(op.api, cudaErrorIllegalAddress,
            "argument %d holds %p, which is not device memory (a host pointer, or long freed)",
            a.index, a.p);
    return false;
}
void cudasim::launch(call c, const std::vector<arg> &args, cudaStream_t h)
{
    State &st = S();
    Lock lk(st.mu);
    auto ret = [&](cudaError_t e) {
        if (e)
            set_last(e);
    };
    if (!enter(c.name))
        return ret(cudaErrorNotPermitted);
    CUstream_st *s = ::sim::stream(c.name, h);
    if (!s)
        return ret(cudaErrorInvalidResourceHandle);
    uint64_t nt = (uint64_t)c.b.x * c.b.y * c.b.z;
    if (nt == 0 || nt > 1024 || c.b.z > 64 || !c.g.x || !c.g.y || !c.g.z || c.g.x > 0x7fffffffu ||
        c.g.y > 65535 || c.g.z > 65535)
        return ret(cudaErrorInvalidConfiguration);
    auto m = st.smem_attr.find(c.func);
    if (c.smem > (size_t)(m == st.smem_attr.end() ? 48 << 10 : m->second))
        return ret(cudaErrorInvalidValue);
    if (s->dev != t_dev && h != nullptr) {
        finding(c.name, cudaSuccess, "launched on a stream of device %d while device %d is current",
                s->dev, t_dev);
        return ret(cudaErrorInvalidResourceHandle);
    }
    Op op{};
    op.api = c.name;
    for (auto &a : args)
        if (a.inside && !add_inside(op, a))
            return ret(cudaErrorIllegalAddress);
        else if (!a.inside && a.p)
            op.refs.push_back(Ref{a.p, 0, a.index, !a.read_only});
    op.run = [c](Op &o, Lock &) {
        if (!injected("kernel"))
            run_kernel(c);
        for (auto &r : o.refs)
            if (Alloc *al = find(r.p))
                check_guard(c.name, al);
        return DONE;
    };
    ret(enqueue(s, std::move(op)));
    pump(lk);
}
