#include "launch/csv_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CELLS = 65536, MOST_BYTES = 1 << 28 };

static bool put(fbi_csv *c, char byte)
{
    if (c->used == c->room) {
        size_t room = c->room ? 2 * c->room : 4096;
        char *larger = room <= MOST_BYTES ? realloc(c->text, room) : NULL;
        if (!larger) {
            c->error = "a line is too long: is a quotation mark missing?";
            return false;
        }
        c->text = larger;
        c->room = room;
    }
    c->text[c->used++] = byte;
    return true;
}

static bool begin_cell(fbi_csv *c)
{
    if (c->cells == c->cells_room) {
        int room = c->cells_room ? 2 * c->cells_room : 64;
        size_t *larger =
            room <= MOST_CELLS ? realloc(c->begin, (size_t)room * sizeof *larger) : NULL;
        if (!larger) {
            c->error = "has more than 65536 columns";
            return false;
        }
        c->begin = larger;
        c->cells_room = room;
    }
    c->begin[c->cells++] = c->used;
    return true;
}

static bool is_blank(int byte)
{
    return byte == ' ' || byte == '\t';
}

/* The rest of a quoted cell; a quotation mark in it is there twice. */
static bool read_quoted(fbi_csv *c)
{
    for (int byte; (byte = getc_unlocked(c->file)) != EOF;) {
        if (byte == '"') {
            int next = getc_unlocked(c->file);
            if (next != '"') {
                ungetc(next, c->file);
                return true;
            }
        }
        c->next += byte == '\n';
        if (!put(c, (char)byte))
            return false;
    }
    c->error = "ends within a quoted cell";
    return false;
}

/* One cell; gives the byte behind it. */
static int read_cell(fbi_csv *c)
{
    int byte;
    while ((byte = getc_unlocked(c->file)) != EOF && is_blank(byte) && byte != c->separator)
        ;
    if (byte == '"') {
        if (!read_quoted(c))
            return EOF;
        while ((byte = getc_unlocked(c->file)) != EOF && byte != '\n' && byte != c->separator)
            if (!is_blank(byte) && byte != '\r' && !put(c, (char)byte))
                return EOF;
        put(c, '\0');
        return byte;
    }
    size_t begin = c->used;
    for (; byte != EOF && byte != '\n' && byte != c->separator; byte = getc_unlocked(c->file))
        if (!put(c, (char)byte))
            return EOF;
    while (c->used > begin && (is_blank(c->text[c->used - 1]) || c->text[c->used - 1] == '\r'))
        c->used--;
    put(c, '\0');
    return byte;
}

static bool read_record(fbi_csv *c)
{
    c->line = c->next;
    c->used = 0;
    c->cells = 0;
    int byte = c->separator;
    while (byte == c->separator && byte != EOF) {
        if (!begin_cell(c))
            return false;
        byte = read_cell(c);
    }
    c->next += byte == '\n';
    if (!c->error && ferror(c->file))
        c->error = strerror(errno);
    return !c->error;
}

bool fbi_csv_next(fbi_csv *c)
{
    while (!c->error) {
        int byte = getc_unlocked(c->file);
        if (byte == EOF) {
            if (ferror(c->file))
                c->error = strerror(errno);
            return false;
        }
        ungetc(byte, c->file);
        if (read_record(c) && (c->cells > 1 || *c->text))
            return true;
    }
    return false;
}

const char *fbi_csv_cell(const fbi_csv *c, int i)
{
    return c->text + c->begin[i];
}

void fbi_csv_rewind(fbi_csv *c)
{
    rewind(c->file);
    c->next = 1;
    c->error = NULL;
    char mark[3]; /* that some programs write first */
    if (fread(mark, 1, 3, c->file) != 3 || memcmp(mark, "\xef\xbb\xbf", 3))
        rewind(c->file);
}

void fbi_csv_close(fbi_csv *c)
{
    if (c->file)
        fclose(c->file);
    free(c->text);
    free(c->begin);
}
