/* Comma-separated values under a line of column names: one column is the target, columns of numbers
 * are the input, columns of words are categories. The file is read twice: to see what is in it, and
 * to convert it. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "launch/csv_priv.h"
#include "launch/import_priv.h"

enum { MOST_WORDS = 1 << 16 };
static const char missing_word[] = "(missing)";

typedef enum column_kind { UNKNOWN, NUMBERS, WORDS, LEFT_OUT } column_kind;

typedef struct column {
    char *name;
    column_kind kind;
    double sum;
    int64_t numbers;
    char **words; /* sorted */
    int64_t n_words;
} column;

typedef struct table {
    const fbi_import *job;
    fb_context *ctx;
    fbi_csv csv;
    column *columns;
    int n, target;
    int64_t rows; /* that are kept */
} table;

static bool wants(const table *t, const char *what)
{
    return t->job->missing && !strcmp(t->job->missing, what);
}

static bool is_missing(const char *cell)
{
    static const char *const words[] = {"", "NA", "N/A", "nan", "null", "none", "?"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(cell, words[i]))
            return true;
    return false;
}

static bool is_number(const char *cell, double *number)
{
    char *end;
    *number = strtod(cell, &end);
    return end != cell && !*end && isfinite(*number);
}

static bool bad_cell(const table *t, int i, const char *what)
{
    fb_fail(t->ctx, FB_E_IO, "import %s: line %lld, column %d (%.40s): \"%.40s\" %s",
            t->job->inputs[0], (long long)t->csv.line, i + 1, t->columns[i].name,
            fbi_csv_cell(&t->csv, i), what);
    return false;
}

/* --- the names of the columns --- */

static bool in_list(const fbi_names *names, const char *name)
{
    for (int i = 0; i < names->n; i++)
        if (!strcmp(names->name[i], name))
            return true;
    return false;
}

static int find_column(const table *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->columns[i].name, name))
            return i;
    return -1;
}

static bool check_names(table *t, const fbi_names *names, const char *option)
{
    for (int i = 0; i < names->n; i++)
        if (find_column(t, names->name[i]) < 0) {
            fb_fail(t->ctx, FB_E_NOT_FOUND, "import %s: %s %s: no column has this name",
                    t->job->inputs[0], option, names->name[i]);
            return false;
        }
    return true;
}

static bool read_names(table *t)
{
    const fbi_import *job = t->job;
    if (!fbi_csv_next(&t->csv)) {
        fb_fail(t->ctx, FB_E_IO, "import %s: %s", job->inputs[0],
                t->csv.error ? t->csv.error : "is empty");
        return false;
    }
    t->columns = calloc((size_t)t->csv.cells, sizeof *t->columns);
    bool good = t->columns != NULL;
    for (int i = 0; good && i < t->csv.cells; i++, t->n++) {
        column *c = &t->columns[i];
        c->name = strdup(fbi_csv_cell(&t->csv, i));
        good = c->name != NULL;
        if (good && in_list(&job->ignore, c->name))
            c->kind = LEFT_OUT;
        else if (good && in_list(&job->category, c->name))
            c->kind = WORDS;
    }
    if (!good) {
        fb_fail(t->ctx, FB_E_NOMEM, "import %s: no memory", job->inputs[0]);
        return false;
    }
    t->target = find_column(t, job->target);
    if (t->target < 0 || t->n < 2) {
        fb_fail(t->ctx, FB_E_NOT_FOUND,
                "import %s: no column \"%s\" beside others in its first line, which begins: %.80s",
                job->inputs[0], job->target, t->columns[0].name);
        return false;
    }
    return check_names(t, &job->ignore, "--ignore") && check_names(t, &job->category, "--category");
}

/* --- looking at the values --- */

