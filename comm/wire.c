#include "comm/wire_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* "FBC" and a number that changes with what a beat is. */
static const uint32_t magic = 0x46424300u ^ (uint32_t)sizeof(fbi_frame);

size_t fbi_frame_size(uint32_t kind)
{
    static const size_t body[FBI_FRAME_COUNT] = {
        [FBI_FRAME_HELLO] = sizeof(fbi_hello),
        [FBI_FRAME_BEAT] = sizeof(fbi_beat),
        [FBI_FRAME_VERDICT] = sizeof(fbi_finding),
    };
    if (kind == 0 || kind >= FBI_FRAME_COUNT)
        return 0;
    return body[kind] ? offsetof(fbi_frame, hello) + body[kind] : sizeof(fbi_head);
}

void fbi_wire_open(fbi_wire *wire, int fd)
{
    wire->fd = fd;
    wire->rank = -1;
    wire->age_s = 0;
    wire->have = wire->n_out = 0;
}

void fbi_wire_close(fbi_wire *wire)
{
    if (wire->fd >= 0)
        close(wire->fd);
    wire->fd = -1;
}

/* Bytes up to `want` in all. 1: they are there. */
static int fill(fbi_wire *w, size_t want)
{
    while (w->have < want) {
        ssize_t n = recv(w->fd, w->in + w->have, want - w->have, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n <= 0)
            return -1;
        w->have += (size_t)n;
    }
    return 1;
}

/* Texts end, whatever came. */
static void settle_signature(fbi_signature *sig)
{
    sig->site[sizeof sig->site - 1] = '\0';
    sig->tag[sizeof sig->tag - 1] = '\0';
    if (sig->ndim < 0 || sig->ndim > FB_MAX_DIMS)
        sig->ndim = 0;
}

static void settle_verdict(fbi_finding *v)
{
    v->text[sizeof v->text - 1] = v->host[sizeof v->host - 1] = '\0';
    settle_signature(&v->call);
    v->n_waiting = v->n_waiting < 0 || v->n_waiting > FBI_WAITING ? 0 : v->n_waiting;
    for (int i = 0; i < FBI_WAITING; i++)
        v->waiting[i].call[sizeof v->waiting[i].call - 1] = '\0';
}

static void settle_beat(fbi_beat *beat)
{
    settle_signature(&beat->ledger.sig);
    settle_signature(&beat->mate_ledger.sig);
}

static void settle(fbi_frame *frame)
{
    if (frame->head.kind == FBI_FRAME_HELLO)
        frame->hello.who.host[sizeof frame->hello.who.host - 1] = '\0';
    if (frame->head.kind == FBI_FRAME_BEAT)
        settle_beat(&frame->beat);
    if (frame->head.kind == FBI_FRAME_VERDICT)
        settle_verdict(&frame->verdict);
}

int fbi_wire_read(fbi_wire *w, fbi_frame *out)
{
    fbi_head head;
    int got = fill(w, sizeof head);
    if (got <= 0)
        return got;
    memcpy(&head, w->in, sizeof head);
    size_t size = head.magic == magic ? fbi_frame_size(head.kind) : 0;
    /* Nobody who has not shown the token gets room for more than that. */
    if (!size || (w->rank < 0 && head.kind != FBI_FRAME_HELLO && head.kind != FBI_FRAME_WELCOME))
        return -1;
    got = fill(w, size);
    if (got <= 0)
        return got;
    memcpy(out, w->in, size);
    settle(out);
    w->have = 0;
    return 1;
}

bool fbi_wire_flush(fbi_wire *w)
{
    while (w->n_out) {
        ssize_t n = send(w->fd, w->out, w->n_out, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (n <= 0)
            return false;
        w->n_out -= (size_t)n;
        memmove(w->out, w->out + n, w->n_out);
    }
    return true;
}

bool fbi_wire_send(fbi_wire *w, fbi_frame *frame, fbi_frame_kind kind)
{
    size_t size = fbi_frame_size(kind);
    frame->head = (fbi_head){magic, kind};
    if (!fbi_wire_flush(w))
        return false;
    /* Beats wait for nobody: there is room for a verdict behind one. */
    bool urgent = kind == FBI_FRAME_VERDICT || kind == FBI_FRAME_BYE;
    if (w->n_out + size > sizeof w->out || (w->n_out && !urgent))
        return true;
    memcpy(w->out + w->n_out, frame, size);
    w->n_out += size;
    return fbi_wire_flush(w);
}
