/* Communicators and calls of the simulated NCCL. Calls on communicators that do not block often
 * answer ncclInProgress; using the stream before the launch is complete is a mistake that is
 * reported. A dead peer is not noticed: operations wait until the communicator is aborted. */
#include "tests/cudasim/nccl_sim.h"

#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace sim;
typedef ncclResult_t N;

namespace
{
thread_local int depth; /* of groups */
thread_local std::vector<Nccl_call> group;
thread_local std::vector<ncclComm_t> joining;
thread_local std::string last_text;
std::set<ncclComm_t> living;
Nccl_fault fault;

N failed(ncclComm_t c, N e, const std::string &text)
{
    last_text = text;
    if (c)
        c->text = text, c->err = e;
    return e;
}

void parse_fault(const char *text)
{
    static const char *const kinds[] = {"", "absent", "hang", "error"};
    char kind[16];
    fault = {};
    if (!text || sscanf(text, "%15[a-z]@%d:%ld", kind, &fault.rank, &fault.call) < 2)
        return;
    for (int k = 1; k < 4; k++)
        if (!strcmp(kind, kinds[k]))
            fault.kind = (decltype(fault.kind))k;
}
__attribute__((constructor(202))) void init()
{
    parse_fault(getenv("CUDASIM_NCCL_FAULT"));
}

/* NULL: the handle cannot be used, which has been reported. */
ncclComm_t usable(const char *api, ncclComm_t c)
{
    if (c && !c->gone && !c->aborted)
        return c;
    finding(api, cudaSuccess, "%s communicator", !c ? "NULL" : "destroyed or aborted");
    return nullptr;
}

void leave(ncclComm_t c)
{
    c->gone = true;
    living.erase(c);
    S().communicators--;
}

/* --- making --- */

ncclComm_t join(const std::string &name, int n, int me, int device, bool blocking)
{
    int fd = shm_open(name.c_str(), O_CREAT | O_RDWR, 0600);
    size_t bytes = nccl_segment_bytes(n);
    if (fd < 0 || ftruncate(fd, (off_t)bytes)) {
        failed(nullptr, ncclSystemError, "no shared memory for " + name);
        return nullptr;
    }
    void *m = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (m == MAP_FAILED)
        return nullptr;
    auto *c = new ncclComm{}; /* never freed: queued work and late callers refer to it */
    c->n = n;
    c->me = me;
    c->device = device;
    c->shared = (Nccl_segment *)m;
    c->name = name;
    c->blocking = blocking;
    living.insert(c);
    S().communicators++;
    Nccl_rank &mine = c->shared->rank[me];
    if (mine.taken.exchange(1)) {
        failed(c, ncclInvalidUsage, "rank " + std::to_string(me) + " joins twice");
        return c;
    }
    nccl_serve();
    mine.pid = (int)getpid();
    mine.device = S().first + device;
    if (fault.kind != Nccl_fault::ABSENT || fault.rank != me)
        mine.joined = 1;
    return c;
}

/* ncclInProgress until every rank is there. */
N check_joined(ncclComm_t c)
{
    if (c->err || c->ready)
        return c->err;
    for (int r = 0; r < c->n; r++)
        if (!c->shared->rank[r].joined)
            return ncclInProgress;
    c->ready = true;
    shm_unlink(c->name.c_str());
    for (int r = 0; r < c->n; r++)
        for (int q = 0; q < r; q++)
            if (c->shared->rank[r].device == c->shared->rank[q].device)
                failed(c, ncclInvalidUsage,
                       "Duplicate GPU detected : rank " + std::to_string(q) + " and rank " +
                           std::to_string(r));
    return c->err;
}

/* --- launching --- */

bool is_in_place(const Nccl_call &k, size_t in, size_t out)
{
    const char *a = (const char *)k.in;
    const char *b = (const char *)k.out;
    size_t part = k.n * nccl_size(k.type) * (size_t)k.comm->me;
    if (!a || !b || a + in <= b || b + out <= a)
        return true; /* disjoint */
    return k.kind == NCCL_ALL_GATHER       ? a == b + part
           : k.kind == NCCL_REDUCE_SCATTER ? b == a + part
                                           : a == b;
}

void add_refs(Op &op, const Nccl_call &k)
{
    ncclComm_t c = k.comm;
    size_t bytes = k.n * nccl_size(k.type), ranks = (size_t)c->n;
    size_t in = bytes * (k.kind == NCCL_REDUCE_SCATTER ? ranks : 1);
    size_t out = bytes * (k.kind == NCCL_ALL_GATHER ? ranks : 1);
    bool reads = k.in && (k.kind != NCCL_BROADCAST || c->me == k.peer);
    if (bytes && reads)
        op.refs.push_back(Ref{k.in, in, 0, false});
    if (bytes && k.out)
        op.refs.push_back(Ref{k.out, out, 1, true});
    if (bytes && reads && !is_in_place(k, in, out))
        finding(nccl_name(k.kind), cudaSuccess,
                "input and output overlap, and not as NCCL's in-place form");
}

/* One operation in the stream for all calls of a launch on one communicator. */
N enqueue_calls(ncclComm_t c, std::vector<Nccl_call> calls)
{
    int was = t_dev;
    t_dev = c->device;
    CUstream_st *s = stream(nccl_name(calls[0].kind), calls[0].stream);
    t_dev = was;
    if (!s)
        return failed(c, ncclInvalidArgument, "invalid stream");
    if (s->dev != c->device) {
        finding(nccl_name(calls[0].kind), cudaSuccess,
                "stream of device %d used with a communicator of device %d", s->dev, c->device);
        return failed(c, ncclInvalidUsage, "stream of another device");
    }
    s->launching = nullptr;
    long number = ++c->launches;
    bool breaks = fault.rank == c->me && fault.call == number;
    auto kind = breaks ? fault.kind : Nccl_fault::NONE;
    Op op{};
    op.api = nccl_name(calls[0].kind);
    op.what = std::to_string(calls[0].n);
    op.order = c->order;
    for (auto &k : calls)
        add_refs(op, k);
    op.run = [=](Op &o, Lock &) mutable {
        if (c->aborted || c->gone)
            return DONE;
        if (c->err)
            return BLOCKED;
        if (!o.st)
            o.st = std::make_shared<std::vector<Nccl_progress>>(calls.size());
        auto &progress = *(std::vector<Nccl_progress> *)o.st.get();
        if (kind == Nccl_fault::HANG)
            return BLOCKED;
        Result r = nccl_advance(c, calls, progress, o.what);
        if (kind != Nccl_fault::ERROR || r == BLOCKED)
            return r;
        failed(c, ncclSystemError, "injected: the network is gone");
        return BLOCKED;
    };
    return enqueue(s, std::move(op)) ? failed(c, ncclUnhandledCudaError, "the stream is broken")
                                     : ncclSuccess;
}

/* Connections are made at first use, so the first launch takes longer, and others do at times. */
N launch(Lock &lk, std::vector<Nccl_call> calls)
{
    N result = ncclSuccess;
    while (!calls.empty()) {
        ncclComm_t c = calls[0].comm;
        std::vector<Nccl_call> now, later;
        for (auto &k : calls)
            (k.comm == c && k.stream == calls[0].stream ? now : later).push_back(k);
        calls = later;
        if (!c->blocking && (c->launches == 0 || rnd() % 4 == 0)) {
            c->postponed = now;
            c->polls = 1 + (int)(rnd() % 3);
            if (CUstream_st *s = stream(nccl_name(now[0].kind), now[0].stream))
                s->launching = nccl_name(now[0].kind);
            result = ncclInProgress;
        } else if (N e = enqueue_calls(c, now))
            return e;
    }
    pump(lk);
    return result;
}

N call(Nccl_call k)
{
    const char *api = nccl_name(k.kind);
    {
        Lock lk(S().mu);
        ncclComm_t c = enter(api) ? usable(api, k.comm) : nullptr;
        if (!c || !nccl_size(k.type) || k.peer >= c->n || k.peer < -1 || (unsigned)k.op > ncclAvg)
            return failed(nullptr, ncclInvalidArgument, std::string(api) + ": invalid argument");
        if (c->err)
            return c->err;
        if (!c->ready || c->polls || c->child || c->finalizing) {
            finding(api, cudaSuccess,
                    "called while the communicator is %s: poll ncclCommGetAsyncError until "
                    "ncclSuccess",
                    c->finalizing ? "finalized" : "in progress");
            return failed(nullptr, ncclInvalidUsage, "communicator in progress");
        }
        if (!depth)
            return launch(lk, {k});
    }
    group.push_back(k);
    return ncclSuccess;
}

/* --- splitting --- */

/* The child, once all ranks have asked for this split; its pointer is set only then. */
N check_split(ncclComm_t c)
{
    for (int r = 0; r < c->n; r++)
        if (c->shared->rank[r].splits < c->splits)
            return ncclInProgress;
    if (!c->made && c->color != NCCL_SPLIT_NOCOLOR) {
        int n = 0, me = 0;
        for (int r = 0; r < c->n; r++) {
            Nccl_rank &o = c->shared->rank[r];
            if (o.color != c->color)
                continue;
            n++;
            me += o.key < c->key || (o.key == c->key && r < c->me);
        }
        c->made = join(c->name + "-" + std::to_string(c->splits) + "-" + std::to_string(c->color),
                       n, me, c->device, c->blocking);
        if (!c->made)
            return failed(c, ncclSystemError, "no memory for a split");
    }
    N e = c->made ? check_joined(c->made) : ncclSuccess;
    if (e == ncclInProgress)
        return e;
    *c->child = c->made;
    c->child = nullptr;
    c->made = nullptr;
    return e;
}

/* --- states --- */

bool quiet(ncclComm_t c)
{
    return c->order->serving >= c->order->next;
}

/* The real library has a thread that tells the others: here any poll does. */
N check_finalized(ncclComm_t c)
{
    for (ncclComm_t any : living)
        if (any->finalizing && quiet(any))
            any->shared->rank[any->me].finalized = 1;
    for (int r = 0; r < c->n; r++)
        if (!c->shared->rank[r].finalized)
            return ncclInProgress;
    return ncclSuccess;
}

N check(Lock &lk, ncclComm_t c)
{
    if (c->err || !c->ready)
        return check_joined(c);
    if (c->polls > 0 && --c->polls > 0)
        return ncclInProgress;
    if (!c->postponed.empty()) {
        auto calls = std::move(c->postponed);
        c->postponed.clear();
        N e = enqueue_calls(c, calls);
        pump(lk);
        return e;
    }
    if (c->child)
        return check_split(c);
    return c->finalizing ? check_finalized(c) : ncclSuccess;
}

/* Of blocking communicators, and where the real library blocks too. */
N wait_for(Lock &lk, const char *api, ncclComm_t c)
{
    N e = ncclInProgress;
    auto over = [&] { return (e = check(lk, c)) != ncclInProgress; };
    return wait(lk, api, over) == cudaErrorLaunchTimeout ? ncclSystemError : e;
}

N end_joining()
{
    auto all = std::move(joining);
    joining.clear();
    N result = ncclSuccess;
    Lock lk(S().mu);
    for (ncclComm_t c : all) {
        N e = c->blocking ? wait_for(lk, "ncclCommInitRank", c) : ncclInProgress;
        result = e ? e : result;
    }
    return result;
}
} /* namespace */

