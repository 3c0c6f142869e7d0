/* Copies of states in the memory of nodes: who writes, and which of them a job goes on from. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "comm/group_priv.h"
#include "comm/world_priv.h"
#include "core/base/log_priv.h"
#include "core/tensor/context_priv.h"
#include "io/checkpoint_priv.h"
#include "io/file_priv.h"
#include "io/lease_priv.h"
#include "io/memory_priv.h"
#include "io/mirror_priv.h"

enum { SLOTS = 2, ALIGN = 64 };
static const char tag[] = "checkpoint";
/* The launcher is told so often how far the job has come. */
static const double note_s = 5;

/* The copies of one folder, on one rank. */
typedef struct store {
    char dir[FBI_CHECKPOINT_PATH];
    fbi_mirror_owner owner;
    fbi_mirror slot[SLOTS]; /* of the rank that writes: the older one is written next */
    int next;
    bool known, writes, swept; /* known: the lease could be taken */
    json_t *run;               /* as in manifests */
    double noted;
    struct store *other;
} store;

/* The first rank of a node. */
static bool leads(const fb_world *world)
{
    return world->local_rank == 0;
}

static void free_store(void *object)
{
    store *s = object;
    for (int i = 0; i < SLOTS; i++)
        fbi_mirror_close(&s->slot[i]);
    json_decref(s->run);
    free(s);
}

static uint64_t hash_of_path(const char *dir)
{
    char full[PATH_MAX];
    const char *path = realpath(dir, full) ? full : dir;
    return XXH3_64bits(path, strlen(path));
}

/* --- opening: rank 0 has the lease, and tells --- */

typedef struct claim {
    int32_t good;
    fbi_mirror_owner owner;
} claim;

static claim claim_folder(fb_world *world, const char *dir)
{
    claim c = {0};
    fbi_lease_enter(world, dir);
    const fbi_lease *lease = fbi_lease_of(world, dir);
    if (fbi_lease_guard(world, dir) || !lease)
        return c;
    c.good = 1;
    c.owner = (fbi_mirror_owner){.folder = hash_of_path(dir),
                                 .first = strtoull(lease->first, NULL, 16),
                                 .generation = lease->generation};
    return c;
}

/* NULL: the context's error says why. Collective. */
static store *open_store(fb_world *world, const char *dir)
{
    fb_context *ctx = fb_world_context(world);
    claim c = {0};
    if (fb_world_root(world))
        c = claim_folder(world, dir);
    store *s = calloc(1, sizeof *s);
    if (s && fbi_context_adopt(ctx, s, free_store)) {
        free(s);
        s = NULL;
    }
    if (!s)
        fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory");
    fb_status st = fbi_group_broadcast(fb_world_group(world), tag, &c, sizeof c, 0);
    if (st || !s)
        return NULL;
    snprintf(s->dir, sizeof s->dir, "%s", dir);
    s->owner = c.owner;
    s->owner.rank = fb_world_rank(world);
    s->known = c.good;
    s->writes = c.good && leads(world);
    s->other = world->memory;
    world->memory = s;
    return s;
}

static store *find_store(fb_world *world, const char *dir)
{
    for (store *s = world->memory; s; s = s->other)
        if (!strcmp(s->dir, dir))
            return s;
    return open_store(world, dir);
}

/* --- what is in a copy: the run, as text, and the entries, each after its length --- */

