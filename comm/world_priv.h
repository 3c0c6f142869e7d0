/* The world as this room sees it. No mpi.h here: parallel and io read this too. */
#ifndef FLAMBEAU_COMM_WORLD_PRIV_H
#define FLAMBEAU_COMM_WORLD_PRIV_H

#include <flambeau/comm/collective.h>
#include <flambeau/comm/world.h>

#include "comm/page_priv.h"
#include "comm/verdict_priv.h"
#include "core/tensor/context_priv.h"

/* What started the ranks, if SIGTERM leaves time to save: "srun", or "held" (launch/run_priv.h). */
#define FBI_LAUNCHER "FLAMBEAU_LAUNCHER"

/* Every rank, as told once at the start. */
typedef struct fbi_peer {
    int32_t pid, node, local; /* node: number of the group of ranks that share memory */
    uint64_t start;           /* when its process started, in clock ticks: pids are used again */
    char host[64];
    bool watched; /* we see its process: set by each rank for itself */
} fbi_peer;

/* Names of call sites, resolved once. */
enum { FBI_SITES = 64 };
typedef struct fbi_site_name {
    const void *site;
    char text[FBI_SITE_BYTES];
} fbi_site_name;

typedef struct fbi_plane fbi_plane; /* control plane (comm/plane_priv.h) */
typedef struct fbi_mpi fbi_mpi;     /* communicators and control messages (comm/mpi_priv.h) */

struct fb_world {
    fb_context *ctx;
    fb_group *all;    /* the group of all ranks */
    fb_group *groups; /* every group made, newest first */
    fb_group *lead;   /* over whose leaves batches are divided */
    int leads;        /* loaders that want it so */
    int rank, size, node, nodes, local_rank, local_size;
    fbi_peer *peers;    /* [size] */
    fbi_page *page;     /* of this node; private memory if there is no shared memory */
    fbi_page_rank *own; /* this rank's entry in it */
    size_t page_bytes;
    bool page_shared;
    fbi_mpi *mpi;
    fbi_plane *plane;          /* NULL: this rank has no part in it */
    fb_work *flying;           /* works in flight, oldest first */
    fb_work *spare;            /* records of finished works, to be used again */
    struct fbi_pinned *pinned; /* host memory of finished works on a device */
    int next_group;
    int shards;   /* of the world's group; 0: one for each rank */
    int attached; /* reducers whose commits carry the wish to stop */
    bool guest;   /* the program owns MPI; lines go to its log function or nowhere */
    bool stop_wanted, stop_agreed, stop_signalled; /* signalled: agreed since a signal came */
    bool unsaved;                                  /* the last save failed (io) */
    void *leases; /* of the folders that rank 0 writes to (io/lease.c) */
    int n_leases;
    void *memory;            /* copies of states in the memory of nodes (io/memory.c) */
    struct fbi_saver *saver; /* of checkpoints (io/saver.c); NULL: nothing was saved */
    void (*saver_finish)(fb_world *world); /* wait for the save that runs, and free it */
    bool notices;   /* some ranks cannot be read from the page: they send notices */
    bool signals;   /* our handlers are in place */
    bool may_speak; /* nobody had handlers for SIGSEGV and its like when we started MPI */
    bool messages;  /* no shared memory between ranks: FLAMBEAU_COMM=messages, or none to be had */
    bool poisoned;  /* this rank has reported the poison */
    bool wrote_poison; /* and it was this rank's verdict */
    fbi_site_name sites[FBI_SITES];
    double stopped_s, stuck_s; /* how long before a stopped or a cyclic wait is a verdict */
    double timeout_s;          /* and one for a rank that runs but does not come */
    double spin_s;             /* how long a wait keeps the core to itself */
    double waited_s;           /* for other ranks, so far */
    double silent_s;           /* and a rank of another node that is not heard of */
    _Atomic(char *) run_dir;   /* where verdict.json goes; NULL: nowhere */
    /* links between devices (comm/link.c) */
    int links;
    int64_t link_room;       /* bytes of temporary memory of a sum */
    double link_s;           /* how long a device may wait for others that have called */
    fbi_signature last_link; /* the last work that went by one */
    void *transfers;         /* room for a list of them */
    int64_t transfers_cap;
};

/* --- errors between ranks (comm/poison.c) --- */

/* End the job's collectives: the first verdict on a node stays, all nodes are told, this rank's
 * context gets the error. @return FB_E_COMM */
