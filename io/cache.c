#include "io/cache_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "core/base/log_priv.h"
#include "io/file_priv.h"

static const char tag[] = "cache", prefix[] = "flambeau-cache-";

/* --- what is used --- */

static void cache_free(fbi_cache *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->at);
    free(c);
}

void fbi_cache_leave(fb_dataset *ds)
{
    fbi_cache *c = ds->cache;
    ds->cache = NULL;
    if (c && --c->refs == 0)
        cache_free(c);
}

bool fbi_cache_read(const fb_dataset *ds, const fbi_shard *shard, void *out, size_t bytes,
                    int64_t at)
{
    fbi_cache *c = ds->cache;
    int64_t begin = c && c->fd >= 0 ? c->at[shard - ds->shards] : -1;
    if (begin < 0 || atomic_load_explicit(&c->distrusted, memory_order_relaxed))
        return false;
    if (fbi_file_read_at(c->fd, out, bytes, begin + at))
        return true;
    int why = errno;
    if (!atomic_exchange(&c->distrusted, true))
        fbi_logline("warning: loader: cache %s cannot be read: %s; dataset %s is read from where "
                    "it is",
                    c->dir, why ? strerror(why) : "its file ends too early", ds->path);
    return false;
}

static fbi_cache *cache_new(const fb_dataset *ds, const char *dir)
{
    fbi_cache *c = calloc(1, sizeof *c);
    int64_t *at = malloc((size_t)ds->n_shards * sizeof *at);
    if (!c || !at) {
        free(c);
        free(at);
        return NULL;
    }
    snprintf(c->dir, sizeof c->dir, "%s", dir);
    memcpy(c->id, ds->id, sizeof c->id);
    c->fd = -1;
    c->at = at;
    c->n = ds->n_shards;
    return c;
}

/* This dataset's, or that of another one of its context with the same shards; NULL: none. */
static fbi_cache *find(const fb_dataset *ds, const char *dir)
{
    for (uint32_t i = 0; !ds->cache && i < ds->ctx->closers_n; i++) {
        const fbi_closer *closer = &ds->ctx->closers[i];
        const fb_dataset *other = closer->close == fbi_dataset_free ? closer->object : NULL;
        fbi_cache *c = other ? other->cache : NULL;
        if (c && c->n == ds->n_shards && !strcmp(c->id, ds->id) && !strcmp(c->dir, dir))
            return c;
    }
    return ds->cache;
}

/* --- staging --- */

enum { MOST_CHUNK = 4 << 20, LEAST_CHUNK = 64 << 10, ALL_CHUNKS = 64 << 20 };

/* A piece of a shard on its way. */
typedef struct piece {
    int64_t n; /* bytes that follow; -1: they could not be read */
    char data[];
} piece;

/* Nodes are numbered by the first of the group's ranks on each: that rank reads and writes. */
typedef struct staging {
    fb_group *group;   /* or NULL */
    fb_group *leaders; /* the first ranks, in order of node; NULL: one node, or not a first rank */
    fb_dataset *ds;
    fbi_cache *cache;
    char path[FBI_PATH_BYTES + 64]; /* of the node's file */
    int size, rank, nodes, own;     /* own: number of this rank's node */
    bool leads;
    int *node_of;          /* [size] */
    int64_t *room;         /* [nodes] bytes; -1: no file can be made */
    int *wanted, n_wanted; /* shards that some node has room for */
    size_t chunk;
    piece *mine, *all;   /* one, and one of each node */
    char why[160];       /* it could not be read */
    XXH3_state_t **sums; /* [nodes] of the shards on their way */
} staging;

static piece *piece_of(const staging *g, int node)
{
    return (piece *)((char *)g->all + (size_t)node * (sizeof(piece) + g->chunk));
}

static fb_status gather(fb_group *group, const void *mine, size_t bytes, void *all)
{
    if (group)
        return fbi_group_gather(group, tag, mine, bytes, all);
    memcpy(all, mine, bytes);
    return FB_OK;
}

