/* `flambeau run`: start a program on several ranks, over mpirun or srun, and see it through. Here
 * the command line; allocation.c finds the hosts, start.c makes the call, supervise.c sees it
 * through. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file_priv.h"
#include "launch/commands_priv.h"
#include "launch/run_priv.h"

static const char usage[] =
    "flambeau run -n RANKS [options] PROGRAM [arguments]\n\n"
    "  -n, --ranks N       processes to start; default in a batch job: all it has room for\n"
    "  -N, --nodes N       on so many nodes, evenly; others that there are stand by\n"
    "  -g, --gpus G        cards of a node: one rank for each\n"
    "  -V, --shards V      fixed-order sums over V leaves: same bits for every N <= V\n"
    "  -t, --threads T     threads of a rank; default: the node's cores, divided\n"
    "      --hostfile FILE nodes: a line \"NAME slots=N\" for each; default: those of the\n"
    "                      Slurm, PBS or LSF job that this is, else this machine\n"
    "      --launcher NAME srun or mpirun; default: srun in a Slurm job, else mpirun\n"
    "      --dir DIR       run directory: lease.json says whose it is (a job that is started\n"
    "                      there ends an older one), logs/ has what each rank prints (the\n"
    "                      terminal: rank 0), checkpoints/ is where a trainer saves\n"
    "      --restart MAX   start again, up to MAX times, from the newest checkpoint after a\n"
    "                      crash or exit code 75; not after 3 in a row without a newer one\n"
    "      --elastic A:B   A to B ranks, as there are hosts that answer: fewer after a host is\n"
    "                      lost, more when it is back\n"
    "      --stop-after S  ask the ranks after S seconds to save and stop (75)\n"
    "      --requeue       in a batch job: after exit code 75, back into the queue\n"
    "      --dry-run       print the command and its environment, start nothing\n\n"
    "The exit code is the program's; 128 + N if signal N ended it. A program that was\n"
    "asked to stop (SIGUSR1; with --dir or in a batch job also SIGTERM) ends with 75: start\n"
    "it again and it goes on. 12: another job has taken the run directory.\n";

/* "MIN:MAX", or one number for both. */
static bool parse_elastic(const char *text, fbi_job *job)
{
    char least[32];
    const char *colon = strchr(text, ':');
    snprintf(least, sizeof least, "%.*s", (int)(colon ? colon - text : (long)strlen(text)), text);
    if (!fbi_parse_count("run", "--elastic", least, 1, 1 << 20, &job->least) ||
        !fbi_parse_count("run", "--elastic", colon ? colon + 1 : text, 1, 1 << 20, &job->most))
        return false;
    if (job->least <= job->most)
        return true;
    fprintf(stderr, "run: --elastic %s: the least number of ranks comes first: --elastic 2:4\n",
            text);
    return false;
}

static bool read_option(int option, fbi_job *job)
{
    switch (option) {
    case 'n':
        return fbi_parse_count("run", "-n", optarg, 1, 1 << 20, &job->ranks);
    case 'N':
        return fbi_parse_count("run", "-N", optarg, 1, 1 << 20, &job->nodes);
    case 'g':
        return fbi_parse_count("run", "--gpus", optarg, 1, 1024, &job->gpus);
    case 'V':
        return fbi_parse_count("run", "--shards", optarg, 1, 1 << 20, &job->shards);
    case 't':
        return fbi_parse_count("run", "--threads", optarg, 1, 4096, &job->threads);
    case 'r':
        return fbi_parse_count("run", "--restart", optarg, 0, 1 << 20, &job->restarts);
    case 'e':
        return parse_elastic(optarg, job);
    case 's':
        return fbi_parse_number("run", "--stop-after", optarg, &job->stop_after);
    case 'f':
        job->hostfile = optarg;
        return true;
    case 'l':
        job->launcher = optarg;
        return true;
    case 'D':
        job->dir = optarg;
        return true;
    case 'q':
        job->requeue = true;
        return true;
    case 'd':
        job->dry_run = true;
        return true;
    }
    return false;
}

static bool refuse(const char *why)
{
    fprintf(stderr, "run: %s\n", why);
    return false;
}

/* What options say together. */
static bool fits(const fbi_job *job)
{
    if (!*job->program) {
        fprintf(stderr, "run: no program given\n\n%s", usage);
        return false;
    }
    if (job->ranks && job->most)
        return refuse("-n and --elastic: one of them says how many ranks there are");
    int64_t most = job->most ? job->most : job->ranks;
    if (job->shards && most > job->shards) {
        fprintf(stderr,
                "run: %d ranks, but %d shards: a rank needs one shard at least; use -n %d or "
                "fewer, or more shards\n",
                (int)most, (int)job->shards, (int)job->shards);
        return false;
    }
    if (job->restarts && !job->dir)
        return refuse("--restart needs --dir DIR, where the newest checkpoint is noted");
    if (job->most && !job->dir)
        return refuse("--elastic needs --dir DIR, where the job is followed");
    if (job->launcher && strcmp(job->launcher, "srun") != 0 && strcmp(job->launcher, "mpirun") != 0)
        return refuse("--launcher: srun or mpirun is needed");
    return true;
}

