/* Checkpoints: written by one rank of each node, named by a manifest, read by any number of ranks.
 */
#ifndef FLAMBEAU_IO_CHECKPOINT_H
#define FLAMBEAU_IO_CHECKPOINT_H

#include <flambeau/io/load.h>
#include <flambeau/io/state.h>

FB_BEGIN

typedef struct fb_world fb_world;

typedef struct fb_checkpoint_options {
    int keep;  /**< so many newest checkpoints stay, older ones are removed; 0: 2; -1: all */
    bool best; /**< the best one so far: it stays, too, until another is saved as the best */
    int files; /**< of values, each written by another node: at most so many; 0: one for each node
                    as long as each has 256 MiB or more */
} fb_checkpoint_options;

/**
 * Save `state` into dir/step-<number>/: data.h5 with one ordinary dataset per tensor, index.h5 with
 * the place and the checksum of each, and manifest.json, which is renamed into place last. A
 * checkpoint exists if and only if its manifest verifies. The newest two are kept. Collective.
 *
 * Rank 0 writes what is small. Of more the first rank of each node writes a share, as data.1.h5,
 * data.2.h5, ... if it sees the folder (a note says if not), and if its values are those of rank 0.
 *
 * A save that fails (a full disk, a folder that is not there) is a warning on stderr, and FB_OK:
 * the run goes on, the earlier checkpoints stay. If the last save of a run fails, fb_world_close
 * returns FB_E_IO.
 */
FB_API fb_status fb_checkpoint_save(fb_world *world, const char *dir, fb_state *state);
/** The same with options; NULL are all defaults. FB_E_ARG for a senseless `keep` or `files`.
 * Collective. */
FB_API fb_status fb_checkpoint_save_with(fb_world *world, const char *dir, fb_state *state,
                                         const fb_checkpoint_options *opts);
/**
 * The same, by a thread while training goes on.
 *
 * What is saved are the values at this call: parameters, averages and states of optimizers are
 * copied by the thread, or by whoever changes them before it has come to them; everything else is
 * copied at once. That needs memory for one copy on rank 0, and of a share on other ranks that
 * write, which is kept for the next save. One save runs at a time: a second call waits for the
 * first. A save that fails is told at the next fb_checkpoint_* call of the world, or by
 * fb_world_close, which waits for it.
 *
 * A pointer that fb_data_mut gave before is not for writing after it: ask for it again. On a device
 * copies to pinned memory of the host are put into the compute queue by this call, which waits for
 * none of them. Collective.
 */
FB_API fb_status fb_checkpoint_save_async(fb_world *world, const char *dir, fb_state *state,
                                          const fb_checkpoint_options *opts);
/** Wait until what fb_checkpoint_save_async began is on the disk. FB_E_IO if the last save failed:
 * a warning has said why, and the context stays usable. Collective. */
FB_API fb_status fb_checkpoint_wait(fb_world *world);
/**
 * Load the newest checkpoint that verifies; a damaged one is named in a warning and passed over.
 * None is fine: FB_OK, nothing changed. Collective; rank 0 reads and tells the others.
 *
 * FB_E_SHAPE lists every entry that does not fit, and then nothing is changed; FB_E_ARG: the ranks
 * bring different objects; FB_E_IO; FB_E_USER: a callback of fb_state_add_custom failed.
 *
 * If another number of shards, threads, another processor, library or seed means that the run
 * cannot have the bits that it would have had, a note on stderr says so.
 */
FB_API fb_status fb_checkpoint_resume(fb_world *world, const char *dir, fb_state *state);
/** Load one checkpoint, path = dir/step-<number>, as the beginning of another run. Errors as in
 * fb_checkpoint_resume, and FB_E_IO if there is none. Collective. */
FB_API fb_status fb_checkpoint_load(fb_world *world, const char *path, fb_state *state);
/** The same with names changed on the way, or only in part: what is missing and may be stays as it
 * is. FB_E_SHAPE lists what may not be. NULL are all defaults. Collective: the same options on
 * every rank. */
FB_API fb_status fb_checkpoint_load_with(fb_world *world, const char *path, fb_state *state,
                                         const fb_load_options *opts);
/** Whether a checkpoint is whole: manifest, files, checksums. Sets no error; says what is wrong in
 * text, which may be NULL. */
FB_API bool fb_checkpoint_verify(const char *path, char *text, size_t size);
/** Path of the newest checkpoint of dir that verifies; false if there is none. */
FB_API bool fb_checkpoint_latest(const char *dir, char *path, size_t size);
/** Path of the newest one that was saved as the best (fb_checkpoint_options.best) and verifies. */
FB_API bool fb_checkpoint_best(const char *dir, char *path, size_t size);

FB_END
#endif
