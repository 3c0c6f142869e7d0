/* `flambeau submit`: a batch job from options of the command line or a YAML file. One table has
 * them all. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file_priv.h"
#include "launch/commands_priv.h"
#include "launch/submit_priv.h"

static const char usage[] =
    "flambeau submit slurm|pbs|lsf [options] PROGRAM [arguments]\n\n"
    "Writes DIR/job.sh and hands it to sbatch, qsub or bsub. The job runs `flambeau run`: it\n"
    "saves before its time is over or when it is preempted, goes back into the queue, and goes\n"
    "on at the same sample.\n\n"
    "  --print          print the script, write and submit nothing\n"
    "  --config FILE    options from a YAML file: job: {nodes: 2, time: 2:00:00, ...}\n"
    "  --NAME VALUE     one option; wins over files:\n\n";

#define AT(field) offsetof(fbi_batch, field)
enum { MOST = 1 << 20 };

static const fb_option rows[] = {
    {"nodes", FB_OPTION_COUNT, AT(nodes), .least = 1, .most = MOST, .about = "-N: nodes (1)"},
    {"ranks", FB_OPTION_COUNT, AT(ranks), .least = 1, .most = MOST,
     .about = "-n: ranks on all nodes (one for each card, or for each node)"},
    {"gpus", FB_OPTION_COUNT, AT(gpus), .most = 1024, .about = "-g: cards of a node"},
    {"cpus", FB_OPTION_COUNT, AT(cpus), .most = 4096, .about = "cores of a rank"},
    {"memory", FB_OPTION_TEXT, AT(memory), .about = "of a node (LSF: of a rank), e.g. 64G"},
    {"time", FB_OPTION_TIME, AT(time), .least = 60, .about = "limit"},
    {"warn", FB_OPTION_TIME, AT(warn), .least = 1,
     .about = "how long before the limit it saves and stops (2:00)"},
    {"account", FB_OPTION_TEXT, AT(account), .about = "who pays"},
    {"queue", FB_OPTION_TEXT, AT(queue), .about = "queue"},
    {"partition", FB_OPTION_TEXT, AT(queue), .about = "the same, as Slurm calls it"},
    {"name", FB_OPTION_TEXT, AT(name), .about = "of the job (the program's)"},
    {"array", FB_OPTION_TEXT, AT(array),
     .about = "jobs of these numbers, e.g. 0-3, each in DIR/NUMBER"},
    {"dir", FB_OPTION_TEXT, AT(dir), .about = "run directory (runs/NAME)"},
    {"once", FB_OPTION_FLAG, AT(once), .about = "not back into the queue"},
    {"restart", FB_OPTION_COUNT, AT(restart), .most = MOST,
     .about = "starts after crashes within the job (3)"},
    {"elastic", FB_OPTION_TEXT, AT(elastic), .about = "MIN:MAX ranks, as there are nodes"},
    {"shards", FB_OPTION_COUNT, AT(shards), .most = 4096, .about = "-V: of `flambeau run`"},
    {"threads", FB_OPTION_COUNT, AT(threads), .most = 4096, .about = "-t: of `flambeau run`"},
    {"setup", FB_OPTION_TEXT, AT(setup), .about = "lines of shell before, e.g. module load ..."},
    {"extra", FB_OPTION_TEXT, AT(extra), .about = "more for the batch system, a line each"},
    {"command", FB_OPTION_TEXT, AT(command), .about = "in files: PROGRAM and its arguments"},
    {0}};

static void print_usage(FILE *to)
{
    fputs(usage, to);
    for (const fb_option *row = rows; row->name; row++)
        fprintf(to, "  --%-14s %s\n", row->name, row->about);
    fputs(
        "\n`flambeau submit slurm --print -N 2 -g 4 --time 8:00:00 ./train` shows what it makes.\n",
        to);
}

static bool refuse(const char *why)
{
    fprintf(stderr, "submit: %s\n", why);
    return false;
}

/* --- options --- */

typedef struct command {
    const fbi_batch_kind *kind;
    fbi_option_reader *r;
    const fb_option_group *group;
    int argc, at;
    char **argv;
    bool print, help;
} command;

