/* Stages of sums between devices, simulated for all ranks at once: also more nodes than go into one
 * stage give the bits of one host. */
#include "tests/check.h"

#include "comm/link_priv.h"
#include "comm/reduce_priv.h"

/* A job: positions are elements. */
typedef struct job {
    int ranks, block;
    fbi_layout *leaves;
    fbi_stages **stages; /* [ranks] */
    uint32_t *present;   /* [ranks] */
    float *piece;        /* [leaves->n][ranks] */
    float *sum[2];       /* [ranks][ranks]: before a stage and after it */
} job;

static uint64_t seed = 1;

/* Floats that cancel: any other order of additions shows. */
static float draw(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(seed >> 32) * (float)(1 << (seed >> 28 & 15)) * 0x1p-31f;
}

static job open_job(int nodes, int per_node, int shards, int radix)
{
    int ranks = nodes * per_node;
    job j = {.ranks = ranks, .block = per_node, .leaves = fbi_layout_new(shards, ranks)};
    size_t n = (size_t)ranks * (size_t)(ranks > j.leaves->n ? ranks : j.leaves->n);
    j.stages = malloc((size_t)ranks * sizeof *j.stages);
    j.present = calloc((size_t)ranks, sizeof *j.present);
    j.piece = malloc(n * sizeof(float));
    j.sum[0] = malloc(n * sizeof(float));
    j.sum[1] = malloc(n * sizeof(float));
    for (int r = 0; r < ranks; r++) {
        j.stages[r] = fbi_stages_new(j.leaves, r, per_node, radix);
        assert_non_null(j.stages[r]);
        for (int k = j.leaves->first[r]; k < j.leaves->first[r + 1]; k++)
            for (int p = 0; p < ranks; p++)
                j.piece[(size_t)k * (size_t)ranks + (size_t)p] = draw();
    }
    return j;
}

static void close_job(job *j)
{
    for (int r = 0; r < j->ranks; r++)
        fbi_stages_free(j->stages[r]);
    fbi_layout_free(j->leaves);
    free(j->stages);
    free(j->present);
    free(j->piece);
    free(j->sum[0]);
    free(j->sum[1]);
}

/* Where rank `r` has piece i of what it brings to stage s. */
static const float *brought(const job *j, int s, int r, int i)
{
    return s ? j->sum[0] + (size_t)r * (size_t)j->ranks
             : j->piece + (size_t)(j->leaves->first[r] + i) * (size_t)j->ranks;
}

static void run_stage_on(job *j, int s, int r)
{
    const fbi_stages *g = j->stages[r];
    const fbi_stage *t = &g->at[s];
    const fbi_layout *l = t->layout;
    int16_t program[2 * FBI_MAX_SHARDS];
    const void *from[FBI_MAX_SHARDS] = {0};
    int own = fbi_stage_first(g, s, t->digit), n = fbi_stage_program(g, s, j->present, program);
    assert_true(l->n <= t->pieces);
    for (int e = 0; e < t->radix; e++)
        for (int k = l->first[e]; k < l->first[e + 1]; k++)
            from[k] = brought(j, s, r + (e - t->digit) * t->stride, k - l->first[e]) + own;
    fbi_reduce(FB_SUM, FB_F32, FB_F32, program, n, from,
               j->sum[1] + (size_t)r * (size_t)j->ranks + own, fbi_stage_width(g, s));
}

/* All ranks agree on the stages; in the end each has the sum of one position. */
static void check_job(job *j)
{
    const fbi_stages *first = j->stages[0];
    int16_t program[2 * FBI_MAX_SHARDS];
    const void *from[FBI_MAX_SHARDS];
    float *want = malloc((size_t)j->ranks * sizeof *want);
    for (int k = 0; k < j->leaves->n; k++)
        from[k] = j->piece + (size_t)k * (size_t)j->ranks;
    int n = fbi_layout_program(j->leaves, j->present, program);
    fbi_reduce(FB_SUM, FB_F32, FB_F32, program, n, from, want, j->ranks);
    for (int s = 0; s < first->n; s++) {
        for (int r = 0; r < j->ranks; r++) {
            assert_int_equal(j->stages[r]->at[s].radix, first->at[s].radix);
            assert_int_equal(j->stages[r]->at[s].pieces, first->at[s].pieces);
            run_stage_on(j, s, r);
        }
        float *before = j->sum[0];
        j->sum[0] = j->sum[1];
        j->sum[1] = before;
    }
    for (int p = 0; p < j->ranks; p++) {
        int r = fbi_stages_owner(first, p), s = first->n - 1;
        assert_int_equal(fbi_stage_first(j->stages[r], s, j->stages[r]->at[s].digit), p);
        assert_memory_equal(j->sum[0] + (size_t)r * (size_t)j->ranks + p, want + p, sizeof *want);
    }
    free(want);
}

typedef struct shape {
    int nodes, per_node, shards, radix;
    int stages[5]; /* the radices that are wanted */
} shape;

static const shape shapes[] = {
    {2, 2, 4, 16, {2, 2}},
    {2, 2, 16, 16, {2, 2}},
    {3, 2, 13, 16, {2, 3}}, /* the last node has more leaves, the tree a gap */
    {3, 2, 16, 16, {6}},    /* leaves of nodes are no subtrees */
    {2, 3, 6, 16, {6}},
    {2, 3, 64, 16, {3, 2}},
    {16, 4, 64, 16, {4, 16}},
    {17, 2, 34, 16, {2, 17}}, /* nothing divides it */
    {24, 2, 48, 16, {2, 8, 3}},
    {32, 8, 256, 16, {8, 16, 2}},
    {32, 8, 512, 16, {8, 16, 2}},
    {48, 4, 192, 16, {4, 16, 3}},
    {64, 1, 64, 16, {16, 4}},
    {64, 1, 100, 16, {64}},
    {512, 1, 1024, 16, {16, 16, 2}},
    {8, 1, 8, 2, {2, 2, 2}},
    {1, 8, 8, 16, {8}},
};

static void stages_give_the_bits_of_one_host(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const shape *a = &shapes[i];
        job j = open_job(a->nodes, a->per_node, a->shards, a->radix);
        for (int s = 0; s < 5 && (s == 0 || a->stages[s]); s++) {
            int radix = s < j.stages[0]->n ? j.stages[0]->at[s].radix : 0;
            if (radix != a->stages[s])
                fail_msg("%d nodes of %d ranks, %d leaves: stage %d of %d ranks, not %d", a->nodes,
                         a->per_node, a->shards, s, radix, a->stages[s]);
        }
        for (int absent = 0; absent < 3; absent++) {
            for (int r = 0; r < j.ranks; r++)
                for (int k = j.leaves->first[r]; k < j.leaves->first[r + 1]; k++) {
                    uint32_t bit = 1u << (k - j.leaves->first[r]);
                    bool there = absent == 0 || (absent == 1 ? draw() > 0 : r >= a->per_node);
                    j.present[r] = there ? j.present[r] | bit : j.present[r] & ~bit;
                }
            check_job(&j);
        }
        close_job(&j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_give_the_bits_of_one_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
