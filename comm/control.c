/* Notices between nodes: a verdict, or that a rank is closing. A node reads its own page instead.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/mpi_priv.h"

enum { NOTICE_TAG = 1 };

static void listen(fb_world *world)
{
    fbi_mpi *m = world->mpi;
    MPI_Irecv(&m->inbox, (int)sizeof m->inbox, MPI_BYTE, MPI_ANY_SOURCE, NOTICE_TAG, m->control,
              &m->inbox_request);
}

void fbi_control_open(fb_world *world)
{
    world->mpi->inbox_request = MPI_REQUEST_NULL;
    if (world->notices)
        listen(world);
}

static void send_notice(fb_world *world, int to, int kind, const fbi_finding *verdict)
{
    fbi_mpi *m = world->mpi;
    fbi_letter *letter = calloc(1, sizeof *letter);
    if (!letter)
        return; /* the receiver finds out by itself, later */
    letter->notice.kind = kind;
    letter->notice.rank = world->rank;
    letter->notice.status = world->own->status;
    letter->notice.verdict = *verdict;
    MPI_Isend(&letter->notice, (int)sizeof letter->notice, MPI_BYTE, to, NOTICE_TAG, m->control,
              &letter->request);
    letter->next = m->letters;
    m->letters = letter;
}

static void send_remote(fb_world *world, int kind, const fbi_finding *verdict)
{
    for (int r = 0; r < world->size && world->notices; r++)
        if (fbi_is_remote(world, r))
            send_notice(world, r, kind, verdict);
}

void fbi_control_send(fb_world *world, int kind, const char *text)
{
    fbi_finding carrier = {0};
    snprintf(carrier.text, sizeof carrier.text, "%s", text);
    send_remote(world, kind, &carrier);
}

void fbi_control_poison(fb_world *world, const fbi_finding *verdict)
{
    send_remote(world, FBI_NOTICE_POISON, verdict);
}

static void read_notice(fb_world *world)
{
    fbi_mpi *m = world->mpi;
    const fbi_notice *n = &m->inbox;
    if (n->rank < 0 || n->rank >= world->size)
        return;
    if (n->kind != FBI_NOTICE_POISON && n->status)
        m->failure = *n;
    if (n->kind == FBI_NOTICE_POISON)
        fbi_world_judged(world, &n->verdict);
    else if (n->kind == FBI_NOTICE_CLOSING && !m->closing[n->rank])
        m->closing[n->rank] = FBI_NOTICE_CLOSING;
    for (int r = 0; r < world->size; r++) { /* its node's first rank speaks for all of it */
        bool same = world->page_shared && world->peers[r].node == world->peers[n->rank].node;
        if (n->kind == FBI_NOTICE_CLOSED && (same || r == n->rank))
            m->closing[r] = FBI_NOTICE_CLOSED;
        m->printed[r] |= n->kind == FBI_NOTICE_PRINTED && (same || r == n->rank);
    }
}

void fbi_control_poll(fb_world *world)
{
    fbi_mpi *m = world->mpi;
    int done = 1;
    while (m->inbox_request != MPI_REQUEST_NULL && done) {
        if (MPI_Test(&m->inbox_request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || !done)
            return;
        read_notice(world);
        listen(world);
    }
}

/* Whether all letters have left, after waiting for it a little. */
static bool letters_left(const fbi_mpi *m)
{
    for (double end = fbi_now() + 1;;) {
        bool all = true;
        for (fbi_letter *l = m->letters; l; l = l->next) {
            int done = 0;
            MPI_Test(&l->request, &done, MPI_STATUS_IGNORE);
            all = all && done;
        }
        if (all || fbi_now() > end)
            return all;
    }
}

/* A letter that does not leave keeps its memory: MPI may still read it. */
void fbi_control_close(fb_world *world)
{
    fbi_mpi *m = world->mpi;
    if (!letters_left(m))
        m->letters = NULL;
    if (m->inbox_request != MPI_REQUEST_NULL) {
        MPI_Cancel(&m->inbox_request);
        MPI_Request_free(&m->inbox_request);
    }
    while (m->letters) {
        fbi_letter *next = m->letters->next;
        free(m->letters);
        m->letters = next;
    }
}