fb_status fbi_world_judge(fb_world *world, fbi_finding *verdict);
/* The same for trouble of this rank's own. */
fb_status fbi_world_poison(fb_world *world, const char *fmt, ...) FB_PRINTF(2, 3);
/* FB_OK, or FB_E_COMM if any rank has ended the collectives; then it is reported here, once. */
fb_status fbi_world_check(fb_world *world);
/* A verdict that came from another node. */
void fbi_world_judged(fb_world *world, const fbi_finding *verdict);
/* Where verdict.json is to go, once; the one of an earlier attempt is removed. */
void fbi_world_report_to(fb_world *world, const char *folder);
/* That folder; "": none. Any thread may ask. */
const char *fbi_world_run_dir(fb_world *world);
/* A rank as this node sees it. */
fbi_suspect fbi_world_suspect(const fb_world *world, int rank);
/* The context's error, told to all ranks at the call `sig`. @return its status */
fb_status fbi_world_tell(fb_world *world, const fbi_signature *sig);
/* "rank 3 (node07)". */
const char *fbi_rank_text(const fb_world *world, int rank, char *buf, size_t size);

/* A rank whose entry is not on our page. */
static inline bool fbi_is_remote(const fb_world *world, int rank)
{
    return rank != world->rank && (world->peers[rank].node != world->node || !world->page_shared);
}

/* The highest rank whose value is not that of most (of the lowest, in doubt), which `same` marks;
 * -1: all are equal. */
int fbi_odd_one(const uint64_t *values, int n, bool *same);

/* --- closing (comm/close.c) --- */

/* Wait until every rank closes; say what went wrong. @return whether all did, so that MPI may end
 */
bool fbi_world_leave(fb_world *world);

/* --- waiting (comm/wait.c) --- */

/* Something that becomes true by what other ranks do. */
typedef struct fbi_waitable {
    bool (*ready)(void *self);
    /* Next rank of the world, not below `from`, that has not done its part; -1: none. */
    int (*missing)(void *self, int from);
    /* Word that changes when `rank` does its part, to sleep on; NULL: poll. */
    atomic_uint *(*word)(void *self, int rank, unsigned *value);
    const fbi_signature *sig; /* what is being waited for, for the messages */
    void *self;
    bool closing; /* others may close too, and may take their time */
} fbi_waitable;
/* FB_OK, or FB_E_COMM: poisoned, or a verdict on a rank that is missing. */
fb_status fbi_wait(fb_world *world, const fbi_waitable *what);
/* Push all works in flight as far as they go without waiting. */
void fbi_world_poke(fb_world *world);

/* --- verdicts (comm/watch.c) --- */

typedef struct fbi_watch {
    double began, last; /* seconds of the monotonic clock */
    double stopped;     /* seconds for which we have seen a rank stopped */
    double gone_since;  /* when a rank that closes was first missed; 0: none is */
    double chain_s;     /* for which we have seen the chain that begins here unchanged */
    uint64_t chain_key; /* of the ranks that wait for one another; 0: none */
    bool noted;
} fbi_watch;
/* Looks at the ranks that are waited for. FB_OK, or FB_E_COMM after poisoning. */
fb_status fbi_watch_look(fb_world *world, fbi_watch *watch, const fbi_waitable *what);
/* How long ranks that run may be waited for; 0: for ever. */
double fbi_world_limit(const fb_world *world, const fbi_waitable *what);
double fbi_now(void);
uint64_t fbi_process_start(int pid, char *state); /* 0: no such process */

/* --- agreed stop (comm/stop.c) --- */
/* What this rank wants, and what all of them have agreed on: the largest. */
enum { FBI_STOP_NO, FBI_STOP_OWN, FBI_STOP_SIGNAL };
uint8_t fbi_stop_wish(const fb_world *world);
void fbi_stop_join(fb_world *world, uint8_t wish);
double fbi_signal_age(void); /* seconds since SIGTERM; 0: none */
void fbi_signals_install(void);
void fbi_signals_restore(void);

/* --- SIGSEGV and its like (comm/crash.c) --- */
/* Say where this rank was, before the default action. */
void fbi_world_crash_open(fb_world *world);

/* --- this rank's cores (comm/cores.c) --- */

/* Widen the affinity to all that the cpuset allows, unless `keep`. @return a key of the set: ranks
 * with equal keys share it; *inherited: how many processors there were before */
uint64_t fbi_cores_widen(bool keep, int *inherited);
typedef struct fbi_cores_request {
    int rank, ranks; /* this rank among those with the same set */
    int threads;     /* what was asked for; 0: nothing */
    int inherited;   /* processors before widening */
    bool keep;       /* leave the affinity alone */
    bool bound;      /* with keep: the set is narrower than the machine, so it is our share */
} fbi_cores_request;
/* Divide the set between its ranks, and bind this one. *apart: no other rank uses its cores.
 * @return how many cores are its share; `note` may get a line for the user */
int fbi_cores_share(const fbi_cores_request *request, bool *apart, char *note, size_t size);

#endif