extern "C" {
void cudasim_nccl_fault(const char *text)
{
    Lock lk(S().mu);
    parse_fault(text);
}
N ncclGetVersion(int *v)
{
    const char *asked = getenv("CUDASIM_NCCL_VERSION");
    *v = asked ? atoi(asked) : NCCL_VERSION_CODE;
    return ncclSuccess;
}
N ncclGetUniqueId(ncclUniqueId *id)
{
    static std::atomic<int> ids;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/cudasim-%d-%d-%ld", (int)getpid(), ids++,
             (long)(now() * 1e6));
    return ncclSuccess;
}
N ncclCommInitRankConfig(ncclComm_t *out, int n, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    const char *api = "ncclCommInitRankConfig";
    *out = nullptr;
    {
        Lock lk(S().mu);
        if (!enter(api) || n < 1 || n > NCCL_RANKS || rank < 0 || rank >= n ||
            id.internal[0] != '/')
            return failed(nullptr, ncclInvalidArgument, "invalid size, rank or id");
        if (config && config->magic != 0xcafebeef) {
            finding(api, cudaSuccess, "config without NCCL_CONFIG_INITIALIZER");
            return failed(nullptr, ncclInvalidArgument, "config not initialized");
        }
        *out = join(id.internal, n, rank, t_dev, !config || config->blocking != 0);
    }
    if (!*out)
        return ncclSystemError;
    joining.push_back(*out);
    return depth ? ncclSuccess : end_joining();
}
N ncclCommInitRank(ncclComm_t *c, int n, ncclUniqueId id, int rank)
{
    return ncclCommInitRankConfig(c, n, id, rank, nullptr);
}
N ncclGroupStart()
{
    depth++;
    return ncclSuccess;
}
N ncclGroupEnd()
{
    if (!depth)
        return failed(nullptr, ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--depth)
        return ncclSuccess;
    N e = joining.empty() ? ncclSuccess : end_joining();
    auto calls = std::move(group);
    group.clear();
    if (calls.empty() || (e && e != ncclInProgress))
        return e;
    Lock lk(S().mu);
    return launch(lk, std::move(calls));
}
N ncclCommSplit(ncclComm_t c, int color, int key, ncclComm_t *out, ncclConfig_t *)
{
    const char *api = "ncclCommSplit";
    Lock lk(S().mu);
    if (!enter(api) || !usable(api, c))
        return ncclInvalidArgument;
    if (c->err)
        return c->err;
    if (!c->ready || c->polls || c->child || !quiet(c)) {
        finding(api, cudaSuccess, "called while the communicator is in use");
        return ncclInvalidUsage;
    }
    *out = nullptr;
    c->child = out;
    c->color = color;
    c->key = key;
    Nccl_rank &mine = c->shared->rank[c->me];
    mine.color = color;
    mine.key = key;
    mine.splits = ++c->splits;
    return c->blocking ? wait_for(lk, api, c) : ncclInProgress;
}
N ncclCommGetAsyncError(ncclComm_t c, N *e)
{
    const char *api = "ncclCommGetAsyncError";
    Lock lk(S().mu);
    if (!enter(api) || !usable(api, c))
        return ncclInvalidArgument;
    if (rnd() & 1)
        run_one(lk); /* a card goes on by itself */
    *e = check(lk, c);
    return ncclSuccess;
}
N ncclCommFinalize(ncclComm_t c)
{
    const char *api = "ncclCommFinalize";
    Lock lk(S().mu);
    if (!enter(api) || !usable(api, c))
        return ncclInvalidArgument;
    c->finalizing = true;
    return c->blocking ? wait_for(lk, api, c) : ncclInProgress;
}
N ncclCommDestroy(ncclComm_t c)
{
    const char *api = "ncclCommDestroy";
    Lock lk(S().mu);
    if (!enter(api) || !usable(api, c))
        return ncclInvalidArgument;
    c->finalizing = true;
    N e = wait_for(lk, api, c);
    leave(c);
    return e;
}
/* Waits for operations that have begun: they see the flag. */
N ncclCommAbort(ncclComm_t c)
{
    const char *api = "ncclCommAbort";
    Lock lk(S().mu);
    if (!enter(api) || !usable(api, c))
        return ncclInvalidArgument;
    c->aborted = true;
    if (!c->ready)
        shm_unlink(c->name.c_str());
    if (!c->postponed.empty())
        if (CUstream_st *s = stream(api, c->postponed[0].stream))
            s->launching = nullptr;
    c->postponed.clear();
    wait(lk, api, [c] {
        for (auto *s : S().streams)
            for (auto &o : s->q)
                if (o.order == c->order && o.st)
                    return false;
        return true;
    });
    leave(c);
    return ncclSuccess;
}
N ncclCommCount(const ncclComm_t c, int *n)
{
    *n = c->n;
    return ncclSuccess;
}
N ncclCommUserRank(const ncclComm_t c, int *n)
{
    *n = c->me;
    return ncclSuccess;
}
N ncclCommCuDevice(const ncclComm_t c, int *n)
{
    *n = c->device;
    return ncclSuccess;
}
const char *ncclGetErrorString(N r)
{
    static const char *const texts[] = {"no error",
                                        "unhandled cuda error",
                                        "unhandled system error",
                                        "internal error",
                                        "invalid argument",
                                        "invalid usage",
                                        "remote process exited or there was a network error",
                                        "NCCL operation in progress"};
    return (unsigned)r < sizeof texts / sizeof texts[0] ? texts[r] : "unknown result code";
}
const char *ncclGetLastError(ncclComm_t c)
{
    return c ? c->text.c_str() : last_text.c_str();
}
N ncclAllReduce(const void *in, void *out, size_t n, ncclDataType_t t, ncclRedOp_t op, ncclComm_t c,
                cudaStream_t s)
{
    return call({NCCL_ALL_REDUCE, in, out, n, t, op, -1, c, s});
}
N ncclBroadcast(const void *in, void *out, size_t n, ncclDataType_t t, int root, ncclComm_t c,
                cudaStream_t s)
{
    return call({NCCL_BROADCAST, in, out, n, t, ncclSum, root, c, s});
}
N ncclAllGather(const void *in, void *out, size_t n, ncclDataType_t t, ncclComm_t c, cudaStream_t s)
{
    return call({NCCL_ALL_GATHER, in, out, n, t, ncclSum, -1, c, s});
}
N ncclReduceScatter(const void *in, void *out, size_t n, ncclDataType_t t, ncclRedOp_t op,
                    ncclComm_t c, cudaStream_t s)
{
    return call({NCCL_REDUCE_SCATTER, in, out, n, t, op, -1, c, s});
}
N ncclSend(const void *in, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s)
{
    return call({NCCL_SEND, in, nullptr, n, t, ncclSum, peer, c, s});
}
N ncclRecv(void *out, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s)
{
    return call({NCCL_RECV, nullptr, out, n, t, ncclSum, peer, c, s});
}
}
