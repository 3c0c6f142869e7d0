/* The control plane's board: what is known of every rank, from whatever source, and the verdict
 * that follows. No sockets, no clocks, no world: time comes in by ticks. */
#ifndef FLAMBEAU_COMM_BOARD_PRIV_H
#define FLAMBEAU_COMM_BOARD_PRIV_H

#include "comm/verdict_priv.h"

/* What a rank is doing: a copy of its entry on the page. */
typedef struct fbi_ledger {
    uint32_t state, calls;
    int32_t waits_for, also[FBI_ALSO], limit_ms;
    fbi_signature sig;
    fbi_past past[FBI_PASTS];
} fbi_ledger;

/* Who a rank is. */
typedef struct fbi_identity {
    int32_t rank, pid, node, local;
    char host[64];
} fbi_identity;

typedef struct fbi_board_rank {
    fbi_identity who;
    fbi_ledger ledger;
    bool heard;  /* it has joined */
    bool closed; /* said good-bye: nothing is expected of it any more */
    bool gone;   /* its connection has ended without that, or its process is no more */
    bool stopped;
    bool last_seen;   /* the ledger is what was on its page at the end, not what it told last */
    double silent_s;  /* since it last told of itself */
    double gone_s;    /* since it went */
    double seen_s;    /* since a mate looked at its process */
    double stopped_s; /* for which mates have seen it stopped */
    double still_s;   /* since it last did something else */
} fbi_board_rank;

/* When a state becomes a verdict, in seconds. */
typedef struct fbi_patience {
    double stopped, stuck, silent;
} fbi_patience;

/* As FLAMBEAU_STOPPED_SECONDS, FLAMBEAU_STUCK_SECONDS and FLAMBEAU_SILENT_SECONDS say: 3, 5, 10. */
fbi_patience fbi_patience_asked(void);
/* A positive number of the environment. */
double fbi_env_seconds(const char *name, double otherwise);

typedef struct fbi_board {
    int size;
    fbi_patience patience;
    fbi_board_rank *rank; /* [size] */
} fbi_board;

bool fbi_board_open(fbi_board *board, int size, fbi_patience patience);
void fbi_board_close(fbi_board *board);

/* A rank is there: from now on it is expected to tell what it does. */
void fbi_board_join(fbi_board *board, const fbi_identity *who);
/* It does. */
void fbi_board_beat(fbi_board *board, int rank, const fbi_ledger *ledger);
/* A mate, or we, looked at its process: the state in /proc, 0 if there is none; and its entry on
 * the page, or NULL. */
void fbi_board_seen(fbi_board *board, int rank, char state, const fbi_ledger *ledger);
void fbi_board_gone(fbi_board *board, int rank);
void fbi_board_closed(fbi_board *board, int rank);
/* Time passes; more than 0.3 s of it at once was our own sleep, and does not count. */
void fbi_board_tick(fbi_board *board, double seconds);
/* Is there anything to say? */
bool fbi_board_judge(const fbi_board *board, fbi_finding *v);

#endif
