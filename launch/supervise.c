/* A job and its restarts: what is final, what is tried again, on which hosts, and when to stop. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/world_priv.h"
#include "launch/commands_priv.h"
#include "io/file_priv.h"
#include "launch/lookout_priv.h"
#include "launch/run_priv.h"

/* So many restarts may end without a newer checkpoint. */
enum { BARREN = 3, STRIKES = 2 };
static const double lease_s = 1, grace_s = 5, ask_s = 5, verdict_s = 20;

typedef struct attempts {
    fbi_job *job;
    sigset_t signals;
    int64_t restarts; /* so far */
    int barren;       /* restarts in a row without a newer checkpoint */
    int64_t saved;    /* step of the newest checkpoint before this attempt */
    double began;     /* of the first attempt */
    double looked, probed, ended, asked;
    bool started, lost, grows, time_is_up;
    fbi_lookout *lookout;                 /* NULL: rank 0 looks after the others */
    char text[FBI_CHECKPOINT_PATH + 512]; /* who has taken over */
} attempts;

void fbi_run_say(const fbi_job *job, const char *fmt, ...)
{
    char text[FBI_CHECKPOINT_PATH + 1024], path[FBI_CHECKPOINT_PATH], now[32];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fprintf(stderr, "run: %s\n", text);
    if (!*job->run || !fbi_lease_held(&job->lease, (char[1]){0}, 1))
        return;
    snprintf(path, sizeof path, "%s/launcher.txt", job->run);
    FILE *f = fopen(path, "ae");
    if (!f)
        return;
    fbi_utc_time(now);
    fprintf(f, "%s %s\n", now, text);
    fclose(f);
}

/* --- while it runs --- */

static double probe_period(void)
{
    const char *text = getenv("FLAMBEAU_PROBE_SECONDS");
    return text && atof(text) > 0 ? atof(text) : 60;
}

static bool any_out(const fbi_allocation *a)
{
    for (int i = 0; i < a->n; i++)
        if (a->hosts[i].out)
            return true;
    return false;
}

/* Ask the hosts that have been left out. @return whether one is back */
static bool look_for_hosts(const fbi_job *job, fbi_allocation *a)
{
    bool *ask = calloc((size_t)a->n, sizeof *ask), back = false;
    for (int i = 0; ask && i < a->n; i++)
        ask[i] = a->hosts[i].out && a->hosts[i].strikes < STRIKES;
    if (ask)
        fbi_start_probe(job, a, ask);
    for (int i = 0; ask && i < a->n; i++)
        if (ask[i] && !a->hosts[i].out) {
            fbi_run_say(job, "host %s answers again", a->hosts[i].name);
            back = true;
        }
    free(ask);
    return back;
}

/* Whether another launcher has taken the run directory; the first time that is said. */
static bool is_lost(attempts *a)
{
    if (a->lost || !*a->job->run || !a->started ||
        fbi_lease_held(&a->job->lease, a->text, sizeof a->text))
        return a->lost;
    a->lost = true;
    a->ended = fbi_now();
    fbi_run_say(a->job, "%s", a->text);
    return true;
}

/* The job is another's now: ours ends, by force if need be. mpirun takes a second SIGTERM ill. */
static void give_up(const attempts *a, const fbi_follower *f, bool first)
{
    if (first)
        kill(f->child, fbi_end_signal(a->job));
    else if (fbi_now() - a->ended > grace_s)
        kill(f->child, SIGKILL);
}

/* In the way after which the ranks save. */
static bool told_to_stop(const fbi_follower *f)
{
    return f->told == SIGUSR1 || (f->saves && f->told == SIGTERM) || (f->held && f->told == SIGINT);
}

/* Who is only just starting does not hear what it is told: it is told again. */
static void ask_again(attempts *a, fbi_follower *f, double now)
{
    bool asks = a->time_is_up || (f->saves && told_to_stop(f));
    if (!asks || now - a->asked < ask_s)
        return;
    if (a->time_is_up || a->asked > 0) /* the first time it was passed on */
        kill(f->child, SIGUSR1);
    a->asked = now;
}

