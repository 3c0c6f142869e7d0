/* The CPU as a device: memory of the host, threads, and the kernels of the best instruction set. */
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "core/base/log_priv.h"
#include "core/base/threads_priv.h"
#include "core/cpu/dnn_priv.h"
#include "core/cpu/state_priv.h"
#include "core/ops/op_priv.h"

/* What is compiled once per instruction set (kernels_isa.h). */
typedef struct fbi_level {
    const char *name;
    const fbi_kernel *kernels;
    void (*update)(const fbi_update *u);
    void (*average)(const fbi_average *a);
    bool bf16, amx;
} fbi_level;
/* What follows isa: fields that are true. */
#define LEVEL(text, isa, ...)                                                           \
    {                                                                                   \
        .name = text, .kernels = fbi_cpu_kernels_##isa, .update = fbi_cpu_update_##isa, \
        .average = fbi_cpu_average_##isa, __VA_ARGS__                                   \
    }
#define DECLARE(isa)                                 \
    extern const fbi_kernel fbi_cpu_kernels_##isa[]; \
    void fbi_cpu_update_##isa(const fbi_update *u);  \
    void fbi_cpu_average_##isa(const fbi_average *a);

#if defined(__x86_64__)
DECLARE(v2)
DECLARE(v3)
DECLARE(v4)
static const fbi_level levels[] = {LEVEL("v2", v2, ), LEVEL("v3", v3, ), LEVEL("v4", v4, ),
                                   LEVEL("v4_bf16", v4, .bf16 = true),
                                   LEVEL("v4_bf16_amx", v4, .bf16 = true, .amx = true)};

