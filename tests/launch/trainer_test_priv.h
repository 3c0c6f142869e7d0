/* A small classifier, a trainer for it, and a folder that all ranks know. */
#ifndef TESTS_LAUNCH_TRAINER_TEST_PRIV_H
#define TESTS_LAUNCH_TRAINER_TEST_PRIV_H

#include <math.h>
#include <unistd.h>

#include <flambeau/flambeau.h>

#include "comm/group_priv.h"
#include "tests/io/io_test_priv.h"

enum { INPUTS = 5, CLASSES = 3, N = 40, BATCH = 8, EPOCH = N / BATCH };

static fb_world *world;
static fb_context *ctx;
static char folder[64];  /* the same on every rank */
static char lines[4096]; /* what the log has been told since the test began */

static inline void hear(const char *line, void *user)
{
    (void)user;
    size_t at = strlen(lines);
    snprintf(lines + at, sizeof lines - at, "%s\n", line);
}

static inline int set_up(void **unused)
{
    (void)unused;
    lines[0] = '\0';
    if (fb_world_root(world))
        make_folder(folder);
    return fbi_group_broadcast(fb_world_group(world), "test", folder, sizeof folder, 0);
}

static inline int tear_down(void **unused)
{
    (void)unused;
    assert_int_equal(fb_world_barrier(world), FB_OK);
    if (fb_world_root(world))
        remove_folder(folder);
    return 0;
}

/* --- what is trained --- */

static inline int read_sample(void *user, int64_t i, void *const *out)
{
    (void)user;
    float *x = out[0];
    for (int k = 0; k < INPUTS; k++)
        x[k] = sinf((float)(3 * i + 7 * k)) + (float)(i % CLASSES == k);
    *(int64_t *)out[1] = i % CLASSES;
    return 0;
}

static inline fb_loader *loader_of(int64_t batch, bool shuffle)
{
    fb_dataset_field fields[] = {{.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(INPUTS)},
                                 {.name = "target", .dtype = FB_I64, .shape = FB_SCALAR}};
    fb_dataset *ds = fb_dataset_custom(ctx, N, fields, 2, read_sample, NULL);
    return fb_loader_open(fb_world_group(world), ds,
                          FB_OPTS(fb_loader_options, .global_batch = batch, .shuffle = shuffle));
}

/* The same first values for every model: those of a root depend on its number. */
static inline fb_status set_values(const char *name, fb_tensor *t, void *user)
{
    float v[256];
    (void)user;
    for (int64_t i = 0; i < fb_numel(t); i++)
        v[i] = 0.3F * sinf((float)(i + 11 * (int64_t)strlen(name)));
    return fb_write(t, v, (size_t)fb_numel(t) * sizeof *v);
}

static inline fb_module *bare_net(double dropout)
{
    return fb_nn_sequential(ctx, fb_nn_linear(ctx, INPUTS, 8, NULL), fb_nn_relu(ctx),
                            fb_nn_dropout(ctx, dropout), fb_nn_linear(ctx, 8, CLASSES, NULL));
}

static inline fb_module *net(double dropout)
{
    fb_module *m = bare_net(dropout);
    assert_int_equal(fb_nn_each_param(m, set_values, NULL), FB_OK);
    return m;
}

static inline fb_tensor *loss_of(fb_trainer *t, const fb_batch *b)
{
    return fb_cross_entropy(fb_nn_forward(fb_trainer_model(t), b->input), b->target, NULL);
}

/* A task with everything, and a trainer for it. */
static inline fb_trainer_task task_of(fb_module *m)
{
    return (fb_trainer_task){.model = m,
                             .optimizer =
                                 fb_optim_adam(ctx, m, FB_OPTS(fb_adam_options, .lr = 0.05)),
                             .train = loader_of(BATCH, true),
                             .step = loss_of};
}

static inline fb_trainer *open_with(fb_trainer_options o)
{
    o.quiet = true;
    fb_trainer *t = fb_trainer_open_in(world, NULL, NULL, &o);
    assert_non_null(t);
    return t;
}

#define OPEN(...) open_with((fb_trainer_options){__VA_ARGS__})

/* Fits, and gives the steps done. */
static inline int64_t fit(fb_trainer *t, const fb_trainer_task *task)
{
    fb_trainer_fit(t, task);
    check_ok(ctx);
    return fb_trainer_steps(t);
}

static inline int64_t steps_with(fb_trainer_options o)
{
    fb_trainer_task task = task_of(net(0));
    fb_trainer *t = open_with(o);
    int64_t steps = fit(t, &task);
    fb_trainer_close(t);
    return steps;
}

#define STEPS(...) steps_with((fb_trainer_options){__VA_ARGS__})

static inline void refused(fb_trainer_options o, const fb_trainer_task *task, fb_status status,
                           const char *text)
{
    fb_trainer *t = open_with(o);
    assert_int_equal(fb_trainer_fit(t, task), status);
    check_error(ctx, status, text);
    fb_trainer_close(t);
}

static inline bool is_there(const char *format, long long step)
{
    char name[96], path[256];
    snprintf(name, sizeof name, format, step);
    snprintf(path, sizeof path, "%s/%s/manifest.json", folder, name);
    assert_int_equal(fb_world_barrier(world), FB_OK);
    return access(path, R_OK) == 0;
}

static inline double parameter(fb_module *m, const char *name, int64_t i)
{
    float v[64];
    fb_tensor *p = fb_nn_param(m, name);
    assert_int_equal(fb_read(p, v, (size_t)fb_numel(p) * sizeof *v), FB_OK);
    return (double)v[i];
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
