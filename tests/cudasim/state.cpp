/* The state of the simulated machine, its random choices and its findings. */
#include "tests/cudasim/sim.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <thread>
#include <unistd.h>

using namespace sim;
typedef cudaError_t E;

namespace sim
{
thread_local int t_dev = 0;
thread_local E t_last = cudaSuccess;
thread_local bool t_hostfn = false;
static std::map<std::pair<std::thread::id, int>, CUstream_st *>
    ptds; /* per-thread default streams */
double now()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
uint32_t rnd()
{
    uint64_t &x = S().rng;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (uint32_t)(x >> 16);
}
void reseed(unsigned s)
{
    State &st = S();
    st.seed = s;
    st.rng = 0x9e3779b97f4a7c15ull * (s + 1) | 1;
    for (int i = 0; i < 8; i++)
        rnd();
    for (auto *q : st.streams)
        q->rprio = rnd();
}
CUstream_st *new_stream(int dev, bool blocking, int prio)
{
    auto *s = new CUstream_st;
    s->dev = dev;
    s->blocking = blocking;
    s->prio = prio;
    s->rprio = rnd();
    S().streams.push_back(s);
    S().all.emplace_back(s);
    return s;
}
static State *the_state;
State &S()
{
    return *the_state;
}
__attribute__((constructor(201))) static void init()
{
    auto *p = the_state = new State;
    auto num = [](const char *n, long d) {
        const char *v = getenv(n);
        return v && *v ? atol(v) : d;
    };
    p->ndev = (int)num("CUDASIM_DEVICES", 2);
    p->first = (int)num("CUDASIM_FIRST", 0);
    p->capability = (int)num("CUDASIM_CAPABILITY", 90);
    p->capacity = (size_t)num("CUDASIM_MEM", 1l << 30);
    p->timeout_ms = num("CUDASIM_TIMEOUT_MS", 30000);
    const char *o = getenv("CUDASIM_ORDER");
    p->lazy = !(o && !strcmp(o, "eager"));
    p->trace = num("CUDASIM_TRACE", 0) != 0;
    p->races = num("CUDASIM_RACES", 1) != 0;
    p->protect = num("CUDASIM_PROTECT", 0) != 0;
    p->used.resize((size_t)p->ndev);
    reseed((unsigned)num("CUDASIM_SEED", 1));
    for (int i = 0; i < p->ndev; i++)
        p->legacy.push_back(new_stream(i, true, 0));
    atexit([] {
        {
            Lock lk(S().mu); /* a thread may be serving peers */
            for (auto &m : S().mem)
                check_guard("process exit", m.second);
        }
        if (S().findings) {
            fprintf(stderr, "cudasim: %d finding(s)\n", S().findings);
            fflush(nullptr);
            _exit(86);
        }
    });
}
void finding(const char *api, E sticky, const char *fmt, ...)
{
    State &st = S();
    char b[900];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(b, sizeof b, fmt, ap);
    va_end(ap);
    st.last = std::string(api) + ": " + b;
    st.findings++;
    if (sticky)
        st.sticky = sticky;
    if (!st.quiet && st.findings <= 50)
        fprintf(stderr, "cudasim: %s\n", st.last.c_str());
}
bool enter(const char *api)
{
    S().last_call = now();
    if (t_hostfn)
        finding(api, cudaSuccess, "called inside a cudaLaunchHostFunc callback");
    return !t_hostfn;
}
} /* namespace sim */

void sim::set_last(cudaError_t e)
{
    t_last = e;
}

extern "C" {
void cudasim_set_seed(unsigned s)
{
    Lock lk(S().mu);
    reseed(s);
}
void cudasim_set_races(int r)
{
    Lock lk(S().mu);
    S().races = r;
}
void cudasim_set_protect(int r)
{
    Lock lk(S().mu);
    S().protect = r;
}
void cudasim_set_timeout(long ms)
{
    Lock lk(S().mu);
    S().timeout_ms = ms;
}
void cudasim_set_lazy(int l)
{
    Lock lk(S().mu);
    S().lazy = l;
}
int cudasim_findings(void)
{
    Lock lk(S().mu);
    return S().findings;
}
const char *cudasim_last_finding(void)
{
    return S().last.c_str();
}
void cudasim_clear(void)
{
    Lock lk(S().mu);
    S().findings = 0;
    S().last.clear();
    S().told.clear();
    S().sticky = cudaSuccess;
    t_last = cudaSuccess;
}
void cudasim_quiet(int q)
{
    Lock lk(S().mu);
    S().quiet = q;
}
int cudasim_live(void)
{
    Lock lk(S().mu);
    State &st = S();
    int n = (int)(st.handles.size() + st.events.size());
    n += st.communicators + st.descriptors + st.graphs;
    for (auto &m : st.mem)
        n += !m.second->dead && (!m.second->graph || m.second->held);
    return n;
}
unsigned long cudasim_kernels(void)
{
    return S().kernels;
}
}
