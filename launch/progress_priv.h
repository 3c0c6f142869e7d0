/* A line on the terminal that says how far a long command is. */
#ifndef FLAMBEAU_LAUNCH_PROGRESS_PRIV_H
#define FLAMBEAU_LAUNCH_PROGRESS_PRIV_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fbi_progress {
    const char *what;
    int64_t total, done;
    double begun, shown;
    bool on;
} fbi_progress;

/* `total` pieces are to be done; shown on a terminal only, or if FLAMBEAU_PROGRESS is 1. */
void fbi_progress_begin(fbi_progress *p, const char *what, int64_t total);
/* n more of them are done. */
void fbi_progress_add(fbi_progress *p, int64_t n);
/* Take the line away. */
void fbi_progress_end(fbi_progress *p);

#endif