static size_t padded(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* The program's own bytes are rank 0's: everyone who writes has been told them. */
typedef struct custom_bytes {
    const fbi_custom *custom;
    void *data;
    size_t bytes;
} custom_bytes;

typedef struct customs {
    fb_group *group;
    custom_bytes *list;
    int n;
    bool good;
} customs;

static fb_status tell_custom(const fbi_state_entry *e, void *user)
{
    customs *c = user;
    if (!e->custom)
        return FB_OK;
    custom_bytes *list = realloc(c->list, (size_t)(c->n + 1) * sizeof *list);
    fb_context *ctx = fbi_group_context(c->group);
    if (!list)
        return fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory");
    c->list = list;
    custom_bytes b = {.custom = e->custom};
    if (c->group->rank == 0)
        b.data = fbi_custom_bytes(e->custom, &b.bytes);
    int32_t good = b.data != NULL;
    fb_status st = fbi_group_broadcast(c->group, tag, &good, sizeof good, 0);
    if (!st && good)
        st = fbi_group_broadcast_bytes(c->group, tag, &b.data, &b.bytes, 0);
    c->good &= good;
    list[c->n++] = b;
    return st;
}

static fb_status tell_customs(fb_state *state, customs *c)
{
    return fbi_state_has_custom(state) ? fbi_state_each(state, tell_custom, c) : FB_OK;
}

static void free_customs(customs *c)
{
    for (int i = 0; i < c->n; i++)
        free(c->list[i].data);
    free(c->list);
}

typedef struct layout {
    const customs *customs; /* NULL: sizes are not wanted */
    uint64_t hash;
    size_t bytes;
    int custom; /* how many there were so far */
} layout;

static size_t tensor_bytes(fb_tensor *t)
{
    return (size_t)fb_numel(t) * fb_dtype_size(fb_dtype_of(t));
}

static fb_status measure(const fbi_state_entry *e, void *user)
{
    layout *l = user;
    struct {
        int64_t d[FB_MAX_DIMS], n, dtype, kind;
    } what = {.kind = e->t ? 1 : e->custom ? 2 : e->i ? 3 : 4};
    size_t bytes = sizeof(int64_t);
    if (e->t) {
        fb_shape shape = fb_shape_of(e->t);
        memcpy(what.d, shape.d, (size_t)shape.n * sizeof *what.d);
        what.n = shape.n;
        what.dtype = fb_dtype_of(e->t);
        bytes = tensor_bytes(e->t);
    } else if (e->custom) {
        bytes = l->customs ? l->customs->list[l->custom++].bytes : 0;
    }
    l->hash = XXH3_64bits_withSeed(e->key, strlen(e->key) + 1, l->hash);
    l->hash = XXH3_64bits_withSeed(&what, sizeof what, l->hash);
    l->bytes += ALIGN + padded(bytes);
    return FB_OK;
}

typedef struct writer {
    char *at;
    const customs *customs;
    int custom;
} writer;

/* Where `bytes` go. */
static char *put(writer *w, size_t bytes)
{
    char *at = w->at + ALIGN;
    int64_t n = (int64_t)bytes;
    memcpy(w->at, &n, sizeof n);
    w->at = at + padded(bytes);
    return at;
}

static fb_status put_entry(const fbi_state_entry *e, void *user)
{
    writer *w = user;
    if (e->t)
        return fb_read(e->t, put(w, tensor_bytes(e->t)), tensor_bytes(e->t));
    if (e->custom) {
        const custom_bytes *b = &w->customs->list[w->custom++];
        memcpy(put(w, b->bytes), b->data, b->bytes);
    } else if (e->i) {
        memcpy(put(w, sizeof *e->i), e->i, sizeof *e->i);
    } else {
        memcpy(put(w, sizeof *e->f), e->f, sizeof *e->f);
    }
    return FB_OK;
}

/* --- writing --- */

/* The description of a run costs more than the copy of a small state; only its draws change. */
static char *describe(store *s, fb_world *world)
{
    fb_context *ctx = fb_world_context(world);
    if (!s->run)
        s->run = fbi_run_describe(ctx, fb_world_size(world));
    json_object_set_new(s->run, "draws", json_integer((json_int_t)ctx->counter));
    return s->run ? json_dumps(s->run, JSON_COMPACT) : NULL;
}

static void cannot_keep(store *s, const fb_world *world, size_t bytes, size_t room)
{
    s->writes = false;
    if (errno != ENOSPC) {
        fbi_logline("warning: checkpoints in memory: %s on %s: %s; training goes on without a copy "
                    "there",
                    fbi_mirror_folder(), world->peers[world->rank].host, strerror(errno));
        return;
    }
    fbi_logline("warning: checkpoints in memory: %s on %s has room for %.1f MB more, and two "
                "copies of %.1f MB are needed: enlarge it (mount -o remount,size=..., docker run "
                "--shm-size), or name another memory by FLAMBEAU_MEMORY_DIR; training goes on "
                "without a copy there",
                fbi_mirror_folder(), world->peers[world->rank].host, 1e-6 * (double)room,
                1e-6 * (double)bytes);
}

/* Once: of what an earlier job has left here only the newest stays, until we have one. */
static void sweep_before(store *s)
{
    fbi_mirror_head newest;
    char *contents;
    if (s->swept)
        return;
    bool there = fbi_mirror_newest(&s->owner, &newest, &contents);
    free(contents);
    fbi_mirror_sweep(&s->owner, there ? &newest : NULL);
}

static fb_status write_copy(store *s, fb_world *world, fb_state *state, const layout *l,
                            const customs *c, const char *run)
{
    fbi_mirror *m = &s->slot[s->next];
    size_t bytes = ALIGN + padded(strlen(run)) + l->bytes, room = 0;
    sweep_before(s);
    writer w = {.at = fbi_mirror_begin(m, &s->owner, s->next, bytes, &room), .customs = c};
    if (!w.at) {
        cannot_keep(s, world, bytes, room);
        return FB_OK;
    }
    memcpy(put(&w, strlen(run)), run, strlen(run));
    fb_status st = fbi_state_each(state, put_entry, &w);
    if (st)
        return st;
    fbi_mirror_head head = {.owner = s->owner,
                            .step = fbi_state_step(state),
                            .bytes = (int64_t)bytes,
                            .layout = l->hash};
    fbi_mirror_publish(m, &head);
    s->next = (s->next + 1) % SLOTS;
    if (!s->swept)
        fbi_mirror_sweep(&s->owner, NULL);
    s->swept = true;
    return FB_OK;
}

/* By which the launcher sees that the job comes on; and a job that was replaced ends. */
static fb_status note(store *s, fb_world *world, fb_state *state)
{
    if (!fb_world_root(world) || fbi_now() - s->noted < note_s)
        return FB_OK;
    s->noted = fbi_now();
    fb_status st = fbi_lease_guard(world, s->dir);
    if (!st)
        fbi_lease_saved_here(world, fbi_state_step(state), "memory");
    return st;
}

static fb_status remember(store *s, fb_world *world, fb_state *state)
{
    customs c = {.group = fb_world_group(world), .good = true};
    fb_status st = tell_customs(state, &c);
    if (!st && !c.good && fb_world_root(world))
        fbi_logline("warning: checkpoints in memory: a callback of the program failed: step %lld "
                    "is left out",
                    (long long)fbi_state_step(state));
    layout l = {.customs = &c};
    bool writes = !st && c.good && s->writes;
    if (writes)
        st = fbi_state_each(state, measure, &l);
    char *run = writes && !st ? describe(s, world) : NULL;
    if (run)
        st = write_copy(s, world, state, &l, &c, run);
    if (run && !st && s->writes)
        st = note(s, world, state);
    free(run);
    free_customs(&c);
    return st;
}

/* Said once. */
static void say_unknown(store *s, const fb_world *world)
{
    if (fb_world_root(world) && s->noted == 0)
        fbi_logline("warning: checkpoints in memory: %s cannot be written to, by which they are "
                    "found again; training goes on without them",
                    s->dir);
    s->noted = fbi_now();
}

/* NULL or a path that is too long. */
static fb_status check_folder(fb_context *ctx, const char *dir)
{
    if (dir && *dir && strlen(dir) <= FBI_CHECKPOINT_PATH - 64)
        return FB_OK;
    return fbi_fail(ctx, FB_E_ARG,
                    "checkpoint: a folder with a path of at most %d characters is needed",
                    FBI_CHECKPOINT_PATH - 64);
}

fb_status fb_checkpoint_remember(fb_world *world, const char *dir, fb_state *state)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (check_folder(ctx, dir))
        return fb_status_of(ctx);
    if (!state || fbi_state_step(state) < 0)
        return fbi_fail(ctx, FB_E_ARG,
                        "checkpoint: a copy in memory needs a state with a loader or an optimizer, "
                        "which knows the step: fb_state_add_loader, fb_state_add_optimizer");
    fb_status st = fbi_state_share(state, fb_world_group(world));
    store *s = st ? NULL : find_store(world, dir);
    if (s && !s->known)
        say_unknown(s, world);
    return s ? remember(s, world, state) : fb_status_of(ctx);
}

