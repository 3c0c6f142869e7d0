/* The sub-commands of `flambeau`. Each gets argv[0] = its own name and returns an exit code. */
#ifndef FLAMBEAU_LAUNCH_COMMANDS_PRIV_H
#define FLAMBEAU_LAUNCH_COMMANDS_PRIV_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FBI_EXIT_OK = 0,
    FBI_EXIT_FAILED = 1, /* it was tried and did not work */
    FBI_EXIT_USAGE = 2   /* the command line makes no sense */
};

int fbi_cmd_run(int argc, char **argv);
int fbi_cmd_rank(int argc, char **argv);
int fbi_cmd_submit(int argc, char **argv);
int fbi_cmd_data(int argc, char **argv);
int fbi_data_show(const char *path); /* what `flambeau data show` prints */
int fbi_cmd_checkpoint(int argc, char **argv);
int fbi_cmd_doctor(int argc, char **argv);
int fbi_cmd_ops(int argc, char **argv);

/* Read a whole number in min..max; on failure print "COMMAND: OPTION TEXT: ..." and return false.
 */
bool fbi_parse_count(const char *command, const char *option, const char *text, int64_t min,
                     int64_t max, int64_t *value);
/* Read a finite number; on failure print "COMMAND: OPTION TEXT: ..." and return false. */
bool fbi_parse_number(const char *command, const char *option, const char *text, double *value);
/* Full path of a program: as given if it holds a slash, else searched in PATH. False if there is
 * none that this user may run. `path` holds `size` bytes. */
bool fbi_find_program(const char *name, char *path, int size);

#endif
