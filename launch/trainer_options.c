/* Options by name: one table gives reading, checks, messages and --help. */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "launch/trainer_priv.h"

bool fbi_option_wrong(fbi_option_reader *r, const char *fmt, ...)
{
    if (r->wrong[0])
        return false;
    int n = snprintf(r->wrong, sizeof r->wrong, "%s: ", r->where);
    va_list args;
    va_start(args, fmt);
    vsnprintf(r->wrong + n, sizeof r->wrong - (size_t)n, fmt, args);
    va_end(args);
    return false;
}

void fbi_option_free(fbi_option_reader *r)
{
    for (int i = 0; i < r->n_texts; i++)
        free(r->texts[i]);
    free(r->texts);
    r->texts = NULL;
    r->n_texts = 0;
}

/* --- names --- */

enum { LONGEST_NAME = 64 };

static int least_of(int a, int b, int c)
{
    int least = a < b ? a : b;
    return least < c ? least : c;
}

/* How many letters must be changed, added or left out: Levenshtein, Soviet Physics Doklady 10. */
static int distance(const char *a, size_t n, const char *b)
{
    int row[LONGEST_NAME + 1];
    size_t m = strlen(b);
    if (m > LONGEST_NAME)
        return INT32_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int up = row[j], other = tolower((unsigned char)a[i - 1]) != b[j - 1];
            row[j] = least_of(up + 1, row[j - 1] + 1, diagonal + other);
            diagonal = up;
        }
    }
    return row[m];
}

const fb_option_group *fbi_option_group(fbi_option_reader *r, const char *name, size_t n)
{
    const fb_option_group *best = r->groups;
    for (const fb_option_group *g = r->groups; g->name; g++) {
        if (strlen(g->name) == n && !memcmp(g->name, name, n))
            return g;
        if (distance(name, n, g->name) < distance(name, n, best->name))
            best = g;
    }
    fbi_option_wrong(r, "there are no options \"%.*s\": did you mean \"%s\"?", (int)n, name,
                     best->name);
    return NULL;
}

const fb_option *fbi_option_find(fbi_option_reader *r, const fb_option_group *g, const char *name)
{
    const fb_option *best = g->rows;
    for (const fb_option *o = g->rows; o->name; o++) {
        if (!strcmp(o->name, name))
            return o;
        if (distance(name, strlen(name), o->name) < distance(name, strlen(name), best->name))
            best = o;
    }
    fbi_option_wrong(r, "there is no option \"%s.%s\": did you mean \"%s\"?", g->name, name,
                     best->name);
    return NULL;
}

/* --- values --- */

static void *field_of(const fb_option_group *g, const fb_option *row)
{
    return (char *)g->values + row->offset;
}

static void limits(const fb_option *row, char *text, size_t size)
{
    snprintf(text, size, row->most != 0 ? "from %g to %g" : "of at least %g", row->least,
             row->most);
}

static bool in_range(const fb_option *row, double x)
{
    return isfinite(x) && x >= row->least && (row->most == 0 || x <= row->most);
}

static const char *kind_text(const fb_option *row)
{
    return row->kind == FB_OPTION_COUNT  ? "a whole number"
           : row->kind == FB_OPTION_TIME ? "a time (seconds, m:ss or h:mm:ss)"
                                         : "a number";
}

static bool wrong_number(fbi_option_reader *r, const fb_option_group *g, const fb_option *row,
                         const char *text)
{
    char range[64];
    limits(row, range, sizeof range);
    return fbi_option_wrong(r, "%s.%s: \"%s\": %s %s is needed", g->name, row->name, text,
                            kind_text(row), range);
}

/* "1:02:03" as seconds; NaN: it is none. */
static double read_time(const char *text)
{
    double sum = 0;
    for (int part = 0; part < 4; part++) {
        char *end;
        double x = isdigit((unsigned char)*text) ? strtod(text, &end) : NAN;
        if (!(x >= 0))
            return NAN;
        sum = sum * 60 + x;
        if (!*end)
            return sum;
        if (*end != ':')
            return NAN;
        text = end + 1;
    }
    return NAN;
}

static bool put_number(fbi_option_reader *r, const fb_option_group *g, const fb_option *row,
                       const char *text)
{
    char *end = "";
    long long whole = 0;
    double x;
    if (row->kind == FB_OPTION_COUNT)
        x = (double)(whole = strtoll(text, &end, 10));
    else
        x = row->kind == FB_OPTION_TIME ? read_time(text) : strtod(text, &end);
    if (!*text || end == text || *end || !in_range(row, x))
        return wrong_number(r, g, row, text);
    if (row->kind == FB_OPTION_COUNT)
        *(int64_t *)field_of(g, row) = whole;
    else
        *(double *)field_of(g, row) = x;
    return true;
}

