/* The output of ranks: in files of the run directory, rank 0's on the terminal too. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io/file_priv.h"
#include "launch/commands_priv.h"
#include "launch/logs_priv.h"
#include "launch/run_priv.h"

bool fbi_logs_folder(char *path, size_t size)
{
    const char *run = getenv(FBI_RUN_DIR), *lease = getenv(FBI_RUN_LEASE);
    if (!run || !lease)
        return false;
    int n = snprintf(path, size, "%s/logs/attempt-%05lld", run, strtoll(lease, NULL, 10));
    return n > 0 && (size_t)n < size - 32;
}

void fbi_logs_path(const char *folder, int rank, char *path, size_t size)
{
    snprintf(path, size, "%s/rank-%05d.txt", folder, rank);
}

/* --- the copier --- */

static bool put(int fd, const char *data, ssize_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, data, (size_t)n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        data += done;
        n -= done;
    }
    return true;
}

/* Until both ends are closed: by the last process that has them. */
static void copy(const int from[2], int file)
{
    static char data[1 << 16];
    struct pollfd ends[2] = {{.fd = from[0], .events = POLLIN}, {.fd = from[1], .events = POLLIN}};
    while (ends[0].fd >= 0 || ends[1].fd >= 0) {
        if (poll(ends, 2, -1) < 0 && errno != EINTR)
            return;
        for (int i = 0; i < 2; i++) {
            if (ends[i].fd < 0 || !(ends[i].revents & (POLLIN | POLLHUP | POLLERR)))
                continue;
            ssize_t n = read(ends[i].fd, data, sizeof data);
            if (n <= 0 && errno != EINTR)
                ends[i].fd = -1;
            if (n > 0) {
                put(STDOUT_FILENO + i, data, n); /* a terminal that is gone stops no job */
                put(file, data, n);
            }
        }
    }
}

static int open_file(const fbi_job *job)
{
    char folder[PATH_MAX], path[PATH_MAX];
    if (!fbi_logs_folder(folder, sizeof folder) || !fbi_make_folder(folder)) {
        fprintf(stderr, "run: --dir %s: no folder for the output: %s\n", job->dir, strerror(errno));
        return -1;
    }
    fbi_logs_path(folder, 0, path, sizeof path);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        fprintf(stderr, "run: %s: %s\n", path, strerror(errno));
    return fd;
}

bool fbi_logs_open(const fbi_job *job, int *out, int *err, pid_t *copier)
{
    int pipes[2][2] = {{-1, -1}, {-1, -1}}, file = open_file(job);
    if (file < 0)
        return false;
    if (!pipe2(pipes[0], O_CLOEXEC) && !pipe2(pipes[1], O_CLOEXEC))
        *copier = fork();
    else
        *copier = -1;
    if (*copier == 0) {
        /* It ends with those who write, and not before: their last words count. */
        static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE};
        for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
            signal(ignored[i], SIG_IGN);
        close(pipes[0][1]);
        close(pipes[1][1]);
        copy((int[2]){pipes[0][0], pipes[1][0]}, file);
        _exit(0);
    }
    if (*copier < 0)
        fprintf(stderr, "run: no process for the output: %s\n", strerror(errno));
    close(file);
    close(pipes[0][0]);
    close(pipes[1][0]);
    *out = pipes[0][1];
    *err = pipes[1][1];
    return *copier > 0;
}

void fbi_logs_close(int out, int err, pid_t copier)
{
    close(out);
    close(err);
    /* What still has the other ends after all ranks is none of ours: it is not waited for long. */
    for (int i = 0; i < 500; i++) {
        if (waitpid(copier, NULL, WNOHANG) == copier)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    kill(copier, SIGKILL);
    waitpid(copier, NULL, 0);
}

/* --- after a failure --- */

enum { TOLD = 3, LOOKED_AT = 256 };

/* The last line of our own in a file. */
static bool last_words(const char *path, char *line, size_t size)
{
    char text[1024];
    FILE *f = fopen(path, "re");
    line[0] = '\0';
    while (f && fgets(text, sizeof text, f))
        if (!strncmp(text, "flambeau: ", 10))
            snprintf(line, size, "%.*s", (int)strcspn(text, "\n"), text);
    if (f)
        fclose(f);
    return *line;
}

void fbi_logs_tell(const fbi_job *job)
{
    char folder[PATH_MAX], path[PATH_MAX], line[1024];
    if (!fbi_logs_folder(folder, sizeof folder))
        return;
    fbi_logs_path(folder, 0, path, sizeof path);
    bool spoke = last_words(path, line, sizeof line); /* on the terminal, too */
    for (int rank = 1, told = 0; !spoke && rank < job->ranks && rank < LOOKED_AT && told < TOLD;
         rank++) {
        fbi_logs_path(folder, rank, path, sizeof path);
        if (!last_words(path, line, sizeof line))
            continue;
        fbi_run_say(job, "%s", line);
        told++;
    }
    fbi_run_say(job, "what all ranks have printed is in %s", folder);
}