/* The long name of "-n". */
static const char *long_name(const char *arg)
{
    static const char *const names[][2] = {
        {"-n", "ranks"}, {"-N", "nodes"}, {"-g", "gpus"}, {"-V", "shards"}, {"-t", "threads"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i][0], arg))
            return names[i][1];
    return NULL;
}

/* The value behind "--name" or "--name=value". */
static const char *value_of(command *c, const char *equals)
{
    if (equals)
        return equals + 1;
    return c->at + 1 < c->argc ? c->argv[++c->at] : NULL;
}

/* One option at argv[at]; files are read in the first pass, the others in the second. */
static bool take(command *c, bool files)
{
    char name[64];
    const char *arg = c->argv[c->at], *equals = strchr(arg, '='), *own = long_name(arg);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg + 2, "="), own ? "" : arg + 2);
    snprintf(c->r->where, sizeof c->r->where, "%s", arg);
    if (!strcmp(arg, "--print"))
        return c->print = true;
    if (!strcmp(name, "config")) {
        const char *file = value_of(c, equals);
        if (!file)
            return fbi_option_wrong(c->r, "the name of a file is needed");
        return !files || fbi_yaml_read(c->r, file);
    }
    if (!own && strncmp(arg, "--", 2) != 0)
        return fbi_option_wrong(c->r, "there is no such option: `flambeau submit --help`");
    const fb_option *row = fbi_option_find(c->r, c->group, own ? own : name);
    if (!row)
        return false;
    if (row->kind == FB_OPTION_FLAG && !equals)
        return files || fbi_option_put(c->r, c->group, row, "true");
    const char *value = value_of(c, own ? NULL : equals);
    if (!value)
        return fbi_option_wrong(c->r, "a value is needed");
    return files || fbi_option_put(c->r, c->group, row, value);
}

/* Options up to the program's name, or "--". */
static bool read_options(command *c, fbi_batch *b)
{
    for (int pass = 0; pass < 2; pass++)
        for (c->at = 2; c->at < c->argc && c->argv[c->at][0] == '-'; c->at++) {
            if (!strcmp(c->argv[c->at], "--")) {
                c->at++;
                break;
            }
            if (!take(c, pass == 0))
                return false;
        }
    b->program = c->argv + c->at;
    return true;
}

/* --- what they say together --- */

