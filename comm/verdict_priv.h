/* Verdicts: what ended the job, in words and as run/verdict.json. No world here: a page and the
 * control plane (board_priv.h) come to them by different ways. */
#ifndef FLAMBEAU_COMM_VERDICT_PRIV_H
#define FLAMBEAU_COMM_VERDICT_PRIV_H

#include <stdarg.h>

#include <flambeau/core/base/status.h>

#include "comm/page_priv.h"

/* "dead", "stopped", ... */
const char *fbi_verdict_name(int kind);

/* The rank that is to blame, as its entry and its host show it. */
typedef struct fbi_suspect {
    int rank, pid;
    const char *host;
    const fbi_signature *last; /* NULL: not known */
    bool waiting;              /* in that call */
    bool heard;                /* it said so itself, some time before */
} fbi_suspect;

/* One that waits for it. */
typedef struct fbi_waiter {
    int rank;
    const fbi_signature *sig; /* NULL: nobody does */
} fbi_waiter;

void fbi_verdict_dead(fbi_finding *v, const fbi_suspect *s, const fbi_waiter *w);
void fbi_verdict_stopped(fbi_finding *v, const fbi_suspect *s, const fbi_waiter *w, double seconds);
/* It runs, but has called nothing for so long. */
void fbi_verdict_stuck(fbi_finding *v, const fbi_suspect *s, const fbi_waiter *w, double seconds);
/* Any other. */
void fbi_verdict_say(fbi_finding *v, int kind, const fbi_suspect *s, const char *fmt, ...)
    FB_PRINTF(4, 5);

/* "; it last called all_reduce #16 at train.c:88", or "" */
const char *fbi_last_call_text(const fbi_suspect *s, char *buf, size_t size);
/* "rank 0 waits for it in all_reduce #17 at train.c:90 with F32 [1000]" */
const char *fbi_waiter_text(const fbi_waiter *w, char *buf, size_t size);
/* Note that a rank waits; a verdict names the first of them. */
void fbi_verdict_waits(fbi_finding *v, int rank, const fbi_signature *sig);

/* verdict.json in `folder`: whole or not at all, and the first one stays. None if another job has
 * taken over the folder. */
bool fbi_verdict_write(const fbi_finding *v, const char *folder);
void fbi_verdict_forget(const char *folder);

#endif
