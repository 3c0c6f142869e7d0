/* Checkpoints: written by one rank, named by a manifest, read by any number of ranks. */
#ifndef FLAMBEAU_IO_CHECKPOINT_H
#define FLAMBEAU_IO_CHECKPOINT_H

#include <flambeau/io/state.h>

FB_BEGIN

typedef struct fb_world fb_world;

/**
 * Save `state` into dir/step-<number>/: data.h5 with one ordinary dataset per tensor, and
 * manifest.json, which is renamed into place last. A checkpoint exists if and only if its manifest
 * verifies. The newest two are kept. Collective.
 *
 * A save that fails (a full disk, a folder that is not there) is a warning on stderr, and FB_OK:
 * the run goes on, the earlier checkpoints stay.
 */
FB_API fb_status fb_checkpoint_save(fb_world *world, const char *dir, fb_state *state);
/**
 * Load the newest checkpoint that verifies; a damaged one is named in a warning and passed over.
 * None is fine: FB_OK, nothing changed. Collective.
 *
 * FB_E_SHAPE and FB_E_NOT_FOUND list every entry that does not fit.
 */
FB_API fb_status fb_checkpoint_resume(fb_world *world, const char *dir, fb_state *state);
/** Load one checkpoint, path = dir/step-<number>. Collective. */
FB_API fb_status fb_checkpoint_load(fb_world *world, const char *path, fb_state *state);
/** Whether a checkpoint is whole: manifest, files, checksums. Sets no error; says what is wrong in
 * text. */
FB_API bool fb_checkpoint_verify(const char *path, char *text, size_t size);
/** Path of the newest checkpoint of dir that verifies; false if there is none. */
FB_API bool fb_checkpoint_latest(const char *dir, char *path, size_t size);

FB_END
#endif
