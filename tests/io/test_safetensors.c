#include <unistd.h>

#include <flambeau/core/nn/layers.h>
#include <flambeau/io/interchange.h>

#include "tests/io/io_test_priv.h"

typedef struct place {
    fb_context *ctx;
    char folder[64], path[128];
} place;

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    p->ctx = check_open(1);
    make_folder(p->folder);
    snprintf(p->path, sizeof p->path, "%s/x.safetensors", p->folder);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    place *p = *state;
    remove_folder(p->folder);
    assert_int_equal(fb_context_close(p->ctx), FB_OK);
    free(p);
    return 0;
}

static fb_module *make_model(fb_context *ctx)
{
    return fb_nn_sequential(ctx, fb_nn_linear(ctx, 3, 4, NULL), fb_nn_batch_norm1d(ctx, 4, NULL));
}

/* A file with this head and `bytes` bytes of values, i-th byte: i. */
static void write_file(const place *p, const char *head, size_t bytes)
{
    FILE *f = fopen(p->path, "wb");
    uint64_t n = strlen(head);
    fwrite(&n, 8, 1, f);
    fputs(head, f);
    for (size_t i = 0; i < bytes; i++)
        fputc((int)(i & 255), f);
    fclose(f);
}

static void refused(const place *p, fb_module *m, fb_status status, const char *text)
{
    assert_int_equal(fb_safetensors_load(m, p->path, NULL), status);
    check_error(p->ctx, status, text);
}

static void a_model_comes_back_with_its_buffers(void **state)
{
    place *p = *state;
    fb_module *a = make_model(p->ctx), *b = make_model(p->ctx);
    assert_int_equal(fb_safetensors_save(a, p->path), FB_OK);
    fb_load_report report;
    assert_int_equal(fb_safetensors_load(b, p->path, FB_OPTS(fb_load_options, .report = &report)),
                     FB_OK);
    const char *const names[] = {"0.weight", "0.bias", "1.weight", "1.bias"};
    for (int i = 0; i < 4; i++) {
        fb_tensor *x = fb_nn_param(a, names[i]), *y = fb_nn_param(b, names[i]);
        assert_memory_equal(fb_data(x), fb_data(y), (size_t)fb_numel(x) * sizeof(float));
    }
    assert_int_equal(report.missing, 0);
    assert_int_equal(report.unexpected, 0);
    assert_true(report.loaded >= 6); /* running mean and variance, too */
}

static const char half_head[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"enc.w\":{\"dtype\":\"F16\",\"shape\":[1,2],"
    "\"data_offsets\":[0,4]},\"enc.b\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[8,16]},"
    "\"head\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[16,17]}}  ";

static void names_are_changed_and_dtypes_cast(void **state)
{
    place *p = *state;
    fb_module *m = fb_nn_linear(p->ctx, 2, 1, NULL);
    write_file(p, half_head, 17);
    const fb_rename rules[] = {{"enc.w", "weight"}, {"enc.*", "bias"}, {"head", NULL}, {0}};
    assert_int_equal(fb_safetensors_load(m, p->path, FB_OPTS(fb_load_options, .rename = rules)),
                     FB_OK);
    const uint16_t bits[2] = {0x0100, 0x0302};
    for (int i = 0; i < 2; i++) /* halves of tiny numbers: (1 + m / 1024) 2^(e - 15) or m 2^-24 */
        assert_true(((const float *)fb_data(fb_nn_param(m, "weight")))[i] ==
                    (float)bits[i] / 16777216.0f);
    assert_true(*(const float *)fb_data(fb_nn_param(m, "bias")) == (float)0x0f0e0d0c0b0a0908);
}

static void what_does_not_fit_is_listed_and_nothing_changed(void **state)
{
    place *p = *state;
    fb_module *small = fb_nn_linear(p->ctx, 2, 4, FB_OPTS(fb_linear_options, .no_bias = true));
    fb_module *m = fb_nn_linear(p->ctx, 3, 4, NULL);
    float before[12];
    assert_int_equal(fb_safetensors_save(small, p->path), FB_OK);
    fb_nn_materialize(m);
    memcpy(before, fb_data(fb_nn_param(m, "weight")), sizeof before);
    refused(p, m, FB_E_SHAPE, "weight is [4, 2] in the file, [4, 3] here; bias is not in the file");
    assert_memory_equal(fb_data(fb_nn_param(m, "weight")), before, sizeof before);
    fb_safetensors_save(m, p->path);
    refused(p, small, FB_E_SHAPE, "bias is in the file only");
    fb_module *fits = fb_nn_linear(p->ctx, 3, 4, FB_OPTS(fb_linear_options, .no_bias = true));
    assert_int_equal(
        fb_safetensors_load(fits, p->path, FB_OPTS(fb_load_options, .allow_unexpected = "b*")),
        FB_OK);
    fb_safetensors_save(fits, p->path);
    assert_int_equal(
        fb_safetensors_load(m, p->path, FB_OPTS(fb_load_options, .allow_missing = "*")), FB_OK);
}

static void damaged_files_are_told(void **state)
{
    place *p = *state;
    fb_module *m = fb_nn_linear(p->ctx, 2, 1, NULL);
    assert_int_equal(fb_safetensors_load(m, "/nowhere/x", NULL), FB_E_NOT_FOUND);
    check_error(p->ctx, FB_E_NOT_FOUND, "safetensors /nowhere/x: No such file");
    static const struct {
        const char *head;
        fb_status status;
        const char *text;
    } cases[] = {
        {"[]", FB_E_IO, "its head is no JSON object"},
        {"{\"w\":{}}", FB_E_IO, "the description is damaged of w"},
        {"{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", FB_E_DTYPE,
         "w is of dtype F8_E4M3, which no dtype here is"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]}}", FB_E_IO,
         "shape and place do not fit the file of w"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}", FB_E_IO,
         "shape and place do not fit the file of w"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[-1,-1],\"data_offsets\":[4,8]}}", FB_E_IO,
         "shape and place do not fit the file of w"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}",
         FB_E_IO, "shape and place do not fit the file of w"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}",
         FB_E_SHAPE, "w has 9 dimensions; at most 8 are possible"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(p, cases[i].head, 8);
        refused(p, m, cases[i].status, cases[i].text);
    }
    fb_safetensors_save(m, p->path);
    FILE *f = fopen(p->path, "rb");
    fseek(f, 0, SEEK_END);
    for (long size = ftell(f) - 1; size >= 0; size--) {
        assert_int_equal(truncate(p->path, size), 0);
        refused(p, m, FB_E_IO, "copy it again");
    }
    fclose(f);
}

static void an_unwritable_place_is_named(void **state)
{
    place *p = *state;
    fb_module *m = fb_nn_linear(p->ctx, 2, 1, NULL);
    assert_int_equal(fb_safetensors_save(m, "/nowhere/x"), FB_E_IO);
    check_error(p->ctx, FB_E_IO, "safetensors /nowhere/x: cannot write it: No such file");
    assert_int_equal(fb_safetensors_save(NULL, "/nowhere/x"), FB_E_ARG);
    assert_int_equal(fb_safetensors_load(NULL, "/nowhere/x", NULL), FB_E_ARG);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_model_comes_back_with_its_buffers),
        CASE(names_are_changed_and_dtypes_cast),
        CASE(what_does_not_fit_is_listed_and_nothing_changed),
        CASE(damaged_files_are_told),
        CASE(an_unwritable_place_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
