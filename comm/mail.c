/* Envelopes and transfers. Every request is tested, never waited for. */
#include "comm/mail_priv.h"

#include <stdlib.h>
#include <string.h>

enum { MESSAGE_MOST = 1 << 30, FIRST_TAG = 16, SEQUENCES = 64, LANES = 4 };

static int tag_of(const fb_work *w, int lane)
{
    return FIRST_TAG + (w->group->id * SEQUENCES + (int)(w->sig.seq % SEQUENCES)) * LANES + lane;
}

static fb_status fail_mpi(fb_work *w)
{
    char call[160];
    w->failed = w->done = true;
    return fbi_world_poison(w->group->world, "rank %d: MPI failed in %s", w->group->world->rank,
                            fbi_call_text(&w->sig, call, sizeof call));
}

static MPI_Request *new_request(fb_work *w, int peer)
{
    struct fbi_mail *m = w->mail;
    if (m->n == m->cap) {
        int cap = m->cap ? 2 * m->cap : 64;
        MPI_Request *requests = realloc(m->requests, (size_t)cap * sizeof *requests);
        if (requests)
            m->requests = requests;
        int *peers = realloc(m->peers, (size_t)cap * sizeof *peers);
        if (peers)
            m->peers = peers;
        if (!requests || !peers)
            return NULL;
        m->cap = cap;
    }
    m->peers[m->n] = peer;
    m->requests[m->n] = MPI_REQUEST_NULL;
    return &m->requests[m->n++];
}

static void transfer(fb_work *w, int peer, int lane, void *data, size_t bytes, bool out)
{
    MPI_Comm comm = w->group->world->mpi->comm;
    int rank = w->group->ranks[peer], tag = tag_of(w, lane);
    for (size_t at = 0; at < bytes && !w->done; at += MESSAGE_MOST) {
        int n = bytes - at < MESSAGE_MOST ? (int)(bytes - at) : MESSAGE_MOST;
        MPI_Request *request = new_request(w, peer);
        int rc = MPI_ERR_NO_MEM;
        if (request)
            rc = out ? MPI_Isend((char *)data + at, n, MPI_BYTE, rank, tag, comm, request)
                     : MPI_Irecv((char *)data + at, n, MPI_BYTE, rank, tag, comm, request);
        if (rc != MPI_SUCCESS)
            fail_mpi(w);
    }
}

void fbi_mail_send(fb_work *w, int to, int lane, const void *data, size_t bytes)
{
    transfer(w, to, lane, (void *)(uintptr_t)data, bytes, true);
}

void fbi_mail_receive(fb_work *w, int from, int lane, void *data, size_t bytes)
{
    transfer(w, from, lane, data, bytes, false);
}

bool fbi_mail_reserve(fb_work *w, size_t bytes)
{
    struct fbi_mail *m = w->mail;
    if (m->room_cap >= bytes)
        return true;
    free(m->room);
    m->room = malloc(bytes);
    m->room_cap = m->room ? bytes : 0;
    if (!m->room) {
        w->failed = w->done = true;
        fbi_fail(w->group->world->ctx, FB_E_NOMEM, "%s: no memory for %zu bytes of messages",
                 fbi_kind_name(w->sig.kind), bytes);
        fbi_world_tell(w->group->world, &w->sig);
    }
    return m->room != NULL;
}

static const fbi_signature *signature_of(fb_work *w, int rank)
{
    return rank == w->group->rank ? &w->sig : &w->mail->theirs[rank].sig;
}

static bool prepare(fb_work *w)
{
    int size = w->group->size;
    if (!w->mail)
        w->mail = calloc(1, sizeof *w->mail);
    struct fbi_mail *m = w->mail;
    if (m && m->theirs_cap < size) {
        free(m->theirs);
        m->theirs = calloc((size_t)size, sizeof *m->theirs);
        m->theirs_cap = m->theirs ? size : 0;
    }
    if (m && m->theirs) {
        m->n = m->open = 0;
        return true;
    }
    fbi_fail(w->group->world->ctx, FB_E_NOMEM, "%s: no memory for messages",
             fbi_kind_name(w->sig.kind));
    fbi_world_tell(w->group->world, &w->sig);
    w->failed = w->done = true;
    return false;
}

