/* The profiler: what it counts, modules by their paths, and its two files. */
#include "tests/check.h"

#include <jansson.h>
#include <sys/resource.h>
#include <unistd.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/autograd/function.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/profile.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/optim/optim.h>

#include "core/ops/profile_priv.h"

static int open_context(void **state)
{
    *state = check_open_device(1);
    return 0;
}

static int close_context(void **state)
{
    return fb_context_close(*state) == FB_OK ? 0 : -1;
}

static fb_profile *profile_of(fb_context *ctx)
{
    fb_profile *p = fb_profile_open(ctx, NULL);
    assert_non_null(p);
    return p;
}

/* NULL: there is none. */
static const fb_profile_row *row_of(fb_profile *p, fb_profile_kind kind, const char *name)
{
    const fb_profile_row *rows;
    int64_t n = fb_profile_rows(p, &rows);
    for (int64_t i = 0; i < n; i++)
        if (rows[i].kind == kind && !strcmp(rows[i].name, name))
            return &rows[i];
    return NULL;
}

static int64_t count_of(fb_profile *p, fb_profile_kind kind, const char *name)
{
    const fb_profile_row *r = row_of(p, kind, name);
    return r ? r->count : 0;
}

static fb_tensor *leaf(fb_context *ctx, fb_shape shape)
{
    return fb_requires_grad(fb_randn(ctx, FB_F32, shape), true);
}

/* --- devices --- */

/* A card does what it was handed later; the host waits for what it reads. */
static void a_card_says_what_its_kernels_take(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    bool card = strcmp(fb_context_device(ctx), "cpu") != 0;
    fb_tensor *a = leaf(ctx, FB_SHAPE(64, 64));
    fb_profile *p = profile_of(ctx);
    fb_tensor *sum = fb_sum(fb_matmul(a, a), FB_ALL, false);
    (void)fb_item(sum);
    fb_backward(sum);
    assert_int_equal(fb_profile_stop(p), FB_OK);
    assert_int_equal(row_of(p, FB_PROFILE_FORWARD, "matmul")->device_s > 0, card);
    assert_int_equal(row_of(p, FB_PROFILE_BACKWARD, "matmul")->device_s > 0, card);
    assert_int_equal(count_of(p, FB_PROFILE_WAIT, "device") > 0, card);
    fb_profile_close(p);
}

/* --- spans --- */

static fb_module *network(fb_context *ctx)
{
    return fb_nn_sequential(ctx, fb_nn_linear(ctx, 20, 30, NULL), fb_nn_tanh(ctx),
                            fb_nn_sequential(ctx, fb_nn_linear(ctx, 30, 30, NULL), fb_nn_tanh(ctx)),
                            fb_nn_linear(ctx, 30, 4, NULL));
}

static void steps(fb_context *ctx, fb_module *m, fb_optimizer *opt, int n)
{
    for (int i = 0; i < n; i++) {
        FB_SCOPE(ctx);
        fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(8, 20)),
                  *y = fb_randint(ctx, 0, 4, FB_SHAPE(8));
        fb_backward(fb_cross_entropy(fb_nn_forward(m, x), y, NULL));
        fb_optim_step(opt);
    }
    check_ok(ctx);
}

static void a_training_step_is_told_apart(void **state)
{
    fb_context *ctx = *state;
    fb_module *m = network(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 0.1));
    steps(ctx, m, opt, 1);
    fb_profile *p = profile_of(ctx);
    steps(ctx, m, opt, 3);
    assert_int_equal(fb_profile_stop(p), FB_OK);
    assert_int_equal(count_of(p, FB_PROFILE_FORWARD, "linear"), 9);
    assert_int_equal(count_of(p, FB_PROFILE_FORWARD, "tanh"), 6);
    assert_int_equal(count_of(p, FB_PROFILE_FORWARD, "cross_entropy"), 3);
    assert_int_equal(count_of(p, FB_PROFILE_BACKWARD, "backward"), 3);
    assert_int_equal(count_of(p, FB_PROFILE_BACKWARD, "linear"), 9);
    assert_int_equal(count_of(p, FB_PROFILE_OPTIMIZER, "optim_step"), 3);
    fb_profile_totals t;
    assert_int_equal(fb_profile_totals_of(p, &t), FB_OK);
    assert_int_equal(t.steps, 3);
    fb_profile_close(p);
    fb_optim_close(opt);
    fb_nn_close(m);
}

