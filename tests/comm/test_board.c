/* The control plane's judgement, on a board that is filled by hand. */
#include "tests/check.h"

#include "comm/board_priv.h"

enum { RANKS = 4 };
static const fbi_patience patience = {.stopped = 3, .stuck = 5, .silent = 10};

typedef struct job {
    fbi_board board;
    fbi_ledger does[RANKS];
    bool beats[RANKS];
    char seen[RANKS]; /* state that is seen of its process; 0: nobody looks */
    fbi_ledger page[RANKS];
} job;

static job *begin(void)
{
    static job j;
    j = (job){.beats = {true, true, true, true}};
    assert_true(fbi_board_open(&j.board, RANKS, patience));
    for (int r = 0; r < RANKS; r++) {
        j.board.rank[r].who = (fbi_identity){r, 100 + r, r / 2, r % 2, ""};
        snprintf(j.board.rank[r].who.host, 64, "host%d", r / 2);
        j.does[r] = (fbi_ledger){.calls = 7, .waits_for = -1, .also = {-1, -1, -1}};
        j.does[r].sig = (fbi_signature){.kind = FBI_KIND_ALL_REDUCE, .seq = 6, .site = "a.c:1"};
    }
    return &j;
}

static void waits(job *j, int rank, int other, uint64_t seq)
{
    fbi_ledger *l = &j->does[rank];
    l->state = FBI_RANK_WAITING;
    l->waits_for = other;
    l->limit_ms = 60000;
    l->calls = 8;
    l->sig.seq = seq;
}

/* Seconds pass. Whether there was a verdict, and when. */
static double pass(job *j, double seconds, fbi_finding *v)
{
    for (double t = 0; t < seconds; t += 0.25) {
        for (int r = 0; r < RANKS; r++) {
            if (j->beats[r])
                fbi_board_beat(&j->board, r, &j->does[r]);
            if (j->seen[r])
                fbi_board_seen(&j->board, r, j->seen[r], &j->page[r]);
        }
        fbi_board_tick(&j->board, 0.25);
        if (fbi_board_judge(&j->board, v))
            return t + 0.25;
    }
    return -1;
}

static void end(job *j)
{
    fbi_board_close(&j->board);
}

static void a_healthy_job_has_no_verdict(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    for (int step = 0; step < 100; step++) {
        for (int r = 0; r < RANKS; r++)
            j->does[r].calls++;
        waits(j, step % 4, (step + 1) % 4, 7);
        assert_true(pass(j, 30, &v) < 0); /* 30 s of work, or of a checkpoint */
        j->does[step % 4].state = FBI_RANK_RUNNING;
    }
    end(j);
}

static void a_closed_connection_is_a_death(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    waits(j, 0, 2, 7);
    waits(j, 3, 0, 7);
    assert_true(pass(j, 1, &v) < 0);
    j->beats[2] = false;
    fbi_board_gone(&j->board, 2);
    double after = pass(j, 5, &v);
    assert_true(after > 0 && after <= 1);
    assert_int_equal(v.kind, FBI_VERDICT_DEAD);
    assert_int_equal(v.rank, 2);
    assert_int_equal(v.pid, 102);
    assert_string_equal(v.host, "host1");
    assert_int_equal(v.n_waiting, 2);
    assert_int_equal(v.waiting[0].rank, 0);
    assert_int_equal(v.waiting[1].rank, 3);
    assert_non_null(strstr(v.text, "rank 2 (host1, pid 102) is dead"));
    assert_non_null(strstr(v.text, "last called all_reduce #6 at a.c:1 when it was last heard of"));
    assert_non_null(strstr(v.text, "rank 0 waits for it in all_reduce #7 at a.c:1"));
    end(j);
}

static void a_good_bye_is_none(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    pass(j, 1, &v);
    j->beats[2] = false;
    fbi_board_closed(&j->board, 2);
    fbi_board_gone(&j->board, 2);
    assert_true(pass(j, 100, &v) < 0);
    end(j);
}

static void a_mate_sees_a_death(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        job *j = begin();
        fbi_finding v;
        pass(j, 1, &v);
        j->beats[3] = false;
        j->seen[3] = i ? 'Z' : 'X';
        j->page[3].sig =
            (fbi_signature){.kind = FBI_KIND_BARRIER, .seq = 9}; /* after its last beat */
        assert_true(pass(j, 2, &v) > 0);
        assert_int_equal(v.kind, FBI_VERDICT_DEAD);
        assert_int_equal(v.rank, 3);
        assert_non_null(strstr(v.text, "it last called barrier #9; nobody waits for it yet"));
        end(j);
    }
}

