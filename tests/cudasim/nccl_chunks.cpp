/* What a collective or a transfer does, chunk by chunk, whenever somebody runs the queues. Input is
 * read late, output is poison until the peers' chunks are there. Ranks that call different things
 * at the same place wait for ever, as cards do. */
#include "tests/cudasim/nccl_sim.h"

#include <unistd.h>

#include "tests/cudasim/convert.h"

using namespace sim;

namespace
{
Nccl_pipe *pipe_of(ncclComm_t c, int from, int to)
{
    return (Nccl_pipe *)(c->shared + 1) + from * c->n + to;
}
char *slot(ncclComm_t c, int r)
{
    return (char *)((Nccl_pipe *)(c->shared + 1) + c->n * c->n) + (size_t)NCCL_SLOT * (size_t)r;
}
char *room(ncclComm_t c, int from, int to)
{
    return slot(c, c->n) + (size_t)NCCL_PIPE * (size_t)(from * c->n + to);
}

template <class A> A apply(A a, A b, ncclRedOp_t op)
{
    return op == ncclProd  ? A(a * b)
           : op == ncclMax ? (a > b ? a : b)
           : op == ncclMin ? (a < b ? a : b)
                           : A(a + b);
}
/* Rounds to the type after every addition, as a ring does; the first rank changes from chunk to
 * chunk, the same on every rank. */
template <class T, class A>
void reduce(ncclComm_t c, void *out, size_t offset, size_t n, ncclRedOp_t op, uint64_t turn)
{
    for (size_t i = 0; i < n; i++) {
        T v{};
        for (int k = 0; k < c->n; k++) {
            int r = (int)((turn + (uint64_t)k) % (uint64_t)c->n);
            T x = ((const T *)(slot(c, r) + offset))[i];
            v = k ? down<T>(apply(up<A>(v), up<A>(x), op)) : x;
        }
        ((T *)out)[i] = op == ncclAvg ? down<T>(A(up<A>(v) / A(c->n))) : v;
    }
}
typedef void (*Reduce)(ncclComm_t, void *, size_t, size_t, ncclRedOp_t, uint64_t);
Reduce reduce_of(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
        return reduce<int8_t, int>;
    case ncclUint8:
        return reduce<uint8_t, unsigned>;
    case ncclInt32:
        return reduce<int32_t, int64_t>;
    case ncclUint32:
        return reduce<uint32_t, uint64_t>;
    case ncclInt64:
        return reduce<int64_t, int64_t>;
    case ncclUint64:
        return reduce<uint64_t, uint64_t>;
    case ncclFloat16:
        return reduce<__half, float>;
    case ncclBfloat16:
        return reduce<__nv_bfloat16, float>;
    case ncclFloat32:
        return reduce<float, float>;
    default:
        return reduce<double, double>;
    }
}

void ask(ncclComm_t c, int r)
{
    int pid = c->shared->rank[r].pid;
    if (pid == getpid() || now() - c->asked < 5e-4)
        return;
    c->asked = now();
    nccl_ask(pid);
}

/* Bytes that lie in the output before: nobody may rely on them. In place they are the input. */
void spoil(const Nccl_call &k, size_t in, size_t out)
{
    const char *a = (const char *)k.in;
    char *b = (char *)k.out;
    if (b && (!a || a + in <= b || b + out <= a))
        memset(b, 0xff, out);
}

uint64_t description(const Nccl_call &k)
{
    return 1 + (uint64_t)k.kind + 16 * (uint64_t)k.type + 256 * (uint64_t)k.op +
           4096 * (uint64_t)(k.peer + 1) + ((uint64_t)k.n << 20);
}

/* The ranks whose number of chunks is below `least` are asked to go on; false: there are some. */
bool all_have(ncclComm_t c, std::atomic<uint64_t> Nccl_rank::*counter, uint64_t least)
{
    bool all = true;
    for (int r = 0; r < c->n; r++)
        if (c->shared->rank[r].*counter < least) {
            all = false;
            ask(c, r);
        }
    return all;
}

void put(ncclComm_t c, const Nccl_call &k, size_t at, size_t n, size_t size)
{
    const char *in = (const char *)k.in;
    if (k.kind == NCCL_REDUCE_SCATTER)
        for (int r = 0; r < c->n; r++)
            memcpy(slot(c, c->me) + (size_t)r * n * size, in + ((size_t)r * k.n + at) * size,
                   n * size);
    else if (k.kind != NCCL_BROADCAST || c->me == k.peer)
        memcpy(slot(c, c->me), in + at * size, n * size);
}

void take(ncclComm_t c, const Nccl_call &k, size_t at, size_t n, size_t size)
{
    char *out = (char *)k.out + at * size;
    if (k.kind == NCCL_ALL_REDUCE)
        reduce_of(k.type)(c, out, 0, n, k.op, c->chunks);
    else if (k.kind == NCCL_REDUCE_SCATTER)
        reduce_of(k.type)(c, out, (size_t)c->me * n * size, n, k.op, c->chunks);
    else if (k.kind == NCCL_BROADCAST)
        memcpy(out, slot(c, k.peer), n * size);
    else
        for (int r = 0; r < c->n; r++)
            memcpy(out + (size_t)r * k.n * size, slot(c, r), n * size);
}

