/* Frames of the control plane. Each kind has one size, so that a reader needs no more room than
 * that and no parser. All ranks run one build: structs travel as they are. */
#ifndef FLAMBEAU_COMM_WIRE_PRIV_H
#define FLAMBEAU_COMM_WIRE_PRIV_H

#include "comm/board_priv.h"

enum { FBI_TOKEN_BYTES = 16 };

typedef enum fbi_frame_kind {
    FBI_FRAME_HELLO = 1, /* the first one of a rank: the token, and who it is */
    FBI_FRAME_WELCOME,   /* the answer */
    FBI_FRAME_BEAT,      /* of a rank, four times a second */
    FBI_FRAME_PULSE,     /* the server's, likewise */
    FBI_FRAME_VERDICT,   /* either way */
    FBI_FRAME_BYE,       /* either way: the end of the connection is no death */
    FBI_FRAME_COUNT
} fbi_frame_kind;

typedef struct fbi_head {
    uint32_t magic, kind;
} fbi_head;

typedef struct fbi_hello {
    unsigned char token[FBI_TOKEN_BYTES];
    fbi_identity who;
} fbi_hello;

typedef struct fbi_beat {
    fbi_ledger ledger;
    int32_t mate, mate_state; /* a rank of its node, and its process's state; -1: none */
    int32_t mate_known;       /* whether its ledger follows */
    fbi_ledger mate_ledger;
} fbi_beat;

typedef struct fbi_frame {
    fbi_head head;
    union {
        fbi_hello hello;
        fbi_beat beat;
        fbi_finding verdict;
    };
} fbi_frame;

/* One connection; `in` holds the beginning of a frame, `out` what the socket did not take yet. */
typedef struct fbi_wire {
    int fd; /* -1: none */
    int rank;
    double age_s; /* since it was accepted or, once it is a rank's, unused */
    size_t have, n_out;
    char in[sizeof(fbi_frame)], out[2 * sizeof(fbi_frame)];
} fbi_wire;

/* Size of a frame with its head; 0: there is no such kind. */
size_t fbi_frame_size(uint32_t kind);

void fbi_wire_open(fbi_wire *wire, int fd);
void fbi_wire_close(fbi_wire *wire);
/* 1: a frame has come; 0: not yet; -1: the other side has closed, or sent what is no frame. */
int fbi_wire_read(fbi_wire *wire, fbi_frame *out);
/* Send a frame whose body is filled in, or leave it out if there is no room; false: closed. */
bool fbi_wire_send(fbi_wire *wire, fbi_frame *frame, fbi_frame_kind kind);
bool fbi_wire_flush(fbi_wire *wire);

#endif
