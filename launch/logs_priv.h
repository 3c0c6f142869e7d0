/* Where the output of ranks lies in a run directory. */
#ifndef FLAMBEAU_LAUNCH_LOGS_PRIV_H
#define FLAMBEAU_LAUNCH_LOGS_PRIV_H

#include <stdbool.h>
#include <stddef.h>

/* RUN/logs/attempt-00003, by the environment of a rank. false: it is in no run directory. */
bool fbi_logs_folder(char *path, size_t size);
void fbi_logs_path(const char *folder, int rank, char *path, size_t size);

#endif