/* Linux keeps a thread's tiles only in processes that have asked for it. */
static bool amx_granted(void)
{
    enum { BF16 = 1 << 22, TILES = 1 << 24, REQUEST = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & BF16 && d & TILES &&
           syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

static int fbi_isa_of_machine(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return !fbi_dnn_has_bf16() ? 2 : amx_granted() ? 4 : 3;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                   __builtin_cpu_supports("bmi2")
               ? 1
               : 0;
}
#else
DECLARE(v0)
static const fbi_level levels[] = {LEVEL("v0", v0, )};

static int fbi_isa_of_machine(void)
{
    return 0;
}
#endif

enum { LEVELS = sizeof levels / sizeof levels[0] };

const char *fbi_cpu_isa(void)
{
    return levels[fbi_isa_of_machine()].name;
}

/* NULL: the context is not on the CPU. */
static const fbi_level *level_of(const fb_context *ctx)
{
    const fbi_cpu_state *s = ctx->device;
    for (int i = 0; i < LEVELS; i++)
        if (ctx->kernels == levels[i].kernels && levels[i].bf16 == s->bf16 &&
            levels[i].amx == s->amx)
            return &levels[i];
    return NULL;
}

const char *fbi_cpu_kernels_of(const fb_context *ctx)
{
    const fbi_level *level = level_of(ctx);
    return level ? level->name : "";
}

void fbi_cpu_update(const fb_context *ctx, const fbi_update *u)
{
    level_of(ctx)->update(u);
}

static fb_status cpu_average(fb_context *ctx, const fbi_average *a)
{
    level_of(ctx)->average(a);
    return FB_OK;
}

/* FB_ISA may ask for less than the machine has, never for more. NULL: error is set. */
static const fbi_level *choose_level(fb_context *ctx)
{
    int best = fbi_isa_of_machine(), use = best;
    const char *want = getenv("FB_ISA");
    if (LEVELS > 1 && want && *want) {
        use = 0;
        while (use < LEVELS && strcmp(want, levels[use].name) != 0)
            use++;
        if (use == LEVELS) {
            fbi_fail(ctx, FB_E_ARG, "FB_ISA=%s: known are v2, v3, v4, v4_bf16 and v4_bf16_amx",
                     want);
            return NULL;
        }
        if (use > best) {
            fbi_fail(ctx, FB_E_UNSUPPORTED, "FB_ISA=%s: this machine has %s", want,
                     levels[best].name);
            return NULL;
        }
    }
    return &levels[use];
}

/* Room in the table for `threads` threads. */
static bool works_grow(fbi_cpu_state *s, int threads)
{
    if (threads <= s->works)
        return true;
    fbi_cpu_work *w = realloc(s->work, (size_t)threads * sizeof *w);
    if (!w)
        return false;
    memset(w + s->works, 0, (size_t)(threads - s->works) * sizeof *w);
    s->work = w;
    s->works = threads;
    return true;
}

fb_status fbi_cpu_work_for(const fbi_call *c, int threads, size_t bytes)
{
    fbi_cpu_state *s = fbi_cpu_state_of(c->ctx);
    bool enough = works_grow(s, threads);
    bytes = (bytes + 4095) & ~(size_t)4095;
    for (int i = 0; i < threads && enough; i++) {
        fbi_cpu_work *w = &s->work[i];
        if (w->bytes >= bytes)
            continue;
        free(w->data);
        w->data = aligned_alloc(4096, bytes);
        w->bytes = w->data ? bytes : 0;
        enough = w->data != NULL;
    }
    return enough ? FB_OK
                  : fbi_fail(c->ctx, FB_E_NOMEM, "no memory for %zu bytes of scratch", bytes);
}

static fb_status cpu_open(fb_context *ctx, int index, const fb_context_options *options,
                          const fbi_core_api *core)
{
    (void)index, (void)core;
    int threads = options ? options->threads : 0;
    if (threads < 0 || threads > 1024)
        return fbi_fail(ctx, FB_E_ARG, "context: %d threads", threads);
    int wanted = threads ? threads : fbi_allowed_cores();
    ctx->threads = fbi_granted_threads(wanted);
    if (threads && ctx->threads < wanted)
        fbi_logline("context: OpenMP grants %d of %d threads", ctx->threads, wanted);
    const fbi_level *level = choose_level(ctx);
    if (!level)
        return ctx->status;
    fbi_cpu_state *s = calloc(1, sizeof *s);
    if (!s)
        return fbi_fail(ctx, FB_E_NOMEM, "context: no memory");
    s->bf16 = level->bf16;
    s->amx = level->amx;
    ctx->kernels = level->kernels;
    ctx->device = s;
    return FB_OK;
}

static void cpu_close(fb_context *ctx)
{
    fbi_cpu_state *s = fbi_cpu_state_of(ctx);
    for (int i = 0; i < s->works; i++)
        free(s->work[i].data);
    free(s->work);
    free(s);
    ctx->device = NULL;
}

static void *cpu_alloc(fb_context *ctx, fbi_queue queue, size_t bytes)
{
    (void)ctx, (void)queue;
    void *p = NULL;
    size_t align = bytes >= 4096 ? 256 : 64;
    return posix_memalign(&p, align, bytes ? bytes : 1) ? NULL : p;
}

static void cpu_free(fb_context *ctx, fbi_queue queue, void *data, size_t bytes)
{
    (void)ctx, (void)queue, (void)bytes;
    free(data);
}

static fb_status cpu_copy(fb_context *ctx, void *dst, const void *src, size_t bytes)
{
    (void)ctx;
    if (bytes)
        memcpy(dst, src, bytes);
    return FB_OK;
}

/* Large blocks by all threads: memory that is fresh is given and cleared page by page. */
static fb_status cpu_fill_zero(fb_context *ctx, void *dst, size_t bytes)
{
    enum { PART = 1 << 20 };
    if (bytes <= PART) {
        if (bytes)
            memset(dst, 0, bytes);
        return FB_OK;
    }
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (size_t at = 0; at < bytes; at += PART)
        memset((char *)dst + at, 0, bytes - at < PART ? bytes - at : PART);
    return FB_OK;
}

static fb_status cpu_sync(fb_context *ctx)
{
    (void)ctx;
    return FB_OK;
}

static void cpu_pack_free(fb_context *ctx, fbi_pack *packs)
{
    (void)ctx, (void)packs;
}

const fbi_backend fbi_backend_cpu = {
    .abi = FBI_BACKEND_ABI,
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .copy_in = cpu_copy,
    .copy_out = cpu_copy,
    .copy = cpu_copy,
    .fill_zero = cpu_fill_zero,
    .sync = cpu_sync,
    .pack_free = cpu_pack_free,
    .average = cpu_average,
    .host_memory = true,
};
