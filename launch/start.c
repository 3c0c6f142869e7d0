/* How ranks are started: the environment, the words of mpirun or srun, and the process. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "comm/invitation_priv.h"
#include "comm/world_priv.h"
#include "core/base/threads_priv.h"
#include "launch/commands_priv.h"
#include "launch/run_priv.h"

/* --- the environment --- */

/* Set a variable that the user has not set; --dry-run prints it. */
static void set_default(const fbi_job *job, const char *name, const char *value)
{
    if (getenv(name))
        return;
    setenv(name, value, 1);
    if (job->dry_run)
        printf("%s=%s ", name, value);
}

static void set_text(const fbi_job *job, const char *name, const char *value)
{
    unsetenv(name); /* the option wins over what the environment says */
    set_default(job, name, value);
}

static void set_number(const fbi_job *job, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%d", (int)value);
    set_text(job, name, text);
}

static int hosts_used(const fbi_allocation *a)
{
    int n = 0;
    for (int i = 0; i < a->n; i++)
        n += a->hosts[i].ranks > 0;
    return n;
}

static int most_on_a_host(const fbi_allocation *a)
{
    int most = 1;
    for (int i = 0; i < a->n; i++)
        most = a->hosts[i].ranks > most ? a->hosts[i].ranks : most;
    return most;
}

static bool is_here(const fbi_allocation *a)
{
    return a->place == FBI_PLACE_HERE;
}