/* Ranks have all ended by then; a host that is cut off can keep mpirun or srun waiting for ever. */
static void force_end(const attempts *a, fbi_follower *f)
{
    if (f->forced || fbi_lookout_judged(a->lookout) < verdict_s)
        return;
    fbi_run_say(a->job, "%s has not ended %.0f s after the verdict: ended by force",
                a->job->srun ? "srun" : "mpirun", verdict_s);
    f->forced = true;
    kill(f->child, a->job->srun ? SIGTERM : SIGKILL); /* srun tells the batch system first */
}

static void tick(fbi_follower *f, void *user)
{
    attempts *a = user;
    fbi_job *job = a->job;
    double now = fbi_now();
    if (now - a->looked > lease_s) {
        a->looked = now;
        bool before = a->lost;
        if (is_lost(a))
            give_up(a, f, !before);
    }
    if (job->stop_after > 0 && !a->time_is_up && now - a->began > job->stop_after) {
        fbi_run_say(job, "%g s are over: the ranks are asked to save and to stop", job->stop_after);
        a->time_is_up = true;
        f->told = f->told ? f->told : SIGUSR1;
        a->asked = 0;
    }
    ask_again(a, f, now);
    force_end(a, f);
    if (job->most && !f->told && !a->grows && any_out(&job->where) &&
        now - a->probed > probe_period()) {
        a->grows = look_for_hosts(job, &job->where);
        a->probed = fbi_now();
        if (a->grows)
            kill(f->child, SIGUSR1); /* they save; then they go on with more */
    }
}

/* --- before an attempt --- */

static bool choose_ranks(fbi_job *job)
{
    int64_t room = fbi_allocation_room(&job->where, job->gpus);
    if (job->most) {
        job->ranks = room < job->most ? room : job->most;
        if (job->ranks >= job->least)
            return true;
        fbi_run_say(job,
                    "the hosts that answer have room for %" PRId64
                    " ranks; --elastic wants %" PRId64 " at least",
                    room, job->least);
        return false;
    }
    if (job->ranks <= room || !any_out(&job->where))
        return true;
    fbi_run_say(job,
                "the hosts that answer have room for %" PRId64 " of %" PRId64
                " ranks: --elastic MIN:MAX would go on with fewer",
                room, job->ranks);
    return false;
}

static bool place(fbi_job *job)
{
    int64_t there = 0;
    for (int i = 0; i < job->where.n; i++)
        there += !job->where.hosts[i].out;
    int64_t nodes = job->most && job->nodes > there ? there : job->nodes;
    if (fbi_allocation_place(&job->where, job->ranks, nodes, job->gpus))
        return true;
    fbi_run_say(job, "-N %" PRId64 ": there are %" PRId64 " hosts (%s)", job->nodes, there,
                fbi_place_name(job->where.place));
    return false;
}

/* The run directory is this attempt's: ranks of an earlier one that still live write no more. */
static bool take_lease(fbi_job *job)
{
    if (!*job->run || job->dry_run || fbi_lease_take(job->run, &job->lease))
        return true;
    fprintf(stderr,
            "run: --dir %s: its lease cannot be written: %s: free space, or name another folder\n",
            job->dir, strerror(errno));
    return false;
}

/* --- after one --- */

/* Codes that another start would give again. 1 says little: a launcher that lost a host, or a
 * program that does not like its arguments; what has saved before it is tried again. */
static bool is_final(int code, bool progress)
{
    static const int codes[] = {FB_E_SHAPE, FB_E_DTYPE, FB_E_NOT_FOUND,
                                FB_E_STALE, FB_E_STATE, FB_E_UNSUPPORTED,
                                FB_E_USER,  126,        127};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (code == codes[i])
            return true;
    return code == FBI_EXIT_FAILED && !progress;
}

/* "node7" and "node7.site" are one host. */
static bool same_host(const char *a, const char *b)
{
    size_t n = strcspn(a, "."), m = strcspn(b, ".");
    return n == m && !strncmp(a, b, n);
}