/* Directives have no common way to quote. */
static bool is_plain(const char *name, const char *text)
{
    if (!text || !strpbrk(text, " \t\n\"'\\$`#"))
        return true;
    fprintf(stderr, "submit: %s \"%s\": no blanks, quotes, $ or # here\n", name, text);
    return false;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool settle(fbi_batch *b, char *name, char *dir, size_t size)
{
    if (!*b->program && !b->command)
        return refuse("no program given");
    if (!b->name) {
        snprintf(name, size, "%s", base_of(*b->program ? *b->program : b->command));
        name[strcspn(name, " \t\n")] = '\0';
        b->name = name;
    }
    if (!b->dir) {
        snprintf(dir, size, "runs/%s", b->name);
        b->dir = dir;
    }
    if (!is_plain("--name", b->name) || !is_plain("--dir", b->dir) ||
        !is_plain("--memory", b->memory) || !is_plain("--account", b->account) ||
        !is_plain("--queue", b->queue) || !is_plain("--array", b->array) ||
        !is_plain("--elastic", b->elastic))
        return false;
    b->nodes = b->nodes ? b->nodes : 1;
    if (!b->ranks)
        b->ranks = b->nodes * (b->gpus ? b->gpus : 1);
    if (b->ranks % b->nodes) {
        fprintf(stderr, "submit: %lld ranks on %lld nodes: the same number on each is needed\n",
                (long long)b->ranks, (long long)b->nodes);
        return false;
    }
    if (b->time > 0 && b->warn >= b->time) {
        fprintf(stderr, "submit: --warn %g s: the job lasts %g s only\n", b->warn, b->time);
        return false;
    }
    if (b->shards && b->ranks > b->shards) {
        fprintf(stderr, "submit: %lld ranks, but %lld shards: a rank needs one shard at least\n",
                (long long)b->ranks, (long long)b->shards);
        return false;
    }
    ssize_t n = readlink("/proc/self/exe", b->self, sizeof b->self - 1);
    return (n > 0 && getcwd(b->here, sizeof b->here)) || refuse(strerror(errno));
}

/* Full paths: the job begins elsewhere. */
static bool full_path(const fbi_batch *b, char *path, size_t size)
{
    int n = *b->dir == '/' ? snprintf(path, size, "%s", b->dir)
                           : snprintf(path, size, "%s/%s", b->here, b->dir);
    return (n > 0 && (size_t)n < size - 16 && is_plain("--dir", path)) ||
           refuse("--dir: such a path will not do");
}

/* --- handing it over --- */

static int submit(const fbi_batch_kind *kind, const char *script)
{
    char path[PATH_MAX];
    if (!fbi_find_program(kind->submit, path, sizeof path)) {
        fprintf(stderr, "submit: no %s in PATH: is there %s on this machine? The script is %s\n",
                kind->submit, kind->title, script);
        return FBI_EXIT_FAILED;
    }
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int in = kind->by_stdin ? open(script, O_RDONLY) : STDIN_FILENO;
        if (in >= 0 && dup2(in, STDIN_FILENO) >= 0)
            execl(path, kind->submit, kind->by_stdin ? NULL : script, (char *)NULL);
        _exit(127);
    }
    if (child > 0 && waitpid(child, &status, 0) == child && status == 0)
        return FBI_EXIT_OK;
    fprintf(stderr, "submit: %s has refused %s\n", kind->submit, script);
    return FBI_EXIT_FAILED;
}

static int cannot_write(const char *script, int why)
{
    fprintf(stderr,
            "submit: %s: cannot be written: %s: nothing was submitted; free space, or name another "
            "folder (--dir)\n",
            script, strerror(why));
    return FBI_EXIT_FAILED;
}

static int write_and_submit(const fbi_batch_kind *kind, const fbi_batch *b, const char *script)
{
    FILE *f = fbi_make_folder(b->dir) ? fopen(script, "we") : NULL;
    if (!f)
        return cannot_write(script, errno);
    fbi_batch_script(kind, b, script, f);
    bool whole = !ferror(f);
    if (fclose(f) || !whole) {
        int why = errno;
        unlink(script);
        return cannot_write(script, why);
    }
    return submit(kind, script);
}

static int run(command *c, fbi_batch *b)
{
    char name[256], dir[PATH_MAX], full[PATH_MAX], script[PATH_MAX + 16];
    if (!read_options(c, b)) {
        fprintf(stderr, "submit: %s\n", c->r->wrong);
        return FBI_EXIT_USAGE;
    }
    if (!settle(b, name, dir, sizeof name) || !full_path(b, full, sizeof full))
        return FBI_EXIT_USAGE;
    b->dir = full;
    snprintf(script, sizeof script, "%s/job.sh", full);
    if (!c->print)
        return write_and_submit(c->kind, b, script);
    fbi_batch_script(c->kind, b, script, stdout);
    return FBI_EXIT_OK;
}

int fbi_cmd_submit(int argc, char **argv)
{
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
        (argc > 2 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h")))) {
        print_usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? FBI_EXIT_USAGE : FBI_EXIT_OK;
    }
    fbi_batch batch = {.warn = 120, .restart = 3};
    const fb_option_group groups[] = {{"job", rows, &batch}, {0}};
    fbi_option_reader reader = {.groups = groups};
    command c = {
        .kind = fbi_batch_find(argv[1]), .r = &reader, .group = groups, .argc = argc, .argv = argv};
    if (!c.kind) {
        fprintf(stderr, "submit: \"%s\": slurm, pbs or lsf is needed\n", argv[1]);
        return FBI_EXIT_USAGE;
    }
    int status = run(&c, &batch);
    fbi_option_free(&reader);
    return status;
}
