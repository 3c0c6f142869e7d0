/* `flambeau rank PROGRAM ...`: what stands between mpirun or srun and a rank of a run directory,
 * and between Hydra and any rank. The rank dies with whoever has started it, and its output goes to
 * a file. `flambeau rank --hold PROGRAM ...`: before mpirun's daemons (fbi_hold_signals). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "comm/world_priv.h"
#include "io/file_priv.h"
#include "launch/commands_priv.h"
#include "launch/logs_priv.h"
#include "launch/run_priv.h"

static int own_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID"};
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (getenv(names[i]))
            return atoi(getenv(names[i]));
    return 0;
}

/* A file that cannot be written is no reason not to train: then all is printed. */
static void redirect(int rank)
{
    char folder[PATH_MAX], path[PATH_MAX];
    if (!fbi_logs_folder(folder, sizeof folder))
        return;
    fbi_make_folder(folder);
    fbi_logs_path(folder, rank, path, sizeof path);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) {
        fprintf(stderr, "run: rank %d: %s: %s\n", rank, path, strerror(errno));
        return;
    }
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

static int become(char **argv)
{
    execvp(argv[0], argv);
    fprintf(stderr, "run: cannot start %s: %s\n", argv[0], strerror(errno));
    return 127;
}

/* --- Hydra --- */

static volatile sig_atomic_t child;

static void pass_on(int number)
{
    if (child > 0)
        kill((pid_t)child, number);
}

/* The rank has left MPI: Hydra closes its end of their connection then. */
static bool has_left(void)
{
    const char *fd = getenv("PMI_FD");
    struct pollfd end = {.fd = fd ? atoi(fd) : -1, .events = POLLIN | POLLRDHUP};
    return poll(&end, 1, 0) != 0;
}

/* All ranks have said what has happened, or nothing has. */
static bool ended_in_words(int status)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return code == FB_E_COMM || code == FB_AGAIN || (code == FB_OK && has_left());
}

/* Hydra kills all ranks as soon as one has died. So that the others can say first what has
 * happened, this process is the one that Hydra knows: it keeps a death to itself for a while. The
 * rank's process group is its own, because Hydra sends signals to groups; what this process gets is
 * passed on. */
static int watch_over(char **argv)
{
    static const int passed[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT};
    const struct timespec patience = {.tv_sec = 3};
    int status = 0;
    pid_t self = getpid();
    fflush(NULL);
    child = fork();
    if (child < 0) {
        fprintf(stderr, "run: cannot start %s: %s\n", argv[0], strerror(errno));
        return FBI_EXIT_FAILED;
    }
    if (child == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return getppid() == self ? become(argv) : FBI_EXIT_FAILED;
    }
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        sigaction(passed[i], &(struct sigaction){.sa_handler = pass_on, .sa_flags = SA_RESTART},
                  NULL);
    while (waitpid((pid_t)child, &status, 0) < 0 && errno == EINTR)
        ;
    child = 0;
    if (!ended_in_words(status))
        nanosleep(&patience, NULL);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int fbi_cmd_rank(int argc, char **argv)
{
    if (argc < 2 || !strcmp(argv[1], "--help")) {
        fprintf(stderr, "flambeau rank PROGRAM ...: started by `flambeau run --dir`\n");
        return FBI_EXIT_USAGE;
    }
    if (argc > 2 && !strcmp(argv[1], "--hold")) {
        fbi_hold_signals();
        return become(argv + 2);
    }
    const char *launcher = getenv(FBI_LAUNCHER);
    if (launcher && !strcmp(launcher, "held"))
        signal(SIGINT, SIG_IGN); /* LSF sends it to all; the launcher passes the wish on */
    /* mpirun that is killed leaves its ranks alone; the kernel does not. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int rank = own_rank();
    if (rank)
        redirect(rank);
    return getenv("HYDI_CONTROL_FD") ? watch_over(argv + 1) : become(argv + 1);
}
