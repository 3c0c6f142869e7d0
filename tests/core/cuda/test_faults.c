/* What a card can do to a program, on the simulated one: each fault is an error that names it and
 * says what to do, and the CPU still works. Each test is a child of its own with the fault's knobs.
 */
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include <flambeau/flambeau.h>

#include "tests/check.h"

static bool cpu_works(void)
{
    fb_context *ctx = check_open(1);
    bool works = fb_item(fb_sum(fb_ones(ctx, FB_F32, FB_SHAPE(10)), FB_SCALAR, false)) == 10;
    return fb_context_close(ctx) == FB_OK && works;
}

/* --- what the children do; errors go to stderr --- */

/* Opening is what fails. */
static int opens(void)
{
    fb_context_options o = {.device = getenv("DEVICE")};
    fb_context *ctx = fb_context_open(&o);
    if (ctx)
        fb_context_close(ctx);
    return !ctx && cpu_works() ? 0 : 1;
}

/* A training step that runs out of memory or onto a broken card; then everything is closed. */
static int trains(void)
{
    fb_context_options o = {.device = getenv("DEVICE")};
    fb_context *ctx = fb_context_open(&o);
    fb_module *model = fb_nn_linear(ctx, 512, 512, NULL);
    fb_optimizer *opt = fb_optim_adam(ctx, model, FB_OPTS(fb_adam_options, .lr = 1e-3));
    fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(512, 512)), *loss = NULL;
    for (int i = 0; i < 3; i++) {
        loss = fb_mean(fb_relu(fb_nn_forward(model, fb_gelu(x))), FB_SCALAR, false);
        fb_backward(loss);
        fb_optim_step(opt);
    }
    fb_item(loss);
    return fb_context_close(ctx) != FB_OK && cpu_works() ? 0 : 1;
}

/* --- the tests --- */

/* Run a child with these settings ("A=B", NULL at the end); its stderr must contain each of the
 * texts. */
