/* The command lines of the examples: a table of options gives parsing, checks and --help. Options
 * of the trainer (--set, --config) are left to it. */
#ifndef EXAMPLES_OPTIONS_H
#define EXAMPLES_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum option_kind {
    OPTION_COUNT,  /* int64_t: a whole number, least to most */
    OPTION_NUMBER, /* double, least to most */
    OPTION_TEXT,   /* const char * */
    OPTION_FLAG    /* bool, without an argument */
} option_kind;

typedef struct option_row {
    const char *name; /* "steps" for --steps; NULL ends the table */
    option_kind kind;
    void *value; /* holds the default */
    const char *argument, *about;
    double least, most; /* most = 0: no limit */
    bool needed;
} option_row;

/* Fills the values. False: the program should end with *exit_code, everything has been said. */
bool options_parse(const char *about, const option_row *rows, int argc, char **argv,
                   int *exit_code);
/* Complain about what the rows cannot check: "PROGRAM: ...", false with exit code 2. */
bool options_refuse(const char *program, int *exit_code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
