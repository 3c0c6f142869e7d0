/* The mpirun or srun of a run directory: noted there, so that the next launcher ends one that has
 * been left behind, and with it its ranks. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/world_priv.h"
#include "io/file_priv.h"
#include "launch/run_priv.h"

static const double polite_s = 2; /* mpirun needs a second or two to end its ranks */

typedef struct runner {
    char host[64];
    pid_t pid;
    int end;        /* the signal that ends it in good order */
    uint64_t start; /* pids are used again */
} runner;

static void runner_path(const fbi_job *job, char *path, size_t size)
{
    snprintf(path, size, "%s/runner.json", job->run);
}

void fbi_runner_note(const fbi_job *job, pid_t child)
{
    char path[FBI_CHECKPOINT_PATH + 32], host[64] = "", text[256];
    if (!*job->run)
        return;
    gethostname(host, sizeof host - 1);
    runner_path(job, path, sizeof path);
    int n = snprintf(
        text, sizeof text, "{\"host\": \"%s\", \"pid\": %ld, \"start\": %llu, \"end\": %d}\n", host,
        (long)child, (unsigned long long)fbi_process_start(child, NULL), fbi_end_signal(job));
    fbi_file_write(path, text, (size_t)n); /* without it the lease still keeps an old job apart */
}

static bool read_runner(const fbi_job *job, runner *r)
{
    char path[FBI_CHECKPOINT_PATH + 32];
    runner_path(job, path, sizeof path);
    json_t *root = json_load_file(path, 0, NULL);
    const char *host = json_string_value(json_object_get(root, "host"));
    snprintf(r->host, sizeof r->host, "%s", host ? host : "");
    r->pid = (pid_t)json_integer_value(json_object_get(root, "pid"));
    r->start = (uint64_t)json_integer_value(json_object_get(root, "start"));
    int end = (int)json_integer_value(json_object_get(root, "end"));
    r->end = end > 0 ? end : SIGTERM;
    json_decref(root);
    return *r->host && r->pid > 1 && r->start;
}

static bool lives(const runner *r)
{
    char state = 'Z';
    return fbi_process_start(r->pid, &state) == r->start && state != 'Z';
}

void fbi_runner_end_old(const fbi_job *job)
{
    runner r;
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    if (!*job->run || !read_runner(job, &r) || strcmp(host, r.host) != 0 || !lives(&r))
        return;
    fbi_run_say(job, "an older job still runs here (pid %ld): it is ended", (long)r.pid);
    kill(r.pid, r.end);
    for (double began = fbi_now(); lives(&r) && fbi_now() - began < polite_s;)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    if (lives(&r))
        kill(r.pid, SIGKILL); /* and the kernel ends its ranks: launch/rank.c */
}
