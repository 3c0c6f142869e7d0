/* Internals shared by the simulator's parts. One process-wide lock guards everything;
 * whoever waits runs the queues. */
#ifndef TESTS_CUDASIM_SIM_H
#define TESTS_CUDASIM_SIM_H
#include <cuda_runtime.h>
#include <condition_variable>
#include <cstdarg>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "tests/cudasim/cudasim.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#endif
struct CUevent_st;
namespace cudasim
{
struct call;
}
namespace sim
{
void close_access();
struct Lock : std::unique_lock<std::mutex> {
    using std::unique_lock<std::mutex>::unique_lock;
    ~Lock()
    {
        if (owns_lock())
            close_access();
    }
};
enum Kind { DEVICE, PINNED, MANAGED };
enum Result { DONE, PROGRESS, BLOCKED };
struct Graph_memory;
struct Alloc {
    uintptr_t base;
    size_t size;
    int dev;
    Kind kind;
    void *raw;
    size_t rawsize;
    bool ready, dead, free_called, mapped;
    Graph_memory *graph = nullptr; /* whose memory it is; NULL: nobody's, or no longer */
    bool held = false;             /* of a graph's: work that is queued now may use it */
};
struct Ref {
    const void *p;
    size_t bytes;
    int arg;
    bool write;
}; /* bytes 0: only the start is known (kernel argument); arg CLAIM: not an access */
enum { CLAIM = -2 };
struct Dep {
    CUstream_st *s;
    uint64_t seq;
}; /* satisfied when s->done >= seq */
struct Ticket {
    uint64_t next = 0, serving = 0;
}; /* keeps the operations of one communicator in issue order */
struct Op {
    const char *api;
    std::string what;
    std::function<Result(Op &, Lock &)> run;
    std::vector<Ref> refs;
    std::vector<Dep> deps;
    std::shared_ptr<Ticket> order;
    std::shared_ptr<void> st; /* st: progress of this very instance, empty in graph nodes */
    uint64_t seq = 0, gid = 0, ticket = 0;
    bool checked = false;
};
struct Node {
    Op op;
    int slot;
    std::vector<int> deps;
};
/* What a graph allocates and frees; the graph, its executable and their launches share it. */
struct Graph_memory : std::enable_shared_from_this<Graph_memory> {
    std::map<Alloc *, int> made, freed; /* and the nodes that do it */
    int instances = 0;
    ~Graph_memory();
};
struct Capture {
    std::shared_ptr<Graph_memory> memory = std::make_shared<Graph_memory>();
    std::vector<Node> nodes;
    std::vector<CUstream_st *> slots;
    std::vector<std::vector<int>> front;
    cudaStreamCaptureMode mode;
    bool invalid = false;
};
} /* namespace sim */
struct CUstream_st {
    int dev;
    bool blocking;
    int prio;
    bool destroyed = false, busy = false, hidden = false;
    uint64_t enq = 0, done = 0;
    uint32_t rprio = 0;
    const char *launching = nullptr; /* a NCCL call whose launch is in progress */
    std::deque<sim::Op> q;
    std::shared_ptr<sim::Capture> cap;
    int slot = -1;
};
struct CUevent_st {
    CUstream_st *s = nullptr;
    uint64_t seq = 0;
    double t = -1;
    bool timing = true;
    std::shared_ptr<sim::Capture> cap;
    std::vector<int> front;
};
struct CUgraph_st {
    std::shared_ptr<sim::Graph_memory> memory;
    std::vector<sim::Node> nodes;
    int nslots;
};
struct CUgraphExec_st {
    std::shared_ptr<sim::Graph_memory> memory;
    bool frees_at_launch;
    std::vector<sim::Node> nodes;
    std::vector<CUstream_st *> hidden;
    sim::Dep last{};
};
namespace sim
{
struct State {
    std::mutex mu;
    std::condition_variable cv;
    std::vector<std::unique_ptr<CUstream_st>> all;
    std::vector<std::unique_ptr<CUevent_st>>
        all_events; /* never freed: queued work refers to them */
    std::vector<CUstream_st *> streams;
    std::set<CUstream_st *> handles;
    std::set<CUevent_st *> events;
    std::vector<CUstream_st *> legacy;
    std::map<uintptr_t, Alloc *> mem;
    std::deque<Alloc *> quarantine;
    size_t qbytes = 0;
    std::vector<size_t> used;
    size_t capacity;
    std::set<std::pair<int, int>> peers;
    std::map<const void *, int> smem_attr;
    int ndev, first, capability; /* first: the number that device 0 has on the machine */
    bool lazy, trace, races, protect = false, open = false, any_mapped = false;
    size_t pending = 0;
    std::set<std::string> told;
    unsigned seed;
    uint64_t rng, gid = 0;
    long timeout_ms;
    int findings = 0;
    bool quiet = false;
    std::string last;
    cudaError_t sticky = cudaSuccess;
    unsigned long kernels = 0;
    double last_call = 0;
    double charged = 0; /* seconds that work seems to have taken, for those who time it */
    int communicators = 0, descriptors = 0, graphs = 0;
};
State &S();
extern thread_local int t_dev;
uint32_t rnd();
double now();
void finding(const char *api, cudaError_t sticky, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
Alloc *find(const void *p, bool end_ok = false);
bool enter(const char *api);            /* false inside a cudaLaunchHostFunc callback */
cudaError_t injected(const char *call); /* what CUDASIM_FAIL wants of it */
CUstream_st *stream(const char *api, cudaStream_t h);
/* A finding if the launch of a NCCL call on it is in progress. */
void check_launched(const char *api, CUstream_st *s);
cudaError_t enqueue(CUstream_st *s, Op op);
void pump(Lock &lk); /* after enqueue: eager mode, or too much is queued */
bool run_one(Lock &lk);
cudaError_t wait(Lock &lk, const char *api, const std::function<bool()> &done);
cudaError_t check_access(const char *api, const char *what, const Ref &r, int dev, bool exec_time);
void check_guard(const char *what, Alloc *a);
void catch_faults();
void run_kernel(const cudasim::call &c); /* all its threads */
void set_last(cudaError_t e);
cudaError_t ret(cudaError_t e); /* notes an error for cudaGetLastError */
void reseed(unsigned seed);
CUstream_st *new_stream(int dev, bool blocking, int prio);
void open_access();
Alloc *new_alloc(size_t n, Kind k, int dev);
void release(const char *api, Alloc *a);
void poison(Alloc *a); /* NaN in every float format */
/* Memory of graphs: cudaMallocAsync and cudaFreeAsync in a capture; what goes into one; a launch.
 */
cudaError_t graph_malloc(const char *api, void **p, size_t n, CUstream_st *s);
cudaError_t graph_free(const char *api, void *p, CUstream_st *s);
void check_graph_use(const Capture &c, const Op &op, const std::vector<int> &front);
cudaError_t graph_lacks(const char *api, const char *what, const Ref &r); /* the finding */
cudaError_t graph_take(const char *api, CUgraphExec_st *x, Op &begin);
void graph_leave(CUgraphExec_st *x);
/* The memory is free: for the next launch, if it is a graph's. */
void give_back(const char *api, Alloc *a);
std::map<CUstream_st *, uint64_t> ancestors(CUstream_st *from, std::vector<Dep> todo = {});
std::string label(const Op &o);
bool in_use(const void *p, size_t bytes);
bool capturing(int dev);
std::vector<CUstream_st *> blocking_streams(int dev);
cudaError_t submit(Lock &lk, CUstream_st *s, Op op);
bool idle(int dev);
cudaError_t drain(Lock &lk, const char *api, int dev);
cudaError_t no_capture(const char *api, CUstream_st *s);
extern thread_local cudaError_t t_last;
extern thread_local bool t_hostfn; /* inside a cudaLaunchHostFunc callback */
} /* namespace sim */

/* First statement of a simulated call; then the stream that it names. */
#define ENTER(api)                         \
    State &st = S();                       \
    Lock lk(st.mu);                        \
    (void)st;                              \
    static const char *const me = #api;    \
    (void)me;                              \
    if (cudaError_t wanted = injected(me)) \
        return ret(wanted);                \
    if (!enter(me))                        \
    return ret(cudaErrorNotPermitted)
#define STREAM(s, h)                                \
    CUstream_st *s = stream(me, h);                 \
    if (!s)                                         \
        return ret(cudaErrorInvalidResourceHandle); \
    check_launched(me, s)
#endif
