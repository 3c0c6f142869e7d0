/* The first error stays, the context is off, closing prints it with its place. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <flambeau/core/base/log.h>
#include <flambeau/core/tensor/tensor.h>

#include "core/tensor/context_priv.h"

static char printed[4096];

static void listen(const char *line, void *user)
{
    (void)user;
    strncat(printed, line, sizeof printed - strlen(printed) - 1);
}

static int open_context(void **state)
{
    printed[0] = '\0';
    fb_log_set(listen, NULL);
    *state = fb_context_open(NULL);
    return *state ? 0 : -1;
}

static int stop_listening(void **state)
{
    (void)state;
    fb_log_set(NULL, NULL);
    return 0;
}

static void the_first_error_stays_until_it_is_taken(void **state)
{
    fb_context *ctx = *state;
    assert_true(fb_ok(ctx));
    assert_string_equal(fb_error_message(ctx), "");
    assert_int_equal(fb_fail(ctx, FB_E_USER, "first: %d", 1), FB_E_USER);
    assert_int_equal(fb_fail(ctx, FB_E_IO, "second"), FB_E_IO);
    assert_false(fb_ok(ctx));
    assert_int_equal(fb_status_of(ctx), FB_E_USER);
    assert_string_equal(fb_error_message(ctx), "first: 1");
    float v = 0;
    assert_null(fb_from(ctx, FB_F32, FB_SCALAR, &v));
    char msg[6];
    assert_int_equal(fb_error_take(ctx, msg, sizeof msg), FB_E_USER);
    assert_string_equal(msg, "first");
    assert_true(fb_ok(ctx));
    assert_non_null(fb_from(ctx, FB_F32, FB_SCALAR, &v));
    assert_int_equal(fb_context_close(ctx), FB_OK);
    assert_string_equal(printed, "");
}

static void closing_prints_the_error_with_its_place_and_returns_it(void **state)
{
    fb_context *ctx = *state;
    assert_int_equal(fb_fail(ctx, FB_E_SHAPE, "sum: nothing fits"), FB_E_SHAPE);
    assert_int_equal(fb_context_close(ctx), FB_E_SHAPE);
    assert_non_null(strstr(printed, "sum: nothing fits (at "));
    assert_non_null(strstr(printed, "+0x"));
}

static void a_label_replaces_the_place(void **state)
{
    fb_context *ctx = *state;
    fb_context_label(ctx, "train.py:88");
    fb_fail(ctx, FB_E_SHAPE, "sum: nothing fits");
    fb_context_label(ctx, NULL);
    fb_context_close(ctx);
    assert_string_equal(printed, "sum: nothing fits (at train.py:88)");
}

static void *poison(void *ctx)
{
    fbi_context_poison(ctx, FB_E_COMM, "rank 3: gone");
    fbi_context_poison(ctx, FB_E_IO, "later");
    return NULL;
}

static void an_error_of_another_thread_arrives_at_the_next_call(void **state)
{
    fb_context *ctx = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, poison, ctx), 0);
    pthread_join(thread, NULL);
    assert_int_equal(fb_context_sync(ctx), FB_E_COMM);
    assert_string_equal(fb_error_message(ctx), "rank 3: gone");
    fb_error_take(ctx, NULL, 0);
    assert_int_equal(fb_context_sync(ctx), FB_OK);
    assert_int_equal(fb_context_close(ctx), FB_OK);
}

static void *use(void *ctx)
{
    float v = 0;
    return fb_from(ctx, FB_F32, FB_SCALAR, &v);
}

static void a_second_thread_is_refused(void **state)
{
    fb_context *ctx = *state;
    pthread_t thread;
    void *result = ctx;
    assert_int_equal(pthread_create(&thread, NULL, use, ctx), 0);
    pthread_join(thread, &result);
    assert_null(result);
    assert_int_equal(fb_context_sync(ctx), FB_E_STATE);
    assert_non_null(strstr(fb_error_message(ctx), "second thread"));
    fb_context_close(ctx);
}

static void other_versions_and_unknown_devices_are_refused_in_words(void **state)
{
    assert_int_equal(fb_context_close(*state), FB_OK);
    assert_null(fb_context_open_v(NULL, FB_VERSION + 1));
    assert_non_null(strstr(printed, "compile it again"));
    printed[0] = '\0';
    assert_null(fb_context_open(&(fb_context_options){.device = "abacus"}));
    assert_non_null(strstr(printed, "abacus"));
}

static int closed[3], n_closed;
static void note(void *object)
{
    closed[n_closed++] = *(int *)object;
}

static void objects_are_closed_newest_first_and_forgotten_ones_not(void **state)
{
    fb_context *ctx = *state;
    int ids[] = {1, 2, 3};
    n_closed = 0;
    for (int i = 0; i < 3; i++)
        assert_int_equal(fbi_context_adopt(ctx, &ids[i], note), FB_OK);
    fbi_context_forget(ctx, &ids[1]);
    fb_context_close(ctx);
    assert_int_equal(n_closed, 2);
    assert_int_equal(closed[0], 3);
    assert_int_equal(closed[1], 1);
}

static void random_streams_depend_on_seed_step_and_leaf_alone(void **state)
{
    fb_context *ctx = *state;
    fbi_rng_stream a = fbi_next_stream(ctx), b = fbi_next_stream(ctx);
    assert_true(a.stream != b.stream || a.key != b.key);
    assert_int_equal(fb_manual_seed(ctx, 0), FB_OK);
    fbi_rng_stream again = fbi_next_stream(ctx);
    assert_true(again.key == a.key && again.stream == a.stream);
    fb_batch_info info = {.step = 4, .shard = 2, .share = 0.5};
    assert_int_equal(fb_context_batch(ctx, &info), FB_OK);
    fbi_rng_state saved = fbi_rng_save(ctx);
    fbi_rng_stream c = fbi_next_stream(ctx), d = fbi_next_stream(ctx);
    assert_true(c.key == d.key && c.stream != d.stream && c.key != a.key);
    fbi_rng_restore(ctx, saved);
    fbi_rng_stream e = fbi_next_stream(ctx);
    assert_true(e.key == c.key && e.stream == c.stream);
    info.share = 2;
    assert_int_equal(fb_context_batch(ctx, &info), FB_E_ARG);
    assert_non_null(strstr(fb_error_message(ctx), "share is 2"));
    fb_context_close(ctx);
}

static void null_is_answered_and_never_followed(void **state)
{
    assert_int_equal(fb_context_close(*state), FB_OK);
    assert_int_equal(fb_context_close(NULL), FB_E_ARG);
    assert_int_equal(fb_status_of(NULL), FB_E_ARG);
    assert_false(fb_ok(NULL));
    assert_int_equal(fb_context_sync(NULL), FB_E_ARG);
    assert_null(fb_keep(NULL));
    fb_release(NULL);
    fb_drop(NULL);
    assert_int_equal(fb_numel(NULL), 1);
    assert_int_equal(fb_read(NULL, NULL, 0), FB_E_ARG);
    assert_string_equal(fb_status_name((fb_status)63), "unknown status");
    assert_string_equal(fb_status_name(FB_E_STALE), "FB_E_STALE");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_context, stop_listening)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_error_stays_until_it_is_taken),
        TEST(closing_prints_the_error_with_its_place_and_returns_it),
        TEST(a_label_replaces_the_place),
        TEST(an_error_of_another_thread_arrives_at_the_next_call),
        TEST(a_second_thread_is_refused),
        TEST(other_versions_and_unknown_devices_are_refused_in_words),
        TEST(objects_are_closed_newest_first_and_forgotten_ones_not),
        TEST(random_streams_depend_on_seed_step_and_leaf_alone),
        TEST(null_is_answered_and_never_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
