#include "core/base/log_priv.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

/* The one thing that is the process's and not a context's: there are lines before any context. */
static struct {
    pthread_mutex_t lock;
    fb_log_fn fn;
    void *user;
    int quiet; /* above 0: nothing goes to stderr */
} fbi_sink = {.lock = PTHREAD_MUTEX_INITIALIZER};

FB_API void fb_log_set(fb_log_fn fn, void *user)
{
    pthread_mutex_lock(&fbi_sink.lock);
    fbi_sink.fn = fn;
    fbi_sink.user = user;
    pthread_mutex_unlock(&fbi_sink.lock);
}

void fbi_log_quiet(bool quiet)
{
    pthread_mutex_lock(&fbi_sink.lock);
    fbi_sink.quiet += quiet ? 1 : -1;
    pthread_mutex_unlock(&fbi_sink.lock);
}

void fbi_logline(const char *fmt, ...)
{
    char line[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    pthread_mutex_lock(&fbi_sink.lock);
    fb_log_fn fn = fbi_sink.fn;
    void *user = fbi_sink.user;
    bool quiet = fbi_sink.quiet > 0;
    pthread_mutex_unlock(&fbi_sink.lock);
    if (fn)
        fn(line, user);
    else if (!quiet)
        fprintf(stderr, "flambeau: %s\n", line); /* one call: lines of ranks do not mix */
}