static void what_ran_within_is_in_total_and_not_in_self(void **state)
{
    fb_context *ctx = *state;
    fb_module *m = network(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 0.1));
    fb_profile *p = profile_of(ctx);
    steps(ctx, m, opt, 2);
    assert_int_equal(fb_profile_stop(p), FB_OK);
    const fb_profile_row *rows;
    int64_t n = fb_profile_rows(p, &rows);
    double self = 0, within = 0, waits = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(rows[i].self_s >= 0 && rows[i].self_s <= rows[i].total_s + 1e-12);
        assert_true(i == 0 || rows[i - 1].self_s >= rows[i].self_s);
        self += rows[i].self_s;
        if (rows[i].kind == FB_PROFILE_BACKWARD && strcmp(rows[i].name, "backward") != 0)
            within += rows[i].self_s;
        waits += rows[i].kind == FB_PROFILE_WAIT ? rows[i].self_s : 0;
    }
    const fb_profile_row *backward = row_of(p, FB_PROFILE_BACKWARD, "backward");
    double parts = backward->self_s + within;
    /* Waits for a card are in it, too, and in other spans. */
    assert_true(backward->total_s >= parts - 1e-8 && backward->total_s <= parts + waits + 1e-8);
    fb_profile_totals t;
    assert_int_equal(fb_profile_totals_of(p, &t), FB_OK);
    assert_true(t.outside_s >= 0);
    assert_float_equal(t.seconds, self + t.outside_s, 1e-8);
    fb_profile_close(p);
    fb_optim_close(opt);
    fb_nn_close(m);
}

static void modules_have_their_paths_and_their_part_of_backward(void **state)
{
    fb_context *ctx = *state;
    fb_module *m = network(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 0.1));
    fb_profile *p = profile_of(ctx);
    steps(ctx, m, opt, 2);
    static const char *const parts[] = {"Sequential.0", "Sequential.1", "Sequential.2",
                                        "Sequential.3"};
    const fb_profile_row *root = row_of(p, FB_PROFILE_MODULE, "Sequential");
    assert_non_null(root);
    assert_int_equal(root->count, 2);
    double forward = 0, back = 0, flops = 0, whole = root->backward_s, whole_flops = root->flops;
    double whole_forward = root->total_s;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const fb_profile_row *r = row_of(p, FB_PROFILE_MODULE, parts[i]);
        assert_non_null(r);
        assert_int_equal(r->count, 2);
        assert_true(r->backward_s > 0);
        forward += r->total_s;
        back += r->backward_s;
        flops += r->flops;
    }
    assert_true(forward <= whole_forward);
    assert_float_equal(back, whole, 1e-8); /* the root has recorded nothing itself */
    assert_float_equal(flops, whole_flops, 0);
    assert_float_equal(whole_flops, 2 * 2.0 * 8 * (20 * 30 + 30 * 30 + 30 * 4), 0);
    assert_non_null(row_of(p, FB_PROFILE_MODULE, "Sequential.2.1"));
    fb_profile_close(p);
    fb_optim_close(opt);
    fb_nn_close(m);
}

static void a_module_in_the_place_of_a_freed_one_is_another_row(void **state)
{
    fb_context *ctx = *state;
    fb_profile *p = profile_of(ctx);
    for (int i = 0; i < 20; i++) {
        FB_SCOPE(ctx);
        fb_module *m = i % 2 ? fb_nn_tanh(ctx) : fb_nn_sigmoid(ctx);
        (void)!fb_nn_forward(m, fb_zeros(ctx, FB_F32, FB_SHAPE(3)));
        fb_nn_close(m);
    }
    const fb_profile_row *rows;
    int64_t n = fb_profile_rows(p, &rows), tanhs = 0, sigmoids = 0;
    for (int64_t i = 0; i < n; i++) {
        tanhs += strcmp(rows[i].name, "Tanh") == 0 ? rows[i].count : 0;
        sigmoids += strcmp(rows[i].name, "Sigmoid") == 0 ? rows[i].count : 0;
    }
    assert_int_equal(tanhs, 10);
    assert_int_equal(sigmoids, 10);
    fb_profile_close(p);
}

