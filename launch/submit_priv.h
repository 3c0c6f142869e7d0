/* `flambeau submit`: what a batch job asks for, and its script. */
#ifndef FLAMBEAU_LAUNCH_SUBMIT_PRIV_H
#define FLAMBEAU_LAUNCH_SUBMIT_PRIV_H

#include <stdio.h>

#include "launch/trainer_priv.h"

typedef struct fbi_batch {
    int64_t nodes, ranks, gpus, cpus; /* ranks: of all nodes; gpus: of one; cpus: of a rank */
    int64_t shards, threads, restart;
    double time, warn; /* seconds */
    const char *memory, *account, *queue, *name, *array, *dir, *elastic, *setup, *extra, *command;
    bool once;
    char **program;              /* words after the options; NULL-terminated */
    char self[4096], here[4096]; /* this program; the folder that the job begins in */
} fbi_batch;

/* A batch system: how its script begins, and how it is handed over. */
typedef struct fbi_batch_kind {
    const char *name, *title, *submit; /* "slurm", "Slurm", "sbatch" */
    const char *index;                 /* variable with the number of an array's job */
    bool by_stdin;                     /* the script is read from there */
    bool no_signal;                    /* of its own before the limit: the launcher counts */
    void (*directives)(const fbi_batch *b, FILE *to);
} fbi_batch_kind;

/* NULL: there is no such batch system. */
const fbi_batch_kind *fbi_batch_find(const char *name);
/* The whole script; `path` is where it will lie. */
void fbi_batch_script(const fbi_batch_kind *kind, const fbi_batch *b, const char *path, FILE *to);

#endif
