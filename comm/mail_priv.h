/* Works that go by messages: between nodes, and where there is no shared memory. Each starts with
 * an exchange of signatures, which carry small payloads along; data follows only if all agree. */
#ifndef FLAMBEAU_COMM_MAIL_PRIV_H
#define FLAMBEAU_COMM_MAIL_PRIV_H

#include "comm/mpi_priv.h"
#include "comm/work_priv.h"

enum { FBI_EAGER = 4096 }; /* bytes that travel with the signature */

typedef struct fbi_envelope {
    fbi_signature sig;
    char payload[FBI_EAGER];
} fbi_envelope;

struct fbi_mail {
    MPI_Request *requests;
    int *peers;       /* rank of the group that a request waits for */
    int n, cap, open; /* requests below `open` are complete */
    fbi_envelope mine;
    fbi_envelope *theirs; /* [theirs_cap] */
    int theirs_cap;
    char *room; /* pieces that came in */
    size_t room_cap;
    bool eager; /* the payload is all there is */
};

void fbi_mail_begin(fb_work *work);
void fbi_mail_advance(fb_work *work);
int fbi_mail_missing(const fb_work *work, int from);
/* Cancel what can be cancelled; what cannot keeps its memory for good. */
void fbi_mail_abandon(fb_work *work);
void fbi_mail_free(struct fbi_mail *mail);

/* --- for the kinds (comm/mail_stages.c) --- */

/* Post a transfer to or from a rank of the group, in pieces that MPI's int counts can hold. `lane`
 * 0 or 2: envelopes of collectives and of pairs; 1 or 3: their data. */
void fbi_mail_send(fb_work *work, int to, int lane, const void *data, size_t bytes);
void fbi_mail_receive(fb_work *work, int from, int lane, void *data, size_t bytes);
bool fbi_mail_reserve(fb_work *work, size_t bytes);
/* The signatures agree: go on, called again whenever all transfers are complete. True: done. */
bool fbi_mail_stage(fb_work *work);
/* Bytes that this rank's envelope carries; -1: too much, they follow as data. */
int64_t fbi_mail_payload(const fb_work *work);

/* --- sums in stages: node, column, node (comm/staged.c) --- */
bool fbi_staged_fits(const fb_work *work);
bool fbi_staged_advance(fb_work *work);

#endif
