#include <sys/stat.h>

#include "io/lease_priv.h"
#include "tests/io/io_test_priv.h"

static char folder[64];

static int set_up(void **unused)
{
    (void)unused;
    make_folder(folder);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    remove_folder(folder);
    return 0;
}

static void write_lease(const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/" FBI_LEASE_FILE, folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void who_takes_a_lease_later_holds_it_and_the_older_one_is_told_by_whom(void **unused)
{
    (void)unused;
    char text[512] = "";
    fbi_lease older, newer;
    assert_true(fbi_lease_take(folder, &older));
    assert_int_equal(older.generation, 1);
    assert_true(fbi_lease_held(&older, text, sizeof text));
    setenv("SLURM_JOB_ID", "812", 1);
    assert_true(fbi_lease_take(folder, &newer));
    unsetenv("SLURM_JOB_ID");
    assert_int_equal(newer.generation, 2);
    assert_true(fbi_lease_held(&newer, text, sizeof text));
    assert_string_equal(text, "");
    assert_false(fbi_lease_held(&older, text, sizeof text));
    assert_non_null(strstr(text, folder));
    assert_non_null(strstr(text, "slurm job 812 on "));
    assert_non_null(strstr(text, "has taken over (generation 2 since 20"));
    assert_non_null(strstr(text, "this job has 1"));
}

static void a_folder_is_known_by_its_first_job(void **unused)
{
    (void)unused;
    char first[17];
    fbi_lease one, two, anew;
    assert_false(fbi_lease_first(folder, first));
    assert_true(fbi_lease_take(folder, &one));
    assert_true(fbi_lease_take(folder, &two));
    assert_true(fbi_lease_first(folder, first));
    assert_string_equal(first, one.id);
    assert_string_equal(two.first, one.id);
    assert_string_not_equal(two.id, one.id);
    write_lease("{\"generation\": 7, \"id\": \"0123456789abcdef\"}"); /* of an older version */
    assert_true(fbi_lease_take(folder, &anew));
    assert_int_equal(anew.generation, 8);
    assert_string_equal(anew.first, anew.id);
}

static void of_two_that_take_one_generation_the_last_holds_it(void **unused)
{
    (void)unused;
    char text[512];
    fbi_lease first;
    assert_true(fbi_lease_take(folder, &first));
    write_lease("{\"generation\": 1, \"id\": \"0123456789abcdef\", \"job\": \"process 7 on b\"}");
    assert_false(fbi_lease_held(&first, text, sizeof text));
    assert_non_null(strstr(text, "process 7 on b has taken over"));
}

static void a_lease_that_cannot_be_read_is_held_and_is_taken_anew(void **unused)
{
    (void)unused;
    static const char *const files[] = {"", "{", "[]", "{\"generation\": \"x\"}"};
    char text[512];
    fbi_lease lease = {.generation = 3, .id = "a"};
    snprintf(lease.dir, sizeof lease.dir, "%s", folder);
    assert_true(fbi_lease_held(&lease, text, sizeof text)); /* there is none */
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        write_lease(files[i]);
        assert_true(fbi_lease_held(&lease, text, sizeof text));
        fbi_lease taken;
        assert_true(fbi_lease_take(folder, &taken));
        assert_int_equal(taken.generation, 1);
    }
}

static void a_folder_that_cannot_be_made_gives_no_lease(void **unused)
{
    (void)unused;
    char path[128];
    fbi_lease lease;
    snprintf(path, sizeof path, "%s/file", folder);
    FILE *f = fopen(path, "w");
    assert_int_equal(fclose(f), 0);
    assert_false(fbi_lease_take(path, &lease));
    snprintf(path, sizeof path, "%s/a/b", folder);
    assert_true(fbi_lease_take(path, &lease)); /* those above it are made */
    assert_string_equal(lease.dir, path);
}

static void the_newest_checkpoint_of_a_run_is_noted(void **unused)
{
    (void)unused;
    assert_int_equal(fbi_lease_saved(folder), -1);
    fbi_lease_note_saved(folder, 0, "a");
    assert_int_equal(fbi_lease_saved(folder), 0);
    fbi_lease_note_saved(folder, 1234567890123, "b");
    assert_int_equal(fbi_lease_saved(folder), 1234567890123);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(who_takes_a_lease_later_holds_it_and_the_older_one_is_told_by_whom),
        CASE(a_folder_is_known_by_its_first_job),
        CASE(of_two_that_take_one_generation_the_last_holds_it),
        CASE(a_lease_that_cannot_be_read_is_held_and_is_taken_anew),
        CASE(a_folder_that_cannot_be_made_gives_no_lease),
        CASE(the_newest_checkpoint_of_a_run_is_noted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
