/* What the programs of this folder share: saying whether what they promise is so. */
#ifndef TESTS_PROGRAMS_EXPECT_H
#define TESTS_PROGRAMS_EXPECT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int failures;

/* One line, e.g. "yes: the loss falls from 1.1 to 0.2". */
static inline bool expect(bool so, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool expect(bool so, const char *fmt, ...)
{
    va_list args;
    fputs(so ? "yes: " : "NO: ", stdout);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    failures += !so;
    return so;
}

#endif
