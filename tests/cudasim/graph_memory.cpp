/* Memory of graphs: cudaMallocAsync and cudaFreeAsync in a capture become nodes. The address is
 * that of the capture; what lies there is new with each launch, and what a launch does not free
 * must be freed before the next, on a stream or by another graph. */
#include "tests/cudasim/sim.h"

using namespace sim;
typedef cudaError_t E;

namespace sim
{
Graph_memory::~Graph_memory()
{
    for (auto &m : made) {
        m.first->graph = nullptr; /* what is held is freed like any other memory */
        if (!m.first->held)
            release("cudaGraphDestroy", m.first);
    }
}

void give_back(const char *api, Alloc *a)
{
    if (!a->graph) {
        release(api, a);
        return;
    }
    check_guard(api, a);
    poison(a);
    a->ready = false;
}

E graph_malloc(const char *api, void **p, size_t n, CUstream_st *s)
{
    State &st = S();
    auto memory = s->cap->memory;
    *p = nullptr;
    if (!n)
        return cudaSuccess;
    bool fits = st.used[(size_t)s->dev] + n <= st.capacity;
    Alloc *a = fits ? new_alloc(n, DEVICE, s->dev) : nullptr;
    if (!a)
        return cudaErrorMemoryAllocation;
    a->graph = memory.get();
    a->ready = false;
    a->held = true; /* by what is captured */
    memory->made[a] = (int)s->cap->nodes.size();
    Op op{};
    op.api = api;
    op.refs.push_back(Ref{(void *)a->base, n, CLAIM, true});
    op.run = [a, memory](Op &, Lock &) {
        poison(a);
        a->ready = true;
        return DONE;
    };
    *p = (void *)a->base;
    return enqueue(s, std::move(op));
}

E graph_free(const char *api, void *p, CUstream_st *s)
{
    auto memory = s->cap->memory;
    Alloc *a = find(p);
    if (!a || a->base != (uintptr_t)p || !a->graph) {
        finding(api, cudaSuccess,
                "%p is not memory of a graph: a capture frees only what one has allocated", p);
        return cudaErrorInvalidValue;
    }
    if (memory->freed.count(a)) {
        finding(api, cudaSuccess, "double free of %p in one graph", p);
        return cudaErrorInvalidValue;
    }
    Op op{};
    op.api = api;
    op.refs.push_back(Ref{p, a->size, CLAIM, true});
    op.run = [a, memory](Op &, Lock &) {
        give_back("cudaFreeAsync", a);
        return DONE;
    };
    int node = (int)s->cap->nodes.size();
    if (E e = enqueue(s, std::move(op)))
        return e;
    memory->freed[a] = node;
    return cudaSuccess;
}

/* The nodes that happen before what follows `front`. */
static std::vector<bool> before(const Capture &c, std::vector<int> todo)
{
    std::vector<bool> seen(c.nodes.size());
    while (!todo.empty()) {
        size_t i = (size_t)todo.back();
        todo.pop_back();
        if (seen[i])
            continue;
        seen[i] = true;
        todo.insert(todo.end(), c.nodes[i].deps.begin(), c.nodes[i].deps.end());
    }
    return seen;
}

static void check_free(const Capture &c, const Op &op, Alloc *a, const std::vector<bool> &seen)
{
    for (size_t i = 0; i < c.nodes.size(); i++)
        for (auto &r : c.nodes[i].op.refs)
            if (find(r.p) == a && !seen[i]) {
                finding(op.api, cudaSuccess, "%p is freed in the graph without waiting for %s", r.p,
                        label(c.nodes[i].op).c_str());
                return;
            }
}

void check_graph_use(const Capture &c, const Op &op, const std::vector<int> &front)
{
    std::vector<bool> seen;
    for (auto &r : op.refs) {
        Alloc *a = find(r.p);
        auto made = a ? c.memory->made.find(a) : c.memory->made.end();
        if (made == c.memory->made.end() || made->second >= (int)c.nodes.size())
            continue;
        if (seen.empty())
            seen = before(c, front);
        if (!seen[(size_t)made->second])
            finding(op.api, cudaSuccess,
                    "%s %p is memory of the graph, but this does not follow its cudaMallocAsync",
                    op.what.c_str(), r.p);
        else if (r.arg == CLAIM)
            check_free(c, op, a, seen);
        else if (c.memory->freed.count(a))
            finding(op.api, cudaSuccess, "%s %p: used after its cudaFreeAsync in the graph",
                    op.what.c_str(), r.p);
    }
}

E graph_lacks(const char *api, const char *what, const Ref &r)
{
    finding(api, cudaErrorIllegalAddress,
            "%s%s%p is memory of a graph, which has it from its cudaMallocAsync to its "
            "cudaFreeAsync",
            what, *what ? " " : "", r.p);
    return cudaErrorIllegalAddress;
}

/* The memory is there for the nodes about to be queued. */
E graph_take(const char *api, CUgraphExec_st *x, Op &begin)
{
    for (auto &m : x->memory->made)
        if (m.first->held && !x->frees_at_launch) {
            finding(api, cudaSuccess,
                    "%p is still there from the launch before: free it first, or instantiate with "
                    "cudaGraphInstantiateFlagAutoFreeOnLaunch",
                    (void *)m.first->base);
            return cudaErrorInvalidValue;
        }
    for (auto &f : x->memory->freed)
        if (!f.first->held && f.first->graph != x->memory.get()) {
            finding(api, cudaSuccess, "the graph frees %p, which is not allocated",
                    (void *)f.first->base);
            return cudaErrorInvalidValue;
        }
    auto memory = x->memory;
    begin.run = [memory](Op &, Lock &) {
        for (auto &m : memory->made)
            if (m.first->ready)
                give_back("cudaGraphLaunch", m.first);
        return DONE;
    };
    for (auto &m : x->memory->made)
        m.first->held = true;
    return cudaSuccess;
}

void graph_leave(CUgraphExec_st *x)
{
    for (auto &f : x->memory->freed)
        f.first->held = false;
}
} /* namespace sim */
