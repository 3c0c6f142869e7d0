/* The tree of leaves: same bits for every number of ranks. */
#include "tests/check.h"

#include <flambeau/comm/collective.h>

#include "comm/reduce_priv.h"
#include "comm/tree_priv.h"

enum { N = 40 };

static uint64_t seed = 1;

/* Floats that cancel: any other order of additions shows. */
static float draw(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    float m = (float)(int32_t)(seed >> 32) * 0x1p-31f;
    int e = (int)(seed >> 28 & 15) - 4;
    return e < 0 ? m / (float)(1 << -e) : m * (float)(1 << e);
}

/* What one rank would compute, written as a recursion: absent leaves are skipped. */
static bool sum_node(float leaf[][N], const bool *present, int shards, int lo, int span, float *out)
{
    if (lo >= shards)
        return false;
    if (span == 1) {
        memcpy(out, leaf[lo], N * sizeof *out);
        return present[lo];
    }
    float right[N];
    bool l = sum_node(leaf, present, shards, lo, span / 2, out);
    bool r = sum_node(leaf, present, shards, lo + span / 2, span / 2, right);
    for (int i = 0; i < N && r; i++)
        out[i] = l ? out[i] + right[i] : right[i];
    return l || r;
}

/* A rank's stack of complete subtrees, as leaves come one by one. */
typedef struct stack {
    int n;
    struct {
        fbi_piece piece;
        bool present;
        float data[N];
    } at[FBI_MAX_PIECES + 2];
} stack;

static void push(stack *s, int leaf, const float *data, bool present)
{
    s->at[s->n].piece = (fbi_piece){0, leaf};
    s->at[s->n].present = present;
    memcpy(s->at[s->n++].data, data, N * sizeof *data);
    while (s->n > 1 && s->at[s->n - 2].piece.level == s->at[s->n - 1].piece.level &&
           s->at[s->n - 2].piece.index % 2 == 0 &&
           s->at[s->n - 2].piece.index + 1 == s->at[s->n - 1].piece.index) {
        int top = --s->n, below = top - 1;
        for (int i = 0; i < N && s->at[top].present; i++)
            s->at[below].data[i] = s->at[below].present ? s->at[below].data[i] + s->at[top].data[i]
                                                        : s->at[top].data[i];
        s->at[below].present |= s->at[top].present;
        s->at[below].piece = (fbi_piece){s->at[top].piece.level + 1, s->at[top].piece.index / 2};
    }
}

static void sum_over_ranks(float leaf[][N], const bool *present, int shards, int ranks, float *out)
{
    fbi_layout *l = fbi_layout_new(shards, ranks);
    stack *stacks = calloc((size_t)ranks, sizeof *stacks);
    uint32_t *masks = calloc((size_t)ranks, sizeof *masks);
    int16_t program[2 * 64];
    const void *src[64];
    assert_non_null(l);
    for (int r = 0; r < ranks; r++) {
        for (int k = fbi_first_leaf(shards, ranks, r); k < fbi_first_leaf(shards, ranks, r + 1);
             k++)
            push(&stacks[r], k, leaf[k], present[k]);
        assert_int_equal(stacks[r].n, l->first[r + 1] - l->first[r]);
        for (int i = 0; i < stacks[r].n; i++) {
            assert_int_equal(stacks[r].at[i].piece.level, l->pieces[l->first[r] + i].level);
            assert_int_equal(stacks[r].at[i].piece.index, l->pieces[l->first[r] + i].index);
            masks[r] |= (uint32_t)stacks[r].at[i].present << i;
            src[l->first[r] + i] = stacks[r].at[i].data;
        }
    }
    int n = fbi_layout_program(l, masks, program);
    fbi_reduce(FB_SUM, FB_F32, FB_F32, program, n, src, out, N);
    free(stacks);
    free(masks);
    fbi_layout_free(l);
}

static void check_shards(int shards, bool some_absent)
{
    static float leaf[64][N];
    bool present[64] = {false};
    float want[N];
    int span = 1;
    while (span < shards)
        span *= 2;
    for (int k = 0; k < shards; k++) {
        present[k] = !some_absent || draw() > 0;
        for (int i = 0; i < N; i++)
            leaf[k][i] = draw();
    }
    if (!sum_node(leaf, present, shards, 0, span, want))
        memset(want, 0, sizeof want);
    for (int ranks = 1; ranks <= shards; ranks++) {
        float got[N];
        sum_over_ranks(leaf, present, shards, ranks, got);
        if (memcmp(got, want, sizeof got) != 0)
            fail_msg("%d shards on %d ranks give other bits", shards, ranks);
    }
}

static void every_number_of_ranks_gives_the_bits_of_one(void **state)
{
    (void)state;
    for (int shards = 1; shards <= 24; shards++)
        for (int draw_number = 0; draw_number < 3; draw_number++)
            check_shards(shards, false);
    check_shards(64, false);
}

static void absent_leaves_contribute_nothing(void **state)
{
    (void)state;
    for (int shards = 1; shards <= 24; shards++)
        check_shards(shards, true);
    check_shards(64, true);
    float minus_zero = -0.0f, out = 1;
    int16_t program[4];
    fbi_layout *l = fbi_layout_new(2, 2);
    uint32_t masks[2] = {0, 1};
    const void *src[2] = {NULL, &minus_zero};
    int n = fbi_layout_program(l, masks, program);
    fbi_reduce(FB_SUM, FB_F32, FB_F32, program, n, src, &out, 1);
    assert_true(1 / out < 0); /* -0 + 0 would be +0 */
    fbi_layout_free(l);
}

static void no_rank_has_more_pieces_than_there_is_room_for(void **state)
{
    (void)state;
    static const int shards[] = {8, 16, 64, 1000, FBI_MAX_SHARDS};
    static const int most[] = {2, 3, 5, FBI_MAX_PIECES, FBI_MAX_PIECES};
    for (int i = 0; i < 5; i++)
        for (int ranks = 1; ranks <= shards[i]; ranks += 1 + ranks / 16) {
            fbi_layout *l = fbi_layout_new(shards[i], ranks);
            assert_non_null(l);
            assert_true(l->most <= most[i]);
            fbi_layout_free(l);
        }
}

static void a_sum_of_doubles_follows_the_same_tree(void **state)
{
    (void)state;
    double v[6] = {1e16, 1, -1e16, 1, 3, 4};
    assert_true(fbi_tree_sum(v, 6, 1) == ((1e16 + 1) + (-1e16 + 1)) + (3.0 + 4.0));
    double rows[6] = {1, 10, 2, 20, 3, 30};
    assert_true(fbi_tree_sum(rows + 1, 3, 2) == 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_of_ranks_gives_the_bits_of_one),
        cmocka_unit_test(absent_leaves_contribute_nothing),
        cmocka_unit_test(no_rank_has_more_pieces_than_there_is_room_for),
        cmocka_unit_test(a_sum_of_doubles_follows_the_same_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
