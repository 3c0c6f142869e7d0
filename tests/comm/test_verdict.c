/* Verdicts as files: whole, escaped, and the first one stays. */
#include "tests/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "comm/group_priv.h"

static char folder[] = "/tmp/verdict.XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    fbi_verdict_forget(folder);
    return rmdir(folder);
}

static const char *content(char *buf, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "%s/verdict.json", folder);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(buf, 1, size - 1, f) : 0;
    buf[n] = '\0';
    if (f)
        fclose(f);
    return buf;
}

static const fbi_signature last = {
    .kind = FBI_KIND_ALL_REDUCE, .seq = 16, .group = 3, .count = 1, .site = "a \"b\"\\c\n:88"};
static const fbi_signature next = {.kind = FBI_KIND_BARRIER, .seq = 17, .site = "train.c:90"};

static void a_file_says_who_did_what_and_who_waits(void **state)
{
    (void)state;
    const fbi_suspect s = {.rank = 2, .pid = 4711, .host = "node07", .last = &last};
    const fbi_waiter w = {0, &next};
    fbi_finding v;
    char text[4096];
    fbi_verdict_stuck(&v, &s, &w, 60);
    fbi_verdict_waits(&v, 0, &next); /* it has been noted */
    fbi_verdict_waits(&v, 1, &next);
    assert_true(fbi_verdict_write(&v, folder));
    content(text, sizeof text);
    assert_non_null(strstr(text, "{\"verdict\": \"stuck\",\n \"rank\": 2,\n \"pid\": 4711,\n "
                                 "\"host\": \"node07\",\n \"call\": \"all_reduce\",\n "
                                 "\"site\": \"a \\\"b\\\"\\\\c\\u000a:88\",\n \"sequence\": 16,\n "
                                 "\"group\": 3,\n \"waiting\": [{\"rank\": 0, \"call\": \"barrier "
                                 "#17 at train.c:90\"}, {\"rank\": 1, "));
    assert_non_null(strstr(text, "rank 2 (node07, pid 4711) is stuck"));
    assert_non_null(strstr(text, "nothing for 60 s"));
}

static void the_first_one_stays(void **state)
{
    (void)state;
    const fbi_suspect s = {.rank = 1, .pid = 12, .host = "node08"};
    const fbi_waiter nobody = {0, NULL};
    fbi_finding v;
    char before[4096], after[4096];
    content(before, sizeof before);
    fbi_verdict_dead(&v, &s, &nobody);
    assert_non_null(strstr(v.text, "nobody waits for it"));
    assert_true(fbi_verdict_write(&v, folder));
    assert_string_equal(content(after, sizeof after), before);
    fbi_verdict_forget(folder);
    assert_string_equal(content(after, sizeof after), "");
    assert_true(fbi_verdict_write(&v, folder));
    assert_non_null(strstr(content(after, sizeof after), "\"verdict\": \"dead\""));
}

static void a_job_that_has_been_replaced_writes_none(void **state)
{
    (void)state;
    const fbi_finding v = {.kind = FBI_VERDICT_DEAD};
    char path[64], text[4096];
    snprintf(path, sizeof path, "%s/lease.json", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"generation\": 2, \"id\": \"00112233445566ff\", "
          "\"first\": \"0011223344556677\"}",
          f);
    fclose(f);
    fbi_verdict_forget(folder);
    setenv("FLAMBEAU_RUN_LEASE", "1 0011223344556677", 1);
    assert_false(fbi_verdict_write(&v, folder));
    assert_string_equal(content(text, sizeof text), "");
    setenv("FLAMBEAU_RUN_LEASE", "2 00112233445566ff", 1);
    assert_true(fbi_verdict_write(&v, folder));
    unlink(path);
    fbi_verdict_forget(folder);
    setenv("FLAMBEAU_RUN_LEASE", "1 0011223344556677", 1);
    assert_true(fbi_verdict_write(&v, folder)); /* nobody has said anything */
    unsetenv("FLAMBEAU_RUN_LEASE");
}

