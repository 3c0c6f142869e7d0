/* What every test uses: cmocka, a context, and reading an error's message. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <flambeau/core/tensor/context.h>
#include <flambeau/core/tensor/tensor.h>

static inline fb_context *check_open_on(const char *device, int threads)
{
    fb_context_options options = {.device = device, .threads = threads};
    fb_context *ctx = fb_context_open(&options);
    assert_non_null(ctx);
    return ctx;
}

/* A CPU context with `threads` threads. */
static inline fb_context *check_open(int threads)
{
    return check_open_on("cpu", threads);
}

/* The same on the device that the test run is about: FLAMBEAU_DEVICE, by default the CPU. */
static inline fb_context *check_open_device(int threads)
{
    const char *device = getenv("FLAMBEAU_DEVICE");
    return check_open_on(device ? device : "cpu", threads);
}

/* The context holds an error of this status whose message contains `text`; clears it. */
static inline void check_error(fb_context *ctx, fb_status status, const char *text)
{
    char message[1024];
    fb_status got = fb_error_take(ctx, message, sizeof message);
    if (got != status || !strstr(message, text))
        fail_msg("wanted %s with \"%s\", got %s: \"%s\"", fb_status_name(status), text,
                 fb_status_name(got), message);
}

/* No error so far, or the test fails with its message. */
static inline void check_ok(fb_context *ctx)
{
    if (!fb_ok(ctx))
        fail_msg("unexpected error: %s", fb_error_message(ctx));
}

/* Close a context that must have no error. */
static inline void check_close(fb_context *ctx)
{
    check_ok(ctx);
    assert_int_equal(fb_context_close(ctx), FB_OK);
}

/* The elements of t, read from wherever it is: valid for the next three calls. */
static inline const void *check_data(fb_tensor *t)
{
    static void *ring[4];
    static unsigned at;
    size_t bytes = (size_t)fb_numel(t) * fb_dtype_size(fb_dtype_of(t));
    void **place = &ring[at++ % 4];
    free(*place);
    *place = malloc(bytes + 1);
    assert_non_null(*place);
    if (fb_read(t, *place, bytes))
        fail_msg("cannot read a tensor: %s", fb_error_message(fb_context_of(t)));
    return *place;
}

#endif
