/* Which device each rank computes on: cards are divided among the ranks of a machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/mpi_priv.h"
#include "core/base/log_priv.h"

/* All ranks must compute on the same kind of device. */
static bool same_kind(fb_world *world, const char *device)
{
    char mine[FBI_DEVICE_BYTES] = "", *all = malloc((size_t)world->size * sizeof mine);
    fbi_exchange exchange = fbi_world_exchange(world);
    snprintf(mine, sizeof mine, "%.*s", (int)strcspn(device, ":"), device);
    bool ok = all && exchange.gather(exchange.self, mine, sizeof mine, all);
    for (int r = 1; ok && r < world->size; r++) {
        const char *theirs = all + (size_t)r * sizeof mine;
        char first[96], other[96];
        ok = !strcmp(theirs, all);
        if (!ok && world->rank == 0)
            fbi_logline("world_open: %s computes on \"%s\", %s on \"%s\": all ranks need the same "
                        "kind; FLAMBEAU_DEVICE=cpu makes them all use the CPU",
                        fbi_rank_text(world, 0, first, sizeof first), all,
                        fbi_rank_text(world, r, other, sizeof other), theirs);
    }
    free(all);
    return ok;
}

/* The first card that a rank sees and none of n others has; -1: none. */
static int first_free(const fbi_devices *seen, const uint64_t *taken, int n)
{
    for (int i = 0; i < seen->n; i++) {
        int k = 0;
        while (k < n && taken[k] != seen->card[i])
            k++;
        if (k == n)
            return i;
    }
    return -1;
}

/* What the ranks of a machine get: a launcher may show them all cards, or one to each. */
typedef struct division {
    int mine;           /* number of this rank's card; -1: none is left */
    int ranks, served;  /* those that want one, and those that get one */
    int first_unserved; /* local rank; -1: none */
} division;

static division divide(const fbi_devices *all, int n, int me, uint64_t *taken)
{
    division d = {-1, 0, 0, -1};
    for (int r = 0; r < n; r++) {
        if (!all[r].n)
            continue;
        int i = first_free(&all[r], taken, d.served);
        d.ranks++;
        if (r == me)
            d.mine = i;
        if (i >= 0)
            taken[d.served++] = all[r].card[i];
        else if (d.first_unserved < 0)
            d.first_unserved = r;
    }
    return d;
}

/* False: there are too few cards, and the first rank without one has said so. */
static bool take_card(fb_world *world, const fbi_devices *seen, char device[FBI_DEVICE_BYTES])
{
    size_t n = (size_t)world->local_size;
    fbi_exchange exchange = fbi_node_exchange(world);
    fbi_devices *all = malloc(n * sizeof *all);
    uint64_t *taken = malloc(n * sizeof *taken);
    division d = {.mine = -1, .first_unserved = -1};
    if (all && taken && exchange.gather(exchange.self, seen, sizeof *seen, all))
        d = divide(all, world->local_size, world->local_rank, taken);
    free(all);
    free(taken);
    snprintf(device, FBI_DEVICE_BYTES, "%s", seen->device);
    if (seen->n && d.mine >= 0)
        snprintf(device, FBI_DEVICE_BYTES, "%.20s:%d", seen->device, d.mine);
    if (d.first_unserved == world->local_rank)
        fbi_logline("world_open: %d ranks on %s, but only %d card%s (%s): start no more than %d "
                    "there, or use the CPU (FLAMBEAU_DEVICE=cpu), or name the card that each is "
                    "to use (FLAMBEAU_DEVICE=%s:0: ranks may share one)",
                    d.ranks, world->peers[world->rank].host, d.served, d.served == 1 ? "" : "s",
                    seen->device, d.served, seen->device);
    return !seen->n || d.mine >= 0;
}

bool fbi_world_choose_device(fb_world *world, const char *asked, char device[FBI_DEVICE_BYTES])
{
    fbi_devices seen;
    fbi_devices_seen(asked, world->local_rank == 0, &seen);
    bool has = take_card(world, &seen, device);
    return fbi_boot_agree(world, has) && same_kind(world, device);
}