Result collective(ncclComm_t c, Nccl_call &k, Nccl_progress &p, std::string &what)
{
    Nccl_rank &mine = c->shared->rank[c->me];
    size_t size = nccl_size(k.type), ranks = (size_t)c->n;
    size_t most = NCCL_SLOT / size / (k.kind == NCCL_REDUCE_SCATTER ? ranks : 1);
    uint64_t call = description(k);
    for (Result res = BLOCKED;; res = PROGRESS) {
        size_t n = std::min(most, k.n - p.at);
        if (!p.put) {
            if (!all_have(c, &Nccl_rank::read, c->chunks))
                return res;
            if (!p.started)
                spoil(k, k.n * size * (k.kind == NCCL_REDUCE_SCATTER ? ranks : 1),
                      k.n * size * (k.kind == NCCL_ALL_GATHER ? ranks : 1));
            p.started = p.put = true;
            put(c, k, p.at, n, size);
            mine.call = call;
            mine.posted = c->chunks + 1;
            res = PROGRESS;
        }
        if (!all_have(c, &Nccl_rank::posted, c->chunks + 1))
            return res;
        for (int r = 0; r < c->n; r++)
            if (c->shared->rank[r].call != call) {
                what = "of " + std::to_string(k.n) + " on rank " + std::to_string(c->me) +
                       ": rank " + std::to_string(r) + " calls something else at this place";
                return res;
            }
        take(c, k, p.at, n, size);
        mine.read = ++c->chunks;
        p.at += n;
        p.put = false;
        if (p.at >= k.n)
            return DONE;
    }
}

/* Ends when the receiver has taken the last chunk. */
Result send(ncclComm_t c, Nccl_call &k, Nccl_progress &p)
{
    Nccl_pipe *pipe = pipe_of(c, c->me, k.peer);
    size_t total = k.n * nccl_size(k.type);
    for (Result res = BLOCKED;; res = PROGRESS) {
        if (pipe->posted != pipe->taken) {
            ask(c, k.peer);
            return res;
        }
        if (p.started && p.at >= total)
            return DONE;
        size_t n = std::min((size_t)NCCL_PIPE, total - p.at);
        memcpy(room(c, c->me, k.peer), (const char *)k.in + p.at, n);
        pipe->bytes = n;
        pipe->total = total;
        p.started = true;
        p.at += n;
        pipe->posted++;
    }
}

Result recv(ncclComm_t c, Nccl_call &k, Nccl_progress &p, std::string &what)
{
    Nccl_pipe *pipe = pipe_of(c, k.peer, c->me);
    size_t total = k.n * nccl_size(k.type);
    if (!p.started)
        memset(k.out, 0xff, total);
    p.started = true;
    for (Result res = BLOCKED;; res = PROGRESS) {
        if (pipe->posted == pipe->taken) {
            ask(c, k.peer);
            return res;
        }
        if (pipe->total != total) {
            what = "of " + std::to_string(total) + " bytes on rank " + std::to_string(c->me) +
                   ": rank " + std::to_string(k.peer) + " sends " + std::to_string(pipe->total);
            return res;
        }
        memcpy((char *)k.out + p.at, room(c, k.peer, c->me), pipe->bytes);
        p.at += pipe->bytes;
        pipe->taken++;
        if (p.at >= total)
            return DONE;
    }
}
} /* namespace */

namespace sim
{
size_t nccl_size(ncclDataType_t type)
{
    static const size_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
    return (unsigned)type < sizeof sizes / sizeof sizes[0] ? sizes[type] : 0;
}
const char *nccl_name(Nccl_kind kind)
{
    static const char *const names[] = {"ncclAllReduce",     "ncclBroadcast", "ncclAllGather",
                                        "ncclReduceScatter", "ncclSend",      "ncclRecv"};
    return names[kind];
}
size_t nccl_segment_bytes(int ranks)
{
    size_t n = (size_t)ranks;
    return sizeof(Nccl_segment) + n * n * (sizeof(Nccl_pipe) + NCCL_PIPE) + n * NCCL_SLOT;
}
/* Collectives of a launch go one after the other, transfers side by side, those of one pair in
 * order. */
Result nccl_advance(ncclComm_t c, std::vector<Nccl_call> &calls,
                    std::vector<Nccl_progress> &progress, std::string &what)
{
    bool all = true, any = false, busy = false;
    std::set<std::pair<int, int>> used;
    for (size_t i = 0; i < calls.size(); i++) {
        Nccl_call &k = calls[i];
        Nccl_progress &p = progress[i];
        bool transfer = k.kind == NCCL_SEND || k.kind == NCCL_RECV;
        Result r = BLOCKED;
        if (p.done)
            continue;
        if (transfer && used.insert({k.kind, k.peer}).second)
            r = k.kind == NCCL_SEND ? send(c, k, p) : recv(c, k, p, what);
        else if (!transfer && !busy)
            r = collective(c, k, p, what);
        busy = busy || (!transfer && r != DONE);
        p.done = r == DONE;
        all = all && p.done;
        any = any || r != BLOCKED;
    }
    return all ? DONE : any ? PROGRESS : BLOCKED;
}
} /* namespace sim */
