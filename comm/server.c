/* Anybody may connect; only who shows the token within two seconds stays. Strangers have a fixed
 * number of places, and the oldest of them makes room. */
#include "comm/server_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STRANGERS = 64, BACKLOG = 1024, ACCEPTS = 64 };
static const double introduction_s = 2;

struct fbi_server {
    int fd;
    bool full; /* no descriptors left: do not listen until the next tick */
    unsigned char token[FBI_TOKEN_BYTES];
    fbi_board *board;
    fbi_wire strangers[STRANGERS];
    fbi_wire *ranks;     /* [board->size] */
    struct pollfd *poll; /* [2 + STRANGERS + board->size] */
};

static bool make_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

/* IPv6 with IPv4 in it, where there is that; else IPv4. */
static int listen_anywhere(uint16_t *port)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_ANY)}};
    struct sockaddr *name = (struct sockaddr *)&six;
    socklen_t size = sizeof six;
    int off = 0, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) || bind(fd, name, size))) {
        close(fd);
        fd = -1;
    }
    if (fd < 0) {
        name = (struct sockaddr *)&four;
        size = sizeof four;
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, name, size))
            goto fail;
    }
    if (listen(fd, BACKLOG) || !make_nonblocking(fd) || getsockname(fd, name, &size))
        goto fail;
    *port = ntohs(name->sa_family == AF_INET6 ? six.sin6_port : four.sin_port);
    return fd;

fail:
    if (fd >= 0)
        close(fd);
    return -1;
}

fbi_server *fbi_server_open(const unsigned char token[FBI_TOKEN_BYTES], fbi_board *board,
                            uint16_t *port)
{
    fbi_server *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->board = board;
    memcpy(s->token, token, FBI_TOKEN_BYTES);
    s->ranks = calloc((size_t)board->size, sizeof *s->ranks);
    s->poll = calloc((size_t)board->size + STRANGERS + 2, sizeof *s->poll);
    for (int i = 0; i < STRANGERS; i++)
        s->strangers[i].fd = -1;
    for (int r = 0; r < board->size && s->ranks; r++)
        s->ranks[r].fd = -1;
    s->fd = s->ranks && s->poll ? listen_anywhere(port) : -1;
    if (s->fd >= 0)
        return s;
    free(s->ranks);
    free(s->poll);
    free(s);
    return NULL;
}

/* A place for a newcomer. */
static fbi_wire *stranger_place(fbi_server *s)
{
    fbi_wire *oldest = &s->strangers[0];
    for (int i = 0; i < STRANGERS; i++) {
        if (s->strangers[i].fd < 0)
            return &s->strangers[i];
        if (s->strangers[i].age_s > oldest->age_s)
            oldest = &s->strangers[i];
    }
    fbi_wire_close(oldest);
    return oldest;
}

static void accept_some(fbi_server *s)
{
    int on = 1;
    for (int i = 0; i < ACCEPTS; i++) {
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0) {
            s->full = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
            return;
        }
        if (!make_nonblocking(fd) || fcntl(fd, F_SETFD, FD_CLOEXEC)) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        fbi_wire_open(stranger_place(s), fd);
    }
}

/* In a time that does not depend on where they differ. */
static bool is_token(const fbi_server *s, const unsigned char *theirs)
{
    unsigned char difference = 0;
    for (int i = 0; i < FBI_TOKEN_BYTES; i++)
        difference |= (unsigned char)(s->token[i] ^ theirs[i]);
    return difference == 0;
}

static bool may_join(const fbi_server *s, const fbi_hello *hello)
{
    int r = hello->who.rank;
    return is_token(s, hello->token) && r >= 0 && r < s->board->size && s->ranks[r].fd < 0 &&
           !s->board->rank[r].gone;
}

static void read_stranger(fbi_server *s, fbi_wire *w)
{
    fbi_frame frame;
    int got = fbi_wire_read(w, &frame);
    if (got == 0)
        return;
    if (got < 0 || frame.head.kind != FBI_FRAME_HELLO || !may_join(s, &frame.hello)) {
        fbi_wire_close(w);
        return;
    }
    int r = frame.hello.who.rank;
    fbi_wire *mine = &s->ranks[r];
    *mine = *w;
    w->fd = -1;
    mine->rank = r;
    fbi_board_join(s->board, &frame.hello.who);
    memset(&frame, 0, sizeof frame);
    fbi_wire_send(mine, &frame, FBI_FRAME_WELCOME);
}

