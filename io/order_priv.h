/* The order of samples: a seeded permutation with O(1) access, the same for any number of ranks. */
#ifndef FLAMBEAU_IO_ORDER_PRIV_H
#define FLAMBEAU_IO_ORDER_PRIV_H

#include <stdint.h>

enum { FBI_ORDER_ROUNDS = 8 };

/* A permutation of 0 .. n-1: an unbalanced Feistel network on ceil(log2 n) bits, walked until the
 * value is below n. Black, Rogaway: Ciphers with Arbitrary Finite Domains (2002). */
typedef struct fbi_order {
    int64_t n;
    int left_bits, right_bits;
    uint64_t keys[FBI_ORDER_ROUNDS];
} fbi_order;

fbi_order fbi_order_make(int64_t n, uint64_t seed, int64_t epoch);
/* An order of n values of its own for each number `part`, from the keys of another: no Philox. */
fbi_order fbi_order_part(const fbi_order *order, int64_t n, int64_t part);
/* Where position i (0 .. n-1) leads. */
int64_t fbi_order_at(const fbi_order *order, int64_t i);
/* The position that leads to `value`. */
int64_t fbi_order_find(const fbi_order *order, int64_t value);

#endif
