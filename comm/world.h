/* The world: all ranks of a job, over MPI. A program without mpirun is a world of one rank. */
#ifndef FLAMBEAU_COMM_WORLD_H
#define FLAMBEAU_COMM_WORLD_H

#include <flambeau/comm/group.h>
#include <flambeau/core/base/log.h>
#include <flambeau/core/tensor/context.h>

FB_BEGIN

typedef struct fb_world fb_world;

/** Zero in every field is the default. */
typedef struct fb_world_options {
    bool guest;  /**< the caller owns MPI: no finalize, abort, signal handlers or core binding */
    int threads; /**< threads of a kernel; 0: FLAMBEAU_THREADS; else 1 with shards; else this
                      rank's share of the node's cores */
    int shards;  /**< leaves of a step: same bits for every number of ranks up to it; 0:
                      FLAMBEAU_SHARDS (flambeau run --shards); else one leaf for each rank */
    const char *device; /**< "cuda:1" as in fb_context_options; "cuda": each rank of a machine has a
                             card of its own; NULL: FLAMBEAU_DEVICE; else that if there are cards */
    uint64_t seed;      /**< as in fb_context_options; rank 0's counts */
    bool allow_tf32;    /**< as in fb_context_options; rank 0's counts */
    bool tune;          /**< as in fb_context_options; rank 0's counts */
    fb_log_fn log;      /**< receives the lines that would go to stderr */
    void *log_user;
} fb_world_options;

/**
 * Join the job: initialise MPI if nobody has, find the ranks of this node, take a share of its
 * cores, open a context. Collective. On failure the reason is printed and NULL returned, on every
 * rank.
 *
 * The process's affinity is set to the share (FLAMBEAU_BIND=keep leaves it alone); SIGTERM and
 * SIGUSR1 become a request to stop (fb_world_running). argc and argv may be NULL.
 */
FB_API fb_world *fb_world_open(int *argc, char ***argv);
/** The same with options; NULL are all defaults. Collective. */
FB_API fb_world *fb_world_open_with(int *argc, char ***argv, const fb_world_options *options);
/**
 * Join a program that owns MPI, by its communicator's Fortran handle (C: fb_world_open_comm in
 * comm/mpi.h). The communicator is duplicated. `guest` is implied. MPI is called from this thread
 * only, inside calls of this library. Collective over the communicator.
 */
FB_API fb_world *fb_world_open_f(int fcomm, const fb_world_options *options);

/** The context that the world opened; fb_world_close closes it. NULL for NULL. */
FB_API fb_context *fb_world_context(fb_world *world);
/** The group of all ranks. NULL for NULL. */
FB_API fb_group *fb_world_group(fb_world *world);
/** Number of this rank among all; 0 for NULL. */
FB_API int fb_world_rank(const fb_world *world);
/** How many ranks there are; 1 for NULL. */
FB_API int fb_world_size(const fb_world *world);
/** Number of this rank among those of its node, and how many these are. */
FB_API int fb_world_local_rank(const fb_world *world);
/** How many ranks this node has. */
FB_API int fb_world_local_size(const fb_world *world);
/** Rank 0: who prints. False for NULL. */
FB_API bool fb_world_root(const fb_world *world);

/**
 * Loop condition: false after an error or an agreed stop, on every rank at the same step.
 *
 * The agreement rides on the optimizer steps of attached models. While nothing is attached the call
 * itself is collective.
 */
FB_API bool fb_world_running(fb_world *world);
/** Ask all ranks to stop; they agree on it at the next step. */
FB_API void fb_world_stop(fb_world *world);
/** True on every rank if `flag` is true on any. Collective. False on error. */
FB_API bool fb_world_any(fb_world *world, bool flag);
/** True on every rank if `flag` is true on each. Collective. False on error. */
FB_API bool fb_world_all(fb_world *world, bool flag);
/**
 * Check that all ranks have the same value: a digest of a configuration, a number of samples.
 * Collective.
 *
 * @param what names the value in the message, e.g. "train.h5"
 * @return FB_OK; FB_E_COMM, on every rank, naming a rank that differs from most; FB_E_ARG for NULL
 */
FB_API fb_status fb_world_agree(fb_world *world, const char *what, uint64_t value);
/** Wait until every rank has called it. Collective. */
FB_API fb_status fb_world_barrier(fb_world *world);

/**
 * Leave the job: print the first error, if any, close the context and, unless guest, MPI.
 * Collective.
 *
 * A rank that closes while others wait for it elsewhere ends their wait with an error. If a rank of
 * the job is dead, MPI cannot be left in order: the process then exits here with the status (not in
 * guest mode).
 *
 * @return status of the first error of this rank; FB_AGAIN, on every rank, if there is none but the
 * ranks have agreed to stop because of a signal: as the exit code, 75, it tells launchers and batch
 * systems to start the job again; FB_E_IO, likewise, if the last checkpoint could not be saved;
 * FB_E_ARG for NULL
 */
FB_API fb_status fb_world_close(fb_world *world);

FB_END
#endif
