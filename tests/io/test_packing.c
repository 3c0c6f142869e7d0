#include "tests/io/io_test_priv.h"

#include <math.h>

#include "io/dataset_priv.h"

/* Documents of 0 to 40 tokens; token k of document i is 100 i + k + 1. */
enum { DOCUMENTS = 60, END = 7 };

static int64_t length_of(int64_t i)
{
    return i % 9 == 4 ? 0 : i * 7 % 41;
}

static int64_t token_of(int64_t i, int64_t k)
{
    return 100 * i + k + 1;
}

typedef struct place {
    fb_context *ctx;
    char folder[64], path[128];
} place;

static fb_dataset *documents(place *p)
{
    fb_dataset_field fields[] = {
        {.name = "text", .dtype = FB_U16, .shape = FB_SCALAR, .varies = true},
        {.name = "target", .dtype = FB_I64, .shape = FB_SCALAR}};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, fields, 2,
                                       FB_OPTS(fb_dataset_options, .shard_samples = 17));
    for (int64_t i = 0; i < DOCUMENTS; i++) {
        uint16_t tokens[64];
        int64_t n = length_of(i);
        for (int64_t k = 0; k < n; k++)
            tokens[k] = (uint16_t)token_of(i, k);
        fb_dataset_append_rows(ds, 1, (const void *const[]){tokens, &i},
                               (const int64_t *const[]){&n, NULL});
    }
    fb_dataset_finish(ds);
    fb_dataset_close(ds);
    check_ok(p->ctx);
    return fb_dataset_open(p->ctx, p->path);
}

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    *state = p;
    make_folder(p->folder);
    snprintf(p->path, sizeof p->path, "%s/d.h5", p->folder);
    p->ctx = check_open(1);
    return 0;
}

static int tear_down(void **state)
{
    place *p = *state;
    remove_folder(p->folder);
    int failed = fb_context_close(p->ctx);
    free(p);
    return failed;
}

/* A field of all windows, one behind the other. */
static int32_t *windows_of(fb_dataset *pack, const char *field, int64_t length)
{
    int64_t n = fb_dataset_size(pack);
    int32_t *all = malloc((size_t)(n * length + 1) * sizeof *all);
    for (int64_t i = 0; i < n; i++) {
        fb_tensor *t = fb_dataset_sample(pack, field, i);
        assert_non_null(t);
        assert_int_equal(fb_dtype_of(t), FB_I32);
        assert_true(fb_shape_equal(fb_shape_of(t), FB_SHAPE(length)));
        memcpy(all + i * length, fb_data(t), (size_t)length * sizeof *all);
    }
    return all;
}

/* The stream, made without the packing: tokens, and for each whose it is. */
typedef struct plain {
    int64_t n, token[4096], document[4096];
} plain;

static void concatenate(plain *s, bool ends)
{
    s->n = 0;
    for (int64_t i = 0; i < DOCUMENTS; i++)
        for (int64_t k = 0; k < length_of(i) + ends; k++) {
            s->token[s->n] = k < length_of(i) ? token_of(i, k) : END;
            s->document[s->n++] = i;
        }
}

static void windows_are_the_stream_of_documents(void **state)
{
    place *p = *state;
    fb_dataset *ds = documents(p);
    static plain s;
    for (int ends = 0; ends < 2; ends++)
        for (int64_t length = 1; length < 70; length += 11) {
            fb_dataset *pack = fb_dataset_pack(
                ds, length, FB_OPTS(fb_pack_options, .field = "text", .end_token = ends ? END : 0));
            concatenate(&s, ends);
            check_ok(p->ctx);
            int64_t n = fb_dataset_size(pack);
            assert_int_equal(n, (s.n - 1) / length);
            int32_t *input = windows_of(pack, "input", length);
            int32_t *target = windows_of(pack, "target", length);
            for (int64_t i = 0; i < n * length; i++) {
                assert_int_equal(input[i], s.token[i]);
                assert_int_equal(target[i], s.token[i + 1]);
            }
            free(input);
            free(target);
        }
}

