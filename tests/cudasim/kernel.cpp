/* Runs one kernel: the threads of a block are fibers, started lazily. A fiber runs
 * thread after thread as plain calls; only a thread that has to wait (barrier, warp collective)
 * keeps its fiber, so simple kernels never switch. */
#include "tests/cudasim/cuda_on_host.h"
#include "tests/cudasim/sim.h"
#include <csignal>
#include <sys/mman.h>
#include <unistd.h>
#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
using namespace sim;
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
unsigned char *cudasim::dyn_shared;

#if !defined(__x86_64__) || defined(CUDASIM_UCONTEXT)
#include <ucontext.h>
#endif
namespace
{
#ifdef SIM_ASAN
const size_t STACK = 256 << 10;
#else
const size_t STACK = 64 << 10;
#endif
struct Fiber {
#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)
    void *sp = nullptr;
#else
    ucontext_t c;
#endif
    char *stk = nullptr;
    size_t color = 0;
    uint3 tid;
    int t = -1;
    void *fake = nullptr;
};
struct Thread {
    Fiber *f;
    uint64_t val, res;
    int src;
};
struct Group {
    unsigned mask, arrived;
    int kind;
    const char *file;
    int line;
};
struct Warp {
    unsigned exists, exited;
    int ng;
    Group g[32];
};
struct Block {
    const cudasim::call *c;
    int n, next, live, nbar, barkind, barline, baracc;
    const char *barfile;
    bool synced, failed;
    unsigned mul, add;
    int policy;
    bool depth_first;
    std::vector<Thread> t;
    std::vector<Warp> w;
    std::vector<int> bar;
    int ready[1024];
    unsigned rhead, rn; /* ready: a ring */
    std::vector<Fiber *> idle, all;
};
union Forever {
    Block b;
    Forever() : b() {}
    ~Forever() {}
} forever; /* usable until the very end of the process */
Block &B = forever.b;
Fiber main_fiber, *cur = &main_fiber;

#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)
extern "C" void cudasim_switch(void **save, void *to);
asm(".text\n.type cudasim_switch,@function\ncudasim_switch:\n push %rbp\n push %rbx\n push %r12\n "
    "push %r13\n push %r14\n push %r15\n"
    " mov %rsp,(%rdi)\n mov %rsi,%rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop "
    "%rbp\n ret\n.size cudasim_switch,.-cudasim_switch\n");
#endif
#ifdef SIM_ASAN
const void *main_stk;
size_t main_size;
Fiber *prev; /* the stack of the thread that runs the block, told by the sanitizer */
void arrived(void *fake)
{
    const void *b;
    size_t n;
    __sanitizer_finish_switch_fiber(fake, &b, &n);
    if (prev == &main_fiber)
        main_stk = b, main_size = n;
}
#endif
void fiber_loop();
void reset(Fiber *f)
{
#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)
    void **s =
        (void **)(f->stk + STACK - f->color); /* stacks must not all start in the same cache set */
    *--s = nullptr;
    *--s = (void *)
        fiber_loop; /* the "return address" of the first switch; stack aligned as after a call */
    for (int i = 0; i < 6; i++)
        *--s = nullptr;
    f->sp = s;
#else
    getcontext(&f->c);
    f->c.uc_stack.ss_sp = f->stk;
    f->c.uc_stack.ss_size = STACK;
    f->c.uc_link = nullptr;
    makecontext(&f->c, fiber_loop, 0);
#endif
    f->t = -1;
    f->fake = nullptr;
}
void to(Fiber *n)
{
    Fiber *me = cur;
    me->tid = threadIdx;
    cur = n;
#ifdef SIM_ASAN
    prev = me;
    __sanitizer_start_switch_fiber(&me->fake, n == &main_fiber ? main_stk : n->stk,
                                   n == &main_fiber ? main_size : STACK);
#endif
#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)
    cudasim_switch(&me->sp, n->sp);
#else
    swapcontext(&me->c, &n->c);
#endif
#ifdef SIM_ASAN
    arrived(me->fake);
#endif
    cur = me;
    threadIdx = me->tid;
}
Fiber *idle_fiber()
{
    if (B.idle.empty()) {
        char *m = (char *)mmap(nullptr, STACK + 4096, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        mprotect(m, 4096, PROT_NONE); /* a kernel that overflows its stack faults here */
        Fiber *f = new Fiber;
        f->stk = m + 4096;
        f->color = B.all.size() * 320 % 4096;
        reset(f);
        B.all.push_back(f);
        return f;
    }
    Fiber *f = B.idle.back();
    B.idle.pop_back();
    return f;
}
[[noreturn]] void fail_block()
{
    B.failed = true;
    to(&main_fiber);
    __builtin_unreachable();
}
void make_ready(int t)
{
    B.ready[(B.rhead + B.rn++) & 1023] = t;
}
Fiber *pick()
{
    bool start = B.next < B.n;
    if (B.rn && (!start || B.depth_first)) {
        unsigned i = B.policy == 0 ? B.rhead++ : B.rhead + B.rn - 1; /* oldest, newest or any */
        if (B.policy == 2)
            std::swap(B.ready[(B.rhead + rnd() % B.rn) & 1023], B.ready[i & 1023]);
        B.rn--;
        return B.t[(size_t)B.ready[i & 1023]].f;
    }
    return start ? idle_fiber() : nullptr;
}
[[noreturn]] void stuck()
{
    {
        std::string s;
        for (size_t i = 0; i < B.w.size(); i++)
            for (int k = 0; k < B.w[i].ng && s.size() < 300; k++) {
                Group &g = B.w[i].g[k];
                s += "; warp " + std::to_string(i) + " waits at " + g.file + ":" +
                     std::to_string(g.line) + " for " +
                     std::to_string(__builtin_popcount(g.mask & B.w[i].exists & ~g.arrived)) +
                     " more lanes";
            }
        finding(B.c->name, cudaErrorLaunchFailure,
                "deadlock in block (%u,%u,%u): %d of %d live threads in __syncthreads at %s:%d%s",
                blockIdx.x, blockIdx.y, blockIdx.z, B.nbar, B.live, B.nbar ? B.barfile : "-",
                B.nbar ? B.barline : 0, s.c_str());
    }
    fail_block(); /* abandons this stack: nothing on it may need destruction */
}
void suspend(int t)
{
    B.t[t].f = cur;
    Fiber *n = pick();
    if (!n)
        stuck();
    if (n != cur)
        to(n);
}
void complete(Warp &w, int wi, int gi, int self)
{
    Group g = w.g[gi];
    w.g[gi] = w.g[--w.ng];
    Thread *t = &B.t[(size_t)wi * 32];
    uint64_t acc = 0;
    bool first = true;
#define LANES \
    for (unsigned m = g.arrived, i; m && (i = (unsigned)__builtin_ctz(m), true); m &= m - 1)
    switch (g.kind) {
    case cudasim::SHFL:
        LANES t[i].res = g.arrived >> t[i].src & 1 ? t[t[i].src].val : ~(uint64_t)0;
        break; /* an absent lane gives poison */
    case cudasim::MATCH:
        LANES
        {
            unsigned same = 0;
            for (unsigned j = 0; j < 32; j++)
                if (g.arrived >> j & 1 && t[j].val == t[i].val)
                    same |= 1u << j;
            t[i].res = same;
        }
        break;
    default:
        LANES
        {
            uint64_t v = t[i].val;
            switch (g.kind) {
            case cudasim::BALLOT:
                acc |= v << i;
                break;
            case cudasim::ANY:
            case cudasim::OR:
                acc |= v;
                break;
            case cudasim::ALL:
            case cudasim::AND:
                acc = first ? v : acc & v;
                break;
            case cudasim::ADD:
                acc = (uint32_t)(acc + v);
                break;
            case cudasim::MIN:
                acc = first || v < acc ? v : acc;
                break;
            case cudasim::MAX:
                acc = first || v > acc ? v : acc;
                break;
            }
            first = false;
        }
        LANES t[i].res = acc;
    }
    LANES if (wi * 32 + (int)i != self) make_ready(wi * 32 + (int)i);
}
void exit_thread(int t)
{
    B.live--;
    if (!B.synced) {
        B.w[(size_t)t / 32].exited |= 1u << (t % 32);
        return;
    }
    Warp &w = B.w[(size_t)t / 32];
    w.exited |= 1u << (t % 32);
    for (int i = 0; i < w.ng; i++)
        if ((w.g[i].mask & w.exists & ~w.exited & ~w.g[i].arrived) == 0) {
            complete(w, t / 32, i, -1);
            break;
        }
    if (B.nbar) {
        finding(B.c->name, cudaErrorLaunchFailure,
                "divergent __syncthreads: thread (%u,%u,%u) of block (%u,%u,%u) exited while %d "
                "threads wait at %s:%d",
                threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z, B.nbar,
                B.barfile, B.barline);
        fail_block();
    }
}
void fiber_loop()
{
#ifdef SIM_ASAN
    arrived(nullptr);
#endif
    Fiber *me = cur;
    for (;;) {
        while (B.next < B.n && !(B.depth_first && B.rn)) {
            unsigned t = B.add;
            B.next++;
            if ((B.add += B.mul) >= (unsigned)B.n)
                B.add -= (unsigned)B.n;
            if (t < blockDim.x)
                threadIdx = uint3{t, 0, 0};
            else
                threadIdx =
                    uint3{t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
            me->t = (int)t;
            B.c->thread(B.c->ctx.get());
            exit_thread(me->t);
        }
        B.idle.push_back(me);
        Fiber *n = pick();
        if (!n) {
            if (B.live) {
                B.idle.pop_back();
                stuck();
            }
            n = &main_fiber;
        }
        if (n != me)
            to(n);
    }
}
unsigned coprime(unsigned n)
{
    for (;;) {
        unsigned a = 1 + rnd() % n, x = a, y = n;
        while (y) {
            unsigned r = x % y;
            x = y;
            y = r;
        }
        if (x == 1)
            return a;
    }
}
struct Shared {
    char *lo, *hi, *dlo, *dhi;
}; /* one per linked object; [dlo,dhi): what kernels wrote since it was poisoned */
std::vector<Shared> &shared()
{
    static std::vector<Shared> v;
    return v;
}
void poison_shared(bool full)
{
    for (auto &s : shared())
        if (full)
            memset(s.lo, 0xff, (size_t)(s.hi - s.lo));
        else if (s.dhi > s.dlo)
            memset(s.dlo, 0xff, (size_t)(s.dhi - s.dlo));
}
void scan()
{
    for (auto &s : shared()) {
        char *a = s.lo, *b = s.hi;
        while (a < b && (unsigned char)*a == 0xff)
            a += a + 8 <= b && ((uintptr_t)a & 7) == 0 && *(uint64_t *)a == ~(uint64_t)0 ? 8 : 1;
        while (b > a && (unsigned char)b[-1] == 0xff)
            b -= b - 8 >= a && ((uintptr_t)b & 7) == 0 && ((uint64_t *)b)[-1] == ~(uint64_t)0 ? 8
                                                                                              : 1;
        if (a < b) {
            if (s.dlo >= s.dhi)
                s.dlo = a, s.dhi = b;
            else
                s.dlo = std::min(s.dlo, a), s.dhi = std::max(s.dhi, b);
        }
    }
}
void on_fault(int sig, siginfo_t *si, void *)
{
    char b[256];
    bool trap = sig == SIGILL || sig == SIGTRAP; /* of the compiler's checks */
    const char *what = trap ? "misaligned address" : strsignal(sig);
    int n =
        B.c ? snprintf(b, sizeof b,
                       "cudasim: %s in kernel %s block (%u,%u,%u) thread (%u,%u,%u) at %p\n", what,
                       B.c->name, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y,
                       threadIdx.z, si->si_addr)
        : find(si->si_addr)
            ? snprintf(b, sizeof b, "cudasim: host code touched device memory at %p\n", si->si_addr)
            : 0;
    n = (int)write(2, b, (size_t)n);
    signal(sig, SIG_DFL);
    raise(sig);
}
} /* namespace */
void sim::catch_faults()
{
#ifndef SIM_ASAN
    static bool armed;
    if (armed)
        return;
    armed = true;
    struct sigaction sa = {};
    sa.sa_sigaction = on_fault;
    sa.sa_flags = SA_ONSTACK | SA_SIGINFO;
    stack_t ss = {};
    ss.ss_sp = malloc(1 << 16);
    ss.ss_size = 1 << 16;
    sigaltstack(&ss, nullptr);
    for (int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP})
        sigaction(s, &sa, nullptr);
#else
    (void)on_fault; /* the sanitizer reports better */
#endif
}
int cudasim::register_shared(char *lo, char *hi)
{
    for (auto &s : shared())
        if (s.lo == lo)
            return 0;
    if (lo < hi) {
        shared().push_back(Shared{lo, hi, lo, lo});
        memset(lo, 0xff, (size_t)(hi - lo));
    }
    return 0;
}
unsigned cudasim::lane_id()
{
    return (unsigned)cur->t % 32;
}
uint64_t cudasim::warp(unsigned mask, int kind, uint64_t v, int src, const char *file, int line)
{
    int t = cur->t, wi = t / 32;
    Warp &w = B.w[wi];
    unsigned bit = 1u << (t % 32);
    B.synced = true;
    B.t[t].val = v;
    B.t[t].src = src & 31;
    auto bad = [&](const char *why) {
        finding(B.c->name, cudaErrorLaunchFailure,
                "%s:%d: warp collective by thread %d: %s (mask %08x)", file, line, t, why, mask);
        fail_block();
    };
    if (!(mask & bit))
        bad("the caller is not in its own mask");
    int i = 0;
    for (; i < w.ng && w.g[i].mask != mask; i++)
        if ((w.g[i].arrived & mask) && (w.g[i].mask & bit))
            bad("a lane of the mask waits for this one in a collective with another mask");
    if (i == w.ng)
        w.g[w.ng++] = Group{mask, 0, kind, file, line};
    if (w.g[i].kind != kind)
        bad("lanes of one mask execute different collectives");
    w.g[i].arrived |= bit;
    if ((mask & w.exists & ~w.exited & ~w.g[i].arrived) == 0)
        complete(w, wi, i, t);
    else
        suspend(t);
    return B.t[t].res;
}
int cudasim::barrier(int kind, int pred, const char *file, int line)
{
    int t = cur->t;
    B.synced = true;
    if (!B.nbar)
        B.barkind = kind, B.barfile = file, B.barline = line, B.baracc = kind == AND;
    if (kind != B.barkind || line != B.barline || (file != B.barfile && strcmp(file, B.barfile)) ||
        B.live != B.n) {
        finding(
            B.c->name, cudaErrorLaunchFailure,
            "divergent __syncthreads: thread (%u,%u,%u) at %s:%d, %d others at %s:%d, %d exited",
            threadIdx.x, threadIdx.y, threadIdx.z, file, line, B.nbar, B.barfile, B.barline,
            B.n - B.live);
        fail_block();
    }
    B.nbar++;
    B.baracc = kind == ADD   ? B.baracc + (pred != 0)
               : kind == AND ? B.baracc && pred
                             : B.baracc || pred;
    if (B.nbar < B.live) {
        B.bar.push_back(t);
        suspend(t);
        return (int)B.t[t].res;
    }
    B.nbar = 0;
    int r = B.baracc;
    size_t k = B.bar.size(), m = B.policy && k ? coprime((unsigned)k) : 1,
           a = B.policy && k ? rnd() % k : 0;
    for (size_t i = 0; i < k; i++) {
        int o = B.bar[(i * m + a) % k];
        B.t[o].res = (uint64_t)r;
        make_ready(o);
    }
    B.bar.clear();
    if (k && B.policy == 2) {
        B.t[t].res = (uint64_t)r;
        make_ready(t);
        suspend(t);
    }
    return r;
}
void sim::run_kernel(const cudasim::call &c)
{
    State &st = S();
    catch_faults();
    st.kernels++;
    gridDim = c.g;
    blockDim = c.b;
    B.c = &c;
    B.n = (int)(c.b.x * c.b.y * c.b.z);
    B.t.resize((size_t)(B.n + 31) / 32 * 32);
    B.w.resize((size_t)(B.n + 31) / 32);
    uint64_t nb = (uint64_t)c.g.x * c.g.y * c.g.z;
    bool nat = st.seed == 0;
    B.policy = nat ? 0 : (int)(rnd() % 3);
    B.depth_first = nat ? false : rnd() & 1;
    uint64_t gm = nat || nb >> 31 ? 1 : coprime((unsigned)nb), ga = nat ? 0 : rnd() % nb;
    std::vector<unsigned char> dyn(c.smem + 128);
    cudasim::dyn_shared = (unsigned char *)(((uintptr_t)dyn.data() + 15) & ~(uintptr_t)15);
    memset(cudasim::dyn_shared + c.smem, 0xa5, 64);
#ifdef SIM_ASAN
    __asan_poison_memory_region(cudasim::dyn_shared + c.smem, 64);
#endif
    for (auto &s : shared())
        s.dlo = s.dhi = s.lo;
    for (uint64_t i = 0; i < nb; i++) {
        uint64_t b = (i * gm + ga) % nb;
        blockIdx.x = (unsigned)(b % c.g.x);
        blockIdx.y = (unsigned)(b / c.g.x % c.g.y);
        blockIdx.z = (unsigned)(b / c.g.x / c.g.y);
        memset(cudasim::dyn_shared, 0xff, c.smem);
        poison_shared(false);
        B.next = B.nbar = B.baracc = 0;
        B.live = B.n;
        B.synced = B.failed = false;
        B.bar.clear();
        B.rhead = B.rn = 0;
        if (nat)
            B.mul = 1, B.add = 0;
        else
            B.mul = coprime((unsigned)B.n), B.add = rnd() % (unsigned)B.n;
        for (int w = 0; w * 32 < B.n; w++) {
            int k = B.n - w * 32;
            B.w[(size_t)w].exists = k >= 32 ? ~0u : (1u << k) - 1;
            B.w[(size_t)w].exited = 0;
            B.w[(size_t)w].ng = 0;
        }
        to(idle_fiber());
        if (i == 0)
            scan(); /* learn which shared variables this kernel uses */
        if (B.failed) {
            B.idle = B.all;
            for (Fiber *f : B.all)
                reset(f);
            break;
        }
    }
    if (nb > 1)
        scan();
    poison_shared(false);
#ifdef SIM_ASAN
    __asan_unpoison_memory_region(cudasim::dyn_shared + c.smem, 64);
#else
    for (int i = 0; i < 64; i++)
        if (cudasim::dyn_shared[c.smem + (size_t)i] != 0xa5) {
            finding(c.name, cudaErrorIllegalAddress,
                    "write behind the %zu bytes of dynamic shared memory", c.smem);
            break;
        }
#endif
    B.c = nullptr;
}
