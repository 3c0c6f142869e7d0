/* Preloaded into a program under test: counts what it does to files below SHIM_FOLDER (with
 * SHIM_ONLY: whose path contains that), and at event SHIM_AT kills the process in the middle of it,
 * or with SHIM_ERRNO lets it and all later ones fail. SHIM_LOG gets a line for each event. With
 * SHIM_RANK, only in that rank. SHIM_RECORD gets what has been done, data included, for
 * test_replay.
 *
 *   gcc -shared -fPIC -o shim.so shim.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long count;

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static int watched(const char *path)
{
    const char *folder = getenv("SHIM_FOLDER"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    long only = number("SHIM_RANK", -1);
    if (!folder || (only >= 0 && only != (rank ? atol(rank) : 0)))
        return 0;
    const char *part = getenv("SHIM_ONLY");
    return strncmp(path, folder, strlen(folder)) == 0 && (!part || strstr(path, part));
}

static int watched_fd(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = '\0';
    return n > 0 && watched(path);
}

typedef enum fate { GO, FAIL, DIE } fate;

/* One more event: what is to become of it. */
static fate event(const char *what, const char *path)
{
    pthread_mutex_lock(&lock);
    long now = ++count, at = number("SHIM_AT", 0);
    pthread_mutex_unlock(&lock);
    const char *log = getenv("SHIM_LOG");
    int fd = log ? openat(AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
    if (fd >= 0) {
        dprintf(fd, "%ld %s %s\n", now, what, path);
        close(fd);
    }
    if (!at || now < at)
        return GO;
    errno = (int)number("SHIM_ERRNO", 0);
    return errno ? FAIL : DIE;
}

/* "write OFFSET BYTES PATH", then the bytes; "sync PATH"; "rename PATH TO" ... in their order. */
static void record(const char *what, const char *path, const char *to, const void *data, size_t n,
                   off_t at)
{
    const char *name = getenv("SHIM_RECORD");
    pthread_mutex_lock(&lock);
    FILE *f = name ? fopen(name, "ab") : NULL;
    if (f && data) {
        fprintf(f, "%s %lld %zu %s\n", what, (long long)at, n, path);
        fwrite(data, 1, n, f);
    } else if (f) {
        fprintf(f, "%s %s%s%s\n", what, path, to ? " " : "", to ? to : "");
    }
    if (f)
        fclose(f);
    pthread_mutex_unlock(&lock);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

ssize_t write(int fd, const void *data, size_t n)
{
    char path[PATH_MAX];
    ssize_t (*real)(int, const void *, size_t) = REAL(ssize_t, "write", int, const void *, size_t);
    if (!watched_fd(fd, path))
        return real(fd, data, n);
    switch (event("write", path)) {
    case FAIL:
        return -1;
    case DIE:
        if (real(fd, data, n / 2) >= 0)
            die();
        die();
        break;
    case GO:
        break;
    }
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = real(fd, data, n);
    if (done > 0)
        record("write", path, NULL, data, (size_t)done, at);
    return done;
}

static ssize_t pwrite_as(const char *name, int fd, const void *data, size_t n, off_t at)
{
    char path[PATH_MAX];
    ssize_t (*real)(int, const void *, size_t, off_t) =
        REAL(ssize_t, name, int, const void *, size_t, off_t);
    if (!watched_fd(fd, path))
        return real(fd, data, n, at);
    switch (event("write", path)) {
    case FAIL:
        return -1;
    case DIE:
        if (real(fd, data, n / 2, at) >= 0)
            die();
        die();
        break;
    case GO:
        break;
    }
    ssize_t done = real(fd, data, n, at);
    if (done > 0)
        record("write", path, NULL, data, (size_t)done, at);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    return pwrite_as("pwrite", fd, data, n, at);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at)
{
    return pwrite_as("pwrite64", fd, data, n, at);
}

/* Events on an open file, without data: the process dies before it. */
#define ON_FD(name, args, call)                                  \
    int name args                                                \
    {                                                            \
        char path[PATH_MAX];                                     \
        int(*real) args = (int(*) args)dlsym(RTLD_NEXT, #name);  \
        fate f = watched_fd(fd, path) ? event(#name, path) : GO; \
        if (f == DIE)                                            \
            die();                                               \
        int rc = f == FAIL ? -1 : real call;                     \
        if (!rc && *path)                                        \
            record(#name, path, NULL, NULL, 0, 0);               \
        return rc;                                               \
    }

ON_FD(fsync, (int fd), (fd))
ON_FD(fdatasync, (int fd), (fd))
ON_FD(ftruncate, (int fd, off_t size), (fd, size))
ON_FD(ftruncate64, (int fd, off_t size), (fd, size))
ON_FD(sync_file_range, (int fd, off_t from, off_t n, unsigned how), (fd, from, n, how))

/* Events on a path. */
#define ON_PATH(name, args, call, to)                           \
    int name args                                               \
    {                                                           \
        int(*real) args = (int(*) args)dlsym(RTLD_NEXT, #name); \
        fate f = watched(path) ? event(#name, path) : GO;       \
        if (f == DIE)                                           \
            die();                                              \
        int rc = f == FAIL ? -1 : real call;                    \
        if (!rc && watched(path))                               \
            record(#name, path, to, NULL, 0, 0);                \
        return rc;                                              \
    }

ON_PATH(rename, (const char *path, const char *to), (path, to), to)
ON_PATH(unlink, (const char *path), (path), NULL)
ON_PATH(rmdir, (const char *path), (path), NULL)
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode), NULL)

/* A file that is made or emptied; those that are read are no events. */
int open(const char *path, int how, ...)
{
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    va_list rest;
    va_start(rest, how);
    mode_t mode = how & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    bool makes = (how & (O_CREAT | O_TRUNC)) && watched(path);
    fate f = makes ? event("open", path) : GO;
    if (f == DIE)
        die();
    int fd = f == FAIL ? -1 : real(path, how, mode);
    if (fd >= 0 && makes)
        record("open", path, NULL, NULL, 0, 0);
    return fd;
}
