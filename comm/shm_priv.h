/* Channels in shared memory. A group has a few; work number n uses channel n % FBI_CHANNELS.
 *
 * A channel has a counter of arrivals for each rank. A rank arrives after each step of a work, and
 * goes on when all have: that is the barrier, and it shows who is missing. Buffers alternate by
 * `parity`, which goes on from work to work, so that a rank may begin the next work while others
 * still read what it left of the last one. */
#ifndef FLAMBEAU_COMM_SHM_PRIV_H
#define FLAMBEAU_COMM_SHM_PRIV_H

#include "core/base/stream_priv.h"
#include "comm/work_priv.h"

enum { FBI_CHANNELS = 4 };

typedef struct fbi_shm_rank {
    _Alignas(64) atomic_uint arrived;
    _Alignas(64) fbi_signature sig[2];
} fbi_shm_rank;

typedef struct fbi_channel {
    fbi_shm_rank *rank; /* [size] */
    char *data;         /* [size][2][room] */
    unsigned arrivals;  /* steps so far, works and chunks so far: the same on every rank */
    unsigned works, chunks;
} fbi_channel;

struct fbi_shm {
    fbi_segment segment;
    size_t room;  /* bytes of one buffer of one rank */
    bool streams; /* what others have read is overwritten past the caches */
    fbi_channel channel[FBI_CHANNELS];
};

/* Channels for the group, or NULL: no room (then the group uses messages). Collective. */
fbi_shm *fbi_shm_open(const fbi_exchange *exchange, int leader, int rank, int size);
void fbi_shm_close(fbi_shm *shm);
/* Set a work up, take its first step. */
void fbi_shm_begin(fb_work *work);
void fbi_shm_advance(fb_work *work);
/* Next rank of the group, not below `from`, that has not arrived; -1. */
int fbi_shm_missing(const fb_work *work, int from);
atomic_uint *fbi_shm_word(const fb_work *work, int rank, unsigned *value);
/* Buffer of a rank for the chunk. */
char *fbi_shm_buffer(const fb_work *work, int rank, int64_t chunk);
/* Copy into a buffer that other ranks' cores have read. */
static inline void fbi_shm_put(const fb_work *work, char *to, const void *from, size_t n)
{
    if (!work->group->shm->streams) {
        memcpy(to, from, n);
        return;
    }
    fbi_stream(to, from, n);
    fbi_stream_end(); /* streamed bytes are not ordered by the arrival that follows */
}
/* The stages of each kind (comm/shm_stages.c): fills stage, n_stages, n_chunks, chunk. */
void fbi_shm_plan(fb_work *work);

#endif
