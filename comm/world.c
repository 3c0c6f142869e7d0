/* Opening the world, and what it answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/board_priv.h"
#include "comm/link_priv.h"
#include "comm/mpi_priv.h"
#include "comm/plane_priv.h"
#include "comm/work_priv.h"
#include "core/base/log_priv.h"
#include "core/base/threads_priv.h"
#include "core/ops/backend.h"

static int env_int(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    long n = text ? strtol(text, &end, 10) : 0;
    return text && end != text && !*end && n > 0 && n < 1 << 20 ? (int)n : 0;
}

/* A number of the environment; 0 and below are no limit. */
static double env_limit(const char *name, double otherwise)
{
    const char *text = getenv(name);
    char *end = NULL;
    double s = text ? strtod(text, &end) : otherwise;
    return text && (end == text || *end || s != s) ? otherwise : s;
}

/* What all ranks take from rank 0, whatever their own environment says. */
typedef struct common {
    uint64_t seed;
    int shards, threads;
    bool allow_tf32, tune;
} common;

static common agree_on_options(fb_world *world, const fb_world_options *o)
{
    common c = {.seed = o->seed, .shards = o->shards, .threads = o->threads};
    c.allow_tf32 = fbi_option_wanted(o->allow_tf32, "FLAMBEAU_TF32");
    c.tune = fbi_option_wanted(o->tune, "FLAMBEAU_TUNE");
    if (!c.shards)
        c.shards = env_int("FLAMBEAU_SHARDS");
    if (!c.threads)
        c.threads = env_int("FLAMBEAU_THREADS");
    if (!c.threads && c.shards)
        c.threads = 1; /* part of the numerics: it must not follow from the number of ranks */
    fbi_boot_broadcast(world, &c, sizeof c);
    return c;
}

static bool options_fit(const fb_world *world, const common *c)
{
    if (c->shards < 0 || c->shards > FBI_MAX_SHARDS || c->threads < 0) {
        fbi_logline(
            "world_open: %d shards, %d threads: shards lie between 1 and %d, threads above 0",
            c->shards, c->threads, FBI_MAX_SHARDS);
        return false;
    }
    if (c->shards && c->shards < world->size) {
        fbi_logline(
            "world_open: %d ranks, but %d shards: a rank needs one shard at least; start %d "
            "ranks or fewer, or use more shards",
            world->size, c->shards, c->shards);
        return false;
    }
    return true;
}

/* This rank's number among the ranks of the node that bring the same key, and theirs. */
static bool count_mates(fb_world *world, uint64_t key, int *rank, int *ranks)
{
    fbi_exchange exchange = fbi_node_exchange(world);
    uint64_t *keys = malloc((size_t)world->local_size * sizeof *keys);
    bool ok = keys && exchange.gather(exchange.self, &key, sizeof key, keys);
    for (int i = 0; ok && i < world->local_size; i++) {
        *rank += keys[i] == key && i < world->local_rank;
        *ranks += keys[i] == key;
    }
    free(keys);
    return ok;
}

/* Take a share of the cores. @return threads for kernels */
static int divide_cores(fb_world *world, int threads)
{
    const char *bind = getenv("FLAMBEAU_BIND");
    fbi_cores_request request = {.threads = threads};
    char note[256] = "";
    request.keep = world->guest || (bind && strcmp(bind, "keep") == 0);
    uint64_t key = fbi_cores_widen(request.keep, &request.inherited);
    if (!count_mates(world, key, &request.rank, &request.ranks))
        return threads ? threads : 1;
    /* Unless the masks were left alone and differ, equal masks mean shared cores. */
    request.bound = request.keep && request.ranks == 1 && world->local_size > 1;
    bool apart;
    int share = fbi_cores_share(&request, &apart, note, sizeof note);
    world->spin_s = apart ? 2e-3 : 0;
    if (note[0] && world->local_rank == 0 && world->rank == 0)
        fbi_logline("world_open: %s", note);
    return threads ? threads : fbi_granted_threads(share);
}

