#include "io/alias_priv.h"

#include <stdlib.h>

#include "core/base/philox_priv.h"

/* Columns of less than the mean are filled up by those of more: first the light ones from the left
 * of `list`, the heavy ones from its right. */
static void fill(double *share, int64_t n, uint32_t *list, uint32_t heaviest, fbi_alias *table)
{
    int64_t light = 0, heavy = n;
    for (int64_t i = n - 1; i >= 0; i--)
        list[share[i] < 1 ? light++ : --heavy] = (uint32_t)i;
    while (light > 0 && heavy < n) {
        uint32_t low = list[--light], high = list[heavy];
        table[low] = (fbi_alias){(uint32_t)(share[low] * 0x1p32), high};
        share[high] -= 1 - share[low];
        if (share[high] < 1) { /* it is a light one now: its place goes from right to left */
            heavy++;
            list[light++] = high;
        }
    }
    /* What is left is whole but for rounding; nothing stays nothing. */
    while (light > 0) {
        uint32_t i = list[--light];
        table[i] = share[i] > 0 ? (fbi_alias){UINT32_MAX, i} : (fbi_alias){0, heaviest};
    }
    for (; heavy < n; heavy++)
        table[list[heavy]] = (fbi_alias){UINT32_MAX, list[heavy]};
}

bool fbi_alias_make(const double *weights, int64_t n, fbi_alias *table)
{
    double *share = malloc((size_t)n * sizeof *share), most = 0, sum = 0;
    uint32_t heaviest = 0;
    uint32_t *list = malloc((size_t)n * sizeof *list);
    bool good = share && list;
    for (int64_t i = 0; good && i < n; i++)
        if (weights[i] > most) {
            most = weights[i];
            heaviest = (uint32_t)i;
        }
    for (int64_t i = 0; good && i < n; i++) {
        share[i] = weights[i] / most; /* sums of large weights would overflow */
        sum += share[i];
    }
    for (int64_t i = 0; good && i < n; i++)
        share[i] *= (double)n / sum;
    if (good)
        fill(share, n, list, heaviest, table);
    free(share);
    free(list);
    return good;
}

int64_t fbi_alias_at(const fbi_alias *table, int64_t n, uint64_t seed, uint64_t draw)
{
    uint32_t out[4];
    fbi_philox(seed, UINT64_C(0x7765696768740000), draw, out);
    uint64_t word = (uint64_t)out[1] << 32 | out[0];
    int64_t column = (int64_t)(uint64_t)(((unsigned __int128)word * (uint64_t)n) >> 64);
    return out[2] < table[column].keep ? column : (int64_t)table[column].other;
}