/* What mpirun leaves open. */
static void set_mpirun(const fbi_job *job, bool crowded)
{
    char path[PATH_MAX];
    set_default(job, "OMPI_ALLOW_RUN_AS_ROOT", "1");
    set_default(job, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    if (is_here(&job->where) && !fbi_find_program("ssh", path, sizeof path))
        set_default(job, "OMPI_MCA_plm", "isolated");
    if (crowded)
        set_default(job, "OMPI_MCA_mpi_yield_when_idle", "1");
    if (is_here(&job->where))
        return;
    /* By itself it notices a host that has gone after half an hour. */
    set_default(job, "OMPI_MCA_oob_tcp_keepalive_time", "5");
    set_default(job, "OMPI_MCA_oob_tcp_keepalive_intvl", "2");
    set_default(job, "OMPI_MCA_oob_tcp_keepalive_probes", "5");
    /* Batch systems that keep their own hands on processes of other nodes have a remote shell. */
    if (job->where.place == FBI_PLACE_LSF && fbi_find_program("blaunch", path, sizeof path))
        set_default(job, "OMPI_MCA_plm_rsh_agent", "blaunch");
    if (job->where.place == FBI_PLACE_PBS && fbi_find_program("pbs_tmrsh", path, sizeof path))
        set_default(job, "OMPI_MCA_plm_rsh_agent", "pbs_tmrsh");
    ssize_t n = job->held ? readlink("/proc/self/exe", path, sizeof path - 1) : 0;
    if (n <= 0)
        return;
    path[n] = '\0';
    char agent[PATH_MAX + 32];
    snprintf(agent, sizeof agent, "%s rank --hold orted", path);
    if (!strchr(path, ' ')) /* mpirun splits it there */
        set_default(job, "OMPI_MCA_orte_launch_agent", agent);
}

/* Everything goes through the environment, so that programs started otherwise behave alike. */
void fbi_start_environment(const fbi_job *job)
{
    const char *on_node = getenv("SLURM_CPUS_ON_NODE");
    int cores = fbi_allowed_cores(), ranks = most_on_a_host(&job->where);
    if (job->where.place == FBI_PLACE_SLURM && on_node && atoi(on_node) > 0)
        cores = atoi(on_node);
    int64_t threads = job->threads;
    if (!threads)
        threads = ranks < cores ? cores / ranks : 1;
    bool crowded = job->where.place != FBI_PLACE_HOSTFILE && ranks * threads > cores;

    if (!job->srun)
        set_mpirun(job, crowded);
    /* Containers often forbid reading a neighbour's memory; our own shared segments need no such
     * right, and Open MPI would complain at every start. */
    set_default(job, "OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    /* UCX would keep our handlers of crashes from being installed. */
    set_default(job, "UCX_HANDLE_ERRORS", "none");
    /* OpenMP reads these before main. A spinning thread on a crowded core starves the others; where
     * there is room libgomp's own rule stands: spin for a millisecond, then sleep. */
    if (crowded)
        set_default(job, "OMP_WAIT_POLICY", "passive");
    set_default(job, "OMP_DYNAMIC", "false");
    /* mpirun gives each rank a terminal, even if nobody looks on: programs ask this instead. */
    set_default(job, "FLAMBEAU_TERMINAL", isatty(STDOUT_FILENO) ? "1" : "0");
    if (job->threads) {
        set_number(job, "FLAMBEAU_THREADS", job->threads);
        set_number(job, "OMP_NUM_THREADS", job->threads);
    } else {
        char text[24];
        snprintf(text, sizeof text, "%d", (int)threads);
        set_default(job, "OMP_NUM_THREADS", text);
    }
    if (job->shards)
        set_number(job, "FLAMBEAU_SHARDS", job->shards);
    if (job->srun) {
        set_text(job, FBI_LAUNCHER, "srun");
        /* What is left of a step on a node that was lost keeps the others busy for minutes. */
        set_default(job, "SLURM_OVERLAP", "1");
    }
    if (job->held)
        set_text(job, FBI_LAUNCHER, "held");
    if (!*job->run)
        return;
    char lease[48];
    snprintf(lease, sizeof lease, "%lld %s", (long long)job->lease.generation, job->lease.id);
    set_text(job, FBI_RUN_DIR, job->run);
    if (job->again)
        set_text(job, FBI_RUN_AGAIN, "1");
    if (!job->dry_run)
        set_text(job, FBI_RUN_LEASE, lease);
}

/* --- the words --- */

static void add(fbi_command_line *line, const char *word)
{
    if (line->n < FBI_MAX_WORDS - 1)
        line->words[line->n++] = (char *)(uintptr_t)word;
    else
        line->full = true;
}

/* A word that is put together here. */
static void addf(fbi_command_line *line, const char *fmt, ...) FB_PRINTF(2, 3);
static void addf(fbi_command_line *line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line->room + line->used, line->size - line->used, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= line->size - line->used) {
        line->full = true;
        return;
    }
    add(line, line->room + line->used);
    line->used += (size_t)n + 1;
}

static bool is_forwarded(const char *name, size_t n)
{
    static const char *const kinds[] = {"FLAMBEAU_", "OMP_", "NCCL_"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strncmp(name, kinds[i], strlen(kinds[i])) == 0)
            return true;
    return n == strlen("LD_LIBRARY_PATH") && strncmp(name, "LD_LIBRARY_PATH", n) == 0;
}

/* Other nodes do not inherit this environment: what our programs and their libraries read goes
 * with them. Which cards are visible is a matter of each node. */
static void forward_environment(fbi_command_line *line)
{
    for (char **entry = environ; *entry; entry++) {
        size_t n = strcspn(*entry, "=");
        if (!is_forwarded(*entry, n))
            continue;
        add(line, "-x");
        /* With a value it can be read by all of a machine: a token must not. */
        if (n == strlen(FBI_CONTROL) && !strncmp(*entry, FBI_CONTROL, n))
            add(line, FBI_CONTROL);
        else
            addf(line, "%.*s", (int)n, *entry);
    }
}

/* "a:2,b:2", or with mark ',' "a,b": hosts with ranks. */
static void add_hosts(fbi_command_line *line, const fbi_allocation *a, bool slots)
{
    char *at = line->room + line->used;
    const char *comma = "";
    for (int i = 0; i < a->n; i++) {
        const fbi_host *h = &a->hosts[i];
        if (!h->ranks)
            continue;
        size_t left = line->size - line->used;
        int n = slots ? snprintf(line->room + line->used, left, "%s%s:%d", comma, h->name, h->ranks)
                      : snprintf(line->room + line->used, left, "%s%s", comma, h->name);
        if (n < 0 || (size_t)n >= left) {
            line->full = true;
            return;
        }
        line->used += (size_t)n;
        comma = ",";
    }
    add(line, at);
    line->used++;
}

/* The mpiexec of MPICH and its kin passes the whole environment on. */
static void hydra_words(const fbi_job *job, fbi_command_line *line)
{
    add(line, FBI_MPIRUN);
    add(line, "-n");
    addf(line, "%d", (int)job->ranks);
    add(line, "-bind-to");
    add(line, "none");
    if (is_here(&job->where))
        return;
    add(line, "-hosts");
    add_hosts(line, &job->where, true);
}

static void mpirun_words(const fbi_job *job, fbi_command_line *line)
{
    add(line, FBI_MPIRUN);
    add(line, "-n");
    addf(line, "%d", (int)job->ranks);
    /* mpirun would bind each of two ranks to one core, whatever the machine has. */
    add(line, "--bind-to");
    add(line, "none");
    add(line, "--oversubscribe");
    if (is_here(&job->where))
        return;
    add(line, "--map-by");
    add(line, "slot");
    add(line, "--host");
    add_hosts(line, &job->where, true);
    forward_environment(line);
}

/* A rank sees all cards of its node: NCCL's ways between them need that, and the world gives each
 * rank one of its own. */
static void srun_words(const fbi_job *job, fbi_command_line *line)
{
    const char *per_task = getenv("SLURM_CPUS_PER_TASK"), *gpus = getenv("SLURM_GPUS_ON_NODE");
    add(line, "srun");
    add(line, "--mpi=pmix");
    addf(line, "--nodes=%d", hosts_used(&job->where));
    addf(line, "--ntasks=%d", (int)job->ranks);
    addf(line, "--ntasks-per-node=%d", most_on_a_host(&job->where));
    add(line, "--distribution=block");
    add(line, "--nodelist");
    add_hosts(line, &job->where, false);
    add(line, "--cpu-bind=none");
    if (per_task)
        addf(line, "--cpus-per-task=%s", per_task);
    if (job->gpus)
        addf(line, "--gpus-per-node=%d", (int)job->gpus);
    if (job->gpus || (gpus && atoi(gpus)))
        add(line, "--gpu-bind=none");
    add(line, "--kill-on-bad-exit=1");
    add(line, "--unbuffered");
}

bool fbi_start_line(const fbi_job *job, fbi_command_line *line)
{
    static char self[PATH_MAX];
    *line = (fbi_command_line){.size = 1 << 20};
    line->room = malloc(line->size);
    if (!line->room)
        return false;
    bool hydra = !job->srun && FBI_IS_HYDRA;
    if (job->srun)
        srun_words(job, line);
    else if (hydra)
        hydra_words(job, line);
    else
        mpirun_words(job, line);
    ssize_t n = *job->run || hydra ? readlink("/proc/self/exe", self, sizeof self - 1) : 0;
    if (n > 0) {
        self[n] = '\0';
        add(line, self);
        add(line, "rank");
    }
    for (char **word = job->program; *word; word++)
        add(line, *word);
    line->words[line->n] = NULL;
    return !line->full;
}

void fbi_start_free(fbi_command_line *line)
{
    free(line->room);
}

/* --- the process --- */

void fbi_hold_signals(void)
{
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGTERM);
    sigaddset(&held, SIGINT);
    sigprocmask(SIG_BLOCK, &held, NULL);
}

