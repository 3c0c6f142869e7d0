#include "comm/board_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A death is said this late: what the others do is on its way, and mates know more; and this late
 * if nobody waits yet. */
static const double grace_s = 0.3, lonely_grace_s = 1;
/* What was told is believed for so long. */
static const double fresh_s = 1.5;

double fbi_env_seconds(const char *name, double otherwise)
{
    const char *text = getenv(name);
    double s = text ? strtod(text, NULL) : 0;
    return s > 0 ? s : otherwise;
}

fbi_patience fbi_patience_asked(void)
{
    return (fbi_patience){.stopped = fbi_env_seconds("FLAMBEAU_STOPPED_SECONDS", 3),
                          .stuck = fbi_env_seconds("FLAMBEAU_STUCK_SECONDS", 5),
                          .silent = fbi_env_seconds("FLAMBEAU_SILENT_SECONDS", 10)};
}

bool fbi_board_open(fbi_board *board, int size, fbi_patience patience)
{
    *board = (fbi_board){.size = size, .patience = patience};
    board->rank = calloc((size_t)size, sizeof *board->rank);
    for (int r = 0; board->rank && r < size; r++)
        board->rank[r].who.rank = r;
    return board->rank != NULL;
}

void fbi_board_close(fbi_board *board)
{
    free(board->rank);
    board->rank = NULL;
}

void fbi_board_join(fbi_board *board, const fbi_identity *who)
{
    const fbi_ledger nothing = {.state = FBI_RANK_RUNNING, .waits_for = -1, .also = {-1, -1, -1}};
    board->rank[who->rank].who = *who;
    fbi_board_beat(board, who->rank, &nothing);
}

void fbi_board_beat(fbi_board *board, int rank, const fbi_ledger *ledger)
{
    fbi_board_rank *b = &board->rank[rank];
    bool same = b->heard && b->ledger.calls == ledger->calls && b->ledger.state == ledger->state &&
                b->ledger.waits_for == ledger->waits_for;
    if (!same)
        b->still_s = 0;
    b->ledger = *ledger;
    b->heard = true;
    b->silent_s = 0;
}

void fbi_board_seen(fbi_board *board, int rank, char state, const fbi_ledger *ledger)
{
    fbi_board_rank *b = &board->rank[rank];
    bool over = !state || state == 'Z' || state == 'X';
    b->seen_s = 0;
    b->stopped = state == 'T';
    b->last_seen = ledger && (over || b->stopped);
    if (b->last_seen)
        b->ledger = *ledger; /* it cannot tell any more */
    if (over)
        fbi_board_gone(board, rank);
}

void fbi_board_gone(fbi_board *board, int rank)
{
    board->rank[rank].gone = true;
}

void fbi_board_closed(fbi_board *board, int rank)
{
    board->rank[rank].closed = true;
}

void fbi_board_tick(fbi_board *board, double seconds)
{
    double passed = seconds < 0.3 ? seconds : 0.3;
    for (int r = 0; r < board->size; r++) {
        fbi_board_rank *b = &board->rank[r];
        b->silent_s += passed;
        b->still_s += passed;
        b->seen_s += passed;
        b->gone_s = b->gone ? b->gone_s + passed : 0;
        b->stopped_s = b->stopped && b->seen_s < fresh_s ? b->stopped_s + passed : 0;
    }
}

/* --- judging --- */

static bool is_waiting(const fbi_board_rank *b)
{
    return b->heard && b->ledger.state == FBI_RANK_WAITING;
}

static fbi_suspect suspect(const fbi_board_rank *b)
{
    return (fbi_suspect){.rank = b->who.rank,
                         .pid = b->who.pid,
                         .host = b->who.host,
                         .last = b->heard ? &b->ledger.sig : NULL,
                         .waiting = is_waiting(b),
                         .heard = !b->last_seen};
}

static bool misses(const fbi_ledger *l, int rank)
{
    bool found = l->waits_for == rank;
    for (int i = 0; i < FBI_ALSO; i++)
        found |= l->also[i] == rank;
    return found;
}

/* The lowest rank that waits for `rank`; else the lowest that waits at all. */
static fbi_waiter waiter_for(const fbi_board *board, int rank)
{
    fbi_waiter any = {-1, NULL};
    for (int r = 0; r < board->size; r++) {
        const fbi_board_rank *b = &board->rank[r];
        if (r == rank || !is_waiting(b) || b->gone)
            continue;
        if (misses(&b->ledger, rank))
            return (fbi_waiter){r, &b->ledger.sig};
        if (!any.sig)
            any = (fbi_waiter){r, &b->ledger.sig};
    }
    return any;
}

/* All that wait, behind the one that the text names. */
static void note_waiting(const fbi_board *board, fbi_finding *v)
{
    for (int r = 0; r < board->size; r++)
        if (r != v->rank && is_waiting(&board->rank[r]) && !board->rank[r].gone)
            fbi_verdict_waits(v, r, &board->rank[r].ledger.sig);
}

static bool node_is_silent(const fbi_board *board, int node)
{
    for (int r = 0; r < board->size; r++) {
        const fbi_board_rank *b = &board->rank[r];
        if (b->who.node == node && b->heard && !b->closed && !b->gone &&
            b->silent_s <= board->patience.silent)
            return false;
    }
    return true;
}

