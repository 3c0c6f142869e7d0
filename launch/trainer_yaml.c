/* Options from YAML files: a mapping of groups, each a mapping of names and values. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "launch/trainer_priv.h"

typedef struct yaml {
    fbi_option_reader *r;
    const char *path;
    yaml_parser_t parser;
    yaml_event_t event; /* the current one, of which `is_open` */
    bool is_open;
    char *seen;      /* one for each row of the group that is being read */
    uint64_t groups; /* a bit for each group that was read */
} yaml;

static const char *event_text(yaml_event_type_t type)
{
    return type == YAML_MAPPING_START_EVENT    ? "a mapping"
           : type == YAML_SEQUENCE_START_EVENT ? "a list"
           : type == YAML_ALIAS_EVENT          ? "an alias"
           : type == YAML_SCALAR_EVENT         ? "a value"
                                               : "nothing";
}

static void set_line(yaml *y, size_t line)
{
    snprintf(y->r->where, sizeof y->r->where, "%s:%zu", y->path, line + 1);
}

static void drop(yaml *y)
{
    if (y->is_open)
        yaml_event_delete(&y->event);
    y->is_open = false;
}

static bool next(yaml *y)
{
    drop(y);
    if (yaml_parser_parse(&y->parser, &y->event)) {
        y->is_open = true;
        set_line(y, y->event.start_mark.line);
        return true;
    }
    const yaml_parser_t *p = &y->parser;
    bool marked = p->problem_mark.line || p->problem_mark.column;
    set_line(y, marked ? p->problem_mark.line : p->mark.line);
    return fbi_option_wrong(y->r, "this is no YAML: %s%s%s", p->problem ? p->problem : "no memory",
                            p->context ? ", " : "", p->context ? p->context : "");
}

static const char *scalar(const yaml *y)
{
    return (const char *)y->event.data.scalar.value;
}

/* `name:` and `name: ~` leave an option as it is. */
static bool is_null(const yaml *y)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (y->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++)
        if (!strcmp(scalar(y), words[i]))
            return true;
    return false;
}

static bool want_name(yaml *y)
{
    return y->event.type == YAML_SCALAR_EVENT ||
           fbi_option_wrong(y->r, "the name of an option is needed, here is %s",
                            event_text(y->event.type));
}

/* The value of the row; the event is its name. */
static bool read_row(yaml *y, const fb_option_group *g)
{
    const fb_option *row = want_name(y) ? fbi_option_find(y->r, g, scalar(y)) : NULL;
    if (!row)
        return false;
    char *seen = &y->seen[row - g->rows];
    if ((*seen)++)
        return fbi_option_wrong(y->r, "%s.%s is given twice", g->name, row->name);
    if (!next(y))
        return false;
    if (y->event.type != YAML_SCALAR_EVENT)
        return fbi_option_wrong(y->r, "%s.%s: one value is needed, here is %s", g->name, row->name,
                                event_text(y->event.type));
    return is_null(y) || fbi_option_put(y->r, g, row, scalar(y));
}

static bool read_rows(yaml *y, const fb_option_group *g)
{
    int n = 0;
    while (g->rows[n].name)
        n++;
    free(y->seen);
    y->seen = calloc((size_t)n + 1, 1);
    if (!y->seen)
        return fbi_option_wrong(y->r, "no memory");
    while (next(y) && y->event.type != YAML_MAPPING_END_EVENT)
        if (!read_row(y, g))
            return false;
    return y->is_open;
}

/* One group; the event is its name. */
static bool read_group(yaml *y)
{
    if (!want_name(y))
        return false;
    const fb_option_group *g = fbi_option_group(y->r, scalar(y), strlen(scalar(y)));
    if (!g)
        return false;
    uint64_t bit = UINT64_C(1) << ((g - y->r->groups) & 63);
    if (y->groups & bit)
        return fbi_option_wrong(y->r, "\"%s\" is given twice", g->name);
    y->groups |= bit;
    if (!next(y))
        return false;
    if (y->event.type == YAML_SCALAR_EVENT && is_null(y))
        return true;
    return y->event.type == YAML_MAPPING_START_EVENT
               ? read_rows(y, g)
               : fbi_option_wrong(y->r, "\"%s\" needs options (NAME: VALUE), here is %s", g->name,
                                  event_text(y->event.type));
}

static bool read_groups(yaml *y)
{
    while (next(y) && y->event.type != YAML_MAPPING_END_EVENT)
        if (!read_group(y))
            return false;
    return y->is_open;
}

static bool read_document(yaml *y)
{
    if (!next(y) || !next(y)) /* the stream's start, the document's */
        return false;
    if (y->event.type == YAML_STREAM_END_EVENT)
        return true; /* an empty file */
    if (!next(y))
        return false;
    bool empty = y->event.type == YAML_SCALAR_EVENT && is_null(y);
    if (!empty && y->event.type != YAML_MAPPING_START_EVENT)
        return fbi_option_wrong(y->r, "groups of options are needed (trainer: ...), here is %s",
                                event_text(y->event.type));
    if (!empty && !read_groups(y))
        return false;
    if (!next(y) || !next(y)) /* the document's end, the stream's */
        return false;
    return y->event.type == YAML_STREAM_END_EVENT ||
           fbi_option_wrong(y->r, "a second document: one is read");
}

bool fbi_yaml_read(fbi_option_reader *r, const char *path)
{
    snprintf(r->where, sizeof r->where, "--config %s", path);
    FILE *f = fopen(path, "re");
    if (!f)
        return fbi_option_wrong(r, "%s", strerror(errno));
    yaml y = {.r = r, .path = path};
    bool good = yaml_parser_initialize(&y.parser);
    if (!good) {
        fclose(f);
        return fbi_option_wrong(r, "no memory");
    }
    yaml_parser_set_input_file(&y.parser, f);
    good = read_document(&y);
    drop(&y);
    free(y.seen);
    yaml_parser_delete(&y.parser);
    fclose(f);
    return good;
}
