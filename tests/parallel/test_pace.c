/* Who holds the others up. */
#include "tests/check.h"

#include "parallel/ddp_priv.h"

static void a_rank_is_slow_beside_the_median(void **state)
{
    (void)state;
    double room[5], middle;
    assert_int_equal(fbi_slowest((const double[]){1, 1.1, 1, 1.4}, 4, room, &middle), -1);
    assert_int_equal(fbi_slowest((const double[]){1, 1, 1.6, 1}, 4, room, &middle), 2);
    assert_true(middle == 1);
    /* Of two the faster one is the measure; one alone is never slow; neither are most. */
    assert_int_equal(fbi_slowest((const double[]){3, 1}, 2, room, &middle), 0);
    assert_int_equal(fbi_slowest((const double[]){3}, 1, room, &middle), -1);
    assert_int_equal(fbi_slowest((const double[]){3, 3, 3, 1}, 4, room, &middle), -1);
    assert_int_equal(fbi_slowest((const double[]){0, 0, 0, 0, 1}, 5, room, &middle), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_rank_is_slow_beside_the_median)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
