/* Draws with replacement, each of n things as often as its weight says: O(1) a draw. */
#ifndef FLAMBEAU_IO_ALIAS_PRIV_H
#define FLAMBEAU_IO_ALIAS_PRIV_H

#include <stdbool.h>
#include <stdint.h>

/* A column of the table: this thing if a word of 32 bits is below `keep`, or if it is its own
 * `other`, else the other. */
typedef struct fbi_alias {
    uint32_t keep, other;
} fbi_alias;

/* n weights, none negative or all zero, of at most 2^32 things; false: no memory. Walker, Electron.
 * Lett. 10 (1974); Vose, IEEE TSE 17 (1991). */
bool fbi_alias_make(const double *weights, int64_t n, fbi_alias *table);
/* The thing that comes at place `draw`: a function of table, seed and draw. */
int64_t fbi_alias_at(const fbi_alias *table, int64_t n, uint64_t seed, uint64_t draw);

#endif
