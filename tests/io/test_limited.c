/* timeout: 240
 * Work in a limited child: what crashes or does not end is a message. So are files that HDF5 does
 * not survive. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io/dataset_priv.h"
#include "io/file_priv.h"
#include "io/limited_priv.h"
#include "tests/io/forgets_priv.h"
#include "tests/io/io_test_priv.h"

static const fbi_limits small = {1, 64 << 20};

static bool answers(void *arg)
{
    return *(int *)arg == 7;
}

static bool crashes(void *arg)
{
    raise(*(int *)arg);
    return true;
}

static bool ends(void *arg)
{
    _exit(*(int *)arg);
    return true;
}

static bool spins(void *arg)
{
    for (volatile unsigned *n = arg;;)
        ++*n;
    return true;
}

static bool writes_a_file(void *arg)
{
    int fd = open(arg, O_WRONLY | O_CREAT, 0666);
    return write(fd, "x", 1) == 1;
}

/* Whether there is so much address space. */
static bool takes(void *arg)
{
    void *p =
        mmap(NULL, *(size_t *)arg, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED;
}

static void a_child_that_returns_gives_its_answer(void **state)
{
    (void)state;
    char text[128] = "";
    for (int n = 6; n < 8; n++) {
        bool result = n != 7;
        assert_true(fbi_limited(answers, &n, small, &result, text, sizeof text));
        assert_int_equal(result, n == 7);
    }
    assert_string_equal(text, "");
}

static void a_child_that_crashes_is_a_message(void **state)
{
    (void)state;
    static const struct {
        int by;
        const char *text;
    } cases[] = {{SIGSEGV, "crashes (Segmentation fault)"},
                 {SIGABRT, "crashes (Aborted)"},
                 {SIGKILL, "crashes (Killed)"}};
    for (int i = 0; i < 3; i++) {
        char text[128] = "";
        int by = cases[i].by;
        bool result;
        assert_false(fbi_limited(crashes, &by, small, &result, text, sizeof text));
        assert_string_equal(text, cases[i].text);
    }
}

static void a_child_that_ends_itself_gives_no_answer(void **state)
{
    (void)state;
    char text[128] = "";
    bool result;
    for (int code = 0; code < 2; code++)
        assert_false(fbi_limited(ends, &code, small, &result, text, sizeof text));
    assert_string_equal(text, "ends with exit code 1");
}

static void a_child_that_does_not_end_is_ended(void **state)
{
    (void)state;
    char text[128] = "";
    unsigned n = 0;
    bool result;
    assert_false(fbi_limited(spins, &n, small, &result, text, sizeof text));
    assert_string_equal(text, "does not return within 1 seconds");
}

static void a_child_has_little_memory_and_writes_nothing(void **state)
{
    (void)state;
    char text[128], path[128];
    size_t little = 16 << 20, much = (size_t)1 << 30;
    bool result = false;
    assert_true(fbi_limited(takes, &little, small, &result, text, sizeof text));
    assert_true(result);
    assert_true(fbi_limited(takes, &much, small, &result, text, sizeof text));
    assert_false(result);
    snprintf(path, sizeof path, "/tmp/flambeau-limited-%ld", (long)getpid());
    assert_false(fbi_limited(writes_a_file, path, small, &result, text, sizeof text));
    assert_string_equal(text, "crashes (File size limit exceeded)");
    assert_int_equal(unlink(path), 0); /* empty */
}

/* --- HDF5 --- */

static void files_that_are_whole_or_none_of_hdf5_pass(void **state)
{
    (void)state;
    char folder[64], head[128], text[256] = "";
    make_folder(folder);
    fb_context *ctx = check_open(1);
    snprintf(head, sizeof head, "%s/train.h5", folder);
    make_dataset(ctx, head);
    assert_true(fbi_h5_probe(head, text, sizeof text));
    assert_true(fbi_h5_probe("/proc/nowhere", text, sizeof text));
    assert_true(fbi_h5_probe("/proc/self/exe", text, sizeof text));
    assert_string_equal(text, "");
    check_close(ctx);
    remove_folder(folder);
}

/* A head without its checksum is taken for one of another program. Whatever a flipped bit makes of
 * it, opening it ends, and this process lives. */
static void a_head_that_hdf5_may_not_survive_is_opened_or_refused(void **state)
{
    (void)state;
    enum { SEAL = 32, FLIPS = 60 };
    char folder[64], head[128];
    make_folder(folder);
    fb_context *ctx = check_open(1);
    snprintf(head, sizeof head, "%s/train.h5", folder);
    make_dataset(ctx, head);
    int fd = open(head, O_RDWR), refused = 0, tried = 0;
    off_t bytes = lseek(fd, 0, SEEK_END) - SEAL;
    assert_int_equal(ftruncate(fd, bytes), 0);
    for (off_t at = 0; at < bytes && tried < FLIPS; at += 1 + bytes / 40000) {
        unsigned char byte, other;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        if (!byte)
            continue;
        other = (unsigned char)(byte ^ 0x10);
        assert_int_equal(pwrite(fd, &other, 1, at), 1);
        fb_dataset *ds = fb_dataset_open(ctx, head);
        if (ds)
            fb_dataset_close(ds);
        else
            check_error(ctx, fb_status_of(ctx), head);
        refused += ds == NULL;
        tried++;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    assert_true(refused > FLIPS / 4);
    close(fd);
    fb_dataset *ds = fb_dataset_open(ctx, head);
    assert_non_null(ds);
    fb_dataset_close(ds);
    check_close(ctx);
    remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_that_returns_gives_its_answer),
        cmocka_unit_test(a_child_that_crashes_is_a_message),
        cmocka_unit_test(a_child_that_ends_itself_gives_no_answer),
        cmocka_unit_test(a_child_that_does_not_end_is_ended),
        cmocka_unit_test(a_child_has_little_memory_and_writes_nothing),
        cmocka_unit_test(files_that_are_whole_or_none_of_hdf5_pass),
        cmocka_unit_test(a_head_that_hdf5_may_not_survive_is_opened_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