/* Which host the ranks' verdict names, if a machine may be to blame. */
static fbi_host *host_at_fault(fbi_job *job)
{
    char path[FBI_CHECKPOINT_PATH + 32];
    snprintf(path, sizeof path, "%s/verdict.json", job->run);
    json_t *root = json_load_file(path, 0, NULL);
    const char *name = json_string_value(json_object_get(root, "host"));
    const char *kind = json_string_value(json_object_get(root, "verdict"));
    fbi_host *found = NULL;
    bool machine =
        kind && (!strcmp(kind, "dead") || !strcmp(kind, "stopped") || !strcmp(kind, "unreachable"));
    for (int i = 0; name && machine && i < job->where.n; i++)
        if (same_host(job->where.hosts[i].name, name))
            found = &job->where.hosts[i];
    json_decref(root);
    return found;
}

static void forget_verdict(const fbi_job *job)
{
    char path[FBI_CHECKPOINT_PATH + 32], old[FBI_CHECKPOINT_PATH + 64];
    snprintf(path, sizeof path, "%s/verdict.json", job->run);
    snprintf(old, sizeof old, "%s/verdict-%05" PRId64 ".json", job->run, job->lease.generation);
    rename(path, old); /* there may be none */
}

/* Leave out hosts that do not answer, and one that is at fault again and again. */
static void judge_hosts(fbi_job *job, bool progress)
{
    fbi_allocation *w = &job->where;
    fbi_host *guilty = host_at_fault(job);
    bool *ask = calloc((size_t)w->n, sizeof *ask);
    if (w->n < 2 || !ask) {
        free(ask);
        return;
    }
    for (int i = 0; i < w->n; i++) {
        ask[i] = !w->hosts[i].out;
        if (progress && !w->hosts[i].out)
            w->hosts[i].strikes = 0;
    }
    look_for_hosts(job, w);
    fbi_start_probe(job, w, ask);
    for (int i = 0; i < w->n; i++)
        if (ask[i] && w->hosts[i].out)
            fbi_run_say(job, "host %s does not answer: it is left out", w->hosts[i].name);
    free(ask);
    if (guilty && !guilty->out && ++guilty->strikes >= STRIKES) {
        guilty->out = true;
        fbi_run_say(job, "host %s was at fault %d times since the last checkpoint: it is left out",
                    guilty->name, guilty->strikes);
    }
}

/* "exit code 137 after 12 s, newest checkpoint: step 40" */
static void describe(const attempts *a, int code, double seconds, char *text, size_t size)
{
    char newest[48] = "no checkpoint yet";
    int64_t saved = fbi_lease_saved(a->job->run);
    if (saved >= 0)
        snprintf(newest, sizeof newest, "newest checkpoint: step %" PRId64, saved);
    snprintf(text, size, "exit code %d after %.0f s, %s", code, seconds, newest);
}

/* Whether the job is to be started once more. */
static bool again(attempts *a, const fbi_follower *f, int code, double seconds)
{
    fbi_job *job = a->job;
    char what[128];
    if (code == 0 || is_lost(a) || f->told || (!job->restarts && !a->grows))
        return false;
    int64_t saved = fbi_lease_saved(job->run);
    bool progress = saved > a->saved;
    a->saved = saved;
    describe(a, code, seconds, what, sizeof what);
    if (a->grows && code == FB_AGAIN) {
        fbi_run_say(job, "goes on with more ranks; %s", what);
        return true;
    }
    fbi_logs_tell(job);
    if (is_final(code, progress) && !f->forced) {
        fbi_run_say(job, "stopped: %s: this exit code is final, another start would end alike",
                    what);
        return false;
    }
    a->barren = progress ? 0 : a->barren + (a->restarts > 0);
    if (a->barren >= BARREN) {
        fbi_run_say(job,
                    "stopped: %s: %d restarts in a row have ended without a newer checkpoint: save "
                    "more often, or see why it fails",
                    what, BARREN);
        return false;
    }
    if (a->restarts == job->restarts) {
        fbi_run_say(job, "stopped: %s: all %" PRId64 " restarts are used", what, job->restarts);
        return false;
    }
    judge_hosts(job, progress);
    a->restarts++;
    fbi_run_say(job, "%s: restart %" PRId64 " of %" PRId64, what, a->restarts, job->restarts);
    return true;
}

