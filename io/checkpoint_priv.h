/* The files of a checkpoint. */
#ifndef FLAMBEAU_IO_CHECKPOINT_PRIV_H
#define FLAMBEAU_IO_CHECKPOINT_PRIV_H

#include <jansson.h>

#include <flambeau/io/checkpoint.h>

#include "io/state_priv.h"

enum { FBI_CHECKPOINT_FORMAT = 1, FBI_CHECKPOINT_KEEP = 2, FBI_CHECKPOINT_PATH = 4096 };
#define FBI_CHECKPOINT_DATA "data.h5"

/* Write all entries into path (an existing folder) and the manifest last. false: `text` says why.
 */
bool fbi_checkpoint_write(fb_state *state, const char *path, int64_t step, char *text, size_t size);
/* The manifest of a checkpoint, checked against its files (checksums if deep). NULL: `text` says
 * why. */
json_t *fbi_manifest_load(const char *path, bool deep, char *text, size_t size);
/* Fill the state from a checkpoint that verifies. */
fb_status fbi_checkpoint_read(fb_state *state, const char *path);
/* Steps of the checkpoints of dir, newest first; count, -1 if the folder cannot be read. */
int fbi_checkpoint_list(const char *dir, int64_t *steps, int max);
void fbi_checkpoint_path(const char *dir, int64_t step, char *out, size_t size);
/* Remove one checkpoint: its manifest first, so that it stops to exist before it is incomplete. */
void fbi_checkpoint_remove(const char *path);
/* Whether a checkpoint was written by a newer version. */
bool fbi_manifest_newer(const char *path);
/* XXH3-64 of a manifest without its own checksum, as hex; false: no memory. */
bool fbi_manifest_hash(json_t *root, char hex[17]);

#endif