static void a_stop_of_two_seconds_is_nothing_of_four_a_verdict(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    for (int i = 0; i < 5; i++) {
        j->beats[3] = false;
        j->seen[3] = 'T';
        assert_true(pass(j, 2, &v) < 0);
        j->beats[3] = true;
        j->seen[3] = 'S';
        assert_true(pass(j, 2, &v) < 0);
    }
    j->beats[3] = false;
    j->seen[3] = 'T';
    double after = pass(j, 5, &v);
    assert_true(after > 3 && after < 4);
    assert_int_equal(v.kind, FBI_VERDICT_STOPPED);
    assert_int_equal(v.rank, 3);
    end(j);
}

/* Its mate may have been stopped, too, and what it saw is old. */
static void what_was_seen_long_ago_is_not_believed(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    j->seen[3] = 'T';
    assert_true(pass(j, 1, &v) < 0);
    j->seen[3] = 0;
    assert_true(pass(j, 30, &v) < 0);
    end(j);
}

static void a_silent_host_is_named_as_one(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    pass(j, 1, &v);
    j->beats[2] = j->beats[3] = false;
    double after = pass(j, 20, &v);
    assert_true(after > 9 && after < 11);
    assert_int_equal(v.kind, FBI_VERDICT_UNREACHABLE);
    assert_int_equal(v.rank, 2);
    assert_non_null(strstr(v.text, "nor any other of its host"));
    end(j);
    j = begin();
    pass(j, 1, &v);
    j->beats[2] = false;
    assert_true(pass(j, 20, &v) > 9);
    assert_null(strstr(v.text, "nor any other of its host"));
    end(j);
}

/* Who has never come is no concern: it may not reach us at all. */
static void only_who_has_been_heard_can_be_silent(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    j->beats[2] = j->beats[3] = false;
    assert_true(pass(j, 100, &v) < 0);
    end(j);
}

static void who_has_joined_and_says_no_more_is_silent(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    const fbi_identity who = {3, 4711, 1, 1, "node07"};
    j->beats[2] = j->beats[3] = false;
    fbi_board_join(&j->board, &who);
    assert_true(pass(j, 20, &v) > 9);
    assert_int_equal(v.kind, FBI_VERDICT_UNREACHABLE);
    assert_int_equal(v.rank, 3);
    assert_non_null(strstr(v.text, "rank 3 (node07, pid 4711)"));
    end(j);
}

static void our_own_sleep_does_not_count(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    pass(j, 1, &v);
    fbi_board_tick(&j->board, 1000);
    assert_false(fbi_board_judge(&j->board, &v));
    end(j);
}

static void a_rank_that_does_not_come_is_stuck(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    waits(j, 0, 1, 7);
    waits(j, 1, 3, 7); /* all for 3, in the end */
    waits(j, 2, 3, 7);
    double after = pass(j, 100, &v);
    assert_true(after > 60 && after < 61);
    assert_int_equal(v.kind, FBI_VERDICT_STUCK);
    assert_int_equal(v.rank, 3);
    assert_int_equal(v.n_waiting, 3);
    assert_non_null(strstr(v.text, "rank 3 (host1, pid 103) is stuck"));
    end(j);
}

/* Those that come to the same sum wait for each other, too; the one that does not is second. */
static void one_of_several_that_are_missing_is_stuck(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    waits(j, 0, 1, 7);
    waits(j, 1, 0, 7);
    waits(j, 2, 0, 7);
    j->does[2].also[0] = 1;
    j->does[2].also[2] = 3;
    assert_true(pass(j, 100, &v) > 60);
    assert_int_equal(v.kind, FBI_VERDICT_STUCK);
    assert_int_equal(v.rank, 3);
    assert_non_null(strstr(v.text, "rank 2 waits for it in all_reduce #7"));
    end(j);
}

static void a_group_may_have_no_limit(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    waits(j, 0, 3, 7);
    j->does[0].limit_ms = 0;
    assert_true(pass(j, 1000, &v) < 0);
    end(j);
}

static void a_circle_is_one_and_a_long_transfer_none(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    waits(j, 0, 2, 7);
    waits(j, 2, 0, 7); /* both in the same sum */
    assert_true(pass(j, 1000, &v) < 0);
    j->does[2].sig.group = 3;
    double after = pass(j, 20, &v);
    assert_true(after >= 0 && after <= 6);
    assert_int_equal(v.kind, FBI_VERDICT_STUCK);
    assert_non_null(strstr(v.text, "rank 0 waits for rank 2 in all_reduce #7 at a.c:1, rank 2 "
                                   "waits for rank 0 in all_reduce #7 of group 3"));
    end(j);
}