static void expect(const char *what, const char *const *settings, const char *const *texts)
{
    char self[PATH_MAX], said[8192] = "";
    int pipes[2];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        for (; *settings; settings++)
            putenv((char *)(uintptr_t)*settings);
        execl(self, self, what, (char *)NULL);
        _exit(4);
    }
    close(pipes[1]);
    size_t used = 0;
    while ((n = read(pipes[0], said + used, sizeof said - 1 - used)) > 0)
        used += (size_t)n;
    close(pipes[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    for (; *texts; texts++)
        if (!strstr(said, *texts))
            fail_msg("no \"%s\" in: %s", *texts, said);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("exit code %d: %s", WIFEXITED(status) ? WEXITSTATUS(status) : -1, said);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void without_a_card_it_says_where_to_look(void **state)
{
    (void)state;
    expect(
        "opens", LIST("DEVICE=cudasim", "CUDASIM_DEVICES=0"),
        LIST("cudaErrorNoDevice", "look at nvidia-smi and CUDA_VISIBLE_DEVICES", "or use \"cpu\""));
}

static void a_card_that_is_not_there_is_told_with_those_that_are(void **state)
{
    (void)state;
    expect("opens", LIST("DEVICE=cudasim:3", "CUDASIM_DEVICES=3"),
           LIST("there are 3: \"cudasim:0\" and up", "ranks of one machine need a card each"));
    expect("opens", LIST("DEVICE=cudasim:1", "CUDASIM_DEVICES=1"),
           LIST("there is 1: \"cudasim:0\""));
}

static void an_old_driver_is_told_with_both_versions(void **state)
{
    (void)state;
    expect("opens", LIST("DEVICE=cudasim", "CUDASIM_FAIL=cudaGetDeviceCount:35"),
           LIST("the driver serves CUDA", "this build needs", "install a newer driver"));
}

static void a_busy_card_is_told(void **state)
{
    (void)state;
    expect("opens", LIST("DEVICE=cudasim:1", "CUDASIM_FAIL=cudaSetDevice:46"),
           LIST("cudasim:1: cudaErrorDevicesUnavailable", "exclusive mode", "nvidia-smi"));
}

static void running_out_of_memory_says_who_wanted_and_who_has_it(void **state)
{
    (void)state;
    expect("trains", LIST("DEVICE=cudasim", "CUDASIM_MEM=6500000"),
           LIST("1.0 MiB wanted by", "on cudasim:0", "in tensors", "cached", ", largest 1.0 MiB ",
                "1.0 MiB F32 [512, 512], peak ", " (at test_faults+0x",
                "modules, gradients and optimizers", "of open scopes", "of the card's 6.2 MiB free",
                "used by other programs and libraries", "use a smaller micro-batch"));
}

static void a_failing_kernel_is_told_and_the_rest_still_closes(void **state)
{
    (void)state;
    expect("trains", LIST("DEVICE=cudasim", "CUDASIM_FAIL=kernel:700:5"),
           LIST("cudaErrorIllegalAddress",
                "a kernel touched memory that is not its own; the card's context is lost",
                "with FLAMBEAU_CUDA_BLOCKING=all the operator is named"));
    expect("trains", LIST("DEVICE=cudasim", "CUDASIM_FAIL=kernel:719:9"),
           LIST("cudaErrorLaunchFailure", "a kernel failed"));
}

static void the_operator_of_a_failing_kernel_can_be_found(void **state)
{
    (void)state;
    expect("trains",
           LIST("DEVICE=cudasim", "CUDASIM_FAIL=kernel:700:1", "FLAMBEAU_CUDA_BLOCKING=all"),
           LIST("cudasim:0: fill: cudaErrorIllegalAddress"));
}

static void any_call_that_fails_is_told_with_its_place(void **state)
{
    (void)state;
    expect("opens", LIST("DEVICE=cudasim", "CUDASIM_FAIL=cudaStreamCreateWithPriority:304:2"),
           LIST("of cudaStreamCreateWithFlags", "core/cuda/queue.c:"));
    expect("opens", LIST("DEVICE=cudasim", "CUDASIM_FAIL=cudaSetDevice:2"),
           LIST("cudaErrorMemoryAllocation", "of cudaSetDevice", "core/cuda/backend.c:",
                "nvidia-smi names other programs that have the card's memory"));
    expect("opens", LIST("DEVICE=cudasim", "CUDASIM_FAIL=cudaHostAlloc:2"),
           LIST("cudaErrorMemoryAllocation", "cudaHostAlloc", "core/cuda/queue.c:"));
    expect("trains", LIST("DEVICE=cudasim", "CUDASIM_FAIL=cudaMemsetAsync:1:2"),
           LIST("cudaErrorInvalidValue", "cudaMemsetAsync", "core/cuda/"));
}

static void an_error_of_cublaslt_is_told_with_its_place_and_what_to_do(void **state)
{
    (void)state;
    expect("trains", LIST("DEVICE=cudasim", "CUDASIM_FAIL=cublasLtMatmul:13"),
           LIST("cudasim:0: linear: CUBLAS_STATUS_EXECUTION_FAILED (simulated failure) of "
                "cublasLtMatmul",
                "core/cuda/gemm", "an earlier kernel may have failed", "FLAMBEAU_CUDA_BLOCKING=all",
                " (at test_faults+0x"));
    expect("trains", LIST("DEVICE=cudasim", "CUDASIM_FAIL=cublasLtMatmul:3:2"),
           LIST("CUBLAS_STATUS_ALLOC_FAILED", "use a smaller micro-batch"));
    expect("opens", LIST("DEVICE=cudasim", "CUDASIM_FAIL=cublasLtCreate:1"),
           LIST("CUBLAS_STATUS_NOT_INITIALIZED", "of cublasLtCreate",
                "core/cuda/backend.c:", "the card's memory may be full"));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return !strcmp(argv[1], "opens") ? opens() : trains();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_card_it_says_where_to_look),
        cmocka_unit_test(a_card_that_is_not_there_is_told_with_those_that_are),
        cmocka_unit_test(an_old_driver_is_told_with_both_versions),
        cmocka_unit_test(a_busy_card_is_told),
        cmocka_unit_test(running_out_of_memory_says_who_wanted_and_who_has_it),
        cmocka_unit_test(a_failing_kernel_is_told_and_the_rest_still_closes),
        cmocka_unit_test(the_operator_of_a_failing_kernel_can_be_found),
        cmocka_unit_test(any_call_that_fails_is_told_with_its_place),
        cmocka_unit_test(an_error_of_cublaslt_is_told_with_its_place_and_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
