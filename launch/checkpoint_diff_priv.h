/* What differs between two checkpoints. */
#ifndef FLAMBEAU_LAUNCH_CHECKPOINT_DIFF_PRIV_H
#define FLAMBEAU_LAUNCH_CHECKPOINT_DIFF_PRIV_H

#include <jansson.h>

/* Print a line for each entry that differs, and how much. @return an exit code: FBI_EXIT_FAILED if
 * there is any, or if one cannot be read */
int fbi_checkpoint_diff(const char *path_a, json_t *a, const char *path_b, json_t *b);

#endif
