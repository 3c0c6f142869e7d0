#include "tests/check.h"

#include "io/order_priv.h"

static void an_order_is_a_permutation_for_any_size(void **state)
{
    (void)state;
    const int64_t sizes[] = {1, 2, 3, 5, 16, 17, 1000, 4096, 5003, 60000};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        int64_t n = sizes[k];
        char *seen = calloc((size_t)n, 1);
        fbi_order order = fbi_order_make(n, 7, 3);
        for (int64_t i = 0; i < n; i++) {
            int64_t at = fbi_order_at(&order, i);
            assert_true(at >= 0 && at < n);
            assert_int_equal(seen[at], 0);
            assert_int_equal(fbi_order_find(&order, at), i);
            seen[at] = 1;
        }
        free(seen);
    }
}

static int moved(uint64_t seed_a, int64_t epoch_a, uint64_t seed_b, int64_t epoch_b)
{
    fbi_order a = fbi_order_make(1000, seed_a, epoch_a), b = fbi_order_make(1000, seed_b, epoch_b);
    int n = 0;
    for (int64_t i = 0; i < 1000; i++)
        n += fbi_order_at(&a, i) != fbi_order_at(&b, i);
    return n;
}

static void another_seed_or_epoch_gives_another_order(void **state)
{
    (void)state;
    assert_int_equal(moved(1, 0, 1, 0), 0);
    assert_true(moved(1, 0, 2, 0) > 900);
    assert_true(moved(1, 0, 1, 1) > 900);
}

static void an_order_shows_no_trend(void **state)
{
    (void)state;
    fbi_order order = fbi_order_make(10000, 5, 0);
    double sum = 0; /* mean position of the first tenth: 4999.5 +- about 91 by chance */
    for (int64_t i = 0; i < 1000; i++)
        sum += (double)fbi_order_at(&order, i);
    assert_true(sum / 1000 > 4500 && sum / 1000 < 5500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_is_a_permutation_for_any_size),
        cmocka_unit_test(another_seed_or_epoch_gives_another_order),
        cmocka_unit_test(an_order_shows_no_trend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
