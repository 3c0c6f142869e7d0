/* `flambeau doctor`: what this machine has, what is missing, how to get it. */
#include "launch/commands_priv.h"

#include "core/base/threads_priv.h"
#include "core/ops/backend.h"
#include "io/mirror_priv.h"
#include "launch/run_priv.h"

#include <dirent.h>
#include <dlfcn.h>
#include <hdf5.h>
#include <limits.h>
#include <mpi.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <yaml.h>

/* The packages of launch/debian-packages, split by what needs them. */
static const char run_packages[] = FBI_PACKAGES_RUN;
static const char build_packages[] = FBI_PACKAGES_BUILD;
static const char test_packages[] = FBI_PACKAGES_TEST;

enum verdict { GOOD, NOTE, MISSING };

/* Print one line; counts what is needed and not there. */
static void say(int *missing, enum verdict verdict, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void say(int *missing, enum verdict verdict, const char *what, const char *fmt, ...)
{
    static const char *const marks[] = {"ok", "--", "MISSING"};
    va_list args;
    printf("%-8s %-10s ", marks[verdict], what);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
    *missing += verdict == MISSING;
}

/* First line of `path` that starts with `key` (after blanks), behind its colon; "" if none. */
static void field_of(const char *path, const char *key, char *value, size_t size)
{
    value[0] = '\0';
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    char line[512];
    while (!value[0] && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key)) != 0)
            continue;
        char *text = strchr(line, ':');
        text = text ? text + 1 : line;
        text += strspn(text, " \t");
        text[strcspn(text, "\n")] = '\0';
        snprintf(value, size, "%s", text);
    }
    fclose(f);
}

static void check_processor(int *missing)
{
    char model[256];
    field_of("/proc/cpuinfo", "model name", model, sizeof model);
    const char *level = fbi_cpu_isa();
    say(missing, GOOD, "CPU", "%s; kernels %s", model[0] ? model : "unknown model", level);
    int allowed = fbi_allowed_cores();
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (allowed < online)
        say(missing, GOOD, "cores",
            "%d of %ld: the affinity mask or the control group keeps the others", allowed, online);
    else
        say(missing, GOOD, "cores", "%d", allowed);
}

static void check_memory(int *missing)
{
    char total[64], available[64];
    field_of("/proc/meminfo", "MemTotal", total, sizeof total);
    field_of("/proc/meminfo", "MemAvailable", available, sizeof available);
    say(missing, GOOD, "memory", "%.1f GiB, %.1f GiB free", strtod(total, NULL) / (1 << 20),
        strtod(available, NULL) / (1 << 20));
    struct statvfs shm;
    if (statvfs("/dev/shm", &shm) || access("/dev/shm", W_OK)) {
        say(missing, NOTE, "/dev/shm",
            "not there or not writable: Open MPI's messages within a node are slower; "
            "mount a tmpfs there");
        return;
    }
    double mib = (double)shm.f_bavail * (double)shm.f_frsize / (1 << 20);
    say(missing, mib < 64 ? NOTE : GOOD, "/dev/shm", "%.0f MiB free%s", mib,
        mib < 64 ? ": Open MPI may want more (containers: --shm-size=1g)" : "");
}

/* Copies of states in memory: of jobs that run, may be started again, or never will. */
static void check_copies(int *missing)
{
    const char *folder = fbi_mirror_folder();
    DIR *dir = opendir(folder);
    int n = 0;
    double bytes = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        struct stat info;
        if (strncmp(e->d_name, "flambeau-", 9) || fstatat(dirfd(dir), e->d_name, &info, 0))
            continue;
        n++;
        bytes += (double)info.st_size;
    }
    if (dir)
        closedir(dir);
    if (n)
        say(missing, NOTE, "copies",
            "%d copies of states in %s (flambeau-*), %.1f MB: of jobs that run or may be started "
            "again; others can be removed",
            n, folder, 1e-6 * bytes);
}

/* The batch job that this is, or the batch systems that there are. */
static void check_batch(int *missing)
{
    static const char *const commands[][2] = {
        {"sbatch", "slurm"}, {"qsub", "pbs"}, {"bsub", "lsf"}};
    char path[PATH_MAX];
    fbi_allocation a;
    bool found = fbi_allocation_find(NULL, &a);
    if (found && a.place != FBI_PLACE_HERE)
        say(missing, GOOD, "batch", "this is %s job %s, with %d host%s", fbi_place_name(a.place),
            a.job, a.n, a.n == 1 ? "" : "s");
    free(a.hosts);
    if (found && a.place != FBI_PLACE_HERE)
        return;
    found = false;
    for (int i = 0; i < 3; i++) {
        if (!fbi_find_program(commands[i][0], path, sizeof path))
            continue;
        found = true;
        say(missing, GOOD, "batch", "%s: flambeau submit %s", path, commands[i][1]);
    }
    if (!found)
        say(missing, NOTE, "batch", "no sbatch, qsub or bsub in PATH: no batch system");
}