static void separate_documents_have_segments_and_no_targets_beyond(void **state)
{
    place *p = *state;
    enum { LENGTH = 16 };
    fb_dataset *ds = documents(p);
    static plain s;
    concatenate(&s, false);
    fb_dataset *pack =
        fb_dataset_pack(ds, LENGTH, FB_OPTS(fb_pack_options, .field = "text", .separate = true));
    assert_int_equal(fb_dataset_size(pack), (s.n + LENGTH - 1) / LENGTH);
    int32_t *input = windows_of(pack, "input", LENGTH);
    int32_t *target = windows_of(pack, "target", LENGTH);
    int32_t *segment = windows_of(pack, "segment", LENGTH);
    int32_t *position = windows_of(pack, "position", LENGTH);
    int64_t room = fb_dataset_size(pack) * LENGTH;
    for (int64_t i = 0; i < room; i++) {
        bool first = i % LENGTH == 0, padding = i >= s.n;
        bool same = !first && !padding && s.document[i] == s.document[i - 1];
        bool follows = i + 1 < s.n && s.document[i + 1] == s.document[i];
        assert_int_equal(input[i], padding ? 0 : s.token[i]);
        assert_int_equal(target[i], !padding && follows ? s.token[i + 1] : -100);
        assert_int_equal(position[i], same ? position[i - 1] + 1 : 0);
        assert_int_equal(segment[i], padding ? -1 : first ? 0 : segment[i - 1] + !same);
    }
    assert_true(fabs(fb_dataset_padding(pack) - (double)(room - s.n) / (double)room) < 1e-12);
    free(input);
    free(target);
    free(segment);
    free(position);
}

/* Windows of whole documents: next-fit, written with nothing but lengths. */
static int64_t next_fit(int64_t length, int64_t *window_of)
{
    int64_t window = -1, room = 0;
    for (int64_t i = 0; i < DOCUMENTS; i++) {
        int64_t left = length_of(i);
        window_of[i] = -1;
        while (left) {
            if (left > room) {
                window++;
                room = length;
            }
            if (window_of[i] < 0)
                window_of[i] = window;
            int64_t part = left < room ? left : room;
            room -= part;
            left -= part;
        }
    }
    return window + 1;
}

static void whole_documents_are_cut_only_if_they_must(void **state)
{
    place *p = *state;
    fb_dataset *ds = documents(p);
    for (int64_t length = 20; length < 64; length += 12) {
        fb_dataset *pack = fb_dataset_pack(
            ds, length, FB_OPTS(fb_pack_options, .field = "text", .separate = true, .whole = true));
        int64_t window_of[DOCUMENTS], tokens = 0, seen = 0;
        assert_int_equal(fb_dataset_size(pack), next_fit(length, window_of));
        int32_t *input = windows_of(pack, "input", length);
        int32_t *segment = windows_of(pack, "segment", length);
        for (int64_t at = 0; at < fb_dataset_size(pack) * length; at++) {
            if (segment[at] < 0)
                continue;
            int64_t i = (input[at] - 1) / 100, k = (input[at] - 1) % 100; /* whose token it is */
            assert_int_equal(at / length, window_of[i] + k / length);
            seen++;
        }
        for (int64_t i = 0; i < DOCUMENTS; i++)
            tokens += length_of(i);
        assert_int_equal(seen, tokens);
        free(input);
        free(segment);
    }
}

static void shuffled_documents_stay_whole_in_another_order(void **state)
{
    place *p = *state;
    enum { LENGTH = 10 };
    fb_dataset *ds = documents(p);
    int32_t *orders[3];
    int64_t n = 0;
    for (int i = 0; i < 3; i++) {
        fb_dataset *pack = fb_dataset_pack(
            ds, LENGTH,
            FB_OPTS(fb_pack_options, .field = "text", .shuffle = true, .seed = i == 2 ? 8 : 4));
        orders[i] = windows_of(pack, "input", LENGTH);
        n = fb_dataset_size(pack) * LENGTH;
    }
    assert_memory_equal(orders[0], orders[1], (size_t)n * sizeof **orders);
    assert_memory_not_equal(orders[0], orders[2], (size_t)n * sizeof **orders);
    int begun[DOCUMENTS] = {0}, sorted = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t document = (orders[0][i] - 1) / 100, k = (orders[0][i] - 1) % 100;
        if (i && k)
            assert_int_equal(orders[0][i], orders[0][i - 1] + 1);
        if (k == 0)
            begun[document]++;
        sorted += i && document == (orders[0][i - 1] - 1) / 100 + 1 && k == 0;
    }
    for (int i = 0; i < DOCUMENTS; i++)
        assert_true(begun[i] <= 1);
    assert_true(sorted < 10);
    for (int i = 0; i < 3; i++)
        free(orders[i]);
}