/* Kernels of the weakest processor of the job, so that all ranks compute the same bits. */
static bool cap_instruction_set(fb_world *world)
{
    char mine[16], *all = malloc((size_t)world->size * sizeof mine);
    const char *asked = getenv("FB_ISA"), *least = NULL;
    snprintf(mine, sizeof mine, "%s", asked && *asked ? asked : fbi_cpu_isa());
    fbi_exchange exchange = fbi_world_exchange(world);
    bool ok = all && exchange.gather(exchange.self, mine, sizeof mine, all);
    for (int r = 0; ok && r < world->size; r++)
        if (!least || strcmp(all + r * (int)sizeof mine, least) < 0)
            least = all + r * (int)sizeof mine;
    bool lower = ok && least && strcmp(least, mine) < 0;
    if (lower)
        setenv("FB_ISA", least, 1);
    free(all);
    return lower;
}

static fb_status poll_hook(void *self)
{
    return fbi_world_check(self);
}

static fb_status leaf_sum_hook(void *self, const double *values, int n, double *total)
{
    return fbi_group_leaf_sum(((fb_world *)self)->lead, values, n, total);
}

static bool open_context(fb_world *world, const fb_world_options *o, const common *c)
{
    char device[FBI_DEVICE_BYTES];
    if (!fbi_world_choose_device(world, o->device, device))
        return false;
    fb_context_options options = {.device = device, .seed = c->seed};
    options.threads = divide_cores(world, c->threads);
    bool capped = cap_instruction_set(world);
    world->ctx = fb_context_open(&options);
    if (capped)
        unsetenv("FB_ISA");
    if (!fbi_boot_agree(world, world->ctx != NULL))
        return false;
    world->ctx->is_worlds = true;
    world->ctx->allow_tf32 = c->allow_tf32;
    world->ctx->tune = c->tune && !c->shards;
    return true;
}

static bool open_group(fb_world *world, int shards)
{
    int *ranks = malloc((size_t)world->size * sizeof *ranks);
    fbi_exchange exchange = fbi_world_exchange(world);
    world->shards = shards;
    for (int r = 0; ranks && r < world->size; r++)
        ranks[r] = r;
    world->all = fbi_group_new(world, NULL, ranks, ranks ? world->size : 0,
                               shards ? shards : world->size, &exchange);
    free(ranks);
    if (!fbi_boot_agree(world, world->all != NULL)) {
        fbi_logline("world_open: no memory for a group of %d ranks", world->size);
        return false;
    }
    bool flat = (!world->messages && !fbi_staging_serves(world->all)) ||
                (world->all->link && !fbi_stages_serve(world->all));
    if (world->rank == 0 && flat && world->nodes > 1 && world->size > world->nodes)
        fbi_logline("world_open: sums go from each rank to each, not node by node: that needs the "
                    "same number of ranks on each node, a power of two, one node after the other");
    world->ctx->hooks = (fbi_context_hooks){.self = world,
                                            .poll = poll_hook,
                                            .leaf_sum = leaf_sum_hook,
                                            .wait = world->ctx->hooks.wait};
    fbi_group_set_lead(world->all);
    return true;
}

static void undo(fb_world *world)
{
    fbi_links_abort(world);
    if (world->ctx) {
        world->ctx->is_worlds = false;
        fb_context_close(world->ctx);
    }
    for (fb_group *g = world->groups, *next; g; g = next) {
        next = g->next;
        fbi_group_free(g);
    }
    fbi_plane_close(world);
    fbi_control_close(world);
    fbi_boot_undo(world, true);
    if (world->guest)
        fbi_log_quiet(false);
    free(world);
}

fb_world *fbi_world_open(int *argc, char ***argv, MPI_Comm from, const fb_world_options *options)
{
    const fb_world_options none = {0};
    const fb_world_options *o = options ? options : &none;
    fb_world *world = calloc(1, sizeof *world);
    fbi_mpi *mpi = calloc(1, sizeof *mpi);
    if (o->log)
        fb_log_set(o->log, o->log_user);
    if (!world || !mpi) {
        fbi_logline("world_open: out of memory");
        free(world);
        free(mpi);
        return NULL;
    }
    mpi->comm = mpi->control = mpi->node = MPI_COMM_NULL;
    mpi->inbox_request = MPI_REQUEST_NULL;
    world->mpi = mpi;
    world->guest = o->guest;
    if (o->guest)
        fbi_log_quiet(true);
    const fbi_patience patience = fbi_patience_asked();
    world->stopped_s = patience.stopped;
    world->silent_s = patience.silent;
    world->stuck_s = patience.stuck;
    world->timeout_s = env_limit("FLAMBEAU_TIMEOUT_SECONDS", 60);
    world->link_room = 32 << 20;
    world->link_s = fbi_env_seconds("FLAMBEAU_LINK_SECONDS", 600);
    if (!fbi_boot(world, argc, argv, from))
        goto fail;
    if (getenv("FLAMBEAU_RUN_DIR"))
        fbi_world_report_to(world, getenv("FLAMBEAU_RUN_DIR"));
    fbi_plane_open(world);
    const char *comm = getenv("FLAMBEAU_COMM");
    world->messages = world->messages || (comm && strcmp(comm, "messages") == 0);
    common c = agree_on_options(world, o);
    if (!fbi_boot_agree(world, options_fit(world, &c)) || !open_context(world, o, &c) ||
        !open_group(world, c.shards))
        goto fail;
    if (!world->guest) {
        fbi_signals_install();
        if (world->may_speak)
            fbi_world_crash_open(world);
        world->signals = true;
    }
    return world;

fail:
    undo(world);
    return NULL;
}