static void check_libraries(int *missing)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING], path[PATH_MAX];
    int length = 0;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = '\0';
    if (fbi_find_program(FBI_MPIRUN, path, sizeof path))
        say(missing, GOOD, "MPI", "%s; %s", text, path);
    else
        say(missing, MISSING, "MPI",
            "%s, but no " FBI_MPIRUN " in PATH: `flambeau run` needs it: install " FBI_MPI_PACKAGE,
            text);
    unsigned major, minor, release;
    H5get_libversion(&major, &minor, &release);
    say(missing, GOOD, "HDF5", "%u.%u.%u", major, minor, release);
    say(missing, GOOD, "libyaml", "%s", yaml_get_version_string());
    char onednn[32];
    fbi_dnn_version(onednn, sizeof onednn);
    if (strcmp(onednn, "none") == 0)
        say(missing, NOTE, "oneDNN",
            "not in this build: some convolutions are slower (Debian: apt-get "
            "install libdnnl-dev, then configure again)");
    else
        say(missing, GOOD, "oneDNN", "%s, built with %s", onednn, FBI_BUILD_DNN);
    if (fbi_cpu_has_lapack())
        say(missing, GOOD, "LAPACK", "decompositions of matrices on the CPU");
    else
        say(missing, NOTE, "LAPACK",
            "not in this build: no decompositions of matrices (Debian: apt-get install "
            "liblapack-dev, then configure again)");
}

/* Libraries of `flambeau data import`. */
static void check_imports(int *missing)
{
    const char *all = FBI_BUILD_IMPORT, *without = FBI_BUILD_WITHOUT;
    if (!*without)
        say(missing, GOOD, "data import", "%s", all);
    else
        say(missing, NOTE, "data import",
            "%s%s not in this build:%s (Debian: apt-get install%s, then configure again)", all,
            *all ? ";" : "", without, FBI_BUILD_WITHOUT_PACKAGES);
}

static void check_driver(int *missing)
{
    char driver[256];
    field_of("/proc/driver/nvidia/version", "NVRM version", driver, sizeof driver);
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver[0])
        say(missing, library ? GOOD : NOTE, "driver", "%s%s", driver,
            library ? "" : ", but no libcuda.so.1: start the container with --gpus all");
    else
        say(missing, NOTE, "driver", "no NVIDIA driver is loaded%s",
            library ? " (libcuda.so.1 is there)" : "");
    if (library)
        dlclose(library);
}

static void check_toolkit(int *missing)
{
    char path[PATH_MAX];
    if (fbi_find_program("nvcc", path, sizeof path) ||
        fbi_find_program("/usr/local/cuda/bin/nvcc", path, sizeof path))
        say(missing, GOOD, "toolkit", "%s", path);
    else
        say(missing, NOTE, "toolkit", "no nvcc: only building for cards needs it");
}

/* What the plug-in tells: '+' or '-' in front of each line. */
static void check_cuda(int *missing)
{
    char text[8192], *rest = NULL;
    if (!fbi_device_describe("cuda", text, sizeof text)) {
        say(missing, NOTE, "CUDA", "no card is used: %s", text);
        return;
    }
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        say(missing, line[0] == '+' ? GOOD : NOTE, "CUDA", "%s", line + 1);
}

static bool is_installed(const char *package)
{
    char command[256];
    snprintf(command, sizeof command,
             "dpkg-query -W -f '${db:Status-Status}' %s 2>/dev/null | grep -qx installed", package);
    int status = system(command);
    return status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void check_packages(int *missing, const char *what, const char *names)
{
    char list[1024], absent[1024] = "";
    snprintf(list, sizeof list, "%s", names);
    char *rest = NULL;
    for (char *name = strtok_r(list, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
        if (!is_installed(name)) {
            size_t used = strlen(absent);
            snprintf(absent + used, sizeof absent - used, " %s", name);
        }
    if (absent[0])
        say(missing, NOTE, what,
            "Debian packages not installed:%s (launch/setup, or apt-get install%s)", absent,
            absent);
    else
        say(missing, GOOD, what, "every Debian package is installed");
}

int fbi_cmd_doctor(int argc, char **argv)
{
    if (argc > 1) {
        bool help = !strcmp(argv[1], "--help");
        fprintf(help ? stdout : stderr,
                "flambeau doctor: what this machine has, what is missing, how to get it.\n"
                "The exit code is 0 if everything needed to run is there.\n");
        return help ? FBI_EXIT_OK : FBI_EXIT_USAGE;
    }
    char path[PATH_MAX];
    int missing = 0;
    check_processor(&missing);
    check_memory(&missing);
    check_copies(&missing);
    check_batch(&missing);
    check_libraries(&missing);
    check_imports(&missing);
    check_driver(&missing);
    check_toolkit(&missing);
    check_cuda(&missing);
    if (fbi_find_program("dpkg-query", path, sizeof path)) {
        check_packages(&missing, "to run", run_packages);
        check_packages(&missing, "to build", build_packages);
        check_packages(&missing, "to test", test_packages);
    }
    if (missing)
        printf("\n%d needed thing%s missing\n", missing, missing == 1 ? " is" : "s are");
    else
        printf("\neverything needed to run is there\n");
    return missing ? FBI_EXIT_FAILED : FBI_EXIT_OK;
}
