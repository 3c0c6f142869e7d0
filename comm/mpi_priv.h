/* What this room asks of MPI. After set-up no call blocks: sends and receives are started and
 * tested. */
#ifndef FLAMBEAU_COMM_MPI_PRIV_H
#define FLAMBEAU_COMM_MPI_PRIV_H

#include <mpi.h>

#include "comm/segment_priv.h"
#include "comm/world_priv.h"
#include "core/ops/devices_priv.h"

/* Between nodes: a verdict, or "I am closing". */
typedef struct fbi_notice {
    int32_t kind; /* FBI_NOTICE_... */
    int32_t rank, status;
    fbi_finding verdict; /* of other kinds only the text counts */
} fbi_notice;
/* A rank is closing; all ranks of its node are; all of them have said what ended the job. */
enum { FBI_NOTICE_POISON = 1, FBI_NOTICE_CLOSING, FBI_NOTICE_CLOSED, FBI_NOTICE_PRINTED };

/* A notice on its way; kept until the world closes. */
typedef struct fbi_letter {
    fbi_notice notice;
    MPI_Request request;
    struct fbi_letter *next;
} fbi_letter;

struct fbi_mpi {
    MPI_Comm comm;    /* tensors and signatures */
    MPI_Comm control; /* notices */
    MPI_Comm node;    /* ranks that share memory; used at set-up only */
    bool initialized; /* by us: we finalize */
    int tag_most;     /* largest tag that MPI allows */
    fbi_notice inbox;
    fbi_notice failure; /* the last rank that ended with an error */
    MPI_Request inbox_request;
    fbi_letter *letters;
    uint8_t *closing; /* [size]: last notice of a remote rank about its end */
    bool *printed;    /* [size]: it has said what ended the job */
};

/* --- set-up (comm/boot.c) --- */

/* Communicators, peers and the page of this node. Prints the reason and returns false on failure.
 */
bool fbi_boot(fb_world *world, int *argc, char ***argv, MPI_Comm from);
void fbi_boot_undo(fb_world *world, bool finalize);
/* An exchange between the ranks of this node. */
fbi_exchange fbi_node_exchange(fb_world *world);
/* The same between all ranks. */
fbi_exchange fbi_world_exchange(fb_world *world);
/* True on all ranks if it is on each. Collective, blocking: at set-up only. */
bool fbi_boot_agree(fb_world *world, bool ok);
void fbi_boot_broadcast(fb_world *world, void *data, size_t bytes);

/* --- devices (comm/cards.c) --- */

/* This rank's device: a card that no other rank of the machine has, where there are cards and none
 * is named. Collective; on failure the reason is printed. */
bool fbi_world_choose_device(fb_world *world, const char *asked, char device[FBI_DEVICE_BYTES]);

/* --- notices (comm/control.c) --- */
void fbi_control_open(fb_world *world);
/* To every rank of another node. */
void fbi_control_poison(fb_world *world, const fbi_finding *verdict);
void fbi_control_send(fb_world *world, int kind, const char *text);
void fbi_control_poll(fb_world *world);
void fbi_control_close(fb_world *world);

/* fb_world_open in all its forms (comm/world.c). */
fb_world *fbi_world_open(int *argc, char ***argv, MPI_Comm from, const fb_world_options *options);

#endif
