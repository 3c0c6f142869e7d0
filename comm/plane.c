#include "comm/plane_priv.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "comm/invitation_priv.h"
#include "comm/mpi_priv.h"
#include "comm/server_priv.h"
#include "core/base/log_priv.h"

static const double beat_s = 0.25, connect_s = 2, pause_s = 0.5, grace_s = 0.5;
/* How long the start of a job waits for all to have joined, and for an answer of the launcher. */
static const double join_s = 2, hurry_s = 0.01;
/* A main thread that has said nothing for so long after a verdict will not. */
static const double mute_s = 5;
/* When a server that cannot be reached is worth a line. */
static const double complain_s = 20;

struct fbi_plane {
    fb_world *world;
    pthread_t thread;
    atomic_bool ending;
    int wake;    /* eventfd */
    int mate;    /* the next rank of this node; -1: none */
    double last; /* when the last beat was */
    double mute;
    bool told; /* the verdict on the page has been passed on */
    fbi_invitation invitation;

    /* rank 0, unless the launcher serves */
    fbi_server *server;
    fbi_board board;

    /* the others */
    fbi_wire wire;
    atomic_bool joined;
    bool connecting, bye, lost;
    int next;                 /* address to try */
    double wait_s, outside_s; /* until the next try; since the first */
    double silent_s, lost_s;  /* of the server */
    double alone_s;           /* for which it has been silent while this rank waited in one call */
    uint32_t calls;
};

/* --- the page --- */

/* Whole words of what another thread or process writes. */
__attribute__((no_sanitize("thread"))) static void read_words(const void *from, void *to,
                                                              size_t bytes)
{
    const volatile uint64_t *source = from;
    uint64_t *target = to;
    for (size_t i = 0; i < bytes / sizeof *target; i++)
        target[i] = source[i];
}

/* Its owner writes with plain stores, so that this can be read whatever becomes of it; `calls`
 * changes with every call, so two equal readings of it say that what lies in between is whole. */
static void read_entry(const fbi_page_rank *e, fbi_ledger *out)
{
    for (int tries = 0; tries < 3; tries++) {
        out->calls = atomic_load(&e->calls);
        out->state = atomic_load(&e->state);
        out->waits_for = atomic_load(&e->waits_for);
        out->limit_ms = atomic_load(&e->limit_ms);
        for (int i = 0; i < FBI_ALSO; i++)
            out->also[i] = atomic_load(&e->also[i]);
        read_words(&e->sig, &out->sig, sizeof out->sig);
        read_words(e->past, out->past, sizeof out->past);
        if (atomic_load(&e->calls) == out->calls)
            break;
    }
    out->sig.site[sizeof out->sig.site - 1] = out->sig.tag[sizeof out->sig.tag - 1] = '\0';
}

static bool is_poisoned(const fbi_plane *p)
{
    return atomic_load_explicit(&p->world->page->poison, memory_order_acquire) > 0;
}

static void deliver(fbi_plane *p, const fbi_finding *v)
{
    if (fbi_page_judge(p->world->page, v))
        fbi_verdict_write(v, fbi_world_run_dir(p->world));
}

/* The state of a rank's process; 0: there is none. */
static char process_state(const fbi_peer *peer)
{
    char state = 0;
    return fbi_process_start(peer->pid, &state) == peer->start ? state : 0;
}

/* --- rank 0 --- */

/* Ranks of its node do not connect: their entries are here. Those that close are looked at by the
 * ranks that wait for them, since they may be gone before we are told to end. */
static void read_own_node(fbi_plane *p)
{
    const fb_world *world = p->world;
    for (int r = 0; r < world->size; r++) {
        if (r != world->rank && fbi_is_remote(world, r))
            continue;
        fbi_ledger ledger;
        read_entry(&world->page->rank[world->peers[r].local], &ledger);
        fbi_board_beat(&p->board, r, &ledger);
        if (r != world->rank && world->peers[r].watched && ledger.state != FBI_RANK_CLOSING)
            fbi_board_seen(&p->board, r, process_state(&world->peers[r]), &ledger);
    }
}

static void serve_beat(fbi_plane *p, double passed)
{
    fbi_finding v;
    read_own_node(p);
    fbi_board_tick(&p->board, passed);
    fbi_server_tick(p->server, passed);
    if (!is_poisoned(p) && fbi_board_judge(&p->board, &v))
        deliver(p, &v);
}

static void serve(fbi_plane *p, int ms)
{
    fbi_finding v;
    if (fbi_server_step(p->server, p->wake, ms, &v))
        deliver(p, &v);
}

/* --- the others --- */

