/* Queues: what is asked for is only noted, and runs when somebody waits, in an order that the seed
 * chooses among the streams whose dependencies allow it (priorities, redrawn now and then). */
#include "tests/cudasim/sim.h"

#include <algorithm>
#include <cstdio>
#include <thread>
#include <unistd.h>

using namespace sim;
typedef cudaError_t E;

namespace sim
{
/* per-thread default streams */
static std::map<std::pair<std::thread::id, int>, CUstream_st *> ptds;
E ret(E e)
{
    if (e)
        t_last = e;
    return e;
}
std::vector<CUstream_st *> blocking_streams(int dev)
{
    std::vector<CUstream_st *> v;
    for (auto *s : S().streams)
        if (s->dev == dev && s->blocking && s != S().legacy[(size_t)dev])
            v.push_back(s);
    return v;
}
CUstream_st *stream(const char *api, cudaStream_t h)
{
    State &st = S();
    if (!h || h == cudaStreamLegacy)
        return st.legacy[(size_t)t_dev];
    if (h == cudaStreamPerThread) {
        auto &p = ptds[{std::this_thread::get_id(), t_dev}];
        if (!p)
            p = new_stream(t_dev, true, 0);
        return p;
    }
    if (st.handles.count(h))
        return h;
    finding(api, cudaSuccess, "invalid or destroyed stream %p", (void *)h);
    return nullptr;
}
void check_launched(const char *api, CUstream_st *s)
{
    if (s->launching)
        finding(api, cudaSuccess,
                "the stream is used while %s on it is in progress: poll ncclCommGetAsyncError "
                "until ncclSuccess first",
                s->launching);
}
/* how far in every stream the queued work happens before something that follows all of `from` and
 * the dependencies in `todo` */
std::map<CUstream_st *, uint64_t> ancestors(CUstream_st *from, std::vector<Dep> todo)
{
    std::map<CUstream_st *, uint64_t> reach;
    todo.push_back({from, from->enq});
    while (!todo.empty()) {
        Dep d = todo.back();
        todo.pop_back();
        uint64_t &r = reach[d.s];
        uint64_t old = r;
        if (d.seq <= old)
            continue;
        r = d.seq;
        for (auto &o : d.s->q)
            if (o.seq > old && o.seq <= d.seq)
                for (auto &x : o.deps)
                    todo.push_back(x);
    }
    return reach;
}
std::string label(const Op &o)
{
    return o.what.empty() ? o.api : o.api + (" " + o.what);
}
static bool conflict(const Ref &x, const Ref &y)
{
    uintptr_t a = (uintptr_t)x.p, b = (uintptr_t)y.p;
    return (x.write || y.write) && a < b + std::max<size_t>(1, y.bytes) &&
           b < a + std::max<size_t>(1, x.bytes);
}
/* Whether work that is queued touches these bytes. */
bool in_use(const void *p, size_t bytes)
{
    Ref mine{p, bytes, -1, true};
    for (auto *s : S().streams)
        for (auto &o : s->q)
            for (auto &r : o.refs)
                if (conflict(mine, r))
                    return true;
    return false;
}
/* Whatever the seed does: work still queued on another stream, not ordered before this, on the same
 * bytes, one of them writing. A kernel counts as touching the first byte behind each of its pointer
 * arguments, as reading it if the pointer is to const. */
static void check_races(CUstream_st *s, const Op &op)
{
    State &st = S();
    bool have = false;
    std::map<CUstream_st *, uint64_t> reach;
    for (auto *t : st.streams)
        if (t != s)
            for (auto &o : t->q)
                for (auto &x : op.refs)
                    for (auto &y : o.refs)
                        if (conflict(x, y)) {
                            if (!have)
                                reach = ancestors(s, op.deps), have = true;
                            if (o.seq <= reach[t])
                                continue;
                            std::string w = std::string(op.api) + op.what + o.api + o.what;
                            if (!st.told.insert(w).second)
                                continue;
                            finding(op.api, cudaSuccess,
                                    "%s%s %p without waiting for %s queued on another stream, "
                                    "which %s it",
                                    op.what.empty() ? "" : (op.what + " ").c_str(),
                                    x.write ? "writes" : "reads", x.p, label(o).c_str(),
                                    y.write ? "writes" : "reads");
                        }
}
bool capturing(int dev)
{
    for (auto *s : S().streams)
        if (s->cap && s->dev == dev && s->cap->mode != cudaStreamCaptureModeRelaxed)
            return true;
    return false;
}
E enqueue(CUstream_st *s, Op op)
{
    State &st = S();
    if (s->cap) { /* record into the graph instead */
        Capture &c = *s->cap;
        if (c.invalid)
            return cudaErrorStreamCaptureInvalidated;
        int id = (int)c.nodes.size();
        auto &fr = c.front[(size_t)s->slot];
        check_graph_use(c, op, fr);
        c.nodes.push_back(Node{std::move(op), s->slot, fr});
        fr = {id};
        return cudaSuccess;
    }
    CUstream_st *leg = st.legacy[(size_t)s->dev];
    if (s == leg) {
        for (auto *b : blocking_streams(s->dev)) {
            if (b->cap) {
                b->cap->invalid = true;
                finding(op.api, cudaSuccess,
                        "the legacy default stream was used while a blocking stream captures");
                return cudaErrorStreamCaptureImplicit;
            }
            if (b->enq > b->done)
                op.deps.push_back({b, b->enq});
        }
    } else if (s->blocking && leg->enq > leg->done)
        op.deps.push_back({leg, leg->enq});
    for (auto &r : op.refs) {
        Alloc *a = find(r.p);
        if (a && a->graph && !a->held && r.arg != CLAIM)
            return graph_lacks(op.api, op.what.c_str(), r);
        if (a && (a->dead || a->free_called)) {
            E e = check_access(op.api, op.what.c_str(), r, s->dev, false);
            if (e)
                return e;
        }
    }
    if (st.races && !op.refs.empty())
        check_races(s, op);
    op.seq = ++s->enq;
    op.gid = ++st.gid;
    st.pending++;
    if (op.order)
        op.ticket = op.order->next++;
    s->q.push_back(std::move(op));
    st.cv.notify_all();
    return cudaSuccess;
}
static Result run_head(CUstream_st *s, Lock &lk)
{
    State &st = S();
    Op &o = s->q.front();
    Result r = DONE;
    bool ok = true;
    if (!o.checked) {
        o.checked = true;
        for (auto &x : o.refs)
            if (x.arg != CLAIM && check_access(o.api, o.what.c_str(), x, s->dev, true))
                ok = false;
        if (st.trace)
            fprintf(stderr, "cudasim: run stream %p #%lu %s %s\n", (void *)s, (unsigned long)o.seq,
                    o.api, o.what.c_str());
    }
    open_access();
    s->busy = true;
    if (ok && o.run)
        r = o.run(o, lk);
    s->busy = false;
    if (r == DONE) {
        s->done = o.seq;
        st.pending--;
        if (o.order)
            o.order->serving++;
        s->q.pop_front();
        st.cv.notify_all();
    }
    return r;
}
bool run_one(Lock &lk)
{
    State &st = S();
    std::vector<CUstream_st *> c;
    for (size_t i = 0; i < st.streams.size();) {
        auto *s = st.streams[i];
        if (s->destroyed && s->q.empty()) {
            st.streams.erase(st.streams.begin() + (long)i);
            continue;
        }
        i++;
        if (s->q.empty() || s->busy)
            continue;
        Op &o = s->q.front();
        if (o.order && o.ticket != o.order->serving)
            continue;
        bool ok = true;
        for (auto &d : o.deps)
            ok = ok && d.s->done >= d.seq;
        if (ok)
            c.push_back(s);
    }
    if (c.size() > 1) {
        if (st.lazy) {
            if (rnd() % 8 == 0)
                c[rnd() % c.size()]->rprio = rnd();
            std::sort(c.begin(), c.end(), [](auto *a, auto *b) { return a->rprio > b->rprio; });
        } else
            std::sort(c.begin(), c.end(),
                      [](auto *a, auto *b) { return a->q.front().gid < b->q.front().gid; });
    }
    for (auto *s : c)
        if (run_head(s, lk) != BLOCKED)
            return true;
    return false;
}
E wait(Lock &lk, const char *api, const std::function<bool()> &done)
{
    State &st = S();
    double t0 = 0;
    while (!done()) {
        if (run_one(lk)) {
            t0 = 0;
            continue;
        }
        double t = now();
        if (t0 == 0)
            t0 = t;
        if ((t - t0) * 1e3 > (double)st.timeout_ms) {
            std::string h;
            for (auto *s : st.streams)
                if (!s->q.empty()) {
                    Op &o = s->q.front();
                    h += std::string("; device ") + std::to_string(s->dev) + " stream at " +
                         label(o);
                    for (auto &d : o.deps)
                        if (d.s->done < d.seq)
                            h += " (waits for another stream)";
                }
            finding(api, cudaErrorLaunchTimeout, "no progress for %ld ms%s", st.timeout_ms,
                    h.c_str());
            return cudaErrorLaunchTimeout;
        }
        st.cv.wait_for(lk, std::chrono::microseconds(200));
    }
    return st.sticky;
}
void pump(Lock &lk)
{
    State &st = S();
    while ((!st.lazy || st.pending > 1024) && run_one(lk)) {
    }
}
E submit(Lock &lk, CUstream_st *s, Op op)
{
    E e = enqueue(s, std::move(op));
    pump(lk);
    return e;
}
bool idle(int dev)
{
    for (auto *s : S().streams)
        if (s->dev == dev && s->done < s->enq)
            return false;
    return true;
}
E drain(Lock &lk, const char *api, int dev)
{
    E e = wait(lk, api, [dev] { return idle(dev); });
    for (auto &m : S().mem)
        if (m.second->dev == dev)
            check_guard(api, m.second);
    return e ? e : S().sticky;
}
E no_capture(const char *api, CUstream_st *s)
{
    bool bad = s ? (bool)s->cap : capturing(t_dev);
    if (!bad)
        return cudaSuccess;
    for (auto *q : S().streams)
        if (q->cap && (!s || q->cap == s->cap))
            q->cap->invalid = true;
    finding(api, cudaSuccess, "not allowed while a stream captures");
    return cudaErrorStreamCaptureUnsupported;
}
} /* namespace sim */