static fb_status agree(const staging *g, fb_status st)
{
    return g->group ? fbi_group_agree(g->group, tag, st) : st;
}

static fb_status no_memory(const staging *g)
{
    return fbi_fail(g->ds->ctx, FB_E_NOMEM, "loader: no memory for a cache of dataset %s",
                    g->ds->path);
}

static fb_status number_nodes(staging *g)
{
    const fb_world *w = g->group ? g->group->world : NULL;
    int *number = calloc(w ? (size_t)w->nodes : 1, sizeof *number); /* from 1; 0: none yet */
    g->node_of = malloc((size_t)g->size * sizeof *g->node_of);
    for (int r = 0; number && g->node_of && r < g->size; r++) {
        int *known = &number[w ? w->peers[g->group->ranks[r]].node : 0];
        if (r == g->rank)
            g->leads = !*known;
        if (!*known)
            *known = ++g->nodes;
        g->node_of[r] = *known - 1;
    }
    bool good = number && g->node_of;
    free(number);
    g->own = good ? g->node_of[g->rank] : 0;
    return good ? FB_OK : no_memory(g);
}

/* --- the file of a node --- */

static void warn(const staging *g, const char *what)
{
    fbi_logline("warning: loader: cache %s: %s; dataset %s is read from where it is", g->cache->dir,
                what, g->ds->path);
}

/* The node's file is of no use: nobody has it, and its room is free again. */
static void drop_file(staging *g)
{
    if (g->cache->fd >= 0)
        close(g->cache->fd);
    g->cache->fd = -1;
    unlink(g->path);
}

/* Who fills a file holds a lock on it; a young one may not have it yet. */
static bool is_stale(int folder, const char *name)
{
    enum { YOUNG_S = 60 };
    struct stat info;
    if (strncmp(name, prefix, sizeof prefix - 1))
        return false;
    int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool stale = !fstat(fd, &info) && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
                 info.st_mtime + YOUNG_S < time(NULL) && !flock(fd, LOCK_EX | LOCK_NB);
    close(fd);
    return stale;
}

/* Of jobs that died while they filled it. */
static void remove_stale(const char *dir)
{
    DIR *folder = opendir(dir);
    int n = 0;
    for (struct dirent *e; folder && (e = readdir(folder));)
        if (is_stale(dirfd(folder), e->d_name) && !unlinkat(dirfd(folder), e->d_name, 0))
            n++;
    if (folder)
        closedir(folder);
    if (n)
        fbi_logline("note: loader: cache %s: %d file%s of jobs that are dead: removed", dir, n,
                    n > 1 ? "s" : "");
}

