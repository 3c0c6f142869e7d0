#include "options.h"

#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 32, FIRST = 256, HELP = 255, TRAINERS = 254, OWN = 3 };

/* "chargpt" of "build/bin/chargpt". */
static const char *name_of(const char *program)
{
    const char *slash = strrchr(program, '/');
    return slash ? slash + 1 : program;
}

bool options_refuse(const char *program, int *exit_code, const char *fmt, ...)
{
    va_list args;
    fprintf(stderr, "%s: ", name_of(program));
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, " (%s --help tells more)\n", name_of(program));
    *exit_code = 2;
    return false;
}

static void print_default(const option_row *row)
{
    if (row->kind == OPTION_COUNT && *(int64_t *)row->value)
        printf(" (%lld)", (long long)*(int64_t *)row->value);
    else if (row->kind == OPTION_NUMBER)
        printf(" (%g)", *(double *)row->value);
}

static void print_help(const char *program, const char *about, const option_row *rows)
{
    printf("usage: %s", name_of(program));
    for (const option_row *row = rows; row->name; row++)
        if (row->needed)
            printf(" --%s %s", row->name, row->argument);
    printf(" [options]\n%s\n\n", about);
    for (const option_row *row = rows; row->name; row++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", row->name, row->argument ? row->argument : "");
        printf("  %-20s %s", left, row->about);
        print_default(row);
        printf("\n");
    }
    printf("  --config FILE        options of the trainer from a YAML file\n"
           "  --set trainer.X=Y    one option of the trainer; --set help lists them\n");
}

static bool in_range(const option_row *row, double value)
{
    return value >= row->least && (row->most == 0 || value <= row->most);
}

static bool take(const option_row *row, const char *text, const char *program, int *exit_code)
{
    char *end = "";
    double number = 0;
    switch (row->kind) {
    case OPTION_TEXT:
        *(const char **)row->value = text;
        return true;
    case OPTION_FLAG:
        *(bool *)row->value = true;
        return true;
    case OPTION_COUNT:
        *(int64_t *)row->value = strtoll(text, &end, 10);
        number = (double)*(int64_t *)row->value;
        break;
    case OPTION_NUMBER:
        number = *(double *)row->value = strtod(text, &end);
        break;
    }
    if (end != text && !*end && isfinite(number) && in_range(row, number))
        return true;
    char limits[64];
    snprintf(limits, sizeof limits, row->most ? "from %g to %g" : "of at least %g", row->least,
             row->most);
    return options_refuse(program, exit_code, "--%s %s: a %snumber %s is needed", row->name, text,
                          row->kind == OPTION_COUNT ? "whole " : "", limits);
}

static bool all_there(const option_row *rows, const char *program, int *exit_code)
{
    for (const option_row *row = rows; row->name; row++)
        if (row->needed && !*(const char **)row->value)
            return options_refuse(program, exit_code, "--%s %s is needed: %s", row->name,
                                  row->argument, row->about);
    return true;
}

bool options_parse(const char *about, const option_row *rows, int argc, char **argv, int *exit_code)
{
    struct option options[MAX_OPTIONS + OWN + 1] = {{"help", no_argument, NULL, HELP},
                                                    {"set", required_argument, NULL, TRAINERS},
                                                    {"config", required_argument, NULL, TRAINERS}};
    for (int i = 0; i < MAX_OPTIONS && rows[i].name; i++)
        options[i + OWN] = (struct option){
            rows[i].name, rows[i].kind == OPTION_FLAG ? no_argument : required_argument, NULL,
            FIRST + i};
    opterr = 0; /* we say it ourselves */
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == HELP) {
            print_help(argv[0], about, rows);
            *exit_code = 0;
            return false;
        }
        if (c == TRAINERS)
            continue; /* fb_trainer_open reads it */
        if (c < FIRST)
            return options_refuse(argv[0], exit_code,
                                  "%s: there is no such option, or its value is missing",
                                  argv[optind - 1]);
        if (!take(&rows[c - FIRST], optarg, argv[0], exit_code))
            return false;
    }
    if (optind < argc)
        return options_refuse(argv[0], exit_code, "%s: every argument begins with --",
                              argv[optind]);
    return all_there(rows, argv[0], exit_code);
}
