/* The command line of fashion. */
#ifndef EXAMPLES_FASHION_OPTIONS_H
#define EXAMPLES_FASHION_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fashion_options {
    const char *data, *checkpoint;
    int64_t shards, threads, epochs, steps, stop_after, batch, limit, seed, save_every;
    double lr;
    bool print_bits, trace;
} fashion_options;

/* Fills the options; false after a message on stderr. */
bool fashion_parse(int argc, char **argv, fashion_options *o);

#endif
