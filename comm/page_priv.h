/* The page that the ranks of a node share: what each is doing, and the poison. A rank writes its
 * own entry with plain stores, so that it can be read when the owner is stopped or dead. */
#ifndef FLAMBEAU_COMM_PAGE_PRIV_H
#define FLAMBEAU_COMM_PAGE_PRIV_H

#include <stdatomic.h>
#include <string.h>

#include <flambeau/core/tensor/dtype.h>
#include <flambeau/core/tensor/shape.h>

typedef enum fbi_kind {
    FBI_KIND_NONE = 0,
    FBI_KIND_BARRIER,
    FBI_KIND_ALL_REDUCE,
    FBI_KIND_REDUCE_SCATTER,
    FBI_KIND_ALL_GATHER,
    FBI_KIND_ALL_TO_ALL,
    FBI_KIND_BROADCAST,
    FBI_KIND_SEND,
    FBI_KIND_RECV,
    FBI_KIND_GRADIENTS, /* DDP's sum of a bucket */
    FBI_KIND_BYTES,     /* private exchanges: agreement, commit packet, loader, checkpoint */
    FBI_KIND_CLOSE,
    FBI_KIND_COUNT
} fbi_kind;

enum { FBI_SITE_BYTES = 56, FBI_TAG_BYTES = 24 };

/* What a rank brings to a collective: compared between all ranks. Plain data of fixed size. */
typedef struct fbi_signature {
    uint64_t seq;  /* number of the call in its group */
    int64_t count; /* elements */
    int32_t kind, op, dtype, root;
    int32_t group, shards;
    uint32_t present; /* pieces that this rank has; not compared */
    int32_t ndim;     /* shape: for messages; only the count is compared */
    int64_t dims[FB_MAX_DIMS];
    char site[FBI_SITE_BYTES]; /* "train.c:88"; not compared */
    char tag[FBI_TAG_BYTES];   /* what a private exchange is for */
} fbi_signature;

typedef enum fbi_rank_state {
    FBI_RANK_RUNNING = 0, /* in its own code; `sig` is its last call */
    FBI_RANK_WAITING,     /* in the call `sig`, for rank `waits_for` */
    FBI_RANK_CLOSING      /* in fb_world_close; `status` and `text` say how it went */
} fbi_rank_state;

/* Why a job ended. */
typedef enum fbi_verdict_kind {
    FBI_VERDICT_NONE = 0,
    FBI_VERDICT_DEAD,
    FBI_VERDICT_STOPPED,     /* by SIGSTOP */
    FBI_VERDICT_STUCK,       /* it runs, and does not come; or ranks wait for each other */
    FBI_VERDICT_DIVERGING,   /* another call, other shapes, other weights */
    FBI_VERDICT_UNREACHABLE, /* its host is silent */
    FBI_VERDICT_LEFT,        /* it has closed while others wait for it */
    FBI_VERDICT_FAILED,      /* with an error of its own, which is in the text */
    FBI_VERDICT_COUNT
} fbi_verdict_kind;

enum { FBI_WAITING = 8 };
typedef struct fbi_waiting {
    int32_t rank;
    char call[124];
} fbi_waiting;

/* Plain data: it lies on the page and travels between nodes. */
typedef struct fbi_finding {
    int32_t kind, rank, pid, n_waiting;
    char host[64];
    fbi_signature call; /* of that rank: its last */
    fbi_waiting waiting[FBI_WAITING];
    char text[1024];
} fbi_finding;

/* A call that has been made. */
enum { FBI_PASTS = 4, FBI_ALSO = 3 };
typedef struct fbi_past {
    int32_t kind, group;
    uint64_t seq;
} fbi_past;

typedef struct fbi_page_rank {
    _Alignas(64) atomic_uint state;
    atomic_int waits_for;      /* lowest rank of the world that is missing, or -1 */
    atomic_int also[FBI_ALSO]; /* some more of them, with the highest; -1: no more */
    atomic_int limit_ms;       /* how long it waits for one that does something else; 0: for ever */
    atomic_uint calls;         /* collectives entered: unchanged means no progress */
    atomic_uint printed;       /* 1 after this rank has said what ended the job */
    int32_t status;
    fbi_signature sig;
    fbi_past past[FBI_PASTS]; /* call i in [i % FBI_PASTS] */
    char past_site[FBI_PASTS][FBI_SITE_BYTES];
    char text[1024];
} fbi_page_rank;

typedef struct fbi_page {
    _Alignas(64) atomic_int poison; /* 0; -1 while the verdict is being written; then a status */
    atomic_uint sleepers;           /* ranks that sleep on a word: whoever changes one wakes them */
    fbi_finding verdict;
    fbi_page_rank rank[]; /* by local rank */
} fbi_page;

/* A collective begins: only its rank may say so. */
static inline void fbi_page_enter(fbi_page_rank *own, const fbi_signature *sig)
{
    unsigned calls = atomic_load_explicit(&own->calls, memory_order_relaxed);
    own->sig = *sig;
    own->past[calls % FBI_PASTS] = (fbi_past){sig->kind, sig->group, sig->seq};
    memcpy(own->past_site[calls % FBI_PASTS], sig->site, FBI_SITE_BYTES);
    atomic_store_explicit(&own->calls, calls + 1, memory_order_relaxed);
}

/* Put a verdict on the page. False if there is one already. Any thread may. */
bool fbi_page_judge(fbi_page *page, const fbi_finding *verdict);

/* "all_reduce", ... */
const char *fbi_kind_name(int kind);
/* Both are in one exchange, as far as that is known: the same collective, or its two sides. */
bool fbi_same_exchange(const fbi_signature *a, const fbi_signature *b);
/* A rank that is in `now` now, with these calls before, has done its part of `sig`: who waits for
 * it there waits for data that are on their way, or for its own sends to be reported. Of a send or
 * receive the partner is not known: another one with its number counts, too. */
bool fbi_has_passed(const fbi_signature *now, const fbi_past past[FBI_PASTS],
                    const fbi_signature *sig);
/* "all_reduce #17 at train.c:88". */
const char *fbi_call_text(const fbi_signature *sig, char *buf, size_t size);
/* "F32 [1000]", "64 bytes", or "" where there is nothing to say. */
const char *fbi_brought_text(const fbi_signature *sig, char *buf, size_t size);
/* The numbers of ranks with flag[r] set: "ranks 0-2,5" or "rank 3". */
const char *fbi_ranks_text(const bool *flag, int n, char *buf, size_t size);

#endif