static bool put_flag(fbi_option_reader *r, const fb_option_group *g, const fb_option *row,
                     const char *text)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++)
        if (!strcmp(text, words[i])) {
            *(bool *)field_of(g, row) = i % 2;
            return true;
        }
    return fbi_option_wrong(r, "%s.%s: \"%s\": true or false is needed", g->name, row->name, text);
}

/* Number of a word, from 1; 0: there is no such word. */
static int word_number(const char *words, const char *text)
{
    size_t n = strlen(text);
    int i = 1;
    for (const char *w = words; *w; i++) {
        size_t length = strcspn(w, " ");
        if (length == n && !memcmp(w, text, n))
            return i;
        w += length + (w[length] == ' ');
    }
    return 0;
}

static bool put_choice(fbi_option_reader *r, const fb_option_group *g, const fb_option *row,
                       const char *text)
{
    int i = word_number(row->words, text);
    if (!i)
        return fbi_option_wrong(r, "%s.%s: \"%s\": one of %s is needed", g->name, row->name, text,
                                row->words);
    *(int *)field_of(g, row) = i;
    return true;
}

static bool put_text(fbi_option_reader *r, const fb_option_group *g, const fb_option *row,
                     const char *text)
{
    char **texts = realloc(r->texts, (size_t)(r->n_texts + 1) * sizeof *texts);
    char *copy = texts ? strdup(text) : NULL;
    if (texts)
        r->texts = texts;
    if (!copy)
        return fbi_option_wrong(r, "%s.%s: no memory", g->name, row->name);
    r->texts[r->n_texts++] = copy;
    *(const char **)field_of(g, row) = *copy ? copy : NULL;
    return true;
}

bool fbi_option_put(fbi_option_reader *r, const fb_option_group *g, const fb_option *row,
                    const char *text)
{
    switch (row->kind) {
    case FB_OPTION_COUNT:
    case FB_OPTION_NUMBER:
    case FB_OPTION_TIME:
        return put_number(r, g, row, text);
    case FB_OPTION_TEXT:
        return put_text(r, g, row, text);
    case FB_OPTION_FLAG:
        return put_flag(r, g, row, text);
    case FB_OPTION_CHOICE:
        return put_choice(r, g, row, text);
    }
    return fbi_option_wrong(r, "%s.%s: the table has no such kind: %d", g->name, row->name,
                            (int)row->kind);
}

/* --- the command line --- */

bool fbi_option_assign(fbi_option_reader *r, const char *text)
{
    char name[LONGEST_NAME];
    size_t n = strcspn(text, "="), dot = strcspn(text, ".");
    snprintf(r->where, sizeof r->where, "--set %s", text);
    if (dot >= n || n - dot > sizeof name)
        return fbi_option_wrong(r, "GROUP.NAME=VALUE is needed, e.g. trainer.max_steps=100");
    const fb_option_group *g = fbi_option_group(r, text, dot);
    snprintf(name, sizeof name, "%.*s", (int)(n - dot - 1), text + dot + 1);
    const fb_option *row = g ? fbi_option_find(r, g, name) : NULL;
    if (!row)
        return false;
    if (!text[n] && row->kind != FB_OPTION_FLAG)
        return fbi_option_wrong(r, "%s.%s needs a value: %s.%s=VALUE", g->name, name, g->name,
                                name);
    return fbi_option_put(r, g, row, text[n] ? text + n + 1 : "true");
}

static const char *kind_word(const fb_option *row)
{
    static const char *const words[] = {"", "N", "X", "[[H:]M:]S", "TEXT", "true", "one of "};
    return words[row->kind];
}

void fbi_option_help(const fb_option_group *groups, FILE *to)
{
    for (const fb_option_group *g = groups; g->name; g++) {
        fprintf(to, "\noptions of \"%s\":\n", g->name);
        for (const fb_option *row = g->rows; row->name; row++) {
            char left[96];
            snprintf(left, sizeof left, "%s.%s=%s", g->name, row->name, kind_word(row));
            fprintf(to, "  %-34s %s%s%s\n", left, row->words ? row->words : "",
                    row->words ? ": " : "", row->about ? row->about : "");
        }
    }
}