/* Place of a word among the sorted ones, or where it would be. */
static int64_t place_of(const column *c, const char *word)
{
    int64_t low = 0, high = c->n_words;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (strcmp(c->words[middle], word) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool add_word(const table *t, column *c, const char *word)
{
    int64_t at = place_of(c, word);
    if (at < c->n_words && !strcmp(c->words[at], word))
        return true;
    if (c->n_words == MOST_WORDS) {
        fb_fail(t->ctx, FB_E_UNSUPPORTED,
                "import %s: line %lld: column %s has more than %d different words: leave it out "
                "with --ignore",
                t->job->inputs[0], (long long)t->csv.line, c->name, MOST_WORDS);
        return false;
    }
    if (!(c->n_words & (c->n_words - 1))) { /* room for the next power of two */
        size_t room = (size_t)(c->n_words ? 2 * c->n_words : 1);
        char **larger = realloc(c->words, room * sizeof *larger);
        c->words = larger ? larger : c->words;
        if (!larger)
            goto no_memory;
    }
    char *copy = strdup(word);
    if (!copy)
        goto no_memory;
    memmove(c->words + at + 1, c->words + at, (size_t)(c->n_words - at) * sizeof *c->words);
    c->words[at] = copy;
    c->n_words++;
    return true;
no_memory:
    fb_fail(t->ctx, FB_E_NOMEM, "import %s: no memory for words", t->job->inputs[0]);
    return false;
}

/* Any cell that is used and is missing. */
static bool row_is_missing(const table *t)
{
    for (int i = 0; i < t->n && i < t->csv.cells; i++)
        if (t->columns[i].kind != LEFT_OUT && is_missing(fbi_csv_cell(&t->csv, i)))
            return true;
    return false;
}

static bool look_at_missing(table *t, int i)
{
    column *c = &t->columns[i];
    if (i == t->target)
        return bad_cell(t, i, "is missing, and is the target: use --missing skip");
    if (!wants(t, "nan") && !wants(t, "mean"))
        return bad_cell(t, i, "is missing: use --missing nan, mean or skip");
    return c->kind != WORDS || add_word(t, c, missing_word);
}

/* The first value that is there says what a column holds. */
static bool look_at_cell(table *t, int i)
{
    column *c = &t->columns[i];
    const char *cell = fbi_csv_cell(&t->csv, i);
    double number;
    if (c->kind == LEFT_OUT)
        return true;
    if (is_missing(cell))
        return look_at_missing(t, i);
    bool numeric = is_number(cell, &number);
    if (c->kind == UNKNOWN)
        c->kind = numeric ? NUMBERS : WORDS;
    if (c->kind == WORDS)
        return add_word(t, c, cell);
    if (!numeric)
        return bad_cell(t, i, "is no number: use --category if this column holds names");
    c->sum += number;
    c->numbers++;
    return true;
}

static bool look_at_row(table *t)
{
    if (t->csv.cells != t->n) {
        fb_fail(t->ctx, FB_E_IO, "import %s: line %lld has %d columns, the first line names %d",
                t->job->inputs[0], (long long)t->csv.line, t->csv.cells, t->n);
        return false;
    }
    if (wants(t, "skip") && row_is_missing(t))
        return true;
    t->rows++;
    bool good = true;
    for (int i = 0; good && i < t->n; i++)
        good = look_at_cell(t, i);
    return good;
}

static bool stopped_well(table *t)
{
    if (!t->csv.error)
        return true;
    fb_fail(t->ctx, FB_E_IO, "import %s: line %lld: %s", t->job->inputs[0], (long long)t->csv.line,
            t->csv.error);
    return false;
}

static bool look(table *t)
{
    bool good = true;
    while (good && fbi_csv_next(&t->csv))
        good = look_at_row(t);
    good = good && stopped_well(t);
    for (int i = 0; good && i < t->n; i++) {
        column *c = &t->columns[i];
        if (c->kind == UNKNOWN)
            c->kind = NUMBERS; /* all are missing */
        /* Values may have been missing before the first word came. */
        if (c->kind == WORDS && i != t->target && (wants(t, "nan") || wants(t, "mean")))
            good = add_word(t, c, missing_word);
    }
    return good;
}

/* --- converting --- */

/* Room for one sample: numbers, then a number for each category, then the target. */
typedef struct sample {
    float *input;
    int64_t *codes, label;
    float value;
} sample;

static bool read_label(const table *t, sample *s)
{
    const column *c = &t->columns[t->target];
    const char *cell = fbi_csv_cell(&t->csv, t->target);
    double number;
    if (c->kind == WORDS) {
        s->label = place_of(c, cell);
        return true;
    }
    is_number(cell, &number);
    s->value = (float)number;
    if (t->job->float_target)
        return true;
    if (number != floor(number) || fabs(number) > 9e15)
        return bad_cell(t, t->target,
                        "is no whole number: use --labels-are float if it is not a class");
    s->label = (int64_t)number;
    return true;
}

static bool read_sample(const table *t, sample *s)
{
    int numbers = 0, codes = 0;
    for (int i = 0; i < t->n; i++) {
        const column *c = &t->columns[i];
        const char *cell = fbi_csv_cell(&t->csv, i);
        bool missing = is_missing(cell);
        double number = NAN;
        if (c->kind == LEFT_OUT || i == t->target)
            continue;
        if (c->kind == WORDS)
            s->codes[codes++] = place_of(c, missing ? missing_word : cell);
        else if (!missing)
            s->input[numbers++] = is_number(cell, &number) ? (float)number : NAN;
        else
            s->input[numbers++] =
                wants(t, "mean") && c->numbers ? (float)(c->sum / (double)c->numbers) : NAN;
    }
    return read_label(t, s);
}

/* Fields, and where their values are. */
static int list_fields(const table *t, sample *s, fb_dataset_field *fields, const void **values)
{
    const column *target = &t->columns[t->target];
    int n = 0, codes = 0;
    int64_t numbers = 0;
    for (int i = 0; i < t->n; i++)
        numbers += t->columns[i].kind == NUMBERS && i != t->target;
    values[n] = s->input;
    if (numbers)
        fields[n++] =
            (fb_dataset_field){.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(numbers)};
    bool real = target->kind == NUMBERS && t->job->float_target;
    values[n] = real ? (const void *)&s->value : (const void *)&s->label;
    fields[n++] = (fb_dataset_field){.name = "target",
                                     .dtype = real ? FB_F32 : FB_I64,
                                     .labels = (const char *const *)target->words,
                                     .n_labels = target->n_words};
    for (int i = 0; i < t->n; i++) {
        const column *c = &t->columns[i];
        if (c->kind != WORDS || i == t->target)
            continue;
        if (n == FB_MAX_FIELDS) {
            fb_fail(t->ctx, FB_E_UNSUPPORTED,
                    "import %s: has more than %d columns of words: leave some out with --ignore",
                    t->job->inputs[0], FB_MAX_FIELDS - 2);
            return n;
        }
        values[n] = &s->codes[codes++];
        fields[n++] = (fb_dataset_field){.name = c->name,
                                         .dtype = FB_I64,
                                         .labels = (const char *const *)c->words,
                                         .n_labels = c->n_words};
    }
    return n;
}

static void convert(table *t, fb_dataset *ds, sample *s, const void *const *values)
{
    int64_t begin, end, row = 0;
    fbi_import_range(t->job, t->rows, &begin, &end);
    if (t->job->rank == 0)
        fbi_progress_begin(t->job->progress, "lines", end - begin);
    fbi_csv_rewind(&t->csv);
    fbi_csv_next(&t->csv); /* the names */
    while (row < end && fbi_csv_next(&t->csv)) {
        if (t->csv.cells != t->n || (wants(t, "skip") && row_is_missing(t)))
            continue;
        if (row++ < begin)
            continue;
        if (!read_sample(t, s) || fb_dataset_append(ds, 1, values))
            return;
        fbi_progress_add(t->job->progress, 1);
    }
    if (stopped_well(t) && row < end)
        fb_fail(t->ctx, FB_E_IO, "import %s: was changed while it was read", t->job->inputs[0]);
}

static void free_table(table *t)
{
    for (int i = 0; i < t->n; i++) {
        for (int64_t k = 0; k < t->columns[i].n_words; k++)
            free(t->columns[i].words[k]);
        free(t->columns[i].words);
        free(t->columns[i].name);
    }
    free(t->columns);
    fbi_csv_close(&t->csv);
}

static bool open_table(table *t)
{
    const fbi_import *job = t->job;
    t->csv.separator = job->separator ? *job->separator : ',';
    t->csv.file = fopen(job->inputs[0], "r");
    if (!t->csv.file) {
        fb_fail(t->ctx, FB_E_NOT_FOUND, "import %s: %s", job->inputs[0], strerror(errno));
        return false;
    }
    fbi_csv_rewind(&t->csv);
    return read_names(t) && look(t);
}

int fbi_import_csv(const fbi_import *job, fb_context *ctx)
{
    table t = {.job = job, .ctx = ctx};
    bool good = open_table(&t);
    sample s = {.input = malloc(sizeof(float) * (size_t)(t.n + 1)),
                .codes = malloc(sizeof(int64_t) * (size_t)(t.n + 1))};
    fb_dataset_field fields[FB_MAX_FIELDS];
    const void *values[FB_MAX_FIELDS + 1];
    if (!s.input || !s.codes)
        fb_fail(ctx, FB_E_NOMEM, "import %s: no memory for a line", job->inputs[0]);
    good = good && s.input && s.codes;
    int n = good ? list_fields(&t, &s, fields, values) : 0;
    fb_dataset *ds = fbi_import_create(job, ctx, fields, n);
    if (ds)
        convert(&t, ds, &s, values);
    free(s.input);
    free(s.codes);
    free_table(&t);
    return fbi_import_finish(ds);
}
