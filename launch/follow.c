/* Following a job to its end: what we are told to stop with is passed on, and an mpirun that has
 * locked itself up is not waited for. */
#include "launch/commands_priv.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include "comm/world_priv.h"
#include "launch/run_priv.h"

/* How long mpirun may go on after its last process: it needs less than 3 s after a death. */
static const double alone_s = 10;

/* Processes in a file of numbers that are not zombies. -1: there is no such file. */
static int living_in(const char *path)
{
    FILE *f = fopen(path, "re");
    int pid, n = 0;
    if (!f)
        return -1;
    while (fscanf(f, "%d", &pid) == 1) {
        char state = 'Z';
        fbi_process_start(pid, &state);
        n += state != 'Z';
    }
    fclose(f);
    return n;
}

/* Living children of all its threads; -1 where the system does not tell. */
static int children_of(pid_t process)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/%d/task", (int)process);
    DIR *tasks = opendir(path);
    int n = tasks ? 0 : -1;
    for (struct dirent *e; n >= 0 && (e = readdir(tasks));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", (int)process, e->d_name);
        int here = living_in(path);
        n = here < 0 ? -1 : n + here;
    }
    if (tasks)
        closedir(tasks);
    return n;
}

/* Whether it had children and has been without for too long. `since`: 0, or when they were gone. */
static bool is_left_alone(pid_t process, bool *had, double *since)
{
    int n = children_of(process);
    *had |= n > 0;
    if (n || !*had)
        *since = 0;
    else if (*since == 0)
        *since = fbi_now();
    return *since > 0 && fbi_now() - *since > alone_s;
}

/* Whether the child has ended, and with which exit code. */
static bool has_ended(pid_t child, int *code)
{
    int status;
    if (waitpid(child, &status, WNOHANG) != child)
        return false;
    *code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return true;
}

/* What the terminal sends goes to the child as well: twice would mean "at once". Whose launcher of
 * ranks is held is asked to stop as often as one likes: the batch system's SIGKILL is the end. */
static void pass_on(fbi_follower *f, int number, const siginfo_t *info)
{
    bool first = !f->told;
    f->told = number;
    if (f->held && (number == SIGTERM || number == SIGINT)) {
        kill(f->child, SIGUSR1);
        return;
    }
    if (info->si_code == SI_KERNEL)
        return;
    kill(f->child, number == SIGTERM && f->saves && first ? SIGUSR1 : number);
}

int fbi_follow(fbi_follower *f)
{
    static const struct timespec pause = {.tv_nsec = 250000000};
    bool had = false;
    double since = 0;
    int code;
    for (;;) {
        siginfo_t info;
        int number = sigtimedwait(f->signals, &info, &pause);
        if (number > 0 && number != SIGCHLD)
            pass_on(f, number, &info);
        if (has_ended(f->child, &code))
            return code;
        if (f->tick)
            f->tick(f, f->user);
        if (!f->mpirun || !is_left_alone(f->child, &had, &since))
            continue;
        fprintf(stderr,
                "run: all ranks have ended, but mpirun has not for %.0f s (Open MPI 4.1 locks "
                "itself up at times after a rank's death): ended by force\n",
                alone_s);
        f->forced = true;
        kill(f->child, SIGKILL);
        waitpid(f->child, NULL, 0);
        return FBI_EXIT_FAILED;
    }
}