static void print_help(const fbi_option_reader *r, const char *program, const char *about)
{
    const char *slash = strrchr(program, '/');
    printf("usage: %s [--config FILE] [--set GROUP.NAME=VALUE] ...\n%s%s",
           slash ? slash + 1 : program, about ? about : "", about ? "\n" : "");
    printf("\n  --config FILE              options from a YAML file: GROUP: {NAME: VALUE}\n"
           "  --set GROUP.NAME=VALUE     one option; wins over files\n"
           "  --help                     this text (--set help gives it, too)\n");
    fbi_option_help(r->groups, stdout);
}

/* Under a launcher one rank is enough. */
static bool speaks(void)
{
    static const char *const ranks[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK",
                                        "SLURM_PROCID"};
    for (int i = 0; i < (int)(sizeof ranks / sizeof *ranks); i++) {
        const char *rank = getenv(ranks[i]);
        if (rank)
            return !strcmp(rank, "0");
    }
    return true;
}

/* The value of "--set X" and "--set=X" at argv[i]; NULL: another argument, or *missing. */
static const char *value_of(const char *name, int argc, char **argv, int *i, bool *missing)
{
    size_t n = strlen(name);
    if (strncmp(argv[*i], name, n) != 0)
        return NULL;
    if (argv[*i][n] == '=')
        return argv[*i] + n + 1;
    if (argv[*i][n])
        return NULL;
    *missing = *i + 1 >= argc;
    return *missing ? NULL : argv[++*i];
}

typedef struct arguments {
    int argc;
    char **argv;
    int kept;
    bool keep, help;
} arguments;

/* A file is read in the first pass, single options in the second: they win wherever they stand. */
static bool take(fbi_option_reader *r, arguments *a, int *i, bool files)
{
    bool missing = false;
    const char *arg = a->argv[*i];
    const char *file = value_of("--config", a->argc, a->argv, i, &missing);
    const char *set = file || missing ? NULL : value_of("--set", a->argc, a->argv, i, &missing);
    snprintf(r->where, sizeof r->where, "%s", arg);
    if (missing)
        return fbi_option_wrong(r, "a value is needed: --config FILE, --set GROUP.NAME=VALUE");
    if (file)
        return !files || fbi_yaml_read(r, file);
    if (set && !strcmp(set, "help"))
        return a->help = true;
    if (set)
        return files || fbi_option_assign(r, set);
    if (!a->keep && !strcmp(arg, "--help"))
        return a->help = true;
    if (!a->keep)
        return fbi_option_wrong(r, "there is no such argument: --config FILE, --set "
                                   "GROUP.NAME=VALUE and --help are known");
    if (!files)
        a->argv[a->kept++] = a->argv[*i];
    return true;
}

bool fbi_option_arguments(fbi_option_reader *r, int *argc, char **argv, const char *about,
                          bool keep, bool *helped)
{
    arguments a = {.argc = *argc, .argv = argv, .kept = 1, .keep = keep};
    for (int pass = 0; pass < 2; pass++)
        for (int i = 1; i < a.argc; i++)
            if (!take(r, &a, &i, pass == 0))
                return false;
    if (a.help && speaks())
        print_help(r, argv[0], about);
    *helped = a.help;
    argv[a.kept] = NULL;
    *argc = a.kept;
    return !a.help;
}

/* --- values from C --- */

static bool check_row(fbi_option_reader *r, const fb_option_group *g, const fb_option *row)
{
    const void *at = field_of(g, row);
    char text[32];
    bool whole = row->kind == FB_OPTION_COUNT;
    if (row->kind == FB_OPTION_CHOICE) {
        int words = 1, i = *(const int *)at;
        for (const char *w = row->words; *w; w++)
            words += *w == ' ';
        return (i >= 0 && i <= words) ||
               fbi_option_wrong(r, "%s.%s: %d: 0 or one of %d values is needed: %s", g->name,
                                row->name, i, words, row->words);
    }
    if (!whole && row->kind != FB_OPTION_NUMBER && row->kind != FB_OPTION_TIME)
        return true;
    double x = whole ? (double)*(const int64_t *)at : *(const double *)at;
    snprintf(text, sizeof text, "%.15g", x);
    return x == 0 || in_range(row, x) || wrong_number(r, g, row, text);
}

bool fbi_option_check(fbi_option_reader *r, const fb_option_group *g)
{
    snprintf(r->where, sizeof r->where, "options");
    for (const fb_option *row = g->rows; row->name; row++)
        if (!check_row(r, g, row))
            return false;
    return true;
}
