/* What is said of a rank that ended the job. */
#include "comm/verdict_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/log_priv.h"

const char *fbi_verdict_name(int kind)
{
    static const char *const names[FBI_VERDICT_COUNT] = {
        [FBI_VERDICT_NONE] = "none",           [FBI_VERDICT_DEAD] = "dead",
        [FBI_VERDICT_STOPPED] = "stopped",     [FBI_VERDICT_STUCK] = "stuck",
        [FBI_VERDICT_DIVERGING] = "diverging", [FBI_VERDICT_UNREACHABLE] = "unreachable",
        [FBI_VERDICT_LEFT] = "left",           [FBI_VERDICT_FAILED] = "failed",
    };
    return kind > 0 && kind < FBI_VERDICT_COUNT ? names[kind] : names[FBI_VERDICT_NONE];
}

const char *fbi_last_call_text(const fbi_suspect *s, char *buf, size_t size)
{
    char call[160];
    buf[0] = '\0';
    if (s->last && s->last->kind != FBI_KIND_NONE)
        snprintf(buf, size, "; it %s %s%s", s->waiting ? "was in" : "last called",
                 fbi_call_text(s->last, call, sizeof call),
                 s->heard ? " when it was last heard of" : "");
    return buf;
}

const char *fbi_waiter_text(const fbi_waiter *w, char *buf, size_t size)
{
    char call[160], brought[256];
    if (!w->sig) {
        snprintf(buf, size, "nobody waits for it yet");
        return buf;
    }
    snprintf(buf, size, "rank %d waits for it in %s with %s", w->rank,
             fbi_call_text(w->sig, call, sizeof call),
             fbi_brought_text(w->sig, brought, sizeof brought));
    return buf;
}

void fbi_verdict_waits(fbi_finding *v, int rank, const fbi_signature *sig)
{
    if (!sig || v->n_waiting == FBI_WAITING)
        return;
    for (int i = 0; i < v->n_waiting; i++)
        if (v->waiting[i].rank == rank)
            return;
    fbi_waiting *w = &v->waiting[v->n_waiting++];
    char call[160];
    w->rank = rank;
    snprintf(w->call, sizeof w->call, "%.*s", (int)sizeof w->call - 1,
             fbi_call_text(sig, call, sizeof call));
}

static void blame(fbi_finding *v, int kind, const fbi_suspect *s)
{
    *v = (fbi_finding){.kind = kind, .rank = s->rank, .pid = s->pid};
    snprintf(v->host, sizeof v->host, "%s", s->host);
    if (s->last)
        v->call = *s->last;
}

void fbi_verdict_say(fbi_finding *v, int kind, const fbi_suspect *s, const char *fmt, ...)
{
    va_list args;
    blame(v, kind, s);
    va_start(args, fmt);
    vsnprintf(v->text, sizeof v->text, fmt, args);
    va_end(args);
}

void fbi_verdict_dead(fbi_finding *v, const fbi_suspect *s, const fbi_waiter *w)
{
    char last[256], waits[512];
    fbi_verdict_say(
        v, FBI_VERDICT_DEAD, s,
        "rank %d (%s, pid %d) is dead: killed, or it ended without fb_world_close%s; %s", s->rank,
        s->host, s->pid, fbi_last_call_text(s, last, sizeof last),
        fbi_waiter_text(w, waits, sizeof waits));
    fbi_verdict_waits(v, w->rank, w->sig);
}

void fbi_verdict_stopped(fbi_finding *v, const fbi_suspect *s, const fbi_waiter *w, double seconds)
{
    char last[256], waits[512];
    fbi_verdict_say(v, FBI_VERDICT_STOPPED, s,
                    "rank %d (%s, pid %d) has been stopped for %.0f s (SIGSTOP)%s; %s: kill -CONT "
                    "it sooner, or set FLAMBEAU_STOPPED_SECONDS",
                    s->rank, s->host, s->pid, seconds, fbi_last_call_text(s, last, sizeof last),
                    fbi_waiter_text(w, waits, sizeof waits));
    fbi_verdict_waits(v, w->rank, w->sig);
}