/* Between attempts, longer and longer while nothing comes of them. @return the signal that came */
static int pause_before(const attempts *a)
{
    double until = fbi_now() + (a->grows ? 0 : 1 << a->barren);
    for (double left; (left = until - fbi_now()) > 0;) {
        struct timespec t = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
        int number = sigtimedwait(&a->signals, NULL, &t);
        if (number > 0 && number != SIGCHLD)
            return number;
    }
    return 0;
}

/* --- one attempt --- */

/* @return its exit code */
static int attempt(attempts *a, fbi_follower *f)
{
    fbi_job *job = a->job;
    fbi_command_line line;
    int out = -1, err = -1, code = FBI_EXIT_FAILED;
    pid_t copier = -1;
    a->lookout = fbi_lookout_open(job);
    fbi_start_environment(job);
    if (!fbi_start_line(job, &line)) {
        fprintf(stderr, "run: the command line is too long, or there is no memory for it\n");
        fbi_start_free(&line);
        fbi_lookout_close(a->lookout);
        return code;
    }
    fflush(NULL);
    if (!*job->run || fbi_logs_open(job, &out, &err, &copier)) {
        f->child = fbi_start(job, line.words, out, err, &a->signals);
        if (f->child > 0) {
            fbi_runner_note(job, f->child);
            fbi_lookout_start(a->lookout);
            code = fbi_follow(f);
        }
        if (copier > 0)
            fbi_logs_close(out, err, copier);
    }
    fbi_lookout_close(a->lookout);
    fbi_start_free(&line);
    return code;
}

/* What the batch system is to know. */
static int finish(const attempts *a, const fbi_follower *f, int code)
{
    const fbi_job *job = a->job;
    if (a->lost)
        return FB_E_STATE;
    /* Ranks that were only just starting know no signals yet. */
    if (told_to_stop(f) && (code == 128 + SIGUSR1 || (f->held && code == 128 + SIGTERM)))
        code = FB_AGAIN;
    /* Who cancels a job does not want it again; Slurm itself requeues what it preempts. */
    if (code == FB_AGAIN && job->requeue && f->told != SIGTERM && f->told != SIGINT)
        fbi_requeue(job);
    return code;
}

static void print_line(const fbi_job *job)
{
    fbi_command_line line;
    fbi_start_environment(job);
    if (fbi_start_line(job, &line))
        for (int i = 0; line.words[i]; i++)
            printf("%s%s", i ? " " : "", line.words[i]);
    printf("\n");
    fbi_start_free(&line);
}

int fbi_supervise(fbi_job *job)
{
    static const int passed[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    attempts a = {.job = job, .began = fbi_now()};
    sigemptyset(&a.signals);
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        sigaddset(&a.signals, passed[i]);
    sigprocmask(SIG_BLOCK, &a.signals, NULL);
    for (;;) {
        if (is_lost(&a)) /* while we looked for hosts, or waited */
            return FB_E_STATE;
        if (!take_lease(job))
            return FBI_EXIT_FAILED;
        if (!choose_ranks(job)) /* later there may be other hosts */
            return a.restarts && job->requeue && fbi_requeue(job) ? FB_AGAIN : FBI_EXIT_FAILED;
        if (!place(job))
            return FBI_EXIT_FAILED;
        if (job->dry_run) {
            print_line(job);
            return FBI_EXIT_OK;
        }
        if (!a.started)
            fbi_runner_end_old(job);
        a.started = true;
        fbi_follower f = {.signals = &a.signals,
                          .saves = *job->run || job->where.place > FBI_PLACE_HOSTFILE,
                          .mpirun = !job->srun,
                          .held = job->held,
                          .tick = tick,
                          .user = &a};
        double began = fbi_now();
        a.grows = false;
        a.asked = 0;
        a.probed = began;
        a.saved = *job->run ? fbi_lease_saved(job->run) : -1;
        int code = attempt(&a, &f);
        if (!again(&a, &f, code, fbi_now() - began))
            return finish(&a, &f, code);
        forget_verdict(job);
        job->again = true;
        int number = pause_before(&a);
        if (number) {
            f.told = number;
            return finish(&a, &f, FB_AGAIN);
        }
    }
}