/* @return whether it was a verdict */
static bool take_frame(fbi_server *s, int rank, fbi_frame *frame, fbi_finding *v)
{
    switch (frame->head.kind) {
    case FBI_FRAME_BEAT:
        fbi_board_beat(s->board, rank, &frame->beat.ledger);
        if (frame->beat.mate >= 0 && frame->beat.mate < s->board->size)
            fbi_board_seen(s->board, frame->beat.mate, (char)frame->beat.mate_state,
                           frame->beat.mate_known ? &frame->beat.mate_ledger : NULL);
        return false;
    case FBI_FRAME_VERDICT:
        *v = frame->verdict;
        return true;
    case FBI_FRAME_BYE:
        fbi_board_closed(s->board, rank);
        return false;
    default:
        return false;
    }
}

static bool read_rank(fbi_server *s, int rank, fbi_finding *v)
{
    fbi_frame frame;
    bool verdict = false;
    for (int i = 0; i < 4 && !verdict; i++) {
        int got = fbi_wire_read(&s->ranks[rank], &frame);
        if (got == 0)
            break;
        if (got < 0) {
            fbi_wire_close(&s->ranks[rank]);
            fbi_board_gone(s->board, rank);
            break;
        }
        verdict = take_frame(s, rank, &frame, v);
    }
    return verdict;
}

static int watch(struct pollfd *list, int n, int fd, short events)
{
    list[n] = (struct pollfd){.fd = fd, .events = events};
    return n + 1;
}

bool fbi_server_step(fbi_server *s, int wake, int ms, fbi_finding *v)
{
    int n = 0, size = s->board->size;
    bool verdict = false;
    n = watch(s->poll, n, wake, POLLIN);
    n = watch(s->poll, n, s->full ? -1 : s->fd, POLLIN);
    for (int i = 0; i < STRANGERS; i++)
        n = watch(s->poll, n, s->strangers[i].fd, POLLIN);
    for (int r = 0; r < size; r++)
        n = watch(s->poll, n, s->ranks[r].fd,
                  (short)(POLLIN | (s->ranks[r].fd >= 0 && s->ranks[r].n_out ? POLLOUT : 0)));
    if (poll(s->poll, (nfds_t)n, ms) <= 0)
        return false;
    for (int r = 0; r < size; r++) {
        short events = s->poll[2 + STRANGERS + r].revents;
        if (events & POLLOUT)
            fbi_wire_flush(&s->ranks[r]);
        if (events & (POLLIN | POLLHUP | POLLERR))
            verdict = read_rank(s, r, v) || verdict;
    }
    for (int i = 0; i < STRANGERS; i++)
        if (s->poll[2 + i].revents)
            read_stranger(s, &s->strangers[i]);
    if (s->poll[1].revents)
        accept_some(s);
    return verdict;
}

void fbi_server_tick(fbi_server *s, double seconds)
{
    fbi_frame pulse;
    memset(&pulse, 0, sizeof pulse);
    s->full = false;
    for (int i = 0; i < STRANGERS; i++) {
        fbi_wire *w = &s->strangers[i];
        w->age_s += seconds;
        if (w->fd >= 0 && w->age_s > introduction_s)
            fbi_wire_close(w);
    }
    for (int r = 0; r < s->board->size; r++)
        if (s->ranks[r].fd >= 0)
            fbi_wire_send(&s->ranks[r], &pulse, FBI_FRAME_PULSE);
}

void fbi_server_tell(fbi_server *s, const fbi_finding *v)
{
    fbi_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.verdict = *v;
    for (int r = 0; r < s->board->size; r++)
        if (s->ranks[r].fd >= 0)
            fbi_wire_send(&s->ranks[r], &frame, FBI_FRAME_VERDICT);
}

int fbi_server_ranks(const fbi_server *s)
{
    int n = 0;
    for (int r = 0; r < s->board->size; r++)
        n += s->ranks[r].fd >= 0;
    return n;
}

void fbi_server_close(fbi_server *s)
{
    fbi_frame bye;
    if (!s)
        return;
    memset(&bye, 0, sizeof bye);
    for (int r = 0; r < s->board->size; r++) {
        if (s->ranks[r].fd >= 0)
            fbi_wire_send(&s->ranks[r], &bye, FBI_FRAME_BYE);
        fbi_wire_close(&s->ranks[r]);
    }
    for (int i = 0; i < STRANGERS; i++)
        fbi_wire_close(&s->strangers[i]);
    close(s->fd);
    free(s->ranks);
    free(s->poll);
    free(s);
}
