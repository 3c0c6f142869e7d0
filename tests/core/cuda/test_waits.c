/* Every wait for an event is needed: this program runs work that uses them all, itself as a child,
 * once as it is and once without each wait; the simulator or the results must tell the difference.
 * timeout: 300 */
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/io/loader.h>

#include "core/tensor/alloc_priv.h"
#include "core/tensor/device_priv.h"
#include "tests/check.h"

/* --- the work: each part returns whether its results are right --- */

/* More than all pinned stages hold, and nobody waits before the end. */
static bool writes(fb_context *ctx)
{
    enum { N = 4 << 20, PARTS = 5 };
    FB_SCOPE(ctx);
    float *host = malloc(N * sizeof *host), back[PARTS];
    fb_tensor *t[PARTS];
    for (int i = 0; i < PARTS; i++) {
        for (int k = 0; k < N; k++)
            host[k] = (float)i;
        t[i] = fb_from(ctx, FB_F32, FB_SHAPE(N), host);
    }
    free(host);
    bool right = true;
    for (int i = 0; i < PARTS && (right = right && t[i]); i++) {
        fb_read(fbi_view(t[i], FB_SHAPE(1), FB_SHAPE(1), N - 1), &back[i], sizeof back[i]);
        right = back[i] == (float)i;
    }
    return right;
}

/* The copy queue reads a tensor that is released, and whose memory is written to again. */
static bool reuse(fb_context *ctx)
{
    enum { N = 1024, BYTES = N * (int)sizeof(float) };
    const fbi_backend *b = ctx->backend;
    if (!fb_ok(ctx))
        return false;
    float *pinned = b->host_alloc(ctx, BYTES);
    {
        FB_SCOPE(ctx);
        fb_tensor *t = fb_full(ctx, FB_F32, FB_SHAPE(N), 3);
        fb_context_sync(ctx); /* the copy queue has nothing to wait for */
        b->copy_on(ctx, FBI_QUEUE_COPY, pinned, t->storage->data, BYTES);
        fbi_storage_used_by(ctx, t->storage, FBI_QUEUE_COPY,
                            b->event_record_on(ctx, FBI_QUEUE_COPY));
    }
    FB_SCOPE(ctx);
    fb_tensor *t = fb_full(ctx, FB_F32, FB_SHAPE(N), 5);
    bool right = t && fb_item(fbi_view(t, FB_SHAPE(1), FB_SHAPE(1), 7)) == 5;
    fb_context_sync(ctx);
    for (int i = 0; i < N; i++)
        right &= pinned[i] == 3;
    b->host_free(ctx, pinned);
    return right;
}

static int make_sample(void *user, int64_t index, void *const *out)
{
    (void)user;
    for (int i = 0; i < 16; i++)
        ((int32_t *)out[0])[i] = (int32_t)index;
    return 0;
}

/* Batches are added up on the device; the host looks at the end only. */
static bool batches(fb_context *ctx)
{
    enum { N = 120, BATCH = 4 };
    fb_dataset_field field = {.name = "input", .dtype = FB_I32, .shape = FB_SHAPE(16)};
    fb_dataset *ds = fb_dataset_custom(ctx, N, &field, 1, make_sample, NULL);
    fb_loader *l =
        fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .global_batch = BATCH, .prefetch = 2));
    fb_tensor *sum = NULL;
    fb_set(&sum, fb_zeros(ctx, FB_I32, FB_SHAPE(BATCH, 16)));
    fb_batch b;
    while (fb_loader_epoch(l, 2))
        while (fb_loader_next(l, &b)) {
            FB_SCOPE(ctx);
            fb_add_(sum, b.input);
        }
    int32_t total[BATCH * 16];
    bool right = fb_read(sum, total, sizeof total) == FB_OK;
    for (int i = 0; i < BATCH; i++) {
        int32_t want = 0;
        for (int k = i; k < N; k += BATCH)
            want += 2 * k;
        for (int k = 0; k < 16; k++)
            right &= total[i * 16 + k] == want;
    }
    fb_set(&sum, NULL);
    return right;
}

