/* Saved tensors in files: the same bits, no file left, and what is said of a bad disk. */
#include "tests/check.h"

#include <dirent.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/io/saved.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "saved-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder); /* fails if a file is left */
}

/* Files in the folder; the name of one of them in `path`. */
static int files(char *path, size_t size)
{
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (e->d_name[0] == '.')
            continue;
        n++;
        if (path)
            snprintf(path, size, "%s/%s", folder, e->d_name);
    }
    closedir(d);
    return n;
}

static fb_tensor *total(fb_tensor *x)
{
    return fb_sum(x, FB_ALL, false);
}

static fb_status add_gradient(const char *name, fb_tensor *t, void *user)
{
    (void)name;
    float **at = user;
    fb_status st = fb_read(fb_grad_of(t), *at, (size_t)fb_numel(t) * sizeof(float));
    *at += fb_numel(t);
    return st;
}

static void net_gradients(fb_context *ctx, bool in_files, float *g)
{
    FB_SCOPE(ctx);
    fb_conv_options same = {.padding = {1}};
    fb_module *m =
        fb_nn_sequential(ctx, fb_nn_conv2d(ctx, 1, 4, 3, &same), fb_nn_relu(ctx),
                         fb_nn_max_pool2d(ctx, 2, NULL), fb_nn_dropout(ctx, 0.5),
                         fb_nn_flatten(ctx), fb_nn_linear(ctx, 64, 3, NULL), fb_nn_tanh(ctx));
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(2, 1, 8, 8));
    if (in_files)
        assert_int_equal(fb_save_in_files(ctx, folder), FB_OK);
    fb_tensor *loss = total(fb_nn_forward(m, x));
    assert_true(in_files ? files(NULL, 0) > 3 : files(NULL, 0) == 0);
    assert_int_equal(fb_backward(loss), FB_OK);
    assert_int_equal(files(NULL, 0), 0);
    assert_int_equal(fb_nn_each_param(m, add_gradient, &g), FB_OK);
}

static void a_net_saved_in_files_has_the_same_bits(void **state)
{
    (void)state;
    static float g[2][4 * 9 + 4 + 3 * 64 + 3];
    for (int k = 0; k < 2; k++) {
        fb_context *ctx = check_open_device(2);
        net_gradients(ctx, k, g[k]);
        check_close(ctx);
    }
    assert_memory_equal(g[0], g[1], sizeof g[0]);
}

static fb_tensor *leaf(fb_context *ctx)
{
    return fb_requires_grad(fb_ones(ctx, FB_F32, FB_SHAPE(1000)), true);
}

static void files_go_with_the_graph(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    {
        FB_SCOPE(ctx);
        fb_tensor *x = leaf(ctx);
        assert_int_equal(fb_save_in_files(ctx, folder), FB_OK);
        assert_non_null(fb_exp(fb_exp(x)));
        assert_int_equal(files(NULL, 0), 2);
    }
    assert_int_equal(files(NULL, 0), 0);
    assert_int_equal(fb_save_in_files(ctx, folder), FB_OK);
    assert_non_null(fb_exp(leaf(ctx)));
    assert_int_equal(files(NULL, 0), 1);
    check_close(ctx); /* ends the outermost scope */
    assert_int_equal(files(NULL, 0), 0);
}

static void folders_that_will_not_do_are_named(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    assert_int_equal(fb_save_in_files(ctx, "no/such/folder"), FB_E_NOT_FOUND);
    check_error(ctx, FB_E_NOT_FOUND, "fb_save_in_files: no/such/folder: No such file or directory");
    assert_int_equal(fb_save_in_files(ctx, "/dev/null"), FB_E_IO);
    check_error(ctx, FB_E_IO, "/dev/null is no folder");
    assert_int_equal(fb_save_in_files(ctx, NULL), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "the folder is NULL");
    if (geteuid() != 0) { /* root may write everywhere */
        assert_int_equal(fb_save_in_files(ctx, "/"), FB_E_IO);
        check_error(ctx, FB_E_IO, "no files can be made in /");
    }
    char gone[80];
    snprintf(gone, sizeof gone, "%s/gone", folder);
    assert_int_equal(mkdir(gone, 0700), 0);
    assert_int_equal(fb_save_in_files(ctx, gone), FB_OK);
    assert_int_equal(rmdir(gone), 0);
    assert_null(fb_exp(leaf(ctx)));
    check_error(ctx, FB_E_IO, "fb_save_in_files: cannot make ");
    check_close(ctx);
}

/* The limit on the size of files stands for a full disk: write gives less, then fails. */
static void a_full_disk_is_an_error_of_the_operator(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){1000, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    {
        FB_SCOPE(ctx);
        fb_tensor *x = leaf(ctx);
        assert_int_equal(fb_save_in_files(ctx, folder), FB_OK);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        fb_tensor *y = fb_exp(x);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_null(y);
        check_error(ctx, FB_E_IO, "fb_save_in_files: cannot write 4000 bytes to saved-");
        assert_int_equal(files(NULL, 0), 0);
        assert_int_equal(fb_backward(total(fb_exp(x))), FB_OK); /* there is room again */
    }
    signal(SIGXFSZ, SIG_DFL);
    check_close(ctx);
}

static void files_that_are_cut_or_gone_are_named(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    for (int k = 0; k < 2; k++) {
        FB_SCOPE(ctx);
        char path[400];
        assert_int_equal(fb_save_in_files(ctx, folder), FB_OK);
        fb_tensor *loss = total(fb_exp(leaf(ctx)));
        assert_int_equal(files(path, sizeof path), 1);
        assert_int_equal(k ? unlink(path) : truncate(path, 123), 0);
        assert_int_equal(fb_backward(loss), FB_E_IO);
        check_error(ctx, FB_E_IO,
                    k ? ": No such file or directory" : " has 123 bytes, 4000 were written");
    }
    check_close(ctx);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_net_saved_in_files_has_the_same_bits), T(files_go_with_the_graph),
        T(folders_that_will_not_do_are_named),     T(a_full_disk_is_an_error_of_the_operator),
        T(files_that_are_cut_or_gone_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
