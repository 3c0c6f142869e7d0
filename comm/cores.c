/* This rank's share of the node's cores. mpirun binds each of two ranks to one core whatever the
 * machine has, so the inherited mask says little; what the cgroup allows is the measure. */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "comm/world_priv.h"
#include "core/base/threads_priv.h"

/* Everything that we may run on: the kernel cuts an affinity down to the cpuset. */
static bool widest(cpu_set_t *out)
{
    cpu_set_t before, all;
    if (sched_getaffinity(0, sizeof before, &before))
        return false;
    memset(&all, 0xff, sizeof all);
    if (sched_setaffinity(0, sizeof all, &all) || sched_getaffinity(0, sizeof *out, out)) {
        *out = before;
        return false;
    }
    return true;
}

/* The n-th to the (n + count)-th processor of a set. */
static void part_of(const cpu_set_t *from, int n, int count, cpu_set_t *out)
{
    int seen = 0;
    CPU_ZERO(out);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET((size_t)cpu, from))
            continue;
        if (seen >= n && seen < n + count)
            CPU_SET((size_t)cpu, out);
        seen++;
    }
}

uint64_t fbi_cores_widen(bool keep, int *inherited)
{
    cpu_set_t set;
    *inherited = sched_getaffinity(0, sizeof set, &set) ? 0 : CPU_COUNT(&set);
    if (!keep)
        widest(&set);
    uint64_t key = 1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &set))
            key = key * 0x9E3779B97F4A7C15u + (uint64_t)cpu + 1;
    return key;
}

int fbi_cores_share(const fbi_cores_request *request, bool *apart, char *note, size_t size)
{
    cpu_set_t wide, mine;
    note[0] = '\0';
    *apart = request->bound;
    int allowed = fbi_allowed_cores(); /* the quota may be less than the set */
    int share = allowed / request->ranks;
    if (request->keep)
        return request->bound ? allowed : (share < 1 ? 1 : share);
    bool crowded = share < 1 || request->threads > share;
    if (share < 1)
        share = 1;
    /* More threads than cores: leave the placing to the kernel. */
    if (!crowded && request->ranks > 1 && sched_getaffinity(0, sizeof wide, &wide) == 0 &&
        CPU_COUNT(&wide) == allowed) {
        part_of(&wide, request->rank * share, share, &mine);
        *apart = sched_setaffinity(0, sizeof mine, &mine) == 0;
    }
    if (request->inherited && request->inherited < share)
        snprintf(note, size,
                 "this process was bound to %d of the %d cores that are its share; it uses the "
                 "share (FLAMBEAU_BIND=keep leaves the binding alone)",
                 request->inherited, share);
    return share;
}
