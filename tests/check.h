/* What every test includes: cmocka, and reading of messages. */
#ifndef FLAMBEAU_TESTS_CHECK_H
#define FLAMBEAU_TESTS_CHECK_H

#include <flambeau/core/tensor/context.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A CPU context with two threads; the test fails if there is none. */
static inline fb_context *check_context(void)
{
    fb_context_options options = {.device = "cpu", .seed = 1, .threads = 2};
    fb_context *ctx = fb_context_open(&options);
    assert_non_null(ctx);
    return ctx;
}

/* Nothing has gone wrong on this context; prints what has. */
static inline void check_ok(fb_context *ctx)
{
    if (!fb_ok(ctx))
        fail_msg("unexpected error: %s", fb_error_message(ctx));
}

/* Take the first error: it has this status, and its message contains this text. */
static inline void check_error(fb_context *ctx, fb_status status, const char *text)
{
    char message[1024] = "";
    fb_status got = fb_error_take(ctx, message, sizeof message);
    if (got != status)
        fail_msg("wanted %s, got %s: %s", fb_status_name(status), fb_status_name(got), message);
    if (!strstr(message, text))
        fail_msg("wanted a message with \"%s\", got \"%s\"", text, message);
}

/* Close a context that must have no error. */
static inline void check_close(fb_context *ctx)
{
    check_ok(ctx);
    assert_int_equal(fb_context_close(ctx), FB_OK);
}

#endif
