#include "io/limited_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/h5_priv.h"

enum { SECONDS = 20, PATIENCE = 3 };
enum { YES = 40, NO = 41 }; /* exit codes of a child that comes to an answer, and nobody else's */
static const int64_t memory = (int64_t)4 << 30;

/* --- the child --- */

/* All of the address space that this process has; 0: not known. */
static rlim_t used_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void limit(int what, rlim_t most)
{
    struct rlimit r;
    if (getrlimit(what, &r))
        return;
    if (r.rlim_cur > most)
        r.rlim_cur = most;
    setrlimit(what, &r);
}

/* What this process has for crashes and wishes to stop is not the child's. */
static void plain_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL, SIGABRT, SIGTERM,
                                  SIGINT,  SIGUSR1, SIGALRM, SIGHUP, SIGXCPU};
    sigset_t none;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void become_limited(fbi_limits limits)
{
    rlim_t used = used_bytes();
    plain_signals();
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_CPU, (rlim_t)limits.seconds);
    if (used)
        limit(RLIMIT_AS, used + (rlim_t)limits.bytes);
    alarm((unsigned)limits.seconds * PATIENCE);
}

/* --- this process --- */

static bool ended(int status, fbi_limits limits, bool *result, char *text, size_t size)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == YES || code == NO) {
        *result = code == YES;
        return true;
    }
    int by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (by == SIGXCPU || by == SIGALRM)
        snprintf(text, size, "does not return within %d seconds", limits.seconds);
    else if (by)
        snprintf(text, size, "crashes (%s)", strsignal(by));
    else
        snprintf(text, size, "ends with exit code %d", code);
    return false;
}

bool fbi_limited(bool (*work)(void *arg), void *arg, fbi_limits limits, bool *result, char *text,
                 size_t size)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        become_limited(limits);
        _exit(work(arg) ? YES : NO);
    }
    if (child < 0) {
        snprintf(text, size, "cannot be tried in a process of its own: %s", strerror(errno));
        return false;
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) {
            *result = true; /* the program waits for all its children itself: nothing is known */
            return true;
        }
    return ended(status, limits, result, text, size);
}

/* --- HDF5 --- */

static herr_t look_at_attribute(hid_t where, const char *name, const H5A_info_t *info, void *user)
{
    (void)info;
    (void)user;
    hid_t attribute = H5Aopen(where, name, H5P_DEFAULT);
    hid_t type = attribute < 0 ? H5I_INVALID_HID : H5Aget_type(attribute);
    hid_t space = attribute < 0 ? H5I_INVALID_HID : H5Aget_space(attribute);
    char small[1 << 10];
    if (type >= 0 && space >= 0 && H5Aget_storage_size(attribute) <= sizeof small &&
        H5Tis_variable_str(type) == 0 && H5Tget_class(type) != H5T_VLEN)
        H5Aread(attribute, type, small);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (attribute >= 0)
        H5Aclose(attribute);
    return 0;
}

static herr_t look_at_object(hid_t file, const char *name, const H5O_info_t *info, void *user)
{
    (void)user;
    hid_t object = H5Oopen(file, name, H5P_DEFAULT);
    if (object < 0)
        return 0;
    H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, NULL, look_at_attribute, NULL);
    if (info->type == H5O_TYPE_DATASET) {
        hid_t parts[] = {H5Dget_space(object), H5Dget_type(object), H5Dget_create_plist(object)};
        H5Dget_offset(object);
        H5Dget_storage_size(object);
        if (parts[0] >= 0)
            H5Sclose(parts[0]);
        if (parts[1] >= 0)
            H5Tclose(parts[1]);
        if (parts[2] >= 0)
            H5Pclose(parts[2]);
    }
    H5Oclose(object);
    return 0;
}

/* In the child, which has the lock. */
static bool look_at_file(void *arg)
{
    hid_t file = fbi_h5_open(arg);
    if (file < 0)
        return false;
    H5Ovisit(file, H5_INDEX_NAME, H5_ITER_INC, look_at_object, NULL);
    return H5Fclose(file) >= 0;
}

bool fbi_h5_probe(const char *path, char *text, size_t size)
{
    char how[128] = "";
    bool result;
    fbi_h5_lock(); /* no other thread is within HDF5 when the child is made */
    bool good = fbi_limited(look_at_file, (void *)(uintptr_t)path, (fbi_limits){SECONDS, memory},
                            &result, how, sizeof how);
    fbi_h5_unlock();
    if (!good)
        snprintf(text, size, "is damaged or hostile: HDF5 %s when it looks at it: not opened", how);
    return good;
}
