/* Where the library's own lines go: warnings, and the error that a closing context prints. */
#ifndef FLAMBEAU_CORE_BASE_LOG_H
#define FLAMBEAU_CORE_BASE_LOG_H

#include <flambeau/core/base/status.h>

FB_BEGIN

/** Receives one line without its newline. May be called from any thread. */
typedef void (*fb_log_fn)(const char *line, void *user);

/**
 * Send the lines to `fn` instead of stderr; NULL: stderr again. Process-wide: call it before the
 * first context is opened.
 */
FB_API void fb_log_set(fb_log_fn fn, void *user);

FB_END
#endif
