/* Capture of streams into graphs, and their replay. */
#include "tests/cudasim/sim.h"

using namespace sim;
typedef cudaError_t E;

extern "C" {
E cudaStreamBeginCapture(cudaStream_t h, cudaStreamCaptureMode m)
{
    ENTER(cudaStreamBeginCapture);
    STREAM(s, h);
    if (s == st.legacy[(size_t)s->dev])
        return ret(cudaErrorStreamCaptureUnsupported);
    if (s->cap)
        return ret(cudaErrorIllegalState);
    s->cap = std::make_shared<Capture>();
    s->cap->mode = m;
    s->cap->slots = {s};
    s->cap->front.resize(1);
    s->slot = 0;
    return cudaSuccess;
}
E cudaStreamIsCapturing(cudaStream_t h, cudaStreamCaptureStatus *o)
{
    ENTER(cudaStreamIsCapturing);
    STREAM(s, h);
    *o = !s->cap           ? cudaStreamCaptureStatusNone
         : s->cap->invalid ? cudaStreamCaptureStatusInvalidated
                           : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
E cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *)
{
    return cudaSuccess;
}
E cudaStreamEndCapture(cudaStream_t h, cudaGraph_t *g)
{
    ENTER(cudaStreamEndCapture);
    STREAM(s, h);
    *g = nullptr;
    if (!s->cap || s->slot != 0)
        return ret(cudaErrorIllegalState);
    auto c = s->cap;
    for (auto &m : c->memory->made)
        m.first->held = false; /* nodes of the capture could use it */
    for (auto *q : c->slots)
        q->cap.reset();
    for (auto *e : st.events)
        if (e->cap == c)
            e->cap.reset(), e->s = nullptr;
    if (c->invalid)
        return ret(cudaErrorStreamCaptureInvalidated);
    std::vector<bool> seen(c->nodes.size());
    std::vector<int> todo = c->front[0];
    while (!todo.empty()) {
        int i = todo.back();
        todo.pop_back();
        if (seen[(size_t)i])
            continue;
        seen[(size_t)i] = true;
        for (int d : c->nodes[(size_t)i].deps)
            todo.push_back(d);
    }
    for (bool b : seen)
        if (!b) {
            finding(me, cudaSuccess,
                    "work captured on another stream was not joined to the origin stream");
            return ret(cudaErrorStreamCaptureUnjoined);
        }
    *g = new CUgraph_st{c->memory, std::move(c->nodes), (int)c->slots.size()};
    st.graphs++;
    return cudaSuccess;
}
E cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *, size_t *n)
{
    *n = g->nodes.size();
    return cudaSuccess;
}
E cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags)
{
    ENTER(cudaGraphInstantiate);
    bool allocates = !g->memory->made.empty() || !g->memory->freed.empty();
    if (allocates && g->memory->instances) {
        finding(me, cudaSuccess, "a graph that allocates or frees has one instance at a time");
        return ret(cudaErrorNotSupported);
    }
    g->memory->instances++;
    st.graphs++;
    *x = new CUgraphExec_st{
        g->memory, (flags & cudaGraphInstantiateFlagAutoFreeOnLaunch) != 0, g->nodes, {}, {}};
    for (int i = 0; i < g->nslots; i++) {
        (*x)->hidden.push_back(new_stream(t_dev, false, 0));
        (*x)->hidden.back()->hidden = true;
    }
    return cudaSuccess;
}
E cudaGraphDestroy(cudaGraph_t g)
{
    Lock lk(S().mu);
    S().graphs--;
    delete g;
    return cudaSuccess;
}
E cudaGraphExecDestroy(cudaGraphExec_t x)
{
    Lock lk(S().mu);
    for (auto *s : x->hidden)
        s->destroyed = true;
    x->memory->instances--;
    S().graphs--;
    delete x;
    return cudaSuccess;
}
E cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return cudaSuccess;
}
E cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t h)
{
    ENTER(cudaGraphLaunch);
    STREAM(s, h);
    if (E e = no_capture(me, s))
        return ret(e);
    Op b{};
    b.api = me;
    b.what = "begin";
    if (x->last.s)
        b.deps.push_back(x->last);
    if (E e = graph_take(me, x, b))
        return ret(e);
    if (E e = enqueue(s, std::move(b)))
        return ret(e);
    Dep start{s, s->enq};
    std::vector<Dep> at;
    Op end{};
    end.api = me;
    end.what = "end";
    for (auto &n :
         x->nodes) { /* an own stream per captured stream keeps the captured parallelism */
        auto *q = x->hidden[(size_t)n.slot];
        Op o = n.op;
        o.deps.push_back(start);
        for (int d : n.deps)
            o.deps.push_back(at[(size_t)d]);
        if (E e = enqueue(q, std::move(o)))
            return ret(e);
        at.push_back({q, q->enq});
    }
    graph_leave(x);
    for (auto *q : x->hidden)
        end.deps.push_back({q, q->enq});
    E e = submit(lk, s, std::move(end));
    x->last = {s, s->enq};
    return ret(e);
}
}
