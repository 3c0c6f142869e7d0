/* `flambeau rank PROGRAM ...`: what stands between mpirun or srun and a rank of a run directory.
 * The rank dies with whoever has started it, and its output goes to a file. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "io/file_priv.h"
#include "launch/commands_priv.h"
#include "launch/logs_priv.h"

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

int fbi_cmd_rank(int argc, char **argv)
{
    if (argc < 2 || !strcmp(argv[1], "--help")) {
        fprintf(stderr, "flambeau rank PROGRAM ...: started by `flambeau run --dir`\n");
        return FBI_EXIT_USAGE;
    }
    /* mpirun that is killed leaves its ranks alone; the kernel does not. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int rank = own_rank();
    if (rank)
        redirect(rank);
    execvp(argv[1], argv + 1);
    fprintf(stderr, "run: cannot start %s: %s\n", argv[1], strerror(errno));
    return 127;
}
