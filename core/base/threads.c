#include "core/base/threads_priv.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* "max 100000" or "150000 100000" of cgroup v2: processors, rounded up; 0: no limit. */
static int quota_v2(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    long long quota = 0, period = 0;
    int n = fscanf(f, "%lld %lld", &quota, &period);
    fclose(f);
    return n == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

static long long number_in(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    long long value = 0;
    int n = fscanf(f, "%lld", &value);
    fclose(f);
    return n == 1 ? value : 0;
}

static int quota_v1(void)
{
    long long quota = number_in("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
    long long period = number_in("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

/* The process's group in the v2 tree, "/a/b"; "" if it is not shown. */
static void own_group(char *group, size_t size)
{
    group[0] = '\0';
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f)
        return;
    char line[1024];
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, "0::", 3) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(group, size, "%s", line + 3);
    }
    fclose(f);
}

/* The tightest limit from the process's group up to the root. */
static int cgroup_quota(void)
{
    char group[1024], path[1100];
    own_group(group, sizeof group);
    int tightest = quota_v1();
    for (bool more = true; more;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        int q = quota_v2(path);
        if (q > 0 && (tightest == 0 || q < tightest))
            tightest = q;
        char *slash = strrchr(group, '/');
        more = slash != NULL;
        if (slash)
            *slash = '\0';
    }
    return tightest;
}

int fbi_allowed_cores(void)
{
    cpu_set_t set;
    int cores = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cores = CPU_COUNT(&set);
    int quota = cgroup_quota();
    if (quota > 0 && quota < cores)
        cores = quota;
    return cores > 0 ? cores : 1;
}
