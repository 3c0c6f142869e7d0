#include "io/spread_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "comm/group_priv.h"
#include "comm/world_priv.h"
#include "core/base/log_priv.h"
#include "core/tensor/context_priv.h"
#include "io/file_priv.h"

/* A smaller file is not worth a node of its own. */
static const int64_t least_bytes = 256 << 20;
static const char tag[] = "checkpoint";
/* Rank 0 looks so often for what others have written; how long that may take to be seen by it once
 * it is there, and once the job has broken. */
static const double period_s = 0.05, seen_s = 60, broken_s = 1;

bool fbi_spread_open(fbi_spread *d, fb_world *world)
{
    pthread_condattr_t clock;
    *d = (fbi_spread){.world = world};
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    bool good = !pthread_mutex_init(&d->lock, NULL) && !pthread_cond_init(&d->changed, &clock);
    pthread_condattr_destroy(&clock);
    return good;
}

void fbi_spread_close(fbi_spread *d)
{
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
}

/* "rank 2 (node07)": the one that writes a share. */
static const char *writer_text(const fbi_spread *d, int64_t number, char *buf, size_t size)
{
    const fb_world *world = d->world;
    int r = 0;
    while (r < world->size - 1 && (world->peers[r].node != number || world->peers[r].local))
        r++;
    return fbi_rank_text(world, r, buf, size);
}

int64_t fbi_spread_number(const fbi_spread *d)
{
    const fb_world *world = d->world;
    return world->local_rank == 0 && world->node < d->writers ? world->node : -1;
}

/* --- who writes --- */

typedef struct plan {
    int64_t step, writers; /* 0: nobody, there is nothing to save */
    char token[FBI_SAVE_TOKEN];
} plan;

static void report_path(const fbi_saving *s, int64_t number, char *out, size_t size)
{
    fbi_save_part p;
    fbi_save_name(&p, s, "data", number);
    snprintf(out, size, "%s.report", p.part);
}

static int64_t count_writers(const fbi_spread *d, const fbi_saving *s, int64_t files)
{
    int64_t nodes = d->world->nodes, worth = fbi_share_total(s->snapshot) / least_bytes;
    int64_t most = files ? files : worth;
    return most < 1 ? 1 : most < nodes ? most : nodes;
}

/* A new folder, and in it a file for each writer: it shows to whom the folder is one and the same,
 * and what is reported in it is seen at once even where names that are not there are cached. */
static bool make_tickets(fbi_saving *s)
{
    char path[FBI_CHECKPOINT_PATH + 128];
    uint32_t random = 0;
    fbi_save_end end;
    snprintf(path, sizeof path, "%s/manifest.json", s->path);
    /* Over one that exists rank 0 writes alone: it takes time to see whether that is whole. */
    if (!access(path, F_OK) || getrandom(&random, sizeof random, 0) != sizeof random ||
        !fbi_save_open(s, &end))
        return false;
    snprintf(s->token, sizeof s->token, "%ld-%08x", (long)getpid(), random);
    for (int64_t k = 1; k < s->files; k++) {
        report_path(s, k, path, sizeof path);
        if (!fbi_file_write(path, s->token, strlen(s->token)))
            return false;
    }
    return true;
}

static plan make_plan(const fbi_spread *d, fbi_saving *s, int64_t files)
{
    bool alone = d->differs || !strcmp(d->alone, s->dir);
    plan p = {.step = s->step};
    s->files = alone ? 1 : count_writers(d, s, files);
    if (s->files > 1 && !make_tickets(s))
        s->files = 1;
    p.writers = s->files;
    memcpy(p.token, s->token, sizeof p.token);
    return p;
}

static bool sees_ticket(const fbi_saving *s, int64_t number)
{
    char path[FBI_CHECKPOINT_PATH + 128], found[FBI_SAVE_TOKEN] = "";
    report_path(s, number, path, sizeof path);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(found, 1, sizeof found - 1, f) : 0;
    if (f)
        fclose(f);
    return n && !strcmp(found, s->token);
}

static void say_alone(fbi_spread *d, const fbi_saving *s, int rank)
{
    char who[96];
    snprintf(d->alone, sizeof d->alone, "%s", s->dir);
    fbi_logline("note: checkpoint %s: %s does not see the files that rank 0 makes there, so rank 0 "
                "writes all of it: in a folder that all nodes share each would write its part",
                s->path, fbi_rank_text(d->world, rank, who, sizeof who));
}

/* All writers see the folder, or rank 0 writes alone. */
static fb_status look_for_tickets(fbi_spread *d, fbi_saving *s)
{
    fb_world *world = d->world;
    int64_t number = fbi_spread_number(d);
    int32_t sees = number < 1 || sees_ticket(s, number);
    int32_t *all = malloc((size_t)world->size * sizeof *all);
    if (!all)
        return fbi_fail(world->ctx, FB_E_NOMEM, "checkpoint: no memory");
    fb_status st = fbi_group_gather(world->all, tag, &sees, sizeof sees, all);
    for (int r = 0; !st && d->writers > 1 && r < world->size; r++) {
        if (all[r])
            continue;
        d->writers = s->files = 1;
        if (world->rank == 0)
            say_alone(d, s, r);
    }
    free(all);
    return st;
}