fb_status fb_checkpoint_forget(fb_world *world, const char *dir)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (check_folder(ctx, dir))
        return fb_status_of(ctx);
    store *s = find_store(world, dir);
    if (!s)
        return fb_status_of(ctx);
    for (int i = 0; i < SLOTS; i++)
        fbi_mirror_close(&s->slot[i]);
    fbi_mirror_owner later = s->owner;
    later.generation++; /* ours as well */
    if (s->known && leads(world))
        fbi_mirror_sweep(&later, NULL);
    s->swept = false;
    return FB_OK;
}

/* --- reading --- */

typedef struct question {
    int32_t asks;
    int64_t step; /* of the newest checkpoint */
    fbi_mirror_owner folder;
} question;

/* Which rank has the newest; of several the lowest. -1: none is newer than `step`. */
static int best_of(const fbi_mirror_head *heads, int n, int64_t step)
{
    int best = -1;
    for (int r = 0; r < n; r++) {
        const fbi_mirror_head *h = &heads[r], *b = best < 0 ? NULL : &heads[best];
        if (h->step <= step)
            continue;
        if (!b || h->step > b->step ||
            (h->step == b->step && h->owner.generation > b->owner.generation))
            best = r;
    }
    return best;
}

typedef struct filler {
    fb_context *ctx;
    fb_group *group;
    int source;
    const char *at; /* of the source; NULL elsewhere */
} filler;

