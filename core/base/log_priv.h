/* Writing a line to the log. */
#ifndef FLAMBEAU_CORE_BASE_LOG_PRIV_H
#define FLAMBEAU_CORE_BASE_LOG_PRIV_H

#include <flambeau/core/base/log.h>

/* One line, printf style; on stderr it begins with "flambeau: ". */
void fbi_logline(const char *fmt, ...) FB_PRINTF(1, 2);

/* Whether lines without a function to receive them are dropped, for guests in another program.
 * Calls with true and false come in pairs. */
void fbi_log_quiet(bool quiet);

#endif
