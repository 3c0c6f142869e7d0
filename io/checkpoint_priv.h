/* The files of a checkpoint. */
#ifndef FLAMBEAU_IO_CHECKPOINT_PRIV_H
#define FLAMBEAU_IO_CHECKPOINT_PRIV_H

#include <jansson.h>

#include <flambeau/io/checkpoint.h>

#include "io/state_priv.h"

enum { FBI_CHECKPOINT_FORMAT = 2, FBI_CHECKPOINT_KEEP = 2, FBI_CHECKPOINT_PATH = 4096 };
/* dtype in the manifest of what a program's own callback saved; no tensor has it */
#define FBI_CHECKPOINT_BYTES "bytes"

/* --- files and folders (io/manifest.c) --- */

/* The manifest of a checkpoint, checked against its files (checksums if deep). NULL: `text` says
 * why. */
json_t *fbi_manifest_load(const char *path, bool deep, char *text, size_t size);
/* Whether a checkpoint was written by a newer version. */
bool fbi_manifest_newer(const char *path);
/* XXH3-64 of a manifest without its own checksum, as hex; false: no memory. */
bool fbi_manifest_hash(json_t *root, char hex[17]);
/* Steps of the checkpoints of dir, newest first, malloc'ed; NULL, n = 0 if there are none. */
int64_t *fbi_checkpoint_list(const char *dir, int *n);
void fbi_checkpoint_path(const char *dir, int64_t step, char *out, size_t size);
/* Remove one checkpoint: its manifest first, so that it stops to exist before it is incomplete. */
void fbi_checkpoint_remove(const char *path);

/* Write a checkpoint again into dir/step-NUMBER, its values in so many files. Memory: all of it.
 * false: `text`. */
bool fbi_checkpoint_reshard(const char *path, const char *dir, int64_t files, char *text,
                            size_t size);

/* --- what decides the bits of a run beside its program and data (io/run.c) --- */

/* Version, compiler, processor, kernels, oneDNN, ranks, shards, threads, seed, random numbers.
 * NULL: no memory. */
json_t *fbi_run_describe(const fb_context *ctx, int ranks);
/* Names in `text` what was otherwise in the run that saved, so that its bits cannot be continued.
 * False: nothing. */
bool fbi_run_differs(json_t *saved, json_t *now, char *text, size_t size);

/* A resumed run draws on where the other stopped, and says if it cannot have its bits. `name`: of
 * the checkpoint, for messages. */
void fbi_run_resume(fb_world *world, const char *name, json_t *saved);

/* --- contents --- */

/* Fill the state from a checkpoint whose manifest is `root`; rank 0 reads the files. opts: names
 * and what may be missing; NULL: nothing. Collective. */
fb_status fbi_checkpoint_read(fb_state *state, fb_group *group, const char *path, json_t *root,
                              const fb_load_options *opts);

#endif
