/* `flambeau run`: what was asked for, where it may run, how a job is started and watched. */
#ifndef FLAMBEAU_LAUNCH_RUN_PRIV_H
#define FLAMBEAU_LAUNCH_RUN_PRIV_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "io/lease_priv.h"

/* --- where (allocation.c, nodelist.c) --- */

typedef enum fbi_place {
    FBI_PLACE_HERE,
    FBI_PLACE_HOSTFILE,
    FBI_PLACE_SLURM,
    FBI_PLACE_PBS,
    FBI_PLACE_LSF
} fbi_place;

typedef struct fbi_host {
    char name[256];
    int slots;   /* ranks that it has room for; 0: as many as one likes */
    int ranks;   /* of the next attempt */
    int strikes; /* how often it was at fault since the last new checkpoint */
    bool out;    /* does not answer: left out */
} fbi_host;

typedef struct fbi_allocation {
    fbi_place place;
    char job[128]; /* the batch system's number of this job */
    fbi_host *hosts;
    int n;
} fbi_allocation;

/* The hosts of a batch job, of a hostfile, or this one. false: a message was printed. */
bool fbi_allocation_find(const char *hostfile, fbi_allocation *a);
/* Add a host, or slots to one that is there. false: no memory. */
bool fbi_allocation_add(fbi_allocation *a, const char *name, size_t length, int slots);
/* Hosts "node[1-3,07],gpu1" of Slurm with "2(x3),1" tasks each. false: it is no such list. */
bool fbi_allocation_slurm(fbi_allocation *a, const char *list, const char *tasks);
/* Room for ranks on hosts that are not out; each of `gpus` cards takes one. INT64_MAX: any. */
int64_t fbi_allocation_room(const fbi_allocation *a, int64_t gpus);
/* Divide ranks between hosts, in blocks: full hosts one after the other, or evenly over the first
 * `nodes`, or over all where there is no room. false: fewer hosts than nodes. */
bool fbi_allocation_place(fbi_allocation *a, int64_t ranks, int64_t nodes, int64_t gpus);
const char *fbi_place_name(fbi_place place);

/* --- what (cmd_run.c) --- */

typedef struct fbi_job {
    int64_t ranks, nodes, shards, threads, gpus; /* 0: not given */
    int64_t restarts;                            /* at most */
    int64_t least, most;                         /* --elastic; 0: not given */
    double stop_after;                           /* seconds; 0: never */
    const char *hostfile, *dir, *launcher;
    bool dry_run, requeue, again; /* again: this job has run before */
    char **program;               /* NULL-terminated */
    fbi_allocation where;
    char run[4096]; /* `dir` as a full path; "" without one */
    fbi_lease lease;
    bool srun; /* else mpirun */
    bool held; /* mpirun and its daemons do not hear SIGTERM and SIGINT: fbi_hold_signals */
} fbi_job;

/* --- how (start.c) --- */

enum { FBI_MAX_WORDS = 512 };
typedef struct fbi_command_line {
    char *words[FBI_MAX_WORDS];
    int n;
    char *room; /* for words that are put together */
    size_t used, size;
    bool full;
} fbi_command_line;

/* Everything that ranks and launchers read from the environment; --dry-run prints it. */
void fbi_start_environment(const fbi_job *job);
/* The words of mpirun or srun, and of the program. false: no memory, or too many. */
bool fbi_start_line(const fbi_job *job, fbi_command_line *line);
void fbi_start_free(fbi_command_line *line);
/* Start a program that ends when we do; its output into `out` and `err` unless these are negative.
 * -1: a message was printed. */
pid_t fbi_start(const fbi_job *job, char **words, int out, int err, const sigset_t *signals);
/* PBS and LSF end a job with SIGTERM (LSF: SIGINT before) to all of its processes, 10 s before
 * SIGKILL; mpirun and its daemons would kill the ranks after a second, in the middle of a save.
 * What is blocked stays so across exec; mpirun unblocks all for its ranks. */
void fbi_hold_signals(void);
/* What ends mpirun or srun in good order. */
int fbi_end_signal(const fbi_job *job);
/* Whether a host answers, for each that is marked in `ask`; the others are left as they are, and
 * all of which it is not known yet when the launcher is told to stop. */
void fbi_start_probe(const fbi_job *job, fbi_allocation *a, const bool *ask);

/* Note the process that has started the ranks; end the one of an older job on this machine, which
 * has lost the lease by now (runner.c). */
void fbi_runner_note(const fbi_job *job, pid_t child);
void fbi_runner_end_old(const fbi_job *job);

/* --- what becomes of it (follow.c, supervise.c) --- */

typedef struct fbi_follower {
    pid_t child;
    const sigset_t *signals; /* blocked; SIGCHLD is among them */
    bool saves;              /* SIGTERM asks the ranks to save (SIGUSR1): mpirun would kill them */
    bool held;               /* so does SIGINT; and SIGHUP ends them */
    bool mpirun;             /* it has its ranks as children, and locks itself up at times */
    int told;                /* the signal that we have been told to stop with; 0: none */
    bool forced;             /* the child did not end by itself */
    /* Called a few times a second, may send signals to the child; NULL: nobody. */
    void (*tick)(struct fbi_follower *f, void *user);
    void *user;
} fbi_follower;

/* Wait for a child that starts processes, and pass on signals. Its exit code; 128 + N if signal N
 * ended it. A child that has lost all its processes and does not end is killed: FBI_EXIT_FAILED,
 * after a message. */
int fbi_follow(fbi_follower *f);
/* Run the job to its end, with its restarts. The exit code. */
int fbi_supervise(fbi_job *job);
/* A line "run: ..." on stderr, and in the run directory. */
void fbi_run_say(const fbi_job *job, const char *fmt, ...) FB_PRINTF(2, 3);
/* Ask the batch system to start this job again. false: it cannot. */
bool fbi_requeue(const fbi_job *job);

/* --- output (logs.c) --- */

/* A process that copies what the launcher of ranks prints to the terminal and to a file: rank 0's
 * file. Its two ends. false: a message was printed. */
bool fbi_logs_open(const fbi_job *job, int *out, int *err, pid_t *copier);
void fbi_logs_close(int out, int err, pid_t copier);
/* The last words of ranks other than 0 after a failure, if rank 0 has none. */
void fbi_logs_tell(const fbi_job *job);

#endif