static void without_a_folder_there_is_no_file(void **state)
{
    (void)state;
    const fbi_finding v = {.kind = FBI_VERDICT_DEAD};
    assert_false(fbi_verdict_write(&v, ""));
    assert_false(fbi_verdict_write(&v, "/proc/no/such/folder"));
}

static void there_is_room_for_some_that_wait(void **state)
{
    (void)state;
    fbi_finding v = {.kind = FBI_VERDICT_DEAD};
    for (int r = 0; r < 100; r++)
        fbi_verdict_waits(&v, r, &next);
    assert_int_equal(v.n_waiting, FBI_WAITING);
    assert_int_equal(v.waiting[FBI_WAITING - 1].rank, FBI_WAITING - 1);
}

static void calls_are_one_exchange_or_not(void **state)
{
    (void)state;
    const fbi_signature send = {.kind = FBI_KIND_SEND, .seq = 4};
    const fbi_signature recv = {.kind = FBI_KIND_RECV, .seq = 4};
    const fbi_signature other = {.kind = FBI_KIND_RECV, .seq = 5};
    const fbi_signature sum = {.kind = FBI_KIND_ALL_REDUCE, .seq = 4};
    const fbi_signature elsewhere = {.kind = FBI_KIND_ALL_REDUCE, .seq = 4, .group = 3};
    assert_true(fbi_same_exchange(&send, &recv));
    assert_false(fbi_same_exchange(&recv, &recv)); /* both receive */
    assert_false(fbi_same_exchange(&send, &other));
    assert_false(fbi_same_exchange(&send, &sum));
    assert_true(fbi_same_exchange(&sum, &sum));
    assert_false(fbi_same_exchange(&sum, &elsewhere));
}

static void most_are_right(void **state)
{
    (void)state;
    bool same[5];
    assert_int_equal(fbi_odd_one((const uint64_t[]){7, 7, 7}, 3, same), -1);
    assert_int_equal(fbi_odd_one((const uint64_t[]){7, 9, 7, 7}, 4, same), 1);
    assert_true(same[0] && !same[1] && same[2] && same[3]);
    assert_int_equal(fbi_odd_one((const uint64_t[]){9, 7, 7}, 3, same), 0);
    assert_int_equal(fbi_odd_one((const uint64_t[]){9, 7}, 2, same), 1);
}

/* How long others may be waited for, by group and by what they are at. */
static void files_may_take_ten_times_as_long(void **state)
{
    (void)state;
    fb_group other = {.id = 3, .timeout_s = 5},
             patient = {.id = 6, .timeout_s = -1, .next = &other};
    fb_world world = {.timeout_s = 60, .groups = &patient};
    fbi_signature sig = {.kind = FBI_KIND_ALL_REDUCE};
    fbi_waitable what = {.sig = &sig};
    assert_true(fbi_world_limit(&world, &what) == 60);
    sig.group = 3;
    assert_true(fbi_world_limit(&world, &what) == 5);
    sig.group = 6;
    assert_true(fbi_world_limit(&world, &what) == 0);
    sig = (fbi_signature){.kind = FBI_KIND_BYTES, .tag = "commit"};
    assert_true(fbi_world_limit(&world, &what) == 60);
    sig = (fbi_signature){.kind = FBI_KIND_BYTES, .tag = "checkpoint"};
    assert_true(fbi_world_limit(&world, &what) == 600);
    what.closing = true; /* the last save of others */
    assert_true(fbi_world_limit(&world, &what) == 0);
    what.closing = false;
    world.timeout_s = 0;
    assert_true(fbi_world_limit(&world, &what) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_says_who_did_what_and_who_waits),
        cmocka_unit_test(the_first_one_stays),
        cmocka_unit_test(a_job_that_has_been_replaced_writes_none),
        cmocka_unit_test(without_a_folder_there_is_no_file),
        cmocka_unit_test(there_is_room_for_some_that_wait),
        cmocka_unit_test(calls_are_one_exchange_or_not),
        cmocka_unit_test(most_are_right),
        cmocka_unit_test(files_may_take_ten_times_as_long),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
