/* What is said when the process itself goes wrong: SIGSEGV, SIGBUS, SIGFPE. */
#ifndef FLAMBEAU_CORE_BASE_CRASH_PRIV_H
#define FLAMBEAU_CORE_BASE_CRASH_PRIV_H

#include <stdbool.h>
#include <stdint.h>

/* Writes more lines, in a signal handler: with the functions below only. */
typedef void (*fbi_crash_fn)(void *self);

/* Whether all three have their default actions: nobody else wants to speak. */
bool fbi_crash_is_free(void);
/* Print a line that begins with `who`, what `more` says and a backtrace; then the default action
 * happens. One at a time; in place of whatever handlers there are. */
void fbi_crash_install(const char *who, fbi_crash_fn more, void *self);
/* The handlers that were there before. */
void fbi_crash_restore(void);

/* To stderr. */
void fbi_crash_put(const char *text);
void fbi_crash_number(uint64_t n);

#endif
