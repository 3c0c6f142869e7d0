/* Where a job may run: the hosts of a batch job, of a hostfile, or this machine. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/run_priv.h"

const char *fbi_place_name(fbi_place place)
{
    static const char *const names[] = {"this machine", "hostfile", "Slurm", "PBS", "LSF"};
    return names[place];
}

static bool wrong(const char *where, const char *what)
{
    fprintf(stderr, "run: %s: %s\n", where, what);
    return false;
}

bool fbi_allocation_add(fbi_allocation *a, const char *name, size_t length, int slots)
{
    for (int i = 0; i < a->n; i++)
        if (strlen(a->hosts[i].name) == length && !memcmp(a->hosts[i].name, name, length)) {
            a->hosts[i].slots += slots;
            return true;
        }
    fbi_host *all = realloc(a->hosts, (size_t)(a->n + 1) * sizeof *all);
    if (!all || length >= sizeof all->name) {
        a->hosts = all ? all : a->hosts;
        return false;
    }
    a->hosts = all;
    all[a->n] = (fbi_host){.slots = slots};
    memcpy(all[a->n++].name, name, length);
    return true;
}

/* "host slots=4", "host:4", "host 4" or "host", one a line; those of a host add up. */
static bool read_line(fbi_allocation *a, char *line)
{
    static const char blanks[] = " \t\r\n";
    line[strcspn(line, "#")] = '\0';
    char *name = line + strspn(line, blanks);
    size_t n = strcspn(name, " \t\r\n:");
    if (!n)
        return true;
    char *rest = name + n + strspn(name + n, " \t\r\n:"), *end;
    const char *slots = strstr(rest, "slots=");
    if (slots)
        slots += strlen("slots=");
    else if (*rest >= '0' && *rest <= '9')
        slots = rest;
    long count = slots ? strtol(slots, &end, 10) : 1;
    return count > 0 && count < 1 << 20 && fbi_allocation_add(a, name, n, (int)count);
}

static bool read_file(fbi_allocation *a, const char *what, const char *path)
{
    char line[1024], text[1200];
    FILE *f = fopen(path, "re");
    snprintf(text, sizeof text, "%s %s", what, path);
    if (!f)
        return wrong(text, strerror(errno));
    bool good = true;
    for (int number = 1; good && fgets(line, sizeof line, f); number++) {
        good = read_line(a, line);
        if (!good)
            fprintf(stderr, "run: %s:%d: a host and its slots are needed: NAME slots=N\n", path,
                    number);
    }
    fclose(f);
    return good && (a->n || wrong(text, "there is no host in it"));
}

static const char *first_set(const char *const *names)
{
    for (; *names; names++)
        if (getenv(*names) && *getenv(*names))
            return getenv(*names);
    return NULL;
}

static bool find_slurm(fbi_allocation *a)
{
    static const char *const lists[] = {"SLURM_JOB_NODELIST", "SLURM_NODELIST", NULL};
    static const char *const tasks[] = {"SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE",
                                        "SLURM_JOB_CPUS_PER_NODE", NULL};
    const char *list = first_set(lists);
    a->place = FBI_PLACE_SLURM;
    if (!list)
        return wrong("SLURM_JOB_ID is set, SLURM_JOB_NODELIST is not",
                     "the nodes of this job are not known: start it in the batch script");
    return fbi_allocation_slurm(a, list, first_set(tasks)) ||
           wrong("SLURM_JOB_NODELIST", "this is no list of nodes");
}

/* "hostA 4 hostB 4" */
static bool read_pairs(fbi_allocation *a, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, " ");
        char *end;
        long slots = strtol(text + n, &end, 10);
        if (!n || slots < 1 || !fbi_allocation_add(a, text, n, (int)slots))
            return wrong("LSB_MCPU_HOSTS", "hosts and their slots are needed: A 4 B 4");
        text = end + strspn(end, " ");
    }
    return a->n > 0 || wrong("LSB_MCPU_HOSTS", "there is no host in it");
}

static bool find_lsf(fbi_allocation *a)
{
    const char *file = getenv("LSB_DJOB_HOSTFILE"), *pairs = getenv("LSB_MCPU_HOSTS");
    a->place = FBI_PLACE_LSF;
    if (file && *file)
        return read_file(a, "LSB_DJOB_HOSTFILE", file);
    return pairs ? read_pairs(a, pairs)
                 : wrong("LSB_JOBID is set, LSB_DJOB_HOSTFILE and LSB_MCPU_HOSTS are not",
                         "the hosts of this job are not known: start it in the batch script");
}

static bool find_pbs(fbi_allocation *a)
{
    a->place = FBI_PLACE_PBS;
    return read_file(a, "PBS_NODEFILE", getenv("PBS_NODEFILE"));
}

bool fbi_allocation_find(const char *hostfile, fbi_allocation *a)
{
    *a = (fbi_allocation){.place = FBI_PLACE_HERE};
    const char *slurm = getenv("SLURM_JOB_ID"), *lsf = getenv("LSB_JOBID");
    const char *pbs = getenv("PBS_NODEFILE") ? getenv("PBS_JOBID") : NULL;
    const char *job = slurm ? slurm : pbs ? pbs : lsf;
    snprintf(a->job, sizeof a->job, "%s", job ? job : "");
    if (hostfile) {
        a->place = FBI_PLACE_HOSTFILE;
        return read_file(a, "--hostfile", hostfile);
    }
    if (job)
        return slurm ? find_slurm(a) : pbs ? find_pbs(a) : find_lsf(a);
    return fbi_allocation_add(a, "localhost", strlen("localhost"), 0) || wrong("", "no memory");
}

/* --- ranks on hosts --- */

static int64_t room_of(const fbi_host *h, int64_t gpus)
{
    int64_t most = h->slots ? h->slots : INT64_MAX;
    if (h->out)
        return 0;
    return gpus ? gpus : most;
}

int64_t fbi_allocation_room(const fbi_allocation *a, int64_t gpus)
{
    int64_t sum = 0;
    for (int i = 0; i < a->n; i++) {
        int64_t room = room_of(&a->hosts[i], gpus);
        sum = room > INT64_MAX - sum ? INT64_MAX : sum + room;
    }
    return sum;
}

/* Evenly over the first n hosts that are there. */
static void spread(fbi_allocation *a, int64_t ranks, int64_t n)
{
    for (int i = 0, k = 0; i < a->n && k < n; i++)
        if (!a->hosts[i].out) {
            a->hosts[i].ranks = (int)((ranks * (k + 1)) / n - (ranks * k) / n);
            k++;
        }
}

bool fbi_allocation_place(fbi_allocation *a, int64_t ranks, int64_t nodes, int64_t gpus)
{
    int64_t there = 0;
    for (int i = 0; i < a->n; i++) {
        a->hosts[i].ranks = 0;
        there += !a->hosts[i].out;
    }
    if (nodes > there || !there)
        return false;
    if (nodes || ranks > fbi_allocation_room(a, gpus)) {
        spread(a, ranks, nodes ? nodes : there);
        return true;
    }
    for (int i = 0; i < a->n && ranks > 0; i++) {
        int64_t room = room_of(&a->hosts[i], gpus);
        a->hosts[i].ranks = (int)(room < ranks ? room : ranks);
        ranks -= a->hosts[i].ranks;
    }
    return true;
}