/* What this rank brings, behind its signature. */
static void fill_envelope(fb_work *w)
{
    struct fbi_mail *m = w->mail;
    int64_t bytes = fbi_mail_payload(w);
    m->mine.sig = w->sig;
    m->eager = bytes >= 0;
    if (!m->eager)
        return;
    size_t each = bytes ? (size_t)w->task.count * w->size : 0;
    for (int i = 0; i < w->task.n_src && each; i++)
        if (w->task.src[i])
            memcpy(m->mine.payload + (size_t)i * each, w->task.src[i], each);
}

void fbi_mail_begin(fb_work *w)
{
    w->mail_used = true;
    if (!prepare(w))
        return;
    fb_group *g = w->group;
    struct fbi_mail *m = w->mail;
    fill_envelope(w);
    bool brings = w->task.kind != FBI_KIND_BROADCAST || w->task.root == g->rank;
    size_t bytes = sizeof(fbi_signature);
    if (m->eager && brings)
        bytes += (size_t)fbi_mail_payload(w);
    if (w->task.kind == FBI_KIND_SEND) {
        fbi_mail_send(w, w->task.root, 2, &m->mine, bytes);
        if (!m->eager)
            fbi_mail_send(w, w->task.root, 3, w->task.src[0], (size_t)w->task.count * w->size);
    } else if (w->task.kind == FBI_KIND_RECV) {
        fbi_mail_receive(w, w->task.root, 2, &m->theirs[w->task.root], sizeof(fbi_envelope));
    } else {
        for (int r = 0; r < g->size; r++)
            if (r != g->rank)
                fbi_mail_receive(w, r, 0, &m->theirs[r], sizeof(fbi_envelope));
        for (int k = 1; k < g->size; k++)
            fbi_mail_send(w, (g->rank + k) % g->size, 0, &m->mine, bytes);
    }
    fbi_mail_advance(w);
}

/* Whether all transfers are complete. */
static bool transferred(fb_work *w)
{
    struct fbi_mail *m = w->mail;
    for (; m->open < m->n; m->open++) {
        int done = 0;
        if (MPI_Test(&m->requests[m->open], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
            fail_mpi(w);
            return false;
        }
        if (!done)
            return false;
    }
    m->n = m->open = 0;
    return true;
}

static bool agrees(fb_work *w)
{
    if (fbi_is_pair((int)w->task.kind)) {
        const fbi_signature *s = &w->mail->theirs[w->task.root].sig;
        if (w->task.kind == FBI_KIND_SEND || (s->count == w->sig.count && s->dtype == w->sig.dtype))
            return true;
        char call[160], sent[256], wanted[256];
        fb_world *world = w->group->world;
        const fbi_suspect self = fbi_world_suspect(world, world->rank);
        fbi_finding v;
        fbi_verdict_say(&v, FBI_VERDICT_DIVERGING, &self, "rank %d: %s wants %s, rank %d sent %s",
                        world->rank, fbi_call_text(&w->sig, call, sizeof call),
                        fbi_brought_text(&w->sig, wanted, sizeof wanted),
                        w->group->ranks[w->task.root], fbi_brought_text(s, sent, sizeof sent));
        fbi_world_judge(world, &v);
        return false;
    }
    if (fbi_signatures_compare(w, signature_of))
        return false;
    return !fbi_is_reduction((int)w->task.kind) || fbi_work_program(w, signature_of);
}

void fbi_mail_advance(fb_work *w)
{
    while (!w->done && transferred(w)) {
        if (!w->checked && !agrees(w)) {
            w->failed = w->done = true;
            return;
        }
        w->checked = true;
        if (fbi_mail_stage(w))
            w->done = true;
        else if (w->mail->n == 0)
            return; /* waits for something else than a transfer */
    }
}

int fbi_mail_missing(const fb_work *w, int from)
{
    const struct fbi_mail *m = w->mail;
    int best = -1;
    for (int i = m->open; i < m->n; i++)
        if (m->requests[i] != MPI_REQUEST_NULL && m->peers[i] >= from &&
            (best < 0 || m->peers[i] < best))
            best = m->peers[i];
    return best;
}

void fbi_mail_abandon(fb_work *w)
{
    struct fbi_mail *m = w->mail;
    if (!m)
        return;
    for (int i = m->open; i < m->n; i++)
        if (m->requests[i] != MPI_REQUEST_NULL) {
            MPI_Cancel(&m->requests[i]);
            MPI_Request_free(&m->requests[i]);
        }
}

void fbi_mail_free(struct fbi_mail *m)
{
    if (!m)
        return;
    free(m->requests);
    free(m->peers);
    free(m->theirs);
    free(m->room);
    free(m);
}
