/* The table of a model against numbers worked out by hand. */
#include "tests/check.h"

#include <flambeau/core/nn/layers.h>
#include <flambeau/core/nn/recurrent.h>
#include <unistd.h>

static char said[8192];

/* fb_nn_summary, with what it prints in `said`. */
static fb_status summary(fb_module *m, fb_dtype dtype, fb_shape shape, fb_summary *totals)
{
    char path[] = "/tmp/flambeau-test-XXXXXX";
    int file = mkstemp(path), before = dup(STDOUT_FILENO);
    assert_true(file >= 0 && before >= 0);
    fflush(stdout);
    dup2(file, STDOUT_FILENO);
    fb_status st = fb_nn_summary(m, dtype, shape, totals);
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    ssize_t n = pread(file, said, sizeof said - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    close(file);
    unlink(path);
    return st;
}

/* A line has these words, whatever blanks there are between them. */
static void has_line(const char *words)
{
    char line[512];
    for (const char *p = said; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        size_t n = 0;
        for (const char *q = p; *q && *q != '\n' && n < sizeof line - 1; q++)
            if (*q != ' ' || (n && line[n - 1] != ' '))
                line[n++] = *q;
        line[n] = '\0';
        if (!strcmp(line, words))
            return;
    }
    fail_msg("no line \"%s\" in:\n%s", words, said);
}

static void a_convolutional_network_is_what_a_hand_counts(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m =
        fb_nn_sequential(ctx, fb_nn_conv2d(ctx, 1, 4, 3, FB_OPTS(fb_conv_options, .padding = {1})),
                         fb_nn_batch_norm2d(ctx, 4, NULL), fb_nn_relu(ctx), fb_nn_flatten(ctx),
                         fb_nn_linear(ctx, 4 * 8 * 8, 10, NULL), fb_nn_relu(ctx));
    fb_summary t;
    fb_nn_freeze(m, "0.*");
    assert_int_equal(summary(m, 0, FB_SHAPE(2, 1, 8, 8), &t), FB_OK);
    has_line("name type output parameters trainable MACs");
    has_line("Sequential Sequential [2, 10] 0 0 0");
    /* 4 * 9 weights and 4 biases; 2 * 4 * 64 outputs of 9 products */
    has_line("0 Conv2d [2, 4, 8, 8] 40 0 4608");
    has_line("1 BatchNorm2d [2, 4, 8, 8] 8 8 0");
    has_line("2 ReLU [2, 4, 8, 8] 0 0 0");
    has_line("3 Flatten [2, 256] 0 0 0");
    has_line("4 Linear [2, 10] 2570 2570 5120");
    has_line("5 ReLU [2, 10] 0 0 0");
    has_line("2618 parameters, 2578 trainable; 9728 MACs, 19456 FLOPs");
    assert_int_equal(t.parameters, 2618);
    assert_int_equal(t.trainable, 2578);
    assert_int_equal(t.macs, 9728);
    /* It has looked on only: the mode and the statistics are as before. */
    float mean[4];
    assert_true(fb_nn_is_training(m));
    fb_read(fb_nn_param(m, "1.running_mean"), mean, sizeof mean);
    for (int i = 0; i < 4; i++)
        assert_true(mean[i] == 0);
    assert_int_equal(fb_nn_param_count(m), 2618);
    check_close(ctx);
}

static void other_layers_count_as_they_work(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_summary t;
    /* Each of the 3 * 5 * 5 inputs meets 2 * 2 * 2 weights. */
    fb_module *up = fb_nn_conv_transpose2d(ctx, 3, 2, 2, FB_OPTS(fb_conv_options, .stride = {2}));
    assert_int_equal(summary(up, 0, FB_SHAPE(1, 3, 5, 5), &t), FB_OK);
    assert_int_equal(t.parameters, 3 * 2 * 4 + 2);
    assert_int_equal(t.macs, 75 * 8);
    /* In two groups an output has half of the inputs. */
    fb_module *grouped = fb_nn_conv1d(ctx, 4, 6, 3, FB_OPTS(fb_conv_options, .groups = 2));
    assert_int_equal(summary(grouped, 0, FB_SHAPE(2, 4, 7), &t), FB_OK);
    assert_int_equal(t.macs, 2 * 6 * 5 * 2 * 3);
    /* 7 steps of 3 sequences: 4 gates of 6 from 5 inputs and 6 states. */
    fb_module *lstm = fb_nn_lstm(ctx, 5, 6, NULL);
    assert_int_equal(summary(lstm, 0, FB_SHAPE(7, 3, 5), &t), FB_OK);
    assert_int_equal(t.parameters, 24 * (5 + 6 + 2));
    assert_int_equal(t.macs, 21 * 24 * (5 + 6));
    /* Looking up costs nothing; a tied weight is held once and used twice. */
    fb_module *tied =
        fb_nn_sequential(ctx, fb_nn_embedding(ctx, 11, 4, NULL),
                         fb_nn_linear(ctx, 4, 11, FB_OPTS(fb_linear_options, .no_bias = true)));
    fb_nn_tie(tied, "1.weight", "0.weight");
    assert_int_equal(summary(tied, FB_I64, FB_SHAPE(2, 3), &t), FB_OK);
    has_line("0 Embedding [2, 3, 4] 44 44 0");
    has_line("1 Linear [2, 3, 11] 0 0 264");
    assert_int_equal(t.parameters, 44);
    assert_int_equal(t.macs, 2 * 3 * 44);
    check_close(ctx);
}

static void an_example_that_does_not_fit_is_the_models_error(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_sequential(ctx, fb_nn_linear(ctx, 3, 2, NULL), fb_nn_relu(ctx));
    fb_summary t = {1, 1, 1};
    assert_int_equal(summary(m, 0, FB_SHAPE(2, 4), &t), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "[2, 4]");
    assert_string_equal(said, "");
    assert_int_equal(t.parameters, 0);
    assert_true(fb_nn_is_training(m));
    assert_int_equal(fb_nn_summary(NULL, 0, FB_SHAPE(1), NULL), FB_E_ARG);
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_convolutional_network_is_what_a_hand_counts),
        cmocka_unit_test(other_layers_count_as_they_work),
        cmocka_unit_test(an_example_that_does_not_fit_is_the_models_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