static void a_loader_permutes_the_windows(void **state)
{
    place *p = *state;
    enum { LENGTH = 8 };
    fb_dataset *pack = fb_dataset_pack(documents(p), LENGTH,
                                       FB_OPTS(fb_pack_options, .field = "text", .separate = true));
    fb_loader *l = fb_loader_open(
        NULL, pack, FB_OPTS(fb_loader_options, .global_batch = 7, .shuffle = true, .seed = 3));
    int64_t n = fb_dataset_size(pack), seen = 0;
    int32_t *input = windows_of(pack, "input", LENGTH);
    int32_t *segment = windows_of(pack, "segment", LENGTH);
    fb_batch b;
    assert_true(fb_loader_epoch(l, 1));
    while (fb_loader_next(l, &b)) {
        int64_t m;
        const int64_t *index = fb_loader_indices(l, &m);
        for (int64_t i = 0; i < m; i++, seen++) {
            const int32_t *x = fb_data(b.input), *s = fb_data(fb_loader_field(l, "segment"));
            assert_memory_equal(x + i * LENGTH, input + index[i] * LENGTH, LENGTH * sizeof *x);
            assert_memory_equal(s + i * LENGTH, segment + index[i] * LENGTH, LENGTH * sizeof *s);
        }
    }
    check_ok(p->ctx);
    assert_int_equal(seen, n);
    free(input);
    free(segment);
}

static void splits_and_mixtures_are_packed_too(void **state)
{
    place *p = *state;
    fb_dataset *ds = documents(p), *again = fb_dataset_open(p->ctx, p->path);
    fb_dataset *both = fb_dataset_mix(p->ctx, (fb_dataset *[]){ds, again}, NULL, 2, NULL);
    fb_dataset *pack = fb_dataset_pack(both, 5, FB_OPTS(fb_pack_options, .field = "text"));
    check_ok(p->ctx);
    static plain s;
    concatenate(&s, false);
    int32_t *input = windows_of(pack, "input", 5);
    for (int64_t i = 0; i < fb_dataset_size(pack) * 5; i++)
        assert_int_equal(input[i], s.token[i % s.n]);
    free(input);
}

static void refused(place *p, fb_dataset *ds, int64_t length, fb_pack_options o, fb_status status,
                    const char *text)
{
    assert_null(fb_dataset_pack(ds, length, &o));
    check_error(p->ctx, status, text);
}

static void what_cannot_be_packed_is_refused(void **state)
{
    place *p = *state;
    fb_dataset *ds = documents(p);
    refused(p, ds, 8, (fb_pack_options){0}, FB_E_NOT_FOUND, "has no field input");
    refused(p, ds, 8, (fb_pack_options){.field = "target"}, FB_E_ARG, "a field that varies");
    refused(p, ds, 0, (fb_pack_options){.field = "text"}, FB_E_ARG, "windows of 0 tokens");
    refused(p, ds, 8, (fb_pack_options){.field = "text", .whole = true}, FB_E_ARG,
            "set separate, too");
    refused(p, ds, 8, (fb_pack_options){.field = "text", .end_token = -3}, FB_E_ARG,
            "end_token is -3");
    refused(p, ds, 100000, (fb_pack_options){.field = "text"}, FB_E_ARG,
            "tokens, too few for a window of 100000");
    assert_null(fb_dataset_pack(NULL, 8, NULL));
    check_ok(p->ctx);
}

static fb_dataset *two_documents(place *p, fb_dtype dtype, const void *values)
{
    fb_dataset_field field = {.name = "input", .dtype = dtype, .shape = FB_SCALAR, .varies = true};
    fb_dataset *ds = fb_dataset_create(p->ctx, p->path, &field, 1, NULL);
    fb_dataset_append_rows(ds, 2, &values, (const int64_t *const[]){(const int64_t[]){3, 3}});
    fb_dataset_finish(ds);
    fb_dataset_close(ds);
    return fb_dataset_open(p->ctx, p->path);
}

static void tokens_that_are_none_are_told_when_they_are_read(void **state)
{
    place *p = *state;
    const int64_t tokens[] = {1, 2, 3, 4, -5, 6};
    fb_dataset *pack = fb_dataset_pack(two_documents(p, FB_I64, tokens), 2, NULL);
    assert_non_null(fb_dataset_sample(pack, "input", 0));
    assert_null(fb_dataset_sample(pack, "input", 1));
    check_error(p->ctx, FB_E_IO, "sample 1: token 1 is -5: tokens are 0 to 2^31 - 1");
    fb_dataset_close(pack);
    const float numbers[6] = {0};
    refused(p, two_documents(p, FB_F32, numbers), 2, (fb_pack_options){0}, FB_E_DTYPE,
            "tokens are integers");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(windows_are_the_stream_of_documents),
        CASE(separate_documents_have_segments_and_no_targets_beyond),
        CASE(whole_documents_are_cut_only_if_they_must),
        CASE(shuffled_documents_stay_whole_in_another_order),
        CASE(a_loader_permutes_the_windows),
        CASE(splits_and_mixtures_are_packed_too),
        CASE(what_cannot_be_packed_is_refused),
        CASE(tokens_that_are_none_are_told_when_they_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