void fbi_verdict_stuck(fbi_finding *v, const fbi_suspect *s, const fbi_waiter *w, double seconds)
{
    char last[256], waits[512];
    fbi_verdict_say(v, FBI_VERDICT_STUCK, s,
                    "rank %d (%s, pid %d) is stuck: it runs, but has called nothing for %.0f s%s; "
                    "%s: is it in an endless loop? If its work may take that long, raise "
                    "FLAMBEAU_TIMEOUT_SECONDS or fb_group_set_timeout",
                    s->rank, s->host, s->pid, seconds, fbi_last_call_text(s, last, sizeof last),
                    fbi_waiter_text(w, waits, sizeof waits));
    fbi_verdict_waits(v, w->rank, w->sig);
}

/* --- the file --- */

/* A string of JSON; bytes that are no UTF-8 do not come up in names of hosts and calls. */
static void put_text(FILE *f, const char *name, const char *text)
{
    fprintf(f, "\"%s\": \"", name);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(f, "\\%c", *c);
        else if (*c < 0x20)
            fprintf(f, "\\u%04x", *c);
        else
            fputc(*c, f);
    }
    fputc('"', f);
}

static void put_field(FILE *f, const char *name, const char *text)
{
    put_text(f, name, text);
    fputs(",\n ", f);
}

static void describe(FILE *f, const fbi_finding *v)
{
    char when[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    fputs("{", f);
    put_field(f, "verdict", fbi_verdict_name(v->kind));
    fprintf(f, "\"rank\": %d,\n \"pid\": %d,\n ", v->rank, v->pid);
    put_field(f, "host", v->host);
    put_field(f, "call", fbi_kind_name(v->call.kind));
    put_field(f, "site", v->call.site);
    fprintf(f, "\"sequence\": %" PRIu64 ",\n \"group\": %d,\n \"waiting\": [", v->call.seq,
            v->call.group);
    for (int i = 0; i < v->n_waiting; i++) {
        fprintf(f, "%s{\"rank\": %d, ", i ? ", " : "", v->waiting[i].rank);
        put_text(f, "call", v->waiting[i].call);
        fputs("}", f);
    }
    fputs("],\n ", f);
    put_field(f, "text", v->text);
    put_text(f, "time", when);
    fputs("}\n", f);
}

static bool write_part(const fbi_finding *v, const char *part)
{
    FILE *f = fopen(part, "we");
    if (!f)
        return false;
    describe(f, v);
    bool ok = fflush(f) == 0 && fsync(fileno(f)) == 0;
    return fclose(f) == 0 && ok;
}

/* Another job has taken over the run directory: its lease (io/lease_priv.h) has another number than
 * ours, "GENERATION ID", which the launcher gave us. */
static bool is_replaced(const char *folder)
{
    const char *ours = getenv("FLAMBEAU_RUN_LEASE"), *id = ours ? strchr(ours, ' ') : NULL;
    char path[PATH_MAX], text[1024], own[64];
    snprintf(own, sizeof own, "\"id\": \"%s\"", id ? id + 1 : "");
    int n = snprintf(path, sizeof path, "%s/lease.json", folder);
    FILE *f = id && n < (int)sizeof path ? fopen(path, "re") : NULL;
    if (!f)
        return false;
    size_t got = fread(text, 1, sizeof text - 1, f);
    text[got] = '\0';
    fclose(f);
    return got && !strstr(text, own);
}

bool fbi_verdict_write(const fbi_finding *v, const char *folder)
{
    char path[PATH_MAX], part[PATH_MAX];
    if (!folder[0] || is_replaced(folder))
        return false;
    int n = snprintf(path, sizeof path, "%s/verdict.json", folder);
    int m = snprintf(part, sizeof part, "%s/verdict.json.%d.part", folder, (int)getpid());
    if (n >= (int)sizeof path || m >= (int)sizeof part)
        return false;
    if (mkdir(folder, 0777) && errno != EEXIST)
        fbi_logline("%s: cannot be made: %s", folder, strerror(errno));
    bool ok = write_part(v, part);
    /* Ranks of several nodes may write at once: the first one's name stays. */
    if (ok && link(part, path) != 0 && errno != EEXIST)
        ok = rename(part, path) == 0; /* a file system without links */
    if (!ok)
        fbi_logline("%s: the verdict cannot be written: %s", path, strerror(errno));
    unlink(part);
    return ok;
}

void fbi_verdict_forget(const char *folder)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/verdict.json", folder);
    if (folder[0] && n < (int)sizeof path)
        unlink(path);
}