int fbi_end_signal(const fbi_job *job)
{
    return job->held ? SIGHUP : SIGTERM;
}

pid_t fbi_start(const fbi_job *job, char **words, int out, int err, const sigset_t *signals)
{
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        fprintf(stderr, "run: cannot start %s: %s\n", words[0], strerror(errno));
    if (child)
        return child;
    /* If the launcher is killed, the job ends too: ranks by mpirun's or srun's hand. */
    prctl(PR_SET_PDEATHSIG, fbi_end_signal(job));
    if (getppid() != parent)
        _exit(FBI_EXIT_FAILED);
    if (out >= 0)
        dup2(out, STDOUT_FILENO);
    if (err >= 0)
        dup2(err, STDERR_FILENO);
    sigprocmask(SIG_UNBLOCK, signals, NULL);
    if (job->held)
        fbi_hold_signals();
    execvp(words[0], words);
    fprintf(stderr, "run: cannot start %s: %s\n", words[0], strerror(errno));
    _exit(127);
}

/* --- does a host answer? --- */

static const double probe_s = 10;
enum { AT_ONCE = 32 };

static pid_t probe(const fbi_job *job, const char *host)
{
    char nodes[300],
        *srun[] = {"srun", "--mpi=none", "--overlap", "-N1", "-n1", nodes, "true", NULL};
    char *mpirun[] = {FBI_MPIRUN, "-n",   "1", FBI_IS_HYDRA ? "-hosts" : "--host",
                      nodes,      "true", NULL};
    snprintf(nodes, sizeof nodes, job->srun ? "--nodelist=%s" : "%s", host);
    pid_t child = fork();
    if (child)
        return child;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!freopen("/dev/null", "r+", stdin) || dup2(0, 1) < 0 || dup2(0, 2) < 0)
        _exit(FBI_EXIT_FAILED);
    execvp(job->srun ? srun[0] : mpirun[0], job->srun ? srun : mpirun);
    _exit(127);
}

/* Somebody wants the launcher to stop, or the ranks to save: more urgent than hosts. */
static bool is_told(void)
{
    static const int urgent[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
    sigset_t pending;
    sigpending(&pending);
    for (size_t i = 0; i < sizeof urgent / sizeof *urgent; i++)
        if (sigismember(&pending, urgent[i]) > 0)
            return true;
    return false;
}

/* Until all of them have ended, or time is over, or a signal comes: then nothing is known. */
static void wait_for(fbi_allocation *a, const int *index, pid_t *pids, int n, double began)
{
    for (int left = n; left;) {
        bool told = is_told(), late = told || fbi_now() - began > probe_s;
        for (int k = 0; k < n; k++) {
            int status = 0;
            if (pids[k] <= 0)
                continue;
            if (late)
                kill(pids[k], SIGKILL);
            if (waitpid(pids[k], &status, late ? 0 : WNOHANG) != pids[k])
                continue;
            if (!told)
                a->hosts[index[k]].out = late || !WIFEXITED(status) || WEXITSTATUS(status);
            pids[k] = 0;
            left--;
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

void fbi_start_probe(const fbi_job *job, fbi_allocation *a, const bool *ask)
{
    int index[AT_ONCE], n = 0;
    pid_t pids[AT_ONCE];
    double began = fbi_now();
    for (int i = 0; i < a->n; i++) {
        if (ask[i]) {
            index[n] = i;
            pids[n] = probe(job, a->hosts[i].name);
            n += pids[n] > 0;
        }
        if (n < AT_ONCE && i + 1 < a->n)
            continue;
        wait_for(a, index, pids, n, began);
        n = 0;
        began = fbi_now();
    }
}
