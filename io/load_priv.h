/* Names of files and of programs. */
#ifndef FLAMBEAU_IO_LOAD_PRIV_H
#define FLAMBEAU_IO_LOAD_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include <flambeau/io/load.h>

/* The name that the program has for one of the file; false: it is left out, or too long. */
bool fbi_rename(const fb_rename *rules, const char *name, char *out, size_t size);
/* Whether a name matches the glob; NULL matches none. */
bool fbi_load_allows(const char *glob, const char *name);

#endif
