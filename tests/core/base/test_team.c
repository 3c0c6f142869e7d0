/* Threads that OpenMP grants. Environment variables are read before main, hence the second start.
 */
#include "core/base/threads_priv.h"
#include "tests/check.h"

#include <unistd.h>

static void a_limit_of_one_thread_lowers_the_team_to_one(void **state)
{
    (void)state;
    assert_int_equal(fbi_granted_threads(2), 1);
    fb_context *ctx = check_open(2);
    assert_int_equal(fb_context_threads(ctx), 1);
    check_close(ctx);
}

static void without_a_limit_the_team_is_what_was_asked_for_or_one(void **state)
{
    (void)state;
    int granted = fbi_granted_threads(2); /* 1 in a build without OpenMP */
    assert_true(granted == 2 || granted == 1);
    fb_context *ctx = check_open(2);
    assert_int_equal(fb_context_threads(ctx), granted);
    check_close(ctx);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (!getenv("OMP_THREAD_LIMIT")) {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(without_a_limit_the_team_is_what_was_asked_for_or_one),
        };
        if (cmocka_run_group_tests(tests, NULL, NULL))
            return 1;
        setenv("OMP_THREAD_LIMIT", "1", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limit_of_one_thread_lowers_the_team_to_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
