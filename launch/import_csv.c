/* Comma-separated numbers under a line of column names: one column is the target, the others the
 * input. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/import_priv.h"

enum { MAX_COLUMNS = 65536 };

typedef struct csv {
    const fbi_import *job;
    fb_context *ctx;
    FILE *file;
    char *line;
    size_t cap;
    int64_t at;          /* line number, for messages */
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

static bool read_names(csv *c)
{
    if (!next_line(c)) {
        fb_fail(c->ctx, FB_E_IO, "import %s: is empty", c->job->input);
        return false;
    }
    c->target = -1;
    char *rest = c->line;
    for (char *name; (name = strsep(&rest, ",")) && c->columns < MAX_COLUMNS; c->columns++)
        if (!strcmp(name, c->job->target))
            c->target = c->columns;
    if (c->target >= 0 && c->columns >= 2)
        return true;
    fb_fail(c->ctx, FB_E_NOT_FOUND, "import %s: no column \"%s\" beside others in its first line",
            c->job->input, c->job->target);
    return false;
}

static bool read_row(csv *c, float *input, int64_t *label, float *value)
{
    char *rest = c->line;
    int column = 0, filled = 0;
    for (char *text; (text = strsep(&rest, ",")); column++) {
        char *end;
        errno = 0;
        double number = strtod(text, &end);
        if (end == text || *end || column >= c->columns) {
            fb_fail(c->ctx, FB_E_IO, "import %s: line %lld, column %d: \"%.40s\" is no number",
                    c->job->input, (long long)c->at, column + 1, text);
            return false;
        }
        if (column != c->target) {
            input[filled++] = (float)number;
        } else {
            *value = (float)number;
            *label = (int64_t)number;
        }
    }
    if (column == c->columns)
        return true;
    fb_fail(c->ctx, FB_E_IO, "import %s: line %lld has %d columns, the first line names %d",
            c->job->input, (long long)c->at, column, c->columns);
    return false;
}

int fbi_import_csv(const fbi_import *job, fb_context *ctx)
{
    csv c = {.job = job, .ctx = ctx, .file = fopen(job->input, "r")};
    if (!c.file) {
        fb_fail(ctx, FB_E_NOT_FOUND, "import %s: %s", job->input, strerror(errno));
        return 1;
    }
    int rc = 1;
    float *row = NULL;
    if (read_names(&c) && (row = malloc(sizeof *row * (size_t)c.columns))) {
        fb_dataset_field fields[2] = {
            {.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(c.columns - 1)},
            {.name = "target", .dtype = job->float_target ? FB_F32 : FB_I64, .shape = FB_SCALAR}};
        fb_dataset *ds =
            fb_dataset_create(ctx, job->out, fields, 2,
                              FB_OPTS(fb_dataset_options, .shard_samples = job->shard_samples));
        int64_t label = 0;
        float value = 0;
        bool good = ds != NULL;
        while (good && next_line(&c)) {
            if (!*c.line)
                continue;
            const void *target = job->float_target ? (const void *)&value : (const void *)&label;
            good = read_row(&c, row, &label, &value) &&
                   !fb_dataset_append(ds, 1, (const void *const[]){row, target});
        }
        rc = good && !fb_dataset_finish(ds) ? 0 : 1;
    }
    free(row);
    free(c.line);
    fclose(c.file);
    return rc;
}
