/* `flambeau run`: start a program on several ranks, over mpirun. Settles what mpirun leaves open on
 * a plain machine: root, binding (the world divides the cores itself), more ranks than cores, how
 * waiting threads behave. Forwards signals and the exit code. */
#include "launch/commands_priv.h"

#include "core/base/threads_priv.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static const char usage[] =
    "flambeau run -n RANKS [options] PROGRAM [arguments]\n\n"
    "  -n, --ranks N       processes to start\n"
    "  -V, --shards V      fixed-order sums over V leaves: same bits for every N <= V\n"
    "  -t, --threads T     threads of a rank; default: the node's cores, divided\n"
    "      --hostfile FILE nodes, as mpirun reads them; default: this machine only\n"
    "      --dry-run       print the command and its environment, start nothing\n\n"
    "The exit code is the program's; 128 + N if signal N ended it. A program that was\n"
    "asked to stop (SIGUSR1) ends with 75: start it again and it goes on.\n";

struct job {
    int64_t ranks, shards, threads; /* 0: not given */
    const char *hostfile;
    bool dry_run;
    char **program; /* NULL-terminated */
};

enum { MAX_ARGUMENTS = 256 };
struct command_line {
    char *words[MAX_ARGUMENTS];
    int n;
    char names[8192]; /* room for words that are put together here */
    size_t used;
};

