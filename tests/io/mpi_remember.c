/* ranks: 1 2 3
 * Copies in the memory of nodes (each rank is one here): which of them a job goes on from, and when
 * they go. */
#include <dirent.h>
#include <sys/stat.h>

#include <flambeau/comm/mpi.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/io/checkpoint.h>
#include <flambeau/io/memory.h>

#include "comm/group_priv.h"
#include "io/mirror_priv.h"
#include "tests/io/io_test_priv.h"

static fb_world *world;
static fb_context *ctx;
static char folder[64], memory[64], heard[2048];

static void share(char path[64])
{
    if (fb_world_root(world))
        make_folder(path);
    assert_int_equal(fbi_group_broadcast(fb_world_group(world), "test", path, 64, 0), FB_OK);
}

static void hear(const char *line, void *user)
{
    (void)user;
    size_t at = strlen(heard);
    snprintf(heard + at, sizeof heard - at, "%s\n", line);
}

static void wait_for_all(void)
{
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

/* --- a program: two weights, an optimizer that counts steps, a number, and bytes of its own --- */

typedef struct program {
    fb_module *model;
    fb_optimizer *opt;
    fb_state *state;
    int64_t number;
    char own[16];
} program;

static size_t save_own(void *user, void *out, size_t size)
{
    program *p = user;
    if (out)
        memcpy(out, p->own, size < sizeof p->own ? size : sizeof p->own);
    return sizeof p->own;
}

static int load_own(void *user, const void *data, size_t size)
{
    program *p = user;
    memcpy(p->own, data, size);
    return size != sizeof p->own;
}

static void begin(program *p, int64_t width)
{
    *p = (program){.model = fb_nn_linear(ctx, width, 3, NULL)};
    p->opt = fb_optim_adam(ctx, p->model, NULL);
    p->state = fb_state_open(ctx);
    fb_state_add_module(p->state, "model", p->model);
    fb_state_add_optimizer(p->state, "optimizer", p->opt);
    fb_state_add_int(p->state, "number", &p->number);
    fb_state_add_custom(p->state, "own", save_own, load_own, p);
    check_ok(ctx);
}

static void end(program *p)
{
    fb_state_close(p->state);
    fb_optim_close(p->opt);
    fb_nn_close(p->model);
    check_ok(ctx);
}

static void step(program *p, int64_t width)
{
    FB_SCOPE(ctx);
    fb_tensor *x = fb_full(ctx, FB_F32, FB_SHAPE(4, width), 0.5);
    fb_backward(fb_mean(fb_nn_forward(p->model, x), FB_ALL, false));
    fb_optim_step(p->opt);
    p->number = 100 + fb_optim_steps(p->opt);
    snprintf(p->own, sizeof p->own, "rank %d", fb_world_rank(world)); /* only rank 0's counts */
    check_ok(ctx);
}

/* Steps, each of which is remembered; the digest after each. */
static void run(program *p, int n, char digests[][17])
{
    for (int i = 0; i < n; i++) {
        step(p, 5);
        assert_int_equal(fb_checkpoint_remember(world, folder, p->state), FB_OK);
        strcpy(p->own, "rank 0");
        memset(p->own + 6, 0, sizeof p->own - 6);
        fb_state_digest(p->state, digests[i]);
    }
    wait_for_all();
}

/* Another program starts, and goes on: at which step, with which digest. */
static int64_t resume(char digest[17])
{
    program p;
    begin(&p, 5);
    assert_int_equal(fb_checkpoint_resume(world, folder, p.state), FB_OK);
    fb_state_digest(p.state, digest);
    int64_t at = p.number ? p.number - 100 : -1;
    end(&p);
    wait_for_all();
    return at;
}

/* --- the files --- */

/* Those of a rank (-1: of all), newest last; how many. */
static int copies(int rank, char paths[][512], int most)
{
    int n = 0;
    DIR *dir = opendir(memory);
    for (struct dirent *e; (e = readdir(dir));) {
        int r = -1;
        if (sscanf(e->d_name, "flambeau-%*16x-%*16x-%*d-%d-", &r) != 1 || (rank >= 0 && r != rank))
            continue;
        assert_true(n < most);
        snprintf(paths[n++], 512, "%s/%s", memory, e->d_name);
    }
    closedir(dir);
    return n;
}

static int64_t step_of(const char *path)
{
    fbi_mirror_head head;
    FILE *f = fopen(path, "rb");
    assert_int_equal(fread(&head, sizeof head, 1, f), 1);
    fclose(f);
    return head.step;
}

static void damage(const char *path)
{
    FILE *f = fopen(path, "r+b");
    fseek(f, -200, SEEK_END);
    int c = fgetc(f);
    fseek(f, -200, SEEK_END);
    fputc(c ^ 1, f);
    fclose(f);
}

static void remove_copies(int rank)
{
    char paths[16][512];
    int n = copies(rank, paths, 16);
    for (int i = 0; i < n; i++)
        unlink(paths[i]);
}

/* --- tests --- */

static program first;
static char digests[8][17], got[17];

static int set_up(void **unused)
{
    (void)unused;
    wait_for_all();
    share(folder);
    heard[0] = '\0';
    begin(&first, 5);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    wait_for_all();
    assert_int_equal(fb_checkpoint_forget(world, folder), FB_OK);
    end(&first);
    wait_for_all();
    if (fb_world_root(world))
        remove_folder(folder);
    return 0;
}

static void a_copy_newer_than_the_disk_counts(void **unused)
{
    (void)unused;
    step(&first, 5);
    assert_int_equal(fb_checkpoint_save(world, folder, first.state), FB_OK);
    run(&first, 3, digests);
    assert_int_equal(resume(got), 4);
    assert_string_equal(got, digests[2]);
    assert_true(!fb_world_root(world) ||
                strstr(heard, "note: goes on from the copy of step 4 in "));
}

static void a_checkpoint_of_the_same_step_counts_more(void **unused)
{
    (void)unused;
    run(&first, 2, digests);
    assert_int_equal(fb_checkpoint_save(world, folder, first.state), FB_OK);
    assert_int_equal(resume(got), 2);
    assert_null(strstr(heard, "the copy of step"));
}

static void a_damaged_copy_gives_way_to_the_one_before(void **unused)
{
    (void)unused;
    char paths[16][512];
    run(&first, 5, digests);
    int n = copies(fb_world_rank(world), paths, 16);
    assert_int_equal(n, 2);
    for (int i = 0; i < n; i++)
        if (step_of(paths[i]) == 5)
            damage(paths[i]);
    wait_for_all();
    assert_int_equal(resume(got), 4);
    assert_string_equal(got, digests[3]);
}

static void a_half_written_copy_is_none(void **unused)
{
    (void)unused;
    char paths[16][512];
    run(&first, 2, digests);
    int n = copies(fb_world_rank(world), paths, 16);
    for (int i = 0; i < n; i++)
        if (step_of(paths[i]) == 2)
            assert_int_equal(truncate(paths[i], 5000), 0);
    wait_for_all();
    assert_int_equal(resume(got), 1);
    assert_string_equal(got, digests[0]);
}

static void any_node_that_is_left_will_do(void **unused)
{
    (void)unused;
    run(&first, 3, digests);
    int last = fb_world_size(world) - 1;
    if (fb_world_root(world))
        for (int r = 0; r < last; r++)
            remove_copies(r);
    wait_for_all();
    assert_int_equal(resume(got), 3);
    assert_string_equal(got, digests[2]);
}

static void a_copy_of_another_program_is_passed_over(void **unused)
{
    (void)unused;
    program other;
    run(&first, 3, digests);
    begin(&other, 6);
    assert_int_equal(fb_checkpoint_resume(world, folder, other.state), FB_OK);
    assert_int_equal(fb_optim_steps(other.opt), 0);
    end(&other);
    assert_true(!fb_world_root(world) || strstr(heard, "is of another program or model"));
}

static void copies_belong_to_a_folder_and_not_to_its_name(void **unused)
{
    (void)unused;
    char command[128], paths[32][512];
    run(&first, 3, digests);
    if (fb_world_root(world)) {
        snprintf(command, sizeof command, "rm -rf '%s'/*", folder);
        assert_int_equal(system(command), 0);
    }
    wait_for_all();
    assert_int_equal(resume(got), -1);
    assert_int_equal(copies(fb_world_rank(world), paths, 32), 2);
}

static void nothing_stays_after_the_end(void **unused)
{
    (void)unused;
    char paths[16][512];
    run(&first, 3, digests);
    assert_int_equal(fb_checkpoint_forget(world, folder), FB_OK);
    wait_for_all();
    assert_int_equal(copies(-1, paths, 16), 0);
    wait_for_all();
    run(&first, 1, digests); /* and it can begin anew */
    assert_int_equal(resume(got), 4);
}

static void bytes_of_the_program_are_those_of_rank_0(void **unused)
{
    (void)unused;
    run(&first, 1, digests);
    program p;
    begin(&p, 5);
    if (fb_world_root(world))
        remove_copies(0 == fb_world_size(world) - 1 ? 99 : 0);
    wait_for_all();
    assert_int_equal(fb_checkpoint_resume(world, folder, p.state), FB_OK);
    assert_string_equal(p.own, "rank 0");
    end(&p);
}

static void refuses(fb_status st, const char *text)
{
    assert_int_equal(st, FB_E_ARG);
    check_error(ctx, FB_E_ARG, text);
}

static void what_is_wrong_is_said(void **unused)
{
    (void)unused;
    int64_t n = 1;
    fb_state *bare = fb_state_open(ctx);
    fb_state_add_int(bare, "n", &n);
    assert_int_equal(fb_checkpoint_remember(NULL, folder, bare), FB_E_ARG);
    assert_int_equal(fb_checkpoint_forget(NULL, folder), FB_E_ARG);
    refuses(fb_checkpoint_remember(world, folder, bare), "needs a state with a loader");
    refuses(fb_checkpoint_remember(world, folder, NULL), "needs a state with a loader");
    refuses(fb_checkpoint_remember(world, NULL, bare), "a folder with a path of at most");
    refuses(fb_checkpoint_forget(world, ""), "a folder with a path of at most");
    fb_state_close(bare);
}

static void a_memory_that_cannot_be_had_is_a_warning(void **unused)
{
    (void)unused;
    setenv(FBI_MEMORY_DIR, "/nowhere/at/all", 1);
    run(&first, 2, digests);
    assert_non_null(strstr(heard, "warning: checkpoints in memory: /nowhere/at/all on "));
    assert_null(strstr(strstr(heard, "warning: checkpoints in memory") + 1, "warning")); /* once */
    assert_int_equal(resume(got), -1);
    setenv(FBI_MEMORY_DIR, memory, 1);
}

int main(int argc, char **argv)
{
    setenv("FLAMBEAU_RANKS_PER_NODE", "1", 1);
    world = fb_world_open_with(&argc, &argv, FB_OPTS(fb_world_options, .log = hear));
    ctx = fb_world_context(world);
    share(memory);
    setenv(FBI_MEMORY_DIR, memory, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_newer_than_the_disk_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_checkpoint_of_the_same_step_counts_more, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_copy_gives_way_to_the_one_before, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_half_written_copy_is_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(any_node_that_is_left_will_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_copy_of_another_program_is_passed_over, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(copies_belong_to_a_folder_and_not_to_its_name, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(nothing_stays_after_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_of_the_program_are_those_of_rank_0, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_wrong_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_memory_that_cannot_be_had_is_a_warning, set_up,
                                        tear_down),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    wait_for_all();
    if (fb_world_root(world))
        remove_folder(memory);
    fb_status st = fb_world_close(world);
    return failed || st;
}
