#include "launch/lookout_priv.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "comm/invitation_priv.h"
#include "comm/server_priv.h"
#include "comm/world_priv.h"

static const double beat_s = 0.25;

struct fbi_lookout {
    fbi_server *server;
    fbi_board board;
    pthread_t thread;
    atomic_bool ending;
    int wake; /* eventfd */
    bool runs;
    _Atomic double judged; /* when the verdict came; 0: there is none */
    char run[4096];        /* where verdict.json goes; "": nowhere */
    char host[64];
    /* [ranks] when its process began; 0: not looked at yet, UINT64_MAX: not to be seen here */
    uint64_t *born;
};

/* --- ranks of this host that no other rank sees --- */

static bool has_mate(const fbi_board *board, const fbi_board_rank *b)
{
    for (int r = 0; r < board->size; r++) {
        const fbi_board_rank *o = &board->rank[r];
        if (o != b && o->heard && !o->closed && !o->gone && !o->stopped &&
            o->who.node == b->who.node)
            return true;
    }
    return false;
}

static void look_at(fbi_lookout *c, const fbi_board_rank *b)
{
    char state = 0;
    int r = b->who.rank;
    if (!b->heard || b->closed || b->gone || b->ledger.state == FBI_RANK_CLOSING ||
        strcmp(b->who.host, c->host) != 0 || has_mate(&c->board, b))
        return;
    uint64_t born = fbi_process_start(b->who.pid, &state);
    if (!c->born[r]) /* numbers of another container's processes mean nothing here */
        c->born[r] = born ? born : UINT64_MAX;
    else if (c->born[r] != UINT64_MAX)
        fbi_board_seen(&c->board, r, born == c->born[r] ? state : 0, NULL);
}

/* --- the thread --- */

/* The first verdict stays; every rank is told. */
static void deliver(fbi_lookout *c, const fbi_finding *v)
{
    if (atomic_load(&c->judged) > 0)
        return;
    atomic_store(&c->judged, fbi_now());
    fbi_server_tell(c->server, v);
    fbi_verdict_write(v, c->run);
}

static void beat(fbi_lookout *c, double passed)
{
    fbi_finding v;
    for (int r = 0; r < c->board.size; r++)
        look_at(c, &c->board.rank[r]);
    fbi_board_tick(&c->board, passed);
    fbi_server_tick(c->server, passed);
    if (atomic_load(&c->judged) == 0 && fbi_board_judge(&c->board, &v))
        deliver(c, &v);
}

static void *serve(void *self)
{
    fbi_lookout *c = self;
    fbi_finding v;
    for (double last = fbi_now(); !atomic_load(&c->ending);) {
        double rest = beat_s - (fbi_now() - last);
        if (fbi_server_step(c->server, c->wake, rest > 0 ? (int)(1e3 * rest) + 1 : 0, &v))
            deliver(c, &v);
        double passed = fbi_now() - last;
        if (passed < beat_s)
            continue;
        last += passed;
        beat(c, passed);
    }
    return NULL;
}

/* --- set-up --- */

/* One node has no need of it: ranks see each other. */
static bool is_needed(const fbi_job *job)
{
    int hosts = 0;
    for (int i = 0; i < job->where.n; i++)
        hosts += job->where.hosts[i].ranks > 0;
    return !job->dry_run && job->ranks > 1 && (hosts > 1 || getenv("FLAMBEAU_RANKS_PER_NODE"));
}

static bool listen_for(fbi_lookout *c, int ranks)
{
    fbi_invitation in;
    char text[FBI_INVITATION_TEXT];
    uint16_t port = 0;
    c->born = calloc((size_t)ranks, sizeof *c->born);
    if (!c->born || !fbi_invitation_new(&in) ||
        !fbi_board_open(&c->board, ranks, fbi_patience_asked()))
        return false;
    c->server = fbi_server_open(in.token, &c->board, &port);
    if (!c->server)
        return false;
    fbi_invitation_list(&in, port);
    return fbi_invitation_write(&in, text) && !setenv(FBI_CONTROL, text, 1);
}

fbi_lookout *fbi_lookout_open(const fbi_job *job)
{
    const char *asked = getenv(FBI_CONTROL);
    if (asked && !strcmp(asked, "off"))
        return NULL;
    unsetenv(FBI_CONTROL); /* of an attempt before this one */
    fbi_lookout *c = is_needed(job) ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return NULL;
    snprintf(c->run, sizeof c->run, "%s", job->run);
    gethostname(c->host, sizeof c->host - 1);
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake >= 0 && listen_for(c, (int)job->ranks))
        return c;
    fbi_run_say(job, "no control server here: rank 0 looks after the others");
    fbi_lookout_close(c);
    return NULL;
}

void fbi_lookout_start(fbi_lookout *c)
{
    if (c)
        c->runs = pthread_create(&c->thread, NULL, serve, c) == 0;
}

double fbi_lookout_judged(const fbi_lookout *c)
{
    double when = c ? atomic_load(&c->judged) : 0;
    return when > 0 ? fbi_now() - when : 0;
}

void fbi_lookout_close(fbi_lookout *c)
{
    const uint64_t one = 1;
    if (!c)
        return;
    atomic_store(&c->ending, true);
    if (c->runs && write(c->wake, &one, sizeof one) >= 0)
        pthread_join(c->thread, NULL);
    fbi_server_close(c->server);
    fbi_board_close(&c->board);
    if (c->wake >= 0)
        close(c->wake);
    free(c->born);
    free(c);
}