/* Read the command line. FBI_EXIT_OK, FBI_EXIT_USAGE, or -1: the usage was asked for. */
static int read_options(int argc, char **argv, struct job *job)
{
    static const struct option options[] = {
        {"ranks", required_argument, NULL, 'n'},
        {"shards", required_argument, NULL, 'V'},
        {"threads", required_argument, NULL, 't'},
        {"hostfile", required_argument, NULL, 'f'},
        {"dry-run", no_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    bool good = true;
    int option;
    optind = 0; /* GNU: start anew; "+" stops at the program's name */
    while (good && (option = getopt_long(argc, argv, "+n:V:t:h", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            good = fbi_parse_count("run", "-n", optarg, 1, 1 << 20, &job->ranks);
            break;
        case 'V':
            good = fbi_parse_count("run", "--shards", optarg, 1, 1 << 20, &job->shards);
            break;
        case 't':
            good = fbi_parse_count("run", "--threads", optarg, 1, 4096, &job->threads);
            break;
        case 'f':
            job->hostfile = optarg;
            break;
        case 'd':
            job->dry_run = true;
            break;
        case 'h':
            return -1;
        default:
            good = false;
        }
    }
    job->program = argv + optind;
    if (good && (job->ranks == 0 || optind >= argc)) {
        fprintf(stderr, "run: %s\n\n%s", job->ranks ? "no program given" : "no -n RANKS given",
                usage);
        good = false;
    }
    if (good && job->shards && job->ranks > job->shards) {
        fprintf(stderr,
                "run: %d ranks, but %d shards: a rank needs one shard at least; use -n %d or "
                "fewer, or more shards\n",
                (int)job->ranks, (int)job->shards, (int)job->shards);
        good = false;
    }
    return good ? FBI_EXIT_OK : FBI_EXIT_USAGE;
}

/* Set a variable that the user has not set; --dry-run prints it. */
static void set_default(const struct job *job, const char *name, const char *value)
{
    if (getenv(name))
        return;
    setenv(name, value, 1);
    if (job->dry_run)
        printf("%s=%s ", name, value);
}

static void set_number(const struct job *job, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%d", (int)value);
    unsetenv(name); /* the option wins over what the environment says */
    set_default(job, name, text);
}

/* Everything goes through the environment, so that programs started otherwise behave alike. */
static void set_environment(const struct job *job)
{
    int cores = fbi_allowed_cores();
    int64_t threads = job->threads;
    if (!threads)
        threads = job->ranks < cores ? cores / job->ranks : 1;
    bool crowded = !job->hostfile && job->ranks * threads > cores;

    set_default(job, "OMPI_ALLOW_RUN_AS_ROOT", "1");
    set_default(job, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    /* Containers often forbid reading a neighbour's memory; our own shared segments need no such
     * right, and Open MPI would complain at every start. */
    set_default(job, "OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    char path[PATH_MAX];
    if (!job->hostfile && !fbi_find_program("ssh", path, sizeof path))
        set_default(job, "OMPI_MCA_plm", "isolated");
    /* OpenMP reads these before main. A spinning thread on a crowded core starves the others; where
     * there is room libgomp's own rule stands: spin for a millisecond, then sleep. */
    if (crowded) {
        set_default(job, "OMP_WAIT_POLICY", "passive");
        set_default(job, "OMPI_MCA_mpi_yield_when_idle", "1");
    }
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
}

static void add(struct command_line *line, const char *word)
{
    if (line->n < MAX_ARGUMENTS - 1)
        line->words[line->n++] = (char *)(uintptr_t)word;
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
static void forward_environment(struct command_line *line)
{
    for (char **entry = environ; *entry; entry++) {
        size_t n = strcspn(*entry, "=");
        char *name = line->names + line->used;
        if (!is_forwarded(*entry, n) || line->used + n + 1 > sizeof line->names)
            continue;
        memcpy(name, *entry, n);
        name[n] = '\0';
        line->used += n + 1;
        add(line, "-x");
        add(line, name);
    }
}

static void mpirun_line(const struct job *job, struct command_line *line, char *ranks, size_t size)
{
    snprintf(ranks, size, "%d", (int)job->ranks);
    add(line, "mpirun");
    add(line, "-n");
    add(line, ranks);
    /* mpirun would bind each of two ranks to one core, whatever the machine has. */
    add(line, "--bind-to");
    add(line, "none");
    add(line, "--oversubscribe");
    if (!job->hostfile)
        return;
    add(line, "--hostfile");
    add(line, job->hostfile);
    forward_environment(line);
}

/* mpirun, then the program's own words. NULL: no memory. */
static char **join(const struct command_line *line, char **program)
{
    size_t n = 0;
    while (program[n])
        n++;
    char **words = calloc((size_t)line->n + n + 1, sizeof *words);
    if (words) {
        memcpy(words, line->words, (size_t)line->n * sizeof *words);
        memcpy(words + line->n, program, n * sizeof *words);
    }
    return words;
}

static int start(char **words)
{
    static const int passed[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    sigset_t signals, before;
    sigemptyset(&signals);
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        sigaddset(&signals, passed[i]);
    sigprocmask(SIG_BLOCK, &signals, &before);

    pid_t parent = getpid(), child = fork();
    if (child < 0) {
        fprintf(stderr, "run: cannot start mpirun: %s\n", strerror(errno));
        return FBI_EXIT_FAILED;
    }
    if (child == 0) {
        /* If the launcher is killed, the job ends too. */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(FBI_EXIT_FAILED);
        sigprocmask(SIG_SETMASK, &before, NULL);
        execvp(words[0], words);
        fprintf(stderr, "run: cannot start %s: %s\n", words[0], strerror(errno));
        _exit(127);
    }
    return fbi_follow(child, &signals);
}

int fbi_cmd_run(int argc, char **argv)
{
    struct job job = {0};
    int status = read_options(argc, argv, &job);
    if (status) {
        if (status < 0)
            fputs(usage, stdout);
        return status < 0 ? FBI_EXIT_OK : status;
    }
    char path[PATH_MAX];
    if (!job.hostfile && !fbi_find_program(job.program[0], path, sizeof path)) {
        fprintf(stderr, "run: %s: no such program, or it may not be run: is it built?\n",
                job.program[0]);
        return FBI_EXIT_FAILED;
    }
    if (!job.dry_run && !fbi_find_program("mpirun", path, sizeof path)) {
        fprintf(stderr, "run: no mpirun in PATH: install Open MPI (Debian: openmpi-bin)\n");
        return FBI_EXIT_FAILED;
    }
    struct command_line line = {.n = 0};
    char ranks[24];
    set_environment(&job);
    mpirun_line(&job, &line, ranks, sizeof ranks);
    char **words = join(&line, job.program);
    if (!words) {
        fprintf(stderr, "run: out of memory\n");
        return FBI_EXIT_FAILED;
    }
    if (job.dry_run) {
        for (int i = 0; words[i]; i++)
            printf("%s%s", i ? " " : "", words[i]);
        printf("\n");
        status = FBI_EXIT_OK;
    } else {
        fflush(NULL);
        status = start(words);
    }
    free(words);
    return status;
}
