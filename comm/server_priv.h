/* The server of the control plane: ranks of other nodes connect to it, and it fills the board. */
#ifndef FLAMBEAU_COMM_SERVER_PRIV_H
#define FLAMBEAU_COMM_SERVER_PRIV_H

#include "comm/wire_priv.h"

typedef struct fbi_server fbi_server;

/* Listen on any port, which is returned in *port. NULL: errno says why. */
fbi_server *fbi_server_open(const unsigned char token[FBI_TOKEN_BYTES], fbi_board *board,
                            uint16_t *port);
/* Handle what comes within `ms`; `wake` is a descriptor that ends the wait.
 * @return whether a rank has sent a verdict, which is then in *v */
bool fbi_server_step(fbi_server *server, int wake, int ms, fbi_finding *v);
/* Time passes: pulses to the ranks, and an end to who does not introduce itself. */
void fbi_server_tick(fbi_server *server, double seconds);
void fbi_server_tell(fbi_server *server, const fbi_finding *v);
/* How many ranks are connected. */
int fbi_server_ranks(const fbi_server *server);
void fbi_server_close(fbi_server *server);

#endif