/* The first of several is in the same call: it is the second that closes the circle. */
static void a_circle_is_told_along_its_own_way(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    waits(j, 0, 1, 7);
    j->does[0].also[0] = 2;
    waits(j, 1, 0, 7);
    waits(j, 2, 0, 9);
    j->does[2].sig.group = 3;
    double after = pass(j, 20, &v);
    assert_true(after >= 0 && after <= 6);
    assert_int_equal(v.kind, FBI_VERDICT_STUCK);
    assert_non_null(strstr(v.text, "rank 0 waits for rank 2 in all_reduce #7 at a.c:1, rank 2 "
                                   "waits for rank 0 in all_reduce #9 of group 3"));
    end(j);
}

/* Rank 0 sends much to ranks 1 and 2. Rank 2 has it all and goes on; rank 0 will hear of that when
 * rank 1 has it, too. */
static void who_has_done_its_part_is_not_waited_for(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    waits(j, 0, 1, 7);
    j->does[0].also[0] = 2;
    waits(j, 1, 0, 7);
    waits(j, 2, 0, 8);
    assert_true(pass(j, 50, &v) < 0);
    j->does[2].sig.group = 3; /* the same, in another group */
    j->does[2].sig.seq = 1;
    j->does[2].calls++;
    j->does[2].past[1] = (fbi_past){FBI_KIND_ALL_REDUCE, 0, 7};
    assert_true(pass(j, 50, &v) < 0);
    /* Who loses data for ever is as stuck as who loops. */
    double after = pass(j, 20, &v);
    assert_true(after > 5 && after < 15);
    assert_int_equal(v.kind, FBI_VERDICT_STUCK);
    assert_non_null(strstr(v.text, "rank 0 waits for rank 2 in all_reduce #7"));
    end(j);
}

static void a_send_is_passed_by_who_has_received_only(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    waits(j, 0, 2, 4);
    j->does[0].sig.kind = FBI_KIND_SEND;
    waits(j, 2, 0, 9);
    j->does[2].past[3] = (fbi_past){FBI_KIND_RECV, 0, 4};
    assert_true(pass(j, 50, &v) < 0);
    j->does[2].past[3].kind = FBI_KIND_SEND;
    double after = pass(j, 1, &v);
    assert_true(after >= 0);
    assert_int_equal(v.kind, FBI_VERDICT_STUCK);
    end(j);
}

static void waits_that_change_are_no_circle(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    waits(j, 0, 2, 7);
    waits(j, 2, 0, 9);
    j->does[2].sig.group = 3;
    for (int i = 0; i < 50; i++) {
        j->does[2].calls++;
        assert_true(pass(j, 3, &v) < 0);
    }
    end(j);
}

/* Numbers from the network lead nowhere. */
static void waiting_for_nobody_is_nothing(void **state)
{
    (void)state;
    job *j = begin();
    fbi_finding v;
    waits(j, 0, 4711, 7);
    waits(j, 1, -7, 7);
    waits(j, 2, 2, 7);
    assert_true(pass(j, 100, &v) < 0);
    end(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_job_has_no_verdict),
        cmocka_unit_test(a_closed_connection_is_a_death),
        cmocka_unit_test(a_good_bye_is_none),
        cmocka_unit_test(a_mate_sees_a_death),
        cmocka_unit_test(a_stop_of_two_seconds_is_nothing_of_four_a_verdict),
        cmocka_unit_test(what_was_seen_long_ago_is_not_believed),
        cmocka_unit_test(a_silent_host_is_named_as_one),
        cmocka_unit_test(only_who_has_been_heard_can_be_silent),
        cmocka_unit_test(who_has_joined_and_says_no_more_is_silent),
        cmocka_unit_test(our_own_sleep_does_not_count),
        cmocka_unit_test(a_rank_that_does_not_come_is_stuck),
        cmocka_unit_test(one_of_several_that_are_missing_is_stuck),
        cmocka_unit_test(a_group_may_have_no_limit),
        cmocka_unit_test(a_circle_is_one_and_a_long_transfer_none),
        cmocka_unit_test(a_circle_is_told_along_its_own_way),
        cmocka_unit_test(who_has_done_its_part_is_not_waited_for),
        cmocka_unit_test(a_send_is_passed_by_who_has_received_only),
        cmocka_unit_test(waits_that_change_are_no_circle),
        cmocka_unit_test(waiting_for_nobody_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