/* The next entry, on every rank: `*data` is malloc'ed but on the source. */
static fb_status take(filler *f, void **data, size_t *bytes)
{
    int64_t n = 0;
    if (f->at) {
        memcpy(&n, f->at, sizeof n);
        *data = (void *)(uintptr_t)(f->at + ALIGN);
        *bytes = (size_t)n;
        f->at += ALIGN + padded((size_t)n);
    }
    return fbi_group_broadcast_bytes(f->group, tag, data, bytes, f->source);
}

static void put_back(const filler *f, void *data)
{
    if (f->group->rank != f->source)
        free(data);
}

static fb_status fill(const fbi_state_entry *e, void *user)
{
    filler *f = user;
    void *data = NULL;
    size_t bytes = 0;
    fb_status st = take(f, &data, &bytes);
    if (st)
        return st;
    if (e->t)
        st = fb_write(e->t, data, bytes);
    else if (e->i)
        memcpy(e->i, data, sizeof *e->i);
    else if (e->f)
        memcpy(e->f, data, sizeof *e->f);
    else if (e->custom->load(e->custom->user, data, bytes))
        st = fbi_fail(f->ctx, FB_E_USER,
                      "checkpoint in memory: the program's callback for %s failed", e->key);
    put_back(f, data);
    return st;
}

static fb_status fill_run(filler *f, fb_world *world, const char *name)
{
    void *text = NULL;
    size_t bytes = 0;
    fb_status st = take(f, &text, &bytes);
    json_t *run = st ? NULL : json_loadb(text, bytes, 0, NULL);
    put_back(f, text);
    if (run)
        fbi_run_resume(world, name, run);
    json_decref(run);
    return st;
}

static fb_status go_on(fb_world *world, fb_state *state, const fbi_mirror_head *head, int source,
                       const char *contents)
{
    fb_group *group = fb_world_group(world);
    char name[160];
    snprintf(name, sizeof name, "of step %lld in memory of %s", (long long)head->step,
             world->peers[source].host);
    filler f = {.ctx = fb_world_context(world),
                .group = group,
                .source = source,
                .at = group->rank == source ? contents : NULL};
    fb_status st = fill_run(&f, world, name);
    if (!st)
        st = fbi_state_each(state, fill, &f);
    if (st || !fb_world_root(world))
        return st;
    fbi_logline("note: goes on from the copy of step %lld in the memory of %s, which is newer than "
                "the checkpoints on disk",
                (long long)head->step, world->peers[source].host);
    st = fbi_lease_guard(world, NULL);
    if (!st)
        fbi_lease_saved_here(world, head->step, "memory");
    return st;
}

/* The copy that is newer than anything else, if it is of this program. */
static fb_status choose(fb_world *world, fb_state *state, const fbi_mirror_head *heads,
                        int64_t step, const char *contents, bool *taken)
{
    int source = best_of(heads, fb_world_size(world), step);
    layout mine = {.hash = 0};
    if (source < 0)
        return FB_OK;
    fb_status st = fbi_state_each(state, measure, &mine);
    *taken = fb_world_all(world, !st && mine.hash == heads[source].layout);
    if (*taken)
        return go_on(world, state, &heads[source], source, contents);
    if (fb_world_root(world) && fb_ok(fb_world_context(world)))
        fbi_logline("note: the copy of step %lld in the memory of %s is of another program or "
                    "model: it is passed over",
                    (long long)heads[source].step, world->peers[source].host);
    return fb_status_of(fb_world_context(world));
}

fb_status fbi_memory_resume(fb_world *world, const char *dir, fb_state *state, int64_t step,
                            bool *taken)
{
    fb_context *ctx = fb_world_context(world);
    fb_group *group = fb_world_group(world);
    question q = {.step = step};
    char first[17], *contents = NULL;
    if (fb_world_root(world) && fbi_lease_first(dir, first)) {
        q.asks = 1;
        q.folder.folder = hash_of_path(dir);
        q.folder.first = strtoull(first, NULL, 16);
    }
    *taken = false;
    fb_status st = fbi_group_broadcast(group, tag, &q, sizeof q, 0);
    if (st || !q.asks)
        return st;
    fbi_mirror_head mine = {.step = -1}, *all = calloc((size_t)group->size, sizeof *all);
    if (!all)
        return fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory");
    if (leads(world) && !fbi_mirror_newest(&q.folder, &mine, &contents))
        mine.step = -1;
    st = fbi_group_gather(group, tag, &mine, sizeof mine, all);
    if (!st)
        st = choose(world, state, all, q.step, contents, taken);
    free(contents);
    free(all);
    return st;
}
