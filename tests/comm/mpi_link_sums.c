/* ranks: 3 4 */
/* labels: cudasim */
/* Sums in fixed order between simulated cards: the bits of one host that adds everything up. */
#include "tests/check.h"

#include "core/ops/backend.h"
#include "tests/comm/linked.h"
#include "tests/comm/sums.h"

/* Odd, so that ranks have several pieces, and more of them than a card joins at once. */
enum { SHARDS = 29, MOST = 5000 };

static fb_world *world;
static fb_context *ctx;
static fb_group *all;

static void there_are_more_pieces_than_a_card_joins_at_once(void **state)
{
    (void)state;
    assert_non_null(all->link);
    assert_true(all->leaves->n > FBI_LINK_OPERANDS);
}

static void sums_have_the_bits_of_one_host(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 63, 1000, MOST};
    for (int i = 0; i < 4; i++)
        all_dtypes(all, lengths[i], 0);
}

static void pieces_may_be_absent(void **state)
{
    (void)state;
    uint64_t others = 0;
    for (int k = all->leaves->first[1]; k < all->leaves->first[2]; k++)
        others |= 1ull << k;
    all_dtypes(all, 1000, 0x5);     /* some */
    all_dtypes(all, 1000, others);  /* all of rank 1 */
    all_dtypes(all, 1000, ~0ull);   /* all: zeros */
    all_dtypes(all, 1000, ~others); /* all but those of rank 1 */
}

static void many_rounds_give_the_same_bits(void **state)
{
    (void)state;
    int64_t room = world->link_room;
    world->link_room = 20000;
    all_dtypes(all, MOST, 0x12);
    world->link_room = room;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_are_more_pieces_than_a_card_joins_at_once),
        cmocka_unit_test(sums_have_the_bits_of_one_host),
        cmocka_unit_test(pieces_may_be_absent),
        cmocka_unit_test(many_rounds_give_the_same_bits),
    };
    int code = linked_world(&argc, &argv, FB_OPTS(fb_world_options, .shards = SHARDS), &world);
    if (code)
        return code;
    ctx = fb_world_context(world);
    all = fb_world_group(world);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) != FB_OK || failed;
}