/* Many names, so that the table of rows grows. */
static void hundreds_of_modules_each_have_a_row(void **state)
{
    fb_context *ctx = *state;
    enum { N = 300 };
    fb_module *layers[N];
    for (int i = 0; i < N; i++)
        layers[i] = fb_nn_tanh(ctx);
    fb_module *m = fb_nn_sequential_n(ctx, (fb_modules){layers, N});
    fb_profile *p = profile_of(ctx);
    {
        FB_SCOPE(ctx);
        (void)!fb_nn_forward(m, fb_zeros(ctx, FB_F32, FB_SHAPE(3)));
    }
    for (int i = 0; i < N; i++) {
        char name[64];
        snprintf(name, sizeof name, "Sequential.%d", i);
        assert_int_equal(count_of(p, FB_PROFILE_MODULE, name), 1);
    }
    assert_int_equal(count_of(p, FB_PROFILE_FORWARD, "tanh"), N);
    fb_profile_close(p);
    fb_nn_close(m);
}

static void a_row_made_of_others_counts_once(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(8, 8));
    fb_profile *p = profile_of(ctx);
    (void)!fb_std(x, FB_ALL, true, false);
    const fb_profile_row *r = row_of(p, FB_PROFILE_FORWARD, "std");
    assert_non_null(r);
    assert_int_equal(r->count, 1);
    double whole = r->total_s;
    assert_true(row_of(p, FB_PROFILE_FORWARD, "var")->total_s < whole);
    fb_profile_close(p);
}

/* --- pausing, several at once, in the midst of spans --- */

static void nothing_is_counted_while_it_is_stopped(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(8, 8));
    fb_profile *p = profile_of(ctx), *other = profile_of(ctx);
    (void)!fb_relu(x);
    assert_int_equal(fb_profile_stop(p), FB_OK);
    (void)!fb_relu(x);
    assert_int_equal(count_of(p, FB_PROFILE_FORWARD, "relu"), 1);
    assert_int_equal(fb_profile_start(p), FB_OK);
    assert_int_equal(fb_profile_start(p), FB_OK);
    (void)!fb_relu(x);
    assert_int_equal(count_of(p, FB_PROFILE_FORWARD, "relu"), 2);
    assert_int_equal(count_of(other, FB_PROFILE_FORWARD, "relu"), 3);
    fb_profile_close(other);
    (void)!fb_relu(x);
    assert_int_equal(count_of(p, FB_PROFILE_FORWARD, "relu"), 3);
    fb_profile_close(p);
    (void)!fb_relu(x);
}

static fb_profile *inside;

static fb_tensor *begin_inside(fb_module *m, void *args)
{
    (void)args;
    fb_context *ctx = fb_nn_context(m);
    inside = profile_of(ctx);
    return fb_zeros(ctx, FB_F32, FB_SHAPE(3));
}

static fb_tensor *end_inside(fb_module *m, void *args)
{
    (void)args;
    assert_int_equal(fb_profile_stop(inside), FB_OK);
    return fb_ones(fb_nn_context(m), FB_F32, FB_SHAPE(3));
}

static void it_may_begin_and_end_within_a_call(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *m = fb_nn_tanh(ctx);
    fb_tensor *x = fb_nn_call(m, begin_inside, NULL);
    (void)!fb_relu(x);
    (void)!fb_nn_call(m, end_inside, NULL);
    assert_int_equal(count_of(inside, FB_PROFILE_FORWARD, "relu"), 1);
    assert_int_equal(count_of(inside, FB_PROFILE_MODULE, "Tanh"), 1);
    fb_profile_close(inside);
}

/* --- files --- */

static void path_in(char *path, const char *name)
{
    snprintf(path, 256, "/tmp/flambeau-profile-%d-%s", (int)getpid(), name);
}

/* A training step under a context of its own, written to `path`. */
static void write_step(fb_context *ctx, const char *path, int64_t max_events)
{
    fb_module *m = network(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 0.1));
    fb_profile *p = fb_profile_open(ctx, FB_OPTS(fb_profile_options, .max_events = max_events));
    steps(ctx, m, opt, 1);
    assert_int_equal(fb_profile_stop(p), FB_OK);
    assert_int_equal(fb_profile_write(p, path), FB_OK);
    fb_profile_totals t;
    assert_int_equal(fb_profile_totals_of(p, &t), FB_OK);
    assert_int_equal(t.missed > 0, max_events > 0);
    fb_profile_close(p);
    fb_optim_close(opt);
    fb_nn_close(m);
}

static const char *text_in(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    assert_non_null(text);
    return text;
}

