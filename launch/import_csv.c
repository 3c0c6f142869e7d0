/* Comma-separated numbers under a line of column names: one column is the target, the others the
 * input. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/import_priv.h"

enum { MAX_COLUMNS = 65536 };

typedef struct csv {
    const fbi_import *job;
    fb_context *ctx;
    FILE *file;
    char *line, *head; /* head: what `names` points into */
    size_t cap;
    int64_t at; /* line number, for messages */
    char **names;
    int columns, target; /* target: its column */
} csv;

static bool next_line(csv *c)
{
    ssize_t n = getline(&c->line, &c->cap, c->file);
    if (n < 0)
        return false;
    c->at++;
    while (n > 0 && (c->line[n - 1] == '\n' || c->line[n - 1] == '\r'))
        c->line[--n] = '\0';
    return true;
}

/* The next cell without blanks and quotes around it. */
static char *next_cell(char **rest)
{
    char *cell = strsep(rest, ",");
    if (!cell)
        return NULL;
    cell += strspn(cell, " \t");
    size_t n = strlen(cell);
    while (n && (cell[n - 1] == ' ' || cell[n - 1] == '\t'))
        cell[--n] = '\0';
    if (n > 1 && *cell == '"' && cell[n - 1] == '"') {
        cell[n - 1] = '\0';
        cell++;
    }
    return cell;
}

static bool read_names(csv *c)
{
    if (!next_line(c)) {
        fb_fail(c->ctx, FB_E_IO, "import %s: is empty", c->job->input);
        return false;
    }
    c->head = strdup(c->line);
    c->names = malloc(MAX_COLUMNS * sizeof *c->names);
    if (!c->head || !c->names) {
        fb_fail(c->ctx, FB_E_NOMEM, "import %s: no memory", c->job->input);
        return false;
    }
    c->target = -1;
    char *rest = c->head;
    if (!strncmp(rest, "\xef\xbb\xbf", 3)) /* the mark that some programs write first */
        rest += 3;
    for (char *name; (name = next_cell(&rest)) && c->columns < MAX_COLUMNS; c->columns++) {
        c->names[c->columns] = name;
        if (!strcmp(name, c->job->target))
            c->target = c->columns;
    }
    if (rest)
        fb_fail(c->ctx, FB_E_UNSUPPORTED, "import %s: has more than %d columns", c->job->input,
                MAX_COLUMNS);
    else if (c->target < 0 || c->columns < 2)
        fb_fail(c->ctx, FB_E_NOT_FOUND,
                "import %s: no column \"%s\" beside others in its first line, which is: %.80s",
                c->job->input, c->job->target, c->line);
    else
        return true;
    return false;
}

static bool bad_cell(csv *c, int column, const char *cell, const char *what)
{
    fb_fail(c->ctx, FB_E_IO, "import %s: line %lld, column %d (%.40s): \"%.40s\" is %s",
            c->job->input, (long long)c->at, column + 1, c->names[column], cell, what);
    return false;
}

static bool read_target(csv *c, const char *cell, double number, int64_t *label, float *value)
{
    *value = (float)number;
    if (c->job->float_target)
        return true;
    if (number != floor(number) || fabs(number) > 9e15)
        return bad_cell(c, c->target, cell,
                        "no whole number: use --labels-are float if it is not a class");
    *label = (int64_t)number;
    return true;
}

static bool read_row(csv *c, float *input, int64_t *label, float *value)
{
    char *rest = c->line;
    int column = 0, filled = 0;
    for (char *cell; (cell = next_cell(&rest)); column++) {
        if (column >= c->columns)
            continue; /* counted only */
        char *end;
        double number = strtod(cell, &end);
        if (end == cell || *end || !isfinite(number))
            return bad_cell(c, column, cell, "no number");
        if (column != c->target)
            input[filled++] = (float)number;
        else if (!read_target(c, cell, number, label, value))
            return false;
    }
    if (column == c->columns)
        return true;
    fb_fail(c->ctx, FB_E_IO, "import %s: line %lld has %d columns, the first line names %d",
            c->job->input, (long long)c->at, column, c->columns);
    return false;
}

static bool copy_rows(csv *c, float *row)
{
    const fbi_import *job = c->job;
    fb_dataset_field fields[2] = {
        {.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(c->columns - 1)},
        {.name = "target", .dtype = job->float_target ? FB_F32 : FB_I64, .shape = FB_SCALAR}};
    fb_dataset *ds =
        fb_dataset_create(c->ctx, job->out, fields, 2,
                          FB_OPTS(fb_dataset_options, .shard_samples = job->shard_samples));
    int64_t label = 0;
    float value = 0;
    const void *target = job->float_target ? (const void *)&value : (const void *)&label;
    bool good = ds != NULL;
    while (good && next_line(c)) {
        if (!*c->line)
            continue;
        good = read_row(c, row, &label, &value) &&
               !fb_dataset_append(ds, 1, (const void *const[]){row, target});
    }
    if (good && ferror(c->file)) {
        fb_fail(c->ctx, FB_E_IO, "import %s: cannot read it: %s", job->input, strerror(errno));
        good = false;
    }
    return good && !fb_dataset_finish(ds);
}

int fbi_import_csv(const fbi_import *job, fb_context *ctx)
{
    csv c = {.job = job, .ctx = ctx, .file = fopen(job->input, "r")};
    if (!c.file) {
        fb_fail(ctx, FB_E_NOT_FOUND, "import %s: %s", job->input, strerror(errno));
        return 1;
    }
    bool good = read_names(&c);
    float *row = good ? malloc(sizeof *row * (size_t)c.columns) : NULL;
    if (good && !row)
        fb_fail(ctx, FB_E_NOMEM, "import %s: no memory for a line", job->input);
    good = row && copy_rows(&c, row);
    free(row);
    free(c.names);
    free(c.head);
    free(c.line);
    fclose(c.file);
    return good ? 0 : 1;
}
