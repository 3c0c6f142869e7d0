/* Memory that processes of one node share: a memfd, reached through /proc, its pages reserved. */
#ifndef FLAMBEAU_COMM_SEGMENT_PRIV_H
#define FLAMBEAU_COMM_SEGMENT_PRIV_H

#include <flambeau/core/base/status.h>

/* How processes that are about to share something tell each other about it: everyone's `bytes` in
 * the order of participants. Collective; false if it failed. */
typedef struct fbi_exchange {
    void *self;
    int rank, size;
    const int *ranks; /* [size]: participants' numbers in the world; NULL: their own numbers */
    bool (*gather)(void *self, const void *mine, size_t bytes, void *all);
} fbi_exchange;

/* Which participant a rank of the world is; -1: none. */
int fbi_participant(const fbi_exchange *exchange, int rank);

typedef struct fbi_segment {
    void *base; /* NULL: there is none */
    size_t bytes;
} fbi_segment;

/* One segment of `bytes` for each group of participants with the same leader (a participant's
 * number); each member reserves its own part, so that its pages lie near it and a lack of
 * memory is found now and not by a SIGBUS later. Collective over the exchange; leader -1: take part
 * only.
 * @return whether every member has it; false (no error): use messages */
bool fbi_segment_open(const fbi_exchange *exchange, int leader, size_t bytes, size_t part_at,
                      size_t part_bytes, fbi_segment *out);
void fbi_segment_close(fbi_segment *segment);

#endif
