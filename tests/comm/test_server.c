/* timeout: 120
 * Strangers on the control port: wrong tokens, garbage, slow bytes, 10,000 connections. The rank
 * that is connected, and one that comes in the middle of it, notice nothing. */
#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/server_priv.h"

enum { RANKS = 3 };
static const unsigned char token[FBI_TOKEN_BYTES] = "0123456789abcde";
static fbi_board board;
static fbi_server *server;
static uint16_t port;
static int wake;

static int open_all(void **state)
{
    (void)state;
    const fbi_patience patience = {3, 5, 10};
    wake = eventfd(0, EFD_NONBLOCK);
    if (!fbi_board_open(&board, RANKS, patience))
        return 1;
    server = fbi_server_open(token, &board, &port);
    return server == NULL;
}

static int close_all(void **state)
{
    (void)state;
    fbi_server_close(server);
    fbi_board_close(&board);
    close(wake);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static bool handle(fbi_finding *v)
{
    bool verdict = false;
    for (int i = 0; i < 4; i++)
        verdict = fbi_server_step(server, wake, 2, v) || verdict;
    return verdict;
}

static void say_hello(fbi_wire *w, int rank, const unsigned char *with)
{
    fbi_frame f;
    memset(&f, 0, sizeof f);
    memcpy(f.hello.token, with, FBI_TOKEN_BYTES);
    f.hello.who = (fbi_identity){rank, 4711, 1, 0, "node07"};
    fbi_wire_open(w, dial());
    assert_true(fbi_wire_send(w, &f, FBI_FRAME_HELLO));
}

/* 1: welcome; -1: thrown out. */
static int answer(fbi_wire *w)
{
    fbi_finding v;
    fbi_frame f;
    int got = 0;
    for (int i = 0; i < 50 && got == 0; i++) {
        handle(&v);
        got = fbi_wire_read(w, &f);
    }
    return got > 0 && f.head.kind != FBI_FRAME_WELCOME ? 2 : got;
}

static bool beat(fbi_wire *w, int rank, uint32_t calls)
{
    fbi_frame f;
    fbi_finding v;
    memset(&f, 0, sizeof f);
    f.beat.ledger.calls = calls;
    f.beat.mate = -1;
    if (!fbi_wire_send(w, &f, FBI_FRAME_BEAT))
        return false;
    for (int i = 0; i < 50 && board.rank[rank].ledger.calls != calls; i++)
        handle(&v);
    return board.rank[rank].ledger.calls == calls;
}

/* Whether the other side has hung up on a stranger. */
static bool is_hung_up(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void strangers_change_nothing(void **state)
{
    (void)state;
    fbi_wire one, bad, two;
    fbi_finding v;
    unsigned char wrong[FBI_TOKEN_BYTES];
    memcpy(wrong, token, sizeof wrong);
    wrong[FBI_TOKEN_BYTES - 1] ^= 1;

    say_hello(&one, 1, token);
    assert_int_equal(answer(&one), 1);
    one.rank = 0;
    assert_true(beat(&one, 1, 1));
    assert_string_equal(board.rank[1].who.host, "node07");

    say_hello(&bad, 2, wrong);
    assert_int_equal(answer(&bad), -1);
    fbi_wire_close(&bad);
    say_hello(&bad, 1, token); /* there is a rank 1 */
    assert_int_equal(answer(&bad), -1);
    fbi_wire_close(&bad);
    say_hello(&bad, RANKS, token);
    assert_int_equal(answer(&bad), -1);
    fbi_wire_close(&bad);
    say_hello(&bad, -1, token);
    assert_int_equal(answer(&bad), -1);
    fbi_wire_close(&bad);
    assert_true(beat(&one, 1, 2));

    /* Garbage, of every length up to two frames; a verdict without an introduction. */
    for (size_t n = 1; n < 2 * sizeof(fbi_frame); n = n * 3 / 2 + 1) {
        char noise[2 * sizeof(fbi_frame)];
        for (size_t i = 0; i < n; i++)
            noise[i] = (char)(i * 37 + n);
        int fd = dial();
        assert_int_equal(send(fd, noise, n, MSG_NOSIGNAL), n);
        for (int i = 0; i < 5; i++)
            assert_false(handle(&v));
        assert_true(n < 8 || is_hung_up(fd));
        close(fd);
    }
    fbi_frame verdict;
    memset(&verdict, 0, sizeof verdict);
    fbi_wire_open(&bad, dial());
    bad.rank = 0;
    fbi_wire_send(&bad, &verdict, FBI_FRAME_VERDICT);
    assert_int_equal(answer(&bad), -1);
    fbi_wire_close(&bad);
    assert_true(beat(&one, 1, 3));

    /* A byte now and then: two seconds in all, and no more. */
    int slow = dial();
    assert_false(handle(&v));
    for (int i = 0; i < 9; i++) {
        assert_int_equal(send(slow, "C", 1, MSG_NOSIGNAL), 1);
        handle(&v);
        fbi_server_tick(server, 0.25);
        assert_true(i > 0 || !is_hung_up(slow));
    }
    assert_true(is_hung_up(slow));
    close(slow);

    /* 10,000 connections, of which hundreds stay open. */
    enum { OPEN = 300 };
    int fds[OPEN];
    for (int i = 0; i < OPEN; i++)
        fds[i] = -1;
    for (int i = 0; i < 10000; i++) {
        if (fds[i % OPEN] >= 0)
            close(fds[i % OPEN]);
        fds[i % OPEN] = dial();
        if (i % 32 == 0)
            assert_false(handle(&v));
        if (i == 5000) {
            say_hello(&two, 2, token);
            assert_int_equal(answer(&two), 1);
            two.rank = 0;
        }
        if (i % 500 == 0)
            assert_true(beat(&one, 1, 100 + (uint32_t)i));
    }
    assert_true(beat(&two, 2, 5));
    for (int i = 0; i < OPEN; i++)
        close(fds[i]);
    for (int i = 0; i < 20; i++)
        handle(&v);
    assert_int_equal(fbi_server_ranks(server), 2);
    assert_false(board.rank[1].gone || board.rank[2].gone);

    /* Verdicts go both ways; the end without a good-bye is told from one with it. */
    memset(&verdict, 0, sizeof verdict);
    verdict.verdict.kind = FBI_VERDICT_STOPPED;
    memset(verdict.verdict.text, 'x', sizeof verdict.verdict.text); /* without an end */
    assert_true(fbi_wire_send(&one, &verdict, FBI_FRAME_VERDICT));
    bool found = false;
    for (int i = 0; i < 50 && !found; i++)
        found = fbi_server_step(server, wake, 2, &v);
    assert_true(found);
    assert_int_equal(v.kind, FBI_VERDICT_STOPPED);
    assert_int_equal(strlen(v.text), sizeof v.text - 1);
    fbi_server_tell(server, &v);
    fbi_frame heard;
    memset(&heard, 0, sizeof heard);
    for (int i = 0; i < 100 && heard.head.kind != FBI_FRAME_VERDICT; i++) {
        handle(&v);
        fbi_wire_read(&two, &heard);
    }
    assert_int_equal(heard.verdict.kind, FBI_VERDICT_STOPPED);
    assert_true(fbi_wire_send(&one, &heard, FBI_FRAME_BYE));
    fbi_wire_close(&one);
    fbi_wire_close(&two);
    for (int i = 0; i < 50 && !board.rank[2].gone; i++)
        handle(&v);
    assert_true(board.rank[1].closed);
    assert_false(board.rank[2].closed);
    assert_true(board.rank[2].gone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(strangers_change_nothing)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