static double number_in(const json_t *o, const char *key)
{
    const json_t *n = json_object_get(o, key);
    assert_true(json_is_number(n));
    return json_number_value(n);
}

/* The spans of a trace in order of their begin lie within each other or apart. */
static void check_nesting(const json_t *events)
{
    enum { DEEP = 64 };
    double ends[DEEP], before = 0;
    int depth = 0, deepest = 0;
    size_t i;
    json_t *e;
    json_array_foreach(events, i, e)
    {
        if (strcmp(text_in(e, "ph"), "X") != 0)
            continue;
        double begin = number_in(e, "ts"), end = begin + number_in(e, "dur");
        assert_true(begin >= before && end >= begin);
        while (depth && ends[depth - 1] <= begin)
            depth--;
        assert_true(!depth || end <= ends[depth - 1] + 2e-3); /* three decimals each */
        assert_true(depth < DEEP);
        ends[depth++] = end;
        deepest = depth > deepest ? depth : deepest;
        before = begin;
    }
    assert_true(deepest >= 3); /* Sequential, Sequential.0, linear */
}

static void a_trace_is_json_whose_spans_nest(void **state)
{
    char path[256];
    path_in(path, "trace.json");
    write_step(*state, path, 0);
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    unlink(path);
    if (!root)
        fail_msg("line %d: %s", error.line, error.text);
    assert_true(number_in(root, "baseTimeNanoseconds") > 1e18);
    json_t *events = json_object_get(root, "traceEvents"), *e;
    check_nesting(events);
    int linears = 0;
    size_t i;
    json_array_foreach(events, i, e)
    {
        if (strcmp(text_in(e, "name"), "linear") != 0)
            continue;
        const json_t *args = json_object_get(e, "args");
        bool back = strcmp(text_in(e, "cat"), "backward") == 0;
        linears++;
        assert_true(back || !strcmp(text_in(e, "cat"), "forward"));
        assert_int_equal(strncmp(text_in(args, "module"), "Sequential.", 11), 0);
        assert_true(number_in(args, "flops") > 0);
    }
    assert_int_equal(linears, 6);
    json_decref(root);
}

static void a_trace_that_is_full_says_how_much_it_lacks(void **state)
{
    char path[256];
    path_in(path, "short.json");
    write_step(*state, path, 10);
    json_t *root = json_load_file(path, 0, NULL);
    unlink(path);
    assert_non_null(root);
    assert_int_equal(json_array_size(json_object_get(root, "traceEvents")), 2 + 10);
    assert_true(number_in(root, "missedEvents") > 10);
    json_decref(root);
}

static fb_status quoted_forward(fb_call *k, fb_tensors in, fb_tensor **out)
{
    (void)k;
    out[0] = fb_mul_scalar(in.t[0], 2);
    return FB_OK;
}

static fb_status quoted_backward(fb_call *k, fb_tensors g, fb_tensor **grad)
{
    (void)k;
    grad[0] = fb_mul_scalar(g.t[0], 2);
    return FB_OK;
}

static void names_of_users_are_quoted(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    static const fb_function quoted = {"a \"b\" \\\n", 1, quoted_forward, quoted_backward, false};
    char path[256];
    path_in(path, "quoted.json");
    fb_profile *p = profile_of(ctx);
    fb_tensor *x = leaf(ctx, FB_SHAPE(3)), *y;
    assert_int_equal(fb_function_apply(ctx, &quoted, NULL, 0, FB_TENSORS(x), &y), FB_OK);
    fb_backward(fb_sum(y, FB_ALL, false));
    assert_int_equal(count_of(p, FB_PROFILE_BACKWARD, "a \"b\" \\\n"), 1);
    assert_int_equal(fb_profile_write(p, path), FB_OK);
    fb_profile_close(p);
    json_t *root = json_load_file(path, 0, NULL), *e;
    unlink(path);
    assert_non_null(root);
    bool found = false;
    size_t i;
    json_array_foreach(json_object_get(root, "traceEvents"), i, e) found |=
        !strcmp(text_in(e, "name"), "a \"b\" \\\n");
    assert_true(found);
    json_decref(root);
}