/* What there is room for; -1: a line has said why nothing. */
static int64_t make_file(staging *g, int64_t most)
{
    char text[FBI_PATH_BYTES];
    struct statvfs fs;
    bool good = fbi_make_folder(g->cache->dir);
    if (good) {
        remove_stale(g->cache->dir);
        g->cache->fd = open(g->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        good = g->cache->fd >= 0 && !fstatvfs(g->cache->fd, &fs);
    }
    if (!good) {
        snprintf(text, sizeof text, "no file can be made there: %s", strerror(errno));
        warn(g, text);
        return -1;
    }
    flock(g->cache->fd, LOCK_EX | LOCK_NB); /* while it has a name; see is_stale */
    int64_t left = (int64_t)(fs.f_bavail * fs.f_frsize);
    left -= left / 20;
    return most && most < left ? most : left;
}

/* Where shards lie in a file of `room` bytes: those that fit, one behind the other. @return how
 * many */
static int place_shards(const fb_dataset *ds, int64_t room, int64_t *at)
{
    int64_t end = 0;
    int n = 0;
    for (int s = 0; s < ds->n_shards; s++) {
        bool fits = ds->shards[s].bytes <= room - end;
        at[s] = fits ? end : -1;
        end += fits ? ds->shards[s].bytes : 0;
        n += fits;
    }
    return n;
}

/* First ranks make their files; then every rank knows every node's room. */
static fb_status make_files(staging *g, int64_t most)
{
    int64_t mine = g->leads ? make_file(g, most) : -1;
    int64_t *all = malloc((size_t)g->size * sizeof *all);
    g->room = malloc((size_t)g->nodes * sizeof *g->room);
    fb_status st = agree(g, all && g->room ? FB_OK : no_memory(g));
    st = st ? st : gather(g->group, &mine, sizeof mine, all);
    for (int r = g->size - 1; !st && r >= 0; r--)
        g->room[g->node_of[r]] = all[r]; /* the first one is the last to be put there */
    free(all);
    if (st)
        return st;
    int fit = place_shards(g->ds, g->room[g->own], g->cache->at);
    if (g->leads && g->cache->fd >= 0 && fit < g->cache->n) {
        char text[96];
        snprintf(text, sizeof text, "there is room for %d of %d shards", fit, g->cache->n);
        warn(g, text);
    }
    return FB_OK;
}

/* All ranks come to the same list. */
static fb_status list_wanted(staging *g)
{
    int64_t *at = malloc((size_t)g->cache->n * sizeof *at);
    bool *want = calloc((size_t)g->cache->n, sizeof *want);
    g->wanted = malloc((size_t)g->cache->n * sizeof *g->wanted);
    bool good = at && want && g->wanted;
    for (int node = 0; good && node < g->nodes; node++) {
        place_shards(g->ds, g->room[node], at);
        for (int s = 0; s < g->cache->n; s++)
            want[s] |= at[s] >= 0;
    }
    for (int s = 0; good && s < g->cache->n; s++)
        if (want[s])
            g->wanted[g->n_wanted++] = s;
    free(at);
    free(want);
    return good ? FB_OK : no_memory(g);
}

/* --- from the shared disk to all nodes: in each round every node reads a shard --- */

static fbi_shard *shard_in_round(const staging *g, int round, int node)
{
    int i = round * g->nodes + node;
    return i < g->n_wanted ? &g->ds->shards[g->wanted[i]] : NULL;
}

/* This node's piece of the shard that it reads. What fails is said after the exchange. */
static void read_piece(staging *g, int round, int64_t at)
{
    fbi_shard *shard = shard_in_round(g, round, g->own);
    int64_t left = shard ? shard->bytes - at : 0;
    g->mine->n = left < 0 ? 0 : left < (int64_t)g->chunk ? left : (int64_t)g->chunk;
    if (g->mine->n && !fbi_dataset_read_at(g->ds, shard, g->mine->data, (size_t)g->mine->n, at,
                                           g->why, sizeof g->why))
        g->mine->n = -1;
}

/* Of the nodes that could not read, this one says why; the others are told. */
static fb_status say_failure(const staging *g, int round)
{
    const fbi_shard *shard = shard_in_round(g, round, g->own);
    if (g->mine->n >= 0)
        return FB_OK;
    return fbi_fail(g->ds->ctx, FB_E_IO, "dataset %s: shard %s: %s", g->ds->path, shard->name,
                    g->why);
}

/* The pieces of all nodes go into this one's file. */
static void write_pieces(staging *g, int round, int64_t at)
{
    char text[160];
    for (int node = 0; node < g->nodes; node++) {
        const piece *p = piece_of(g, node);
        const fbi_shard *shard = shard_in_round(g, round, node);
        int64_t begin = shard ? g->cache->at[shard - g->ds->shards] : -1;
        if (p->n <= 0)
            continue;
        XXH3_64bits_update(g->sums[node], p->data, (size_t)p->n);
        if (g->cache->fd < 0 || begin < 0 ||
            fbi_file_write_at(g->cache->fd, p->data, (size_t)p->n, begin + at))
            continue;
        snprintf(text, sizeof text, "it cannot be written: %s", strerror(errno));
        drop_file(g);
        warn(g, text);
    }
}

static fb_status check_sums(const staging *g, int round)
{
    for (int node = 0; node < g->nodes; node++) {
        const fbi_shard *shard = shard_in_round(g, round, node);
        char hash[17];
        snprintf(hash, sizeof hash, "%016" PRIx64, XXH3_64bits_digest(g->sums[node]));
        if (shard && strcmp(hash, shard->hash))
            return fbi_fail(g->ds->ctx, FB_E_IO,
                            "dataset %s: shard %s has checksum %s, the head says %s: copy it "
                            "again or run \"flambeau data check\"",
                            g->ds->path, shard->name, hash, shard->hash);
    }
    return FB_OK;
}

/* Of the first ranks. */
static fb_status copy_round(staging *g, int round)
{
    int64_t longest = 0;
    for (int node = 0; node < g->nodes; node++) {
        const fbi_shard *shard = shard_in_round(g, round, node);
        longest = shard && shard->bytes > longest ? shard->bytes : longest;
        XXH3_64bits_reset(g->sums[node]);
    }
    for (int64_t at = 0; at < longest; at += (int64_t)g->chunk) {
        read_piece(g, round, at);
        fb_status st = gather(g->leaders, g->mine, sizeof(piece) + g->chunk, g->all);
        if (st)
            return st;
        for (int node = 0; node < g->nodes; node++)
            if (piece_of(g, node)->n < 0)
                return say_failure(g, round);
        write_pieces(g, round, at);
    }
    return check_sums(g, round);
}

static fb_status make_room_for_pieces(staging *g)
{
    g->chunk = (size_t)ALL_CHUNKS / (size_t)g->nodes;
    g->chunk = g->chunk > MOST_CHUNK ? MOST_CHUNK : g->chunk < LEAST_CHUNK ? LEAST_CHUNK : g->chunk;
    g->chunk &= ~(size_t)63; /* pieces are aligned */
    g->mine = calloc(1, sizeof(piece) + g->chunk);
    g->all = malloc((size_t)g->nodes * (sizeof(piece) + g->chunk));
    g->sums = calloc((size_t)g->nodes, sizeof *g->sums);
    bool good = g->mine && g->all && g->sums;
    for (int node = 0; good && node < g->nodes; node++)
        good = (g->sums[node] = XXH3_createState()) != NULL;
    return good ? FB_OK : no_memory(g);
}

static void say_what_is_copied(const staging *g)
{
    double bytes = 0;
    for (int i = 0; i < g->n_wanted; i++)
        bytes += (double)g->ds->shards[g->wanted[i]].bytes;
    if (g->rank == 0 && g->n_wanted)
        fbi_logline("note: loader: %d shard%s of dataset %s, %.1f MB, %s copied to %s%s",
                    g->n_wanted, g->n_wanted > 1 ? "s" : "", g->ds->path, bytes / 1e6,
                    g->n_wanted > 1 ? "are" : "is", g->cache->dir,
                    g->nodes > 1 ? " on each node" : "");
}

static fb_status copy_all(staging *g)
{
    fb_status st = list_wanted(g);
    if (!st && g->leads)
        st = make_room_for_pieces(g);
    st = agree(g, st);
    if (!st && g->nodes > 1) {
        g->leaders = fbi_group_split(g->group, g->leads ? 0 : -1, 0, 0);
        st = fb_status_of(g->ds->ctx);
    }
    if (!st)
        say_what_is_copied(g);
    for (int round = 0; !st && round * g->nodes < g->n_wanted; round++)
        st = agree(g, g->leads ? copy_round(g, round) : FB_OK);
    return st;
}

/* The ranks of a node open what its first one has made, and then it has no name any more. */
static fb_status open_files(staging *g)
{
    char text[160];
    int32_t mine = g->cache->fd >= 0, *all = malloc((size_t)g->size * sizeof *all);
    fb_status st = agree(g, all ? FB_OK : no_memory(g));
    st = st ? st : gather(g->group, &mine, sizeof mine, all);
    bool there = false;
    for (int r = g->size - 1; !st && r >= 0; r--)
        if (g->node_of[r] == g->own)
            there = all[r];
    free(all);
    if (there && !g->leads) {
        g->cache->fd = open(g->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (g->cache->fd < 0) {
            snprintf(text, sizeof text, "rank %d cannot open the node's file: %s", g->rank,
                     strerror(errno));
            warn(g, text);
        }
    }
    st = agree(g, st);
    if (g->leads && g->cache->fd >= 0)
        unlink(g->path);
    return st;
}

static void close_staging(staging *g)
{
    for (int node = 0; g->sums && node < g->nodes; node++)
        XXH3_freeState(g->sums[node]);
    free(g->sums);
    free(g->mine);
    free(g->all);
    free(g->node_of);
    free(g->room);
    free(g->wanted);
}

static fb_status stage(fb_group *group, fb_dataset *ds, const char *dir, int64_t most,
                       uint64_t token)
{
    staging g = {.group = group,
                 .ds = ds,
                 .cache = cache_new(ds, dir),
                 .size = fb_group_size(group),
                 .rank = fb_group_rank(group)};
    fb_status st = agree(&g, g.cache ? number_nodes(&g) : no_memory(&g));
    if (st)
        goto leave;
    snprintf(g.path, sizeof g.path, "%s/%s%s-%016" PRIx64 "-%d", dir, prefix, ds->id, token, g.own);
    st = make_files(&g, most);
    st = st ? st : copy_all(&g);
    st = st ? st : open_files(&g);
    if (st && g.leads)
        drop_file(&g);
leave:
    close_staging(&g);
    if (!st) {
        ds->cache = g.cache;
        g.cache->refs = 1;
    } else if (g.cache) {
        cache_free(g.cache);
    }
    return st;
}

/* --- opening --- */

typedef struct greeting {
    uint64_t token; /* of the job's files, that of the group's first rank */
    int32_t has;    /* this rank has a cache of these shards */
} greeting;

static fb_status share(fb_group *group, const fb_dataset *ds, greeting *mine, bool *all_have)
{
    int size = fb_group_size(group);
    greeting *all = calloc((size_t)size, sizeof *all);
    if (!all)
        return fbi_fail(ds->ctx, FB_E_NOMEM, "loader: no memory for a cache");
    fb_status st = gather(group, mine, sizeof *mine, all);
    *all_have = true;
    for (int r = 0; !st && r < size; r++)
        *all_have = *all_have && all[r].has;
    mine->token = all[0].token;
    free(all);
    return st;
}

static fb_status stage_or_share(fb_group *group, fb_dataset *ds, const char *dir, int64_t most)
{
    fbi_cache *known = find(ds, dir);
    greeting mine = {.has = known != NULL};
    if (getrandom(&mine.token, sizeof mine.token, 0) != (ssize_t)sizeof mine.token)
        mine.token = (uint64_t)getpid();
    bool all_have = false;
    fb_status st = share(group, ds, &mine, &all_have);
    if (st)
        return st;
    if (!all_have) {
        fbi_cache_leave(ds);
        return stage(group, ds, dir, most, mine.token);
    }
    if (!ds->cache)
        known->refs++;
    ds->cache = known;
    return FB_OK;
}

fb_status fbi_cache_stage(fb_group *group, fb_dataset *ds, const char *dir, int64_t most)
{
    fb_status st = FB_OK;
    fb_dataset *part;
    if (!ds->view)
        return fbi_dataset_waits(ds) ? stage_or_share(group, ds, dir, most) : FB_OK;
    for (int i = 0; !st && (part = ds->view->part(ds->parts, i)); i++)
        st = fbi_cache_stage(group, part, dir, most);
    return st;
}