/* What the card found in three steps is looked at before anything else waits for it. */
static bool steps(fb_context *ctx)
{
    FB_SCOPE(ctx);
    fb_tensor *t = fb_requires_grad(fb_zeros(ctx, FB_F32, FB_SCALAR), true);
    fb_optimizer *opt = fb_optim_sgd(ctx, NULL, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_optim_add_tensor(opt, "t", t);
    fb_optim_clip_norm(opt, 100);
    for (int i = 0; i < 3; i++) {
        fb_backward(fb_mul_scalar(t, 1));
        fb_optim_step(opt);
    }
    bool right = fb_optim_steps(opt) == 3 && fb_item(t) == -3;
    fb_optim_close(opt);
    return right;
}

/* The simulator's process ends with 86 if it has found something. */
static int work(bool exact)
{
    fb_context *ctx = fb_context_open(NULL);
    if (!ctx)
        return 2;
    fbi_alloc_exact(ctx, exact);
    bool right = reuse(ctx);
    right &= writes(ctx);
    right &= batches(ctx);
    right &= steps(ctx);
    fb_status st = fb_context_close(ctx);
    return right && !st ? 0 : 1;
}

/* --- the tests --- */

static const char *const names[FBI_WAIT_COUNT] = {
#define ROW(name, who, when) [FBI_WAIT_##name] = #name,
    FBI_WAITS(ROW)
#undef ROW
};

/* Commands that together use every wait; SELF is this program. */
enum { MOST_ARGUMENTS = 8 };
#define SELF "(self)"
static const char *const workloads[][MOST_ARGUMENTS] = {
    {SELF, "exact"},
    {SELF, "kept"},
    {"mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", "comm/mpi_links"}};
enum { LINKS = 2, WORKLOADS = sizeof workloads / sizeof workloads[0] };

/* Exit code of a workload. `dropped`: the wait that it goes without, or NULL. */
static int run(const char *dropped, const char *const *command)
{
    char self[PATH_MAX];
    char *argv[MOST_ARGUMENTS + 1] = {NULL};
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    for (int i = 0; i < MOST_ARGUMENTS && command[i]; i++)
        argv[i] = strcmp(command[i], SELF) ? (char *)(uintptr_t)command[i] : self;
    pid_t child = fork();
    if (child == 0) {
        if (dropped) {
            setenv("FLAMBEAU_CUDA_DROP_WAIT", dropped, 1);
            setenv("FLAMBEAU_LINK_SECONDS", "20", 1); /* cards may wait for each other for ever */
            if (!freopen("/dev/null", "w", stderr))   /* findings are wanted here */
                _exit(126);
        }
        execvp(argv[0], argv);
        _exit(127);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool skipped[WORKLOADS]; /* 77: a library is missing here */

static void with_all_waits_results_are_right(void **state)
{
    (void)state;
    for (int w = 0; w < WORKLOADS; w++) {
        int code = run(NULL, workloads[w]);
        skipped[w] = code == 77;
        assert_true(code == 0 || skipped[w]);
    }
}

/* 86: the simulator has found it; below: so many results are wrong. */
static void each_wait_is_missed(void **state)
{
    (void)state;
    int survivors = 0;
    for (int i = 0; i < FBI_WAIT_COUNT; i++) {
        int code = 0;
        if (skipped[LINKS] && strncmp(names[i], "COLLECTIVE", 10) == 0)
            continue;
        for (int w = 0; w < WORKLOADS && code == 0; w++)
            code = skipped[w] ? 0 : run(names[i], workloads[w]);
        print_message("without %s: exit code %d\n", names[i], code);
        survivors += code <= 0 || code > 86;
    }
    assert_int_equal(survivors, 0);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return work(!strcmp(argv[1], "exact"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_all_waits_results_are_right),
        cmocka_unit_test(each_wait_is_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