static void hang_up(fbi_plane *p)
{
    fbi_wire_close(&p->wire);
    p->lost = p->joined;
    p->joined = p->connecting = false;
    p->wait_s = 0;
}

static void try_next(fbi_plane *p, double passed)
{
    const fbi_invitation *in = &p->invitation;
    p->outside_s += passed;
    p->wait_s -= passed;
    if (p->outside_s > complain_s && p->outside_s - passed <= complain_s && !p->world->guest)
        fbi_logline("rank %d cannot reach %s by TCP: what becomes of ranks of other nodes is "
                    "noticed late or not at all",
                    p->world->rank, in->launcher ? "the launcher" : "rank 0");
    if (p->wait_s > 0)
        return;
    fbi_wire_open(&p->wire, fbi_invitation_connect(&in->address[p->next]));
    p->connecting = p->wire.fd >= 0;
    p->next = (p->next + 1) % in->n;
    p->wait_s = p->next == 0 ? pause_s : 0;
}

static void introduce(fbi_plane *p)
{
    int error = 0;
    socklen_t size = sizeof error;
    fbi_frame frame;
    memset(&frame, 0, sizeof frame);
    p->connecting = false;
    if (getsockopt(p->wire.fd, SOL_SOCKET, SO_ERROR, &error, &size) || error) {
        hang_up(p);
        return;
    }
    const fbi_peer *me = &p->world->peers[p->world->rank];
    memcpy(frame.hello.token, p->invitation.token, FBI_TOKEN_BYTES);
    frame.hello.who = (fbi_identity){p->world->rank, me->pid, me->node, me->local, ""};
    memcpy(frame.hello.who.host, me->host, sizeof me->host);
    if (!fbi_wire_send(&p->wire, &frame, FBI_FRAME_HELLO))
        hang_up(p);
}

static void hear(fbi_plane *p)
{
    fbi_frame frame;
    int got;
    while ((got = fbi_wire_read(&p->wire, &frame)) > 0) {
        p->silent_s = 0;
        switch (frame.head.kind) {
        case FBI_FRAME_WELCOME:
            p->joined = true;
            p->wire.rank = 0;
            break;
        case FBI_FRAME_VERDICT:
            p->told = true;
            deliver(p, &frame.verdict);
            break;
        case FBI_FRAME_BYE:
            p->bye = true;
            break;
        default:
            break;
        }
    }
    if (got < 0)
        hang_up(p);
}

static void listen_to_server(fbi_plane *p, int ms)
{
    bool writes = p->connecting || (p->wire.fd >= 0 && p->wire.n_out);
    struct pollfd list[2] = {{.fd = p->wake, .events = POLLIN},
                             {.fd = p->wire.fd, .events = (short)(writes ? POLLOUT : POLLIN)}};
    if (poll(list, 2, ms) <= 0 || !list[1].revents)
        return;
    if (p->connecting)
        introduce(p);
    else if (list[1].revents & POLLOUT)
        fbi_wire_flush(&p->wire);
    else
        hear(p);
}

static void send_beat(fbi_plane *p)
{
    const fb_world *world = p->world;
    fbi_frame frame;
    memset(&frame, 0, sizeof frame);
    read_entry(world->own, &frame.beat.ledger);
    frame.beat.mate = p->mate;
    frame.beat.mate_state = p->mate >= 0 ? process_state(&world->peers[p->mate]) : 0;
    frame.beat.mate_known = p->mate >= 0 && world->page_shared;
    if (frame.beat.mate_known)
        read_entry(&world->page->rank[world->peers[p->mate].local], &frame.beat.mate_ledger);
    if (!fbi_wire_send(&p->wire, &frame, FBI_FRAME_BEAT))
        hang_up(p);
}

/* Who waits here, if this rank does. */
static fbi_waiter own_wait(const fbi_plane *p, fbi_ledger *ledger)
{
    read_entry(p->world->own, ledger);
    bool waits = ledger->state == FBI_RANK_WAITING;
    return (fbi_waiter){p->world->rank, waits ? &ledger->sig : NULL};
}

/* What becomes of rank 0 the others must see for themselves. */
static void judge_rank_0(fbi_plane *p)
{
    const fbi_peer *first = &p->world->peers[0];
    const fbi_suspect s = {.rank = 0, .pid = first->pid, .host = first->host};
    fbi_ledger ledger;
    fbi_finding v;
    char waits[512];
    const fbi_waiter w = own_wait(p, &ledger);
    if (p->lost && p->lost_s > grace_s) {
        fbi_verdict_dead(&v, &s, &w);
        deliver(p, &v);
    } else if (p->joined && p->silent_s > p->world->silent_s) {
        fbi_verdict_say(&v, FBI_VERDICT_UNREACHABLE, &s,
                        "rank 0 (%s, pid %d) has not been heard of on %s for %.0f s: is the host "
                        "down, or the link cut? %s: FLAMBEAU_SILENT_SECONDS sets how long that may "
                        "be",
                        s.host, s.pid, p->world->peers[p->world->rank].host, p->silent_s,
                        fbi_waiter_text(&w, waits, sizeof waits));
        fbi_verdict_waits(&v, w.rank, w.sig);
        deliver(p, &v);
    }
}