FB_API fb_world *fb_world_open_with(int *argc, char ***argv, const fb_world_options *options)
{
    return fbi_world_open(argc, argv, MPI_COMM_WORLD, options);
}

FB_API fb_world *fb_world_open(int *argc, char ***argv)
{
    return fbi_world_open(argc, argv, MPI_COMM_WORLD, NULL);
}

FB_API fb_world *fb_world_open_comm(MPI_Comm comm, const fb_world_options *options)
{
    fb_world_options guest = options ? *options : (fb_world_options){0};
    guest.guest = true;
    return fbi_world_open(NULL, NULL, comm, &guest);
}

FB_API fb_world *fb_world_open_f(int fcomm, const fb_world_options *options)
{
    return fb_world_open_comm(MPI_Comm_f2c((MPI_Fint)fcomm), options);
}

void fbi_world_report_to(fb_world *world, const char *folder)
{
    if (atomic_load(&world->run_dir))
        return;
    if (world->rank == 0)
        fbi_verdict_forget(folder);
    atomic_store(&world->run_dir, strdup(folder));
}

const char *fbi_world_run_dir(fb_world *world)
{
    const char *folder = atomic_load(&world->run_dir);
    return folder ? folder : "";
}

FB_API fb_context *fb_world_context(fb_world *world)
{
    return world ? world->ctx : NULL;
}

FB_API fb_group *fb_world_group(fb_world *world)
{
    return world ? world->all : NULL;
}

FB_API int fb_world_rank(const fb_world *world)
{
    return world ? world->rank : 0;
}

FB_API int fb_world_size(const fb_world *world)
{
    return world ? world->size : 1;
}

FB_API int fb_world_local_rank(const fb_world *world)
{
    return world ? world->local_rank : 0;
}

FB_API int fb_world_local_size(const fb_world *world)
{
    return world ? world->local_size : 1;
}

FB_API bool fb_world_root(const fb_world *world)
{
    return world && world->rank == 0;
}

FB_API void fb_world_stop(fb_world *world)
{
    if (world)
        world->stop_wanted = true;
}

/* The largest value of any rank. Collective. */
static uint8_t most(fb_world *world, const char *tag, uint8_t mine)
{
    uint8_t all = 0;
    fbi_task task = {.kind = FBI_KIND_ALL_REDUCE,
                     .op = FB_MAX,
                     .dtype = FB_U8,
                     .count = 1,
                     .src = {&mine},
                     .n_src = 1,
                     .dst = &all,
                     .site = world->ctx->site,
                     .tag = tag};
    return fbi_work_run(world->all, &task) == FB_OK ? all : 0;
}

FB_API bool fb_world_any(fb_world *world, bool flag)
{
    if (!world)
        return false;
    FBI_ENTRY(world->ctx);
    return most(world, "any", flag) != 0;
}

FB_API bool fb_world_all(fb_world *world, bool flag)
{
    if (!world)
        return false;
    FBI_ENTRY(world->ctx);
    return most(world, "all", !flag) == 0 && fb_ok(world->ctx);
}

FB_API fb_status fb_world_barrier(fb_world *world)
{
    if (!world)
        return FB_E_ARG;
    FBI_ENTRY(world->ctx);
    return fb_group_barrier(world->all);
}

FB_API bool fb_world_running(fb_world *world)
{
    if (!world || !fb_ok(world->ctx))
        return false;
    FBI_ENTRY(world->ctx);
    if (!world->attached && !world->stop_agreed)
        fbi_stop_join(world, most(world, "any", fbi_stop_wish(world)));
    return !world->stop_agreed && fb_ok(world->ctx);
}