static void the_table_has_a_line_for_each_row(void **state)
{
    fb_context *ctx = *state;
    char path[256], text[16384];
    path_in(path, "table.txt");
    fb_module *m = network(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 0.1));
    fb_profile *p = profile_of(ctx);
    steps(ctx, m, opt, 2);
    assert_int_equal(fb_profile_stop(p), FB_OK);
    assert_int_equal(fb_profile_print(p, path), FB_OK);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    unlink(path);
    assert_non_null(strstr(text, ", 2 steps of "));
    const fb_profile_row *rows;
    int64_t n = fb_profile_rows(p, &rows);
    for (int64_t i = 0; i < n; i++)
        assert_non_null(strstr(text, rows[i].name));
    assert_non_null(strstr(text, "\noutside"));
    assert_non_null(strstr(text, "\nmodule"));
    fb_profile_close(p);
    fb_optim_close(opt);
    fb_nn_close(m);
}

static void a_file_that_cannot_be_written_is_named(void **state)
{
    fb_context *ctx = *state;
    fb_profile *p = profile_of(ctx);
    assert_int_equal(fb_profile_write(p, "/nowhere/trace.json"), FB_E_IO);
    check_error(ctx, FB_E_IO,
                "fb_profile: cannot write /nowhere/trace.json: No such file or directory");
    assert_int_equal(fb_profile_print(p, "/nowhere/table"), FB_E_IO);
    check_error(ctx, FB_E_IO, "fb_profile: cannot write /nowhere/table");
    assert_int_equal(fb_profile_write(p, "/dev/full"), FB_E_IO);
    check_error(ctx, FB_E_IO, "fb_profile: cannot write /dev/full: No space left on device");
    assert_int_equal(fb_profile_write(p, NULL), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_profile_write: the path is NULL");
    fb_profile_close(p);
    fb_profile_close(NULL);
    assert_int_equal(fb_profile_stop(NULL), FB_E_ARG);
    assert_int_equal(fb_profile_rows(NULL, NULL), 0);
}

/* Bytes of address space that this process has. */
static rlim_t address_space(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld", &pages), 1);
    fclose(f);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void spans_that_there_was_no_memory_for_are_told(void **state)
{
    fb_context *ctx = *state;
    const char *sanitized = getenv("FLAMBEAU_SANITIZE");
    if ((sanitized && *sanitized) || getenv("FLAMBEAU_DEVICE"))
        skip(); /* the memory of a sanitizer or of a simulated card ends first */
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(3));
    fb_profile *p = profile_of(ctx);
    struct rlimit old, tight;
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    tight = old;
    tight.rlim_cur = address_space() + ((rlim_t)4 << 20);
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
    int64_t n = 0;
    for (; n < 1 << 20 && !p->lost && fb_ok(ctx); n++) {
        FB_SCOPE(ctx);
        (void)!fb_relu(x);
    }
    assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
    assert_int_equal(fb_profile_stop(p), FB_E_NOMEM);
    check_error(ctx, FB_E_NOMEM, "fb_profile: no memory for all spans: some are missing");
    assert_int_equal(count_of(p, FB_PROFILE_FORWARD, "relu"), n); /* only the trace lacks some */
    fb_profile_close(p);
}

static void a_context_closes_profiles_that_still_run(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    (void)profile_of(ctx);
    (void)profile_of(ctx);
    (void)!fb_nn_forward(network(ctx), fb_zeros(ctx, FB_F32, FB_SHAPE(2, 20)));
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_card_says_what_its_kernels_take),
        cmocka_unit_test(a_training_step_is_told_apart),
        cmocka_unit_test(what_ran_within_is_in_total_and_not_in_self),
        cmocka_unit_test(modules_have_their_paths_and_their_part_of_backward),
        cmocka_unit_test(a_module_in_the_place_of_a_freed_one_is_another_row),
        cmocka_unit_test(hundreds_of_modules_each_have_a_row),
        cmocka_unit_test(a_row_made_of_others_counts_once),
        cmocka_unit_test(nothing_is_counted_while_it_is_stopped),
        cmocka_unit_test(it_may_begin_and_end_within_a_call),
        cmocka_unit_test(a_trace_is_json_whose_spans_nest),
        cmocka_unit_test(a_trace_that_is_full_says_how_much_it_lacks),
        cmocka_unit_test(names_of_users_are_quoted),
        cmocka_unit_test(the_table_has_a_line_for_each_row),
        cmocka_unit_test(a_file_that_cannot_be_written_is_named),
        cmocka_unit_test(spans_that_there_was_no_memory_for_are_told),
        cmocka_unit_test(a_context_closes_profiles_that_still_run),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
