/* Leases: a file with a generation, replaced by rename, read before everything that is written. */
#include "io/lease_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <flambeau/comm/world.h>

#include "comm/world_priv.h"
#include "core/tensor/context_priv.h"
#include "io/file_priv.h"

static json_t *read_file(const char *dir, const char *name)
{
    char path[FBI_CHECKPOINT_PATH + 32];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
}

/* Two that write at the same moment, be it threads, do not share a file before it has its name. */
static bool replace_file(const char *dir, const char *name, json_t *root)
{
    char part[FBI_CHECKPOINT_PATH + 64], path[FBI_CHECKPOINT_PATH + 32];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(part, sizeof part, "%s.%ld.tmp", path, (long)gettid());
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    errno = ENOMEM;
    bool good = text && fbi_file_write(part, text, strlen(text)) && !rename(part, path) &&
                fbi_file_sync(dir);
    int why = errno;
    if (!good)
        unlink(part);
    free(text);
    errno = why;
    return good;
}

/* "slurm job 812 on node3", "process 77 on host" */
static void describe_job(char *text, size_t size)
{
    static const char *const jobs[][2] = {
        {"SLURM_JOB_ID", "slurm"}, {"PBS_JOBID", "pbs"}, {"LSB_JOBID", "lsf"}};
    char host[64] = "?";
    gethostname(host, sizeof host - 1);
    for (int i = 0; i < 3; i++) {
        const char *id = getenv(jobs[i][0]);
        if (!id)
            continue;
        snprintf(text, size, "%s job %s on %s", jobs[i][1], id, host);
        return;
    }
    snprintf(text, size, "process %ld on %s", (long)getpid(), host);
}

static bool first_of(json_t *lease, char first[17])
{
    const char *text = json_string_value(json_object_get(lease, "first"));
    snprintf(first, 17, "%s", text ? text : "");
    return *first != '\0';
}

bool fbi_lease_first(const char *dir, char first[17])
{
    json_t *lease = read_file(dir, FBI_LEASE_FILE);
    bool there = first_of(lease, first);
    json_decref(lease);
    return there;
}

bool fbi_lease_take(const char *dir, fbi_lease *lease)
{
    char job[160], since[32];
    uint64_t random = 0;
    if (!fbi_make_folder(dir) || getrandom(&random, sizeof random, 0) != sizeof random)
        return false;
    snprintf(lease->dir, sizeof lease->dir, "%s", dir);
    snprintf(lease->id, sizeof lease->id, "%016" PRIx64, random);
    json_t *old = read_file(dir, FBI_LEASE_FILE);
    lease->generation = json_integer_value(json_object_get(old, "generation")) + 1;
    if (!first_of(old, lease->first))
        memcpy(lease->first, lease->id, sizeof lease->first);
    json_decref(old);
    describe_job(job, sizeof job);
    fbi_utc_time(since);
    json_t *root =
        json_pack("{s:I, s:s, s:s, s:s, s:s}", "generation", (json_int_t)lease->generation, "id",
                  lease->id, "first", lease->first, "job", job, "since", since);
    bool good = replace_file(dir, FBI_LEASE_FILE, root);
    json_decref(root);
    return good;
}

bool fbi_lease_held(const fbi_lease *lease, char *text, size_t size)
{
    json_t *now = read_file(lease->dir, FBI_LEASE_FILE);
    json_int_t generation = json_integer_value(json_object_get(now, "generation"));
    const char *id = json_string_value(json_object_get(now, "id"));
    const char *job = json_string_value(json_object_get(now, "job"));
    const char *since = json_string_value(json_object_get(now, "since"));
    bool held = !id || generation < lease->generation ||
                (generation == lease->generation && !strcmp(id, lease->id));
    if (!held)
        snprintf(text, size,
                 "%s: %s has taken over (generation %lld since %s, this job has %lld): one folder "
                 "is for one job, the older one stops and writes no more",
                 lease->dir, job ? job : "another job", (long long)generation, since ? since : "?",
                 (long long)lease->generation);
    json_decref(now);
    return held;
}

void fbi_lease_note_saved(const char *run, int64_t step, const char *path)
{
    json_t *root = json_pack("{s:I, s:s}", "step", (json_int_t)step, "path", path);
    replace_file(run, FBI_SAVED_FILE, root); /* if it fails, the launcher believes in less */
    json_decref(root);
}

int64_t fbi_lease_saved(const char *run)
{
    json_t *root = read_file(run, FBI_SAVED_FILE);
    json_t *step = json_object_get(root, "step");
    int64_t n = json_is_integer(step) ? json_integer_value(step) : -1;
    json_decref(root);
    return n;
}

/* --- for ranks --- */

/* The first of a world is that of the run directory, with generation 0 if there is no launcher. */
static fbi_lease *add_lease(fb_world *world)
{
    fbi_lease *all = realloc(world->leases, (size_t)(world->n_leases + 1) * sizeof *all);
    if (!all)
        return NULL;
    world->leases = all;
    all[world->n_leases] = (fbi_lease){.generation = 0};
    return &all[world->n_leases++];
}

static bool open_leases(fb_world *world)
{
    if (world->n_leases)
        return true;
    fbi_lease *run = add_lease(world);
    const char *dir = getenv(FBI_RUN_DIR), *text = getenv(FBI_RUN_LEASE);
    if (run && dir && text && sscanf(text, "%" SCNd64 " %16s", &run->generation, run->id) == 2)
        snprintf(run->dir, sizeof run->dir, "%s", dir);
    return run != NULL;
}

const fbi_lease *fbi_lease_of(const fb_world *world, const char *folder)
{
    const fbi_lease *all = world->leases;
    for (int i = 1; i < world->n_leases; i++)
        if (!strcmp(all[i].dir, folder))
            return &all[i];
    return NULL;
}

void fbi_lease_enter(fb_world *world, const char *folder)
{
    if (!fb_world_root(world) || !open_leases(world) || fbi_lease_of(world, folder) ||
        fbi_lease_guard(world, NULL)) /* who has been replaced takes nothing any more */
        return;
    fbi_lease *lease = add_lease(world);
    if (lease && !fbi_lease_take(folder, lease))
        world->n_leases--;
}

fb_status fbi_lease_guard(fb_world *world, const char *folder)
{
    char text[FBI_CHECKPOINT_PATH + 512];
    if (!fb_world_root(world) || !open_leases(world))
        return FB_OK;
    const fbi_lease *run = world->leases, *own = folder ? fbi_lease_of(world, folder) : NULL;
    if ((!*run->dir || fbi_lease_held(run, text, sizeof text)) &&
        (!own || fbi_lease_held(own, text, sizeof text)))
        return FB_OK;
    return fbi_fail(fb_world_context(world), FB_E_STATE, "%s", text);
}

void fbi_lease_saved_here(fb_world *world, int64_t step, const char *path)
{
    if (!fb_world_root(world) || !open_leases(world))
        return;
    const fbi_lease *run = world->leases;
    if (*run->dir)
        fbi_lease_note_saved(run->dir, step, path);
}

void fbi_lease_copy(fb_world *world, const char *folder, fbi_lease out[2])
{
    out[0] = out[1] = (fbi_lease){.generation = 0};
    if (!open_leases(world))
        return;
    const fbi_lease *run = world->leases, *own = fbi_lease_of(world, folder);
    out[0] = *run;
    if (own)
        out[1] = *own;
}