/* FBI_EXIT_OK, FBI_EXIT_USAGE, or -1: the usage was asked for. */
static int read_options(int argc, char **argv, fbi_job *job)
{
    static const struct option options[] = {
        {"ranks", required_argument, NULL, 'n'},
        {"nodes", required_argument, NULL, 'N'},
        {"gpus", required_argument, NULL, 'g'},
        {"shards", required_argument, NULL, 'V'},
        {"threads", required_argument, NULL, 't'},
        {"hostfile", required_argument, NULL, 'f'},
        {"launcher", required_argument, NULL, 'l'},
        {"dir", required_argument, NULL, 'D'},
        {"restart", required_argument, NULL, 'r'},
        {"elastic", required_argument, NULL, 'e'},
        {"stop-after", required_argument, NULL, 's'},
        {"requeue", no_argument, NULL, 'q'},
        {"dry-run", no_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    bool good = true;
    int option;
    optind = 0; /* GNU: start anew; "+" stops at the program's name */
    while (good && (option = getopt_long(argc, argv, "+n:N:g:V:t:h", options, NULL)) != -1) {
        if (option == 'h')
            return -1;
        good = read_option(option, job);
    }
    job->program = argv + optind;
    return good && fits(job) ? FBI_EXIT_OK : FBI_EXIT_USAGE;
}

/* How many ranks, if nobody has said so: what the batch job has room for. */
static bool default_ranks(fbi_job *job)
{
    if (job->ranks || job->most)
        return true;
    if (job->where.place == FBI_PLACE_HERE && !job->gpus) {
        fprintf(stderr, "run: no -n RANKS given\n\n%s", usage);
        return false;
    }
    job->ranks = fbi_allocation_room(&job->where, job->gpus);
    if (job->gpus && job->nodes)
        job->ranks = job->gpus * job->nodes;
    if (!job->shards || job->ranks <= job->shards)
        return true;
    job->ranks = job->shards;
    return true;
}

/* srun only reaches the nodes of its own job. */
static bool choose_launcher(fbi_job *job)
{
    char path[PATH_MAX];
    bool in_slurm = job->where.place == FBI_PLACE_SLURM;
    if (job->launcher && !strcmp(job->launcher, "srun") && !in_slurm)
        return refuse("--launcher srun: this is no Slurm job");
    job->srun = in_slurm && (!job->launcher || !strcmp(job->launcher, "srun")) &&
                fbi_find_program("srun", path, sizeof path);
    bool batch = job->where.place == FBI_PLACE_PBS || job->where.place == FBI_PLACE_LSF;
    job->held = batch && !FBI_IS_HYDRA && !isatty(STDIN_FILENO);
    if (job->dry_run || job->srun || fbi_find_program(FBI_MPIRUN, path, sizeof path))
        return true;
    return refuse("no " FBI_MPIRUN " in PATH: install " FBI_MPI_PACKAGE);
}

static bool find_run(fbi_job *job)
{
    if (!job->dir)
        return true;
    if (!job->dry_run && !fbi_make_folder(job->dir)) {
        fprintf(stderr, "run: --dir %s: cannot make the folder: %s\n", job->dir, strerror(errno));
        return false;
    }
    char full[PATH_MAX];
    if (job->dry_run && !realpath(job->dir, full))
        snprintf(full, sizeof full, "%s", job->dir);
    else if (!realpath(job->dir, full))
        return refuse("--dir: the folder cannot be found");
    if (strlen(full) > sizeof job->run - 256)
        return refuse("--dir: the path is too long");
    snprintf(job->run, sizeof job->run, "%s", full);
    return true;
}

/* Slurm counts, LSF says Y; for PBS requeue.c says it. */
static bool was_requeued(void)
{
    const char *slurm = getenv("SLURM_RESTART_COUNT"), *lsf = getenv("LSB_RESTART");
    return (slurm && atoi(slurm) > 0) || (lsf && *lsf == 'Y') || getenv(FBI_RUN_AGAIN);
}

int fbi_cmd_run(int argc, char **argv)
{
    fbi_job job = {.again = was_requeued()};
    int status = read_options(argc, argv, &job);
    if (status < 0) {
        fputs(usage, stdout);
        return FBI_EXIT_OK;
    }
    if (status)
        return status;
    char path[PATH_MAX];
    if (!fbi_allocation_find(job.hostfile, &job.where)) {
        free(job.where.hosts);
        return FBI_EXIT_FAILED;
    }
    if (!default_ranks(&job)) {
        free(job.where.hosts);
        return FBI_EXIT_USAGE;
    }
    status = FBI_EXIT_FAILED;
    if (job.where.place == FBI_PLACE_HERE && !fbi_find_program(job.program[0], path, sizeof path))
        fprintf(stderr, "run: %s: no such program, or it may not be run: is it built?\n",
                job.program[0]);
    else if (choose_launcher(&job) && find_run(&job))
        status = fbi_supervise(&job);
    free(job.where.hosts);
    return status;
}
