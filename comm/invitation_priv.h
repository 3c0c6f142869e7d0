/* Where the server of the control plane can be reached, and what to show there. */
#ifndef FLAMBEAU_COMM_INVITATION_PRIV_H
#define FLAMBEAU_COMM_INVITATION_PRIV_H

#include <netinet/in.h>

#include "comm/wire_priv.h"

/* What `flambeau run` tells its ranks, if it serves. */
#define FBI_CONTROL "FLAMBEAU_CONTROL"

enum { FBI_ADDRESSES = 16, FBI_INVITATION_TEXT = 1024 };
typedef struct fbi_invitation {
    unsigned char token[FBI_TOKEN_BYTES];
    int32_t n;
    int32_t launcher;                           /* 1: the launcher serves, not rank 0 */
    struct sockaddr_in6 address[FBI_ADDRESSES]; /* IPv4 as ::ffff:a.b.c.d */
} fbi_invitation;

/* A token nobody knows. false: there is no randomness. */
bool fbi_invitation_new(fbi_invitation *in);
/* The addresses of this machine: those of other machines' networks first, the loopback last. */
void fbi_invitation_list(fbi_invitation *in, uint16_t port);
/* "TOKEN PORT ADDRESS ADDRESS ...", and back. false: it is no such text, or has no room. */
bool fbi_invitation_write(const fbi_invitation *in, char text[FBI_INVITATION_TEXT]);
bool fbi_invitation_read(fbi_invitation *in, const char *text);
/* A socket on its way to an address; -1: it will not get there. */
int fbi_invitation_connect(const struct sockaddr_in6 *address);

#endif
