/* Records of comma-separated values: RFC 4180, and what spreadsheets make of it. */
#ifndef FLAMBEAU_LAUNCH_CSV_PRIV_H
#define FLAMBEAU_LAUNCH_CSV_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct fbi_csv {
    FILE *file;
    char separator;
    int64_t line, next; /* on which the record begins, and the one behind it */
    char *text;         /* of the record: cells, each with its end */
    size_t used, room;
    size_t *begin; /* [cells] within text */
    int cells, cells_room;
    const char *error; /* what is wrong with the file, or NULL */
} fbi_csv;

/* The next record that is not empty. false: the end, or `error`. */
bool fbi_csv_next(fbi_csv *csv);
/* Cell i of it, without blanks around it, unless it was quoted. */
const char *fbi_csv_cell(const fbi_csv *csv, int i);
/* Begin at the first record again. */
void fbi_csv_rewind(fbi_csv *csv);
void fbi_csv_close(fbi_csv *csv);

#endif