fb_status fbi_spread_agree(fbi_spread *d, fbi_saving *s, bool ready, int64_t files)
{
    fb_world *world = d->world;
    plan p = {0};
    if (ready)
        p = make_plan(d, s, files);
    d->writers = 0;
    fb_status st = fbi_group_broadcast(world->all, tag, &p, sizeof p, 0);
    if (st || !p.writers)
        return st;
    d->writers = s->files = p.writers;
    d->told = false;
    d->deadline = 0;
    d->failed[0] = '\0';
    s->step = p.step;
    memcpy(s->token, p.token, sizeof p.token);
    fbi_checkpoint_path(s->dir, s->step, s->path, sizeof s->path);
    st = p.writers > 1 ? look_for_tickets(d, s) : FB_OK;
    s->spread = !st && d->writers > 1 ? d : NULL;
    return st;
}

/* --- what they write --- */

/* A report: this, and the pieces. */
typedef struct report {
    int64_t bytes, n;
    char hash[24];
} report;

static bool write_report(const fbi_saving *s, int64_t number, const fbi_data_file *file)
{
    char path[FBI_CHECKPOINT_PATH + 128];
    report head = {.bytes = file->bytes, .n = file->pieces.n};
    size_t list = (size_t)head.n * sizeof *file->pieces.v, bytes = sizeof head + list;
    memcpy(head.hash, file->hash, sizeof file->hash);
    char *data = malloc(bytes);
    errno = ENOMEM;
    if (!data)
        return false;
    memcpy(data, &head, sizeof head);
    if (list)
        memcpy(data + sizeof head, file->pieces.v, list);
    report_path(s, number, path, sizeof path);
    bool good = fbi_file_write_sealed(path, data, bytes);
    int why = errno;
    free(data);
    errno = why;
    return good;
}

bool fbi_spread_write(fbi_saving *s, int64_t number)
{
    fbi_save_part p;
    fbi_data_file file;
    fbi_save_name(&p, s, "data", number);
    bool good = fbi_save_data(s, p.part, (fbi_share){number, s->files}, &file);
    if (good && !write_report(s, number, &file)) {
        snprintf(s->text, sizeof s->text, "cannot write the report of %s: %s", p.part,
                 strerror(errno));
        good = false;
    }
    fbi_pieces_free(&file.pieces);
    return good;
}

bool fbi_spread_report(fbi_saving *s, int64_t number, fbi_data_file *out)
{
    char path[FBI_CHECKPOINT_PATH + 128];
    report head;
    report_path(s, number, path, sizeof path);
    FILE *f = fopen(path, "re");
    bool good = f && fread(&head, sizeof head, 1, f) == 1;
    *out = (fbi_data_file){.bytes = good ? head.bytes : 0};
    if (good)
        memcpy(out->hash, head.hash, sizeof out->hash);
    for (int64_t i = 0; good && i < head.n; i++) {
        fbi_file_piece piece;
        good = fread(&piece, sizeof piece, 1, f) == 1 && fbi_pieces_add(&out->pieces, piece);
    }
    if (f)
        fclose(f);
    if (!good)
        snprintf(s->text, sizeof s->text, "cannot read %s", path);
    return good;
}

/* --- who has ended --- */

typedef struct ending {
    int32_t failed;
    char text[380];
} ending;

static void note_endings(fbi_spread *d, const ending *all)
{
    const fb_world *world = d->world;
    char who[96];
    for (int r = 0; r < world->size && !*d->failed; r++)
        if (all[r].failed)
            snprintf(d->failed, sizeof d->failed, "%s: %s",
                     fbi_rank_text(world, r, who, sizeof who), all[r].text);
}

fb_status fbi_spread_meet(fbi_spread *d, const char *failed)
{
    fb_world *world = d->world;
    ending own = {.failed = failed != NULL};
    snprintf(own.text, sizeof own.text, "%.379s", failed ? failed : "");
    ending *all = malloc((size_t)world->size * sizeof *all);
    fb_status st = all ? fbi_group_gather(world->all, tag, &own, sizeof own, all)
                       : fbi_fail(world->ctx, FB_E_NOMEM, "checkpoint: no memory");
    pthread_mutex_lock(&d->lock);
    d->told = !st;
    d->deadline = fbi_now() + (st ? broken_s : seen_s);
    if (!st)
        note_endings(d, all);
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    free(all);
    return st;
}

/* Sleep for a period, or until there is news. With the lock. */
static void doze(fbi_spread *d)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(1e9 * period_s);
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&d->changed, &d->lock, &until);
}

static bool has_reported(const fbi_saving *s, int64_t number)
{
    char path[FBI_CHECKPOINT_PATH + 128];
    report_path(s, number, path, sizeof path);
    return fbi_file_seal(path) == FBI_SEAL_HOLDS;
}

bool fbi_spread_wait(fbi_spread *d, fbi_saving *s, bool good)
{
    char who[96];
    if (d->now)
        fbi_spread_meet(d, NULL);
    int64_t k = 1;
    pthread_mutex_lock(&d->lock);
    while (k < s->files && !*d->failed) {
        if (has_reported(s, k))
            k++;
        else if (d->deadline > 0 && fbi_now() > d->deadline)
            break;
        else
            doze(d);
    }
    if (good && *d->failed)
        snprintf(s->text, sizeof s->text, "%s", d->failed);
    else if (good && k < s->files)
        snprintf(s->text, sizeof s->text,
                 d->told ? "what %s has written does not become visible to rank 0"
                         : "the job broke before %s had written its part",
                 writer_text(d, k, who, sizeof who));
    good = good && k == s->files && !*d->failed;
    pthread_mutex_unlock(&d->lock);
    return good;
}

void fbi_spread_differs(fbi_spread *d, const fbi_saving *s, int64_t number, const char *key)
{
    char who[96];
    d->differs = true;
    fbi_logline("note: checkpoint %s: %s of %s is not what rank 0 has, of whose values a "
                "checkpoint consists: rank 0 writes all of it, and those that follow",
                s->path, key, writer_text(d, number, who, sizeof who));
}