/* A launcher that is silent (stopped from its terminal, perhaps) harms nobody while this rank comes
 * on. One that waits for another node all the while is cut off from there, too. */
static void judge_launcher(fbi_plane *p, double passed)
{
    fbi_ledger ledger;
    fbi_finding v;
    char waits[512];
    const fbi_waiter w = own_wait(p, &ledger);
    bool known = p->joined || p->lost;
    bool remote = known && w.sig && ledger.waits_for >= 0 && ledger.waits_for < p->world->size &&
                  fbi_is_remote(p->world, ledger.waits_for);
    bool still = remote && ledger.calls == p->calls && p->silent_s > 2 * beat_s;
    p->calls = ledger.calls;
    p->alone_s = still ? p->alone_s + (passed < 0.5 ? passed : 0.5) : 0;
    if (p->alone_s <= p->world->silent_s)
        return;
    const fbi_peer *peer = &p->world->peers[ledger.waits_for];
    const fbi_suspect s = {.rank = ledger.waits_for, .pid = peer->pid, .host = peer->host};
    fbi_verdict_say(&v, FBI_VERDICT_UNREACHABLE, &s,
                    "rank %d (%s, pid %d) does not come, and the launcher has not been heard of on "
                    "%s for %.0f s: is a host down, or the link cut? %s: FLAMBEAU_SILENT_SECONDS "
                    "sets how long that may be",
                    s.rank, s.host, s.pid, p->world->peers[p->world->rank].host, p->alone_s,
                    fbi_waiter_text(&w, waits, sizeof waits));
    fbi_verdict_waits(&v, w.rank, w.sig);
    deliver(p, &v);
}

static void judge_server(fbi_plane *p, double passed)
{
    if (p->bye || is_poisoned(p))
        return;
    if (p->invitation.launcher)
        judge_launcher(p, passed);
    else
        judge_rank_0(p);
}

static void client_beat(fbi_plane *p, double passed)
{
    p->silent_s += passed < 0.5 ? passed : 0.5;
    p->wire.age_s += passed;
    if (p->lost)
        p->lost_s += passed;
    else if (p->wire.fd < 0)
        try_next(p, passed);
    else if (!p->joined && p->wire.age_s > connect_s)
        hang_up(p);
    else if (p->joined)
        send_beat(p);
    judge_server(p, passed);
}

/* --- the thread --- */

/* Pass on what the page says, once. */
static void tell(fbi_plane *p)
{
    fbi_frame frame;
    if (p->told || !is_poisoned(p))
        return;
    p->told = true;
    if (p->server) {
        fbi_server_tell(p->server, &p->world->page->verdict);
    } else if (p->joined) {
        memset(&frame, 0, sizeof frame);
        frame.verdict = p->world->page->verdict;
        if (!fbi_wire_send(&p->wire, &frame, FBI_FRAME_VERDICT))
            hang_up(p);
    }
}

/* The main thread may never come to where it would see the verdict. */
static void speak_for_main(fbi_plane *p, double passed)
{
    const fb_world *world = p->world;
    if (!is_poisoned(p) || atomic_load(&world->own->printed) || world->guest)
        return;
    p->mute += passed < 0.5 ? passed : 0.5;
    if (p->mute < mute_s)
        return;
    fbi_logline("rank %d: %s; rank %d has not answered for %.0f s and is ended", world->rank,
                world->page->verdict.text, world->rank, mute_s);
    atomic_store(&world->own->printed, 1);
    _exit(FB_E_COMM);
}

/* Who has not joined yet is in a hurry, for a while. */
static double interval(const fbi_plane *p)
{
    return p->server || p->joined || p->outside_s > join_s ? beat_s : hurry_s;
}

static void *run(void *self)
{
    fbi_plane *p = self;
    p->last = fbi_now();
    while (!atomic_load(&p->ending)) {
        double passed = fbi_now() - p->last;
        double rest = interval(p) - passed;
        int ms = rest > 0 ? (int)(1e3 * rest) + 1 : 0;
        if (p->server)
            serve(p, ms);
        else
            listen_to_server(p, ms);
        tell(p);
        uint64_t drained;
        if (read(p->wake, &drained, sizeof drained) < 0 && errno != EAGAIN)
            break;
        passed = fbi_now() - p->last;
        if (passed < interval(p))
            continue;
        p->last += passed;
        if (p->server)
            serve_beat(p, passed);
        else
            client_beat(p, passed);
        tell(p);
        speak_for_main(p, passed);
    }
    return NULL;
}