static void say_unreachable(const fbi_board *board, int rank, fbi_finding *v)
{
    const fbi_board_rank *b = &board->rank[rank];
    const fbi_suspect s = suspect(b);
    const fbi_waiter w = waiter_for(board, rank);
    char waits[512];
    bool host = node_is_silent(board, b->who.node);
    fbi_verdict_say(
        v, FBI_VERDICT_UNREACHABLE, &s,
        "rank %d (%s, pid %d) has not been heard of for %.0f s%s; %s: FLAMBEAU_SILENT_SECONDS sets "
        "how long that may be",
        rank, b->who.host, b->who.pid, b->silent_s,
        host ? ", nor any other of its host: is the host down, or the link cut?" : "",
        fbi_waiter_text(&w, waits, sizeof waits));
    fbi_verdict_waits(v, w.rank, w.sig);
}

/* Deaths before all else: they explain the rest. */
static bool judge_processes(const fbi_board *board, fbi_finding *v)
{
    for (int r = 0; r < board->size; r++) {
        const fbi_board_rank *b = &board->rank[r];
        if (b->closed || b->gone_s < grace_s)
            continue;
        const fbi_suspect s = suspect(b);
        const fbi_waiter w = waiter_for(board, r);
        if (!w.sig && b->gone_s < lonely_grace_s)
            continue;
        fbi_verdict_dead(v, &s, &w);
        return true;
    }
    for (int r = 0; r < board->size; r++) {
        const fbi_board_rank *b = &board->rank[r];
        if (b->closed || b->gone)
            continue;
        const fbi_suspect s = suspect(b);
        const fbi_waiter w = waiter_for(board, r);
        if (b->stopped_s > board->patience.stopped) {
            fbi_verdict_stopped(v, &s, &w, b->stopped_s);
            return true;
        }
        if (b->heard && b->silent_s > board->patience.silent && b->stopped_s == 0) {
            say_unreachable(board, r, v);
            return true;
        }
    }
    return false;
}

/* next: whom the first waits for on this way, which may be one of several. */
static void say_circle(const fbi_board *board, int first, int next, fbi_finding *v)
{
    const fbi_suspect s = suspect(&board->rank[first]);
    char text[700];
    size_t at = 0;
    for (int r = first, n = 0; n < 4 && at < sizeof text; n++) {
        const fbi_ledger *l = &board->rank[r].ledger;
        char call[160];
        at += (size_t)snprintf(text + at, sizeof text - at, "%srank %d waits for rank %d in %s",
                               n ? ", " : "", r, next, fbi_call_text(&l->sig, call, sizeof call));
        if (next == first)
            break;
        r = next;
        next = board->rank[r].ledger.waits_for;
    }
    fbi_verdict_say(v, FBI_VERDICT_STUCK, &s,
                    "ranks wait for each other: %s: do all ranks make the same calls in the same "
                    "order?",
                    text);
}

/* Follow the waits of a rank, first for `next`, to a circle or to a rank that waits for nobody. */
static bool judge_chain(const fbi_board *board, int first, int next, fbi_finding *v)
{
    const int second = next;
    const double limit = 1e-3 * board->rank[first].ledger.limit_ms;
    double still = board->rank[first].still_s;
    bool apart = false, passed = false;
    for (int r = first, steps = 0; steps < board->size; steps++) {
        const fbi_board_rank *b = &board->rank[r];
        if (next < 0 || next >= board->size || b->silent_s > fresh_s)
            return false;
        const fbi_board_rank *n = &board->rank[next];
        bool known = n->heard && !n->closed && !n->gone && !n->stopped && n->silent_s <= fresh_s;
        if (!known || n->ledger.state == FBI_RANK_CLOSING)
            return false;
        still = n->still_s < still ? n->still_s : still;
        if (n->ledger.state == FBI_RANK_RUNNING) {
            const fbi_suspect s = suspect(n);
            const fbi_waiter w = {first, &board->rank[first].ledger.sig};
            if (limit > 0 && still > limit)
                fbi_verdict_stuck(v, &s, &w, still);
            return limit > 0 && still > limit;
        }
        apart |= !fbi_same_exchange(&b->ledger.sig, &n->ledger.sig);
        passed |= fbi_has_passed(&n->ledger.sig, n->ledger.past, &b->ledger.sig);
        if (next == first) {
            double most = passed ? limit : board->patience.stuck;
            if (apart && most > 0 && still > most)
                say_circle(board, first, second, v);
            return apart && most > 0 && still > most;
        }
        r = next;
        next = n->ledger.waits_for;
    }
    return false;
}

/* In a collective a rank waits for several others, of which some wait themselves: who does not wait
 * is missed by somebody at first hand. */
static bool judge_waits(const fbi_board *board, int rank, fbi_finding *v)
{
    const fbi_ledger *l = &board->rank[rank].ledger;
    bool found = judge_chain(board, rank, l->waits_for, v);
    for (int i = 0; i < FBI_ALSO && !found; i++)
        found = judge_chain(board, rank, l->also[i], v);
    return found;
}

bool fbi_board_judge(const fbi_board *board, fbi_finding *v)
{
    bool found = judge_processes(board, v);
    for (int r = 0; r < board->size && !found; r++)
        if (is_waiting(&board->rank[r]) && !board->rank[r].closed && !board->rank[r].gone)
            found = judge_waits(board, r, v);
    if (found)
        note_waiting(board, v);
    return found;
}
