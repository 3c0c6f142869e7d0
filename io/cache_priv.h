/* Shards of a dataset, copied to a disk of the node for the time of the job: each is read from the
 * shared disk once, by one rank, and sent to one rank of every other node. */
#ifndef FLAMBEAU_IO_CACHE_PRIV_H
#define FLAMBEAU_IO_CACHE_PRIV_H

#include "comm/group_priv.h"
#include "io/dataset_priv.h"

/* One file holds all shards; it has lost its name when it is used, so that it goes with the last
 * process that has it, however that ends. */
struct fbi_cache {
    char dir[FBI_PATH_BYTES];
    char id[17];            /* of the dataset */
    int fd;                 /* -1: nothing is here */
    int n;                  /* shards */
    int64_t *at;            /* [n]: first byte of each in the file; -1: it is not there */
    atomic_bool distrusted; /* it could not be read */
    int refs;               /* datasets */
};

/* Copy the shards of a dataset that is read from files to `dir` of every node of the group (NULL:
 * this process alone), as many as there is room for: `most` bytes on each, 0: all but a twentieth
 * of what is free. What has no room, or cannot be written, goes on being read from where it is, and
 * a line of the log says why. FB_E_IO: a shard cannot be read, or is damaged; FB_E_NOMEM.
 * Collective.
 */
fb_status fbi_cache_stage(fb_group *group, fb_dataset *ds, const char *dir, int64_t most);
/* Bytes of a shard from its copy; false: there is none, read the shard. Thread-safe. */
bool fbi_cache_read(const fb_dataset *ds, const fbi_shard *shard, void *out, size_t bytes,
                    int64_t at);
/* The dataset is closed. */
void fbi_cache_leave(fb_dataset *ds);

#endif
