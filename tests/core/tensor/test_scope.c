/* Scopes, keeping, dropping, retaining, slots, and what a stale handle says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <flambeau/core/base/log.h>
#include <flambeau/core/tensor/tensor.h>

static int open_context(void **state)
{
    *state = fb_context_open(NULL);
    return *state ? 0 : -1;
}

static int close_context(void **state)
{
    fb_status st = fb_context_close(*state);
    return st == FB_OK ? 0 : -1;
}

static fb_tensor *number(fb_context *ctx, float value)
{
    return fb_from(ctx, FB_F32, FB_SCALAR, &value);
}

static int64_t handles(fb_context *ctx)
{
    fb_memory_stats s;
    assert_int_equal(fb_memory_stats_of(ctx, &s), FB_OK);
    return s.handles;
}

static void expect(fb_context *ctx, fb_status status, const char *text)
{
    char msg[1024];
    assert_int_equal(fb_error_take(ctx, msg, sizeof msg), status);
    if (!strstr(msg, text))
        fail_msg("\"%s\" does not contain \"%s\"", msg, text);
}

static void the_end_of_a_scope_releases_what_was_made_in_it(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *outside = number(ctx, 1);
    for (int i = 0; i < 1000; i++) {
        FB_SCOPE(ctx);
        assert_non_null(number(ctx, 2));
        assert_int_equal(handles(ctx), 2);
        if (i % 2)
            continue;
    }
    assert_int_equal(handles(ctx), 1);
    assert_true(fb_item(outside) == 1);
}

static fb_tensor *made_inside(fb_context *ctx, float v)
{
    FB_SCOPE(ctx);
    assert_non_null(number(ctx, 0));
    return fb_keep(number(ctx, v));
}

static void a_kept_tensor_moves_exactly_one_scope_up(void **state)
{
    fb_context *ctx = *state;
    fb_scope outer = fb_scope_begin(ctx);
    fb_tensor *t = made_inside(ctx, 5);
    assert_int_equal(handles(ctx), 1);
    assert_true(fb_item(t) == 5);
    fb_scope_end(&outer);
    assert_int_equal(handles(ctx), 0);
}

static void keeping_an_argument_leaves_it_where_it_is(void **state)
{
    fb_context *ctx = *state;
    fb_scope outer = fb_scope_begin(ctx);
    fb_tensor *t = number(ctx, 3);
    fb_scope inner = fb_scope_begin(ctx);
    assert_ptr_equal(fb_keep(t), t);
    fb_scope_end(&inner);
    assert_true(fb_item(t) == 3);
    fb_scope_end(&outer);
    assert_int_equal(handles(ctx), 0);
}

static void keep_in_moves_over_several_scopes(void **state)
{
    fb_context *ctx = *state;
    fb_scope a = fb_scope_begin(ctx);
    fb_tensor *first = number(ctx, 1);
    fb_scope b = fb_scope_begin(ctx);
    fb_tensor *second = number(ctx, 2);
    fb_scope c = fb_scope_begin(ctx);
    fb_tensor *third = number(ctx, 3);
    fb_tensor *fourth = fb_keep_in(a, number(ctx, 4));
    assert_true(fb_item(third) == 3);
    fb_scope_end(&c);
    assert_true(fb_item(second) == 2);
    assert_int_equal(handles(ctx), 3);
    fb_scope_end(&b);
    assert_true(fb_item(first) == 1 && fb_item(fourth) == 4);
    assert_int_equal(handles(ctx), 2);
    assert_ptr_equal(fb_keep_in(b, fourth), fourth);
    expect(ctx, FB_E_ARG, "keep_in: the scope has ended");
    fb_scope_end(&a);
    assert_int_equal(handles(ctx), 0);
}

static void ending_an_outer_scope_ends_the_inner_ones(void **state)
{
    fb_context *ctx = *state;
    fb_scope outer = fb_scope_begin(ctx);
    fb_scope inner = fb_scope_begin(ctx);
    assert_non_null(number(ctx, 1));
    fb_scope_end(&outer);
    assert_int_equal(handles(ctx), 0);
    fb_scope_end(&inner);
    fb_scope_end(&outer);
    assert_true(fb_ok(ctx));
}

static void modes_end_with_their_scope(void **state)
{
    fb_context *ctx = *state;
    fb_scope s = fb_scope_begin(ctx);
    fb_no_grad(ctx);
    assert_false(fb_is_grad_enabled(ctx));
    fb_scope_end(&s);
    assert_true(fb_is_grad_enabled(ctx));
}

static void a_stale_handle_names_the_scope_that_released_it(void **state)
{
    fb_context *ctx = *state;
    fb_scope s = fb_scope_begin(ctx);
    fb_tensor *t = number(ctx, 1);
    fb_scope_end(&s);
    float v = 7;
    assert_int_equal(fb_read(t, &v, sizeof v), FB_E_STALE);
    assert_true(v == 0);
    expect(ctx, FB_E_STALE, "read: the tensor was released with the scope of ");
    assert_int_equal(fb_numel(t), 1);
    expect(ctx, FB_E_STALE, "numel: the tensor was released with the scope of ");
    assert_null(fb_data(t));
    expect(ctx, FB_E_STALE, "fb_keep");
}

static void a_dropped_handle_is_gone_at_once(void **state)
{
    fb_context *ctx = *state;
    fb_scope s = fb_scope_begin(ctx);
    fb_tensor *t = number(ctx, 1);
    fb_drop(t);
    assert_int_equal(handles(ctx), 0);
    fb_drop(t);
    expect(ctx, FB_E_STALE, "drop: the tensor was released before");
    fb_scope_end(&s);
}

static void retain_outlives_scopes_and_release_is_checked(void **state)
{
    fb_context *ctx = *state;
    fb_scope s = fb_scope_begin(ctx);
    fb_tensor *t = fb_retain(number(ctx, 6));
    fb_scope_end(&s);
    assert_true(fb_item(t) == 6);
    fb_drop(t);
    expect(ctx, FB_E_STATE, "drop: no scope holds the tensor");
    fb_release(t);
    assert_int_equal(handles(ctx), 0);
    fb_release(t);
    expect(ctx, FB_E_STALE, "release: the tensor was released before");
    fb_tensor *u = number(ctx, 1);
    fb_release(u);
    expect(ctx, FB_E_STATE, "release: the tensor [] was not retained");
    fb_drop(u);
}

static void a_slot_carries_a_tensor_through_a_loop(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *h = NULL;
    for (int i = 0; i < 10; i++) {
        FB_SCOPE(ctx);
        float v = h ? (float)fb_item(h) : 0;
        fb_set(&h, number(ctx, v + 1));
    }
    assert_true(fb_item(h) == 10);
    assert_int_equal(handles(ctx), 1);
    fb_set(&h, h);
    assert_true(fb_item(h) == 10);
    fb_tensor *gone = number(ctx, 2);
    fb_drop(gone);
    fb_set(&h, gone);
    expect(ctx, FB_E_STALE, "set: the tensor was released before");
    assert_true(fb_item(h) == 10);
    fb_set(&h, NULL);
    assert_null(h);
    assert_int_equal(handles(ctx), 0);
}

static void listen(const char *line, void *user)
{
    strcat(user, line);
}

static void closing_reports_what_is_still_retained(void **state)
{
    (void)state;
    char text[512] = "";
    fb_context *ctx = fb_context_open(NULL);
    fb_retain(number(ctx, 1));
    fb_log_set(listen, text);
    assert_int_equal(fb_context_close(ctx), FB_OK);
    fb_log_set(NULL, NULL);
    assert_non_null(strstr(text, "1 tensor was still retained"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_end_of_a_scope_releases_what_was_made_in_it),
        TEST(a_kept_tensor_moves_exactly_one_scope_up),
        TEST(keeping_an_argument_leaves_it_where_it_is),
        TEST(keep_in_moves_over_several_scopes),
        TEST(ending_an_outer_scope_ends_the_inner_ones),
        TEST(modes_end_with_their_scope),
        TEST(a_stale_handle_names_the_scope_that_released_it),
        TEST(a_dropped_handle_is_gone_at_once),
        TEST(retain_outlives_scopes_and_release_is_checked),
        TEST(a_slot_carries_a_tensor_through_a_loop),
        cmocka_unit_test(closing_reports_what_is_still_retained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
