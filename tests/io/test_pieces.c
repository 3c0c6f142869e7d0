/* Pieces of tensors: boxes and ranges, against loops over indices; and those that make no sense. */
#include <stdlib.h>

#include "io/pieces_priv.h"
#include "tests/check.h"

static const fbi_stored_tensor tensor = {
    .kind = "I32", .dtype = FB_I32, .shape = {.n = 3, .d = {4, 5, 6}}, .numel = 120, .bytes = 480};

static fbi_file_piece box(int64_t b0, int64_t b1, int64_t b2, int64_t n0, int64_t n1, int64_t n2)
{
    return (fbi_file_piece){.bytes = 4 * n0 * n1 * n2,
                            .begin = {.n = 3, .d = {b0, b1, b2}},
                            .count = {.n = 3, .d = {n0, n1, n2}}};
}

static fbi_file_piece range(int64_t begin, int64_t n)
{
    return (fbi_file_piece){
        .flat = true, .bytes = 4 * n, .begin = {.n = 1, .d = {begin}}, .count = {.n = 1, .d = {n}}};
}

/* Whether element (i, j, k) is in a piece, and as which of its elements. */
static int64_t number_in(const fbi_file_piece *p, int i, int j, int k)
{
    int64_t at = (i * 5 + j) * 6 + k - p->begin.d[0];
    if (p->flat)
        return at >= 0 && at < p->count.d[0] ? at : -1;
    int64_t index[3] = {i, j, k}, n = 0;
    for (int d = 0; d < 3; d++) {
        int64_t in = index[d] - p->begin.d[d];
        if (in < 0 || in >= p->count.d[d])
            return -1;
        n = n * p->count.d[d] + in;
    }
    return n;
}

static void pieces_are_placed_and_taken_as_indices_say(void **state)
{
    (void)state;
    const fbi_file_piece pieces[] = {box(0, 0, 0, 4, 5, 6), box(1, 2, 3, 2, 3, 2),
                                     box(3, 0, 5, 1, 5, 1), range(0, 120), range(17, 40)};
    for (size_t n = 0; n < sizeof pieces / sizeof *pieces; n++) {
        const fbi_file_piece *p = &pieces[n];
        int32_t whole[120] = {0}, values[120], back[120] = {0};
        for (int i = 0; i < 120; i++)
            values[i] = 1000 + i;
        fbi_piece_place(p, &tensor, (const char *)values, (char *)whole);
        for (int e = 0; e < 120; e++) {
            int64_t at = number_in(p, e / 30, e / 6 % 5, e % 6);
            assert_int_equal(whole[e], at < 0 ? 0 : 1000 + at);
        }
        fbi_piece_take(p, &tensor, (const char *)whole, (char *)back);
        assert_memory_equal(back, values, (size_t)p->bytes);
    }
}

static bool covers(int n, const fbi_file_piece *list)
{
    fbi_file_pieces p = {0};
    fbi_stored_tensor t = tensor;
    t.n = n;
    for (int i = 0; i < n; i++)
        assert_true(fbi_pieces_add(&p, list[i]));
    bool good = fbi_pieces_cover(&p, &t);
    fbi_pieces_free(&p);
    return good;
}

#define COVERS(...)                                                          \
    covers(sizeof((fbi_file_piece[]){__VA_ARGS__}) / sizeof(fbi_file_piece), \
           (fbi_file_piece[]){__VA_ARGS__})

static void a_tensor_is_covered_once_or_not_at_all(void **state)
{
    (void)state;
    assert_true(COVERS(box(0, 0, 0, 4, 5, 6)));
    assert_true(COVERS(range(60, 60), range(0, 60)));
    assert_true(COVERS(box(0, 0, 0, 4, 5, 3), box(0, 0, 3, 4, 5, 3)));
    assert_true(COVERS(box(2, 0, 0, 2, 5, 6), box(0, 0, 0, 2, 5, 6)));
    assert_true(COVERS(box(0, 0, 0, 2, 5, 6), range(60, 60)));
    assert_false(covers(0, NULL));
    assert_false(COVERS(range(0, 119)));               /* one is missing */
    assert_false(COVERS(range(0, 60), range(59, 60))); /* one twice, one missing */
    assert_false(COVERS(box(0, 0, 0, 4, 5, 3), box(0, 0, 2, 4, 5, 3)));
    assert_false(COVERS(range(0, 60), box(0, 0, 0, 2, 5, 6)));
    assert_false(COVERS(range(0, 121))); /* outside */
    assert_false(COVERS(range(-1, 120)));
    assert_false(COVERS(range(INT64_MAX - 10, 120)));
    assert_false(COVERS(box(0, 0, 0, 4, 6, 5)));
    assert_false(COVERS(box(0, 1, 0, 4, 5, 6)));
    assert_false(COVERS(range(0, 120), range(120, 0))); /* empty */
    fbi_file_piece wrong = range(0, 120);
    wrong.bytes = 479;
    assert_false(COVERS(wrong));
    wrong = range(0, 120);
    wrong.offset = -8;
    assert_false(COVERS(wrong));
}

/* The manifest may say anything of a tensor. */
static bool makes_sense(const char *text)
{
    fbi_stored_tensor t;
    json_t *entry = json_loads(text, 0, NULL);
    assert_non_null(entry);
    bool good = fbi_stored_tensor_of(entry, &t);
    json_decref(entry);
    return good;
}

static void a_tensor_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    assert_true(makes_sense("{\"dtype\": \"F32\", \"shape\": [2, 0], \"pieces\": [0, 0]}"));
    assert_true(makes_sense("{\"dtype\": \"bytes\", \"shape\": [5], \"pieces\": [3, 1]}"));
    assert_false(makes_sense("{}"));
    assert_false(makes_sense("{\"dtype\": \"F33\", \"shape\": [2]}"));
    assert_false(makes_sense("{\"dtype\": \"F32\", \"shape\": 2}"));
    assert_false(makes_sense("{\"dtype\": \"F32\", \"shape\": [-1]}"));
    assert_false(makes_sense("{\"dtype\": \"F32\", \"shape\": [4611686018427387904, 3]}"));
    assert_false(makes_sense("{\"dtype\": \"F64\", \"shape\": [2305843009213693952]}"));
    assert_false(makes_sense("{\"dtype\": \"F32\", \"shape\": [1,1,1,1,1,1,1,1,1]}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_placed_and_taken_as_indices_say),
        cmocka_unit_test(a_tensor_is_covered_once_or_not_at_all),
        cmocka_unit_test(a_tensor_that_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