/* --- set-up --- */

static bool open_server(fbi_plane *p)
{
    fb_world *world = p->world;
    fbi_invitation *in = &p->invitation;
    const fbi_patience patience = {world->stopped_s, world->stuck_s, world->silent_s};
    uint16_t port = 0;
    if (!fbi_invitation_new(in) || !fbi_board_open(&p->board, world->size, patience))
        return false;
    for (int r = 0; r < world->size; r++) {
        const fbi_peer *peer = &world->peers[r];
        fbi_identity *who = &p->board.rank[r].who;
        *who = (fbi_identity){r, peer->pid, peer->node, peer->local, ""};
        memcpy(who->host, peer->host, sizeof who->host);
    }
    p->server = fbi_server_open(in->token, &p->board, &port);
    if (p->server)
        fbi_invitation_list(in, port);
    return p->server != NULL;
}

/* Whether the launcher serves, and lets rank 0 in, which then tells the others where that is. */
static bool join_launcher(fbi_plane *p)
{
    const char *text = getenv(FBI_CONTROL);
    if (!text || !fbi_invitation_read(&p->invitation, text))
        return false;
    p->invitation.launcher = 1;
    double began = fbi_now(), last = began;
    while (!p->joined && last - began < join_s) {
        if (p->wire.fd < 0)
            try_next(p, fbi_now() - last);
        last = fbi_now();
        listen_to_server(p, 10);
    }
    if (p->joined)
        return true;
    hang_up(p);
    p->lost = false;
    p->invitation.n = p->invitation.launcher = p->next = 0;
    fbi_logline("world_open: the launcher cannot be reached by TCP from %s: rank 0 looks after the "
                "others",
                p->world->peers[p->world->rank].host);
    return false;
}

static int find_mate(const fb_world *world)
{
    int local = (world->local_rank + 1) % world->local_size;
    for (int r = 0; r < world->size; r++) {
        const fbi_peer *peer = &world->peers[r];
        if (r != world->rank && peer->node == world->node && peer->local == local && peer->watched)
            return r;
    }
    return -1;
}

/* Signals are the main thread's. */
static bool start(fbi_plane *p)
{
    sigset_t all, before;
    sigfillset(&all);
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake < 0)
        return false;
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = pthread_create(&p->thread, NULL, run, p) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!ok)
        close(p->wake);
    return ok;
}

static void release(fbi_plane *p)
{
    fbi_server_close(p->server);
    fbi_board_close(&p->board);
    fbi_wire_close(&p->wire);
    free(p);
}

/* Rank 0 knows who serves. */
static bool serves(fbi_plane *p)
{
    if (join_launcher(p))
        return false;
    if (!open_server(p))
        fbi_logline("world_open: no control plane between nodes: %s", strerror(errno));
    return true;
}

void fbi_plane_open(fb_world *world)
{
    if (!world->notices)
        return;
    fbi_plane *p = calloc(1, sizeof *p);
    if (p) {
        p->world = world;
        p->wire.fd = p->wake = -1;
        p->mate = find_mate(world);
    }
    bool server = p && world->rank == 0 && serves(p);
    fbi_invitation none = {.n = 0};
    fbi_boot_broadcast(world, p ? &p->invitation : &none, sizeof none);
    bool needed =
        p && p->invitation.n && (server || p->invitation.launcher || fbi_is_remote(world, 0));
    if (needed && start(p))
        world->plane = p;
    else if (p)
        release(p);
    /* What happens in the first step is seen, too. */
    for (double end = fbi_now() + join_s; world->plane && !server && fbi_now() < end;) {
        if (atomic_load(&p->joined))
            break;
        nanosleep(&(struct timespec){0, 1000 * 1000}, NULL);
    }
}

void fbi_plane_wake(fb_world *world)
{
    const uint64_t one = 1;
    if (world->plane && write(world->plane->wake, &one, sizeof one) < 0)
        return; /* it is awake already */
}

void fbi_plane_close(fb_world *world)
{
    fbi_plane *p = world->plane;
    fbi_frame bye;
    if (!p)
        return;
    atomic_store(&p->ending, true);
    fbi_plane_wake(world);
    pthread_join(p->thread, NULL);
    tell(p);
    memset(&bye, 0, sizeof bye);
    if (p->joined)
        fbi_wire_send(&p->wire, &bye, FBI_FRAME_BYE);
    close(p->wake);
    release(p);
    world->plane = NULL;
}
