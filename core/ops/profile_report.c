/* What a profile has counted, as rows, as a table, and as a Chrome trace. */
#include "core/ops/profile_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {"?",          "forward", "backward", "optimizer",
                                         "collective", "loader",  "wait",     "module"};

/* --- rows --- */

static int longest_first(const void *a, const void *b)
{
    const fb_profile_row *x = a, *y = b;
    if (x->self_s != y->self_s)
        return x->self_s < y->self_s ? 1 : -1;
    return strcmp(x->name, y->name);
}

int64_t fb_profile_rows(fb_profile *p, const fb_profile_row **rows)
{
    if (rows)
        *rows = NULL;
    if (!p)
        return 0;
    fb_profile_row *shown = realloc(p->shown, (size_t)(p->n_rows + 1) * sizeof *shown);
    if (!shown) {
        fbi_fail(p->ctx, FB_E_NOMEM, "fb_profile_rows: no memory");
        return 0;
    }
    p->shown = shown;
    for (int64_t i = 0; i < p->n_rows; i++) {
        const fbi_profile_row *r = &p->rows[i];
        shown[i] = (fb_profile_row){.kind = r->kind,
                                    .name = r->name,
                                    .count = r->count,
                                    .total_s = (double)r->total * 1e-9,
                                    .self_s = (double)r->self * 1e-9,
                                    .backward_s = (double)r->backward * 1e-9,
                                    .device_s = (double)r->device * 1e-9,
                                    .flops = r->flops,
                                    .bytes = r->bytes};
    }
    qsort(shown, (size_t)p->n_rows, sizeof *shown, longest_first);
    if (rows)
        *rows = shown;
    return p->n_rows;
}

/* --- the table --- */

static int widest(const fb_profile_row *rows, int64_t n, bool modules)
{
    int width = 4;
    for (int64_t i = 0; i < n; i++) {
        int length = (int)strlen(rows[i].name);
        if ((rows[i].kind == FB_PROFILE_MODULE) == modules && rows[i].count)
            width = length > width ? length : width;
    }
    return width;
}

/* "12.3", or "-" where there is nothing. */
static const char *rate(double amount, double seconds, char text[24])
{
    if (amount > 0 && seconds > 0)
        snprintf(text, 24, "%.3g", amount * 1e-9 / seconds);
    else
        strcpy(text, "-");
    return text;
}

static const char *giga(double amount, char text[24])
{
    return rate(amount, 1, text);
}

static const char *milli(double seconds, char text[24])
{
    if (seconds > 0)
        snprintf(text, 24, "%.3f", seconds * 1e3);
    else
        strcpy(text, "-");
    return text;
}

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

static void print_head(FILE *to, const fb_profile_totals *t)
{
    char speed[24];
    fprintf(to, "%.4g s", t->seconds);
    if (t->steps)
        fprintf(to, ", %" PRId64 " steps of %.4g ms", t->steps,
                t->seconds * 1e3 / (double)t->steps);
    fprintf(to, "; %.7g GFLOP, %s GFLOP/s\n", t->flops * 1e-9, rate(t->flops, t->seconds, speed));
}

static void print_operators(FILE *to, const fb_profile_totals *t, const fb_profile_row *rows,
                            int64_t n)
{
    int width = widest(rows, n, false);
    fprintf(to, "%-10s %-*s %9s %10s %10s %6s %10s %10s %8s %8s %7s\n", "kind", width, "name",
            "count", "total ms", "self ms", "self %", "average us", "device ms", "GFLOP", "GFLOP/s",
            "GB/s");
    for (int64_t i = 0; i < n; i++) {
        const fb_profile_row *r = &rows[i];
        char device[24], flops[24], speed[24], bytes[24];
        if (r->kind == FB_PROFILE_MODULE || !r->count)
            continue;
        double took = r->device_s > 0 ? r->device_s : r->total_s;
        fprintf(to, "%-10s %-*s %9" PRId64 " %10.3f %10.3f %6.2f %10.2f %10s %8s %8s %7s\n",
                kind_names[r->kind], width, r->name, r->count, r->total_s * 1e3, r->self_s * 1e3,
                percent(r->self_s, t->seconds), r->total_s * 1e6 / (double)r->count,
                milli(r->device_s, device), giga(r->flops, flops), rate(r->flops, took, speed),
                rate(r->bytes, took, bytes));
    }
    fprintf(to, "%-10s %-*s %9s %10s %10.3f %6.2f\n", "outside", width, "", "", "",
            t->outside_s * 1e3, percent(t->outside_s, t->seconds));
}

/* In the order of their first calls: parents before their children. */
static void print_modules(FILE *to, const fb_profile *p, double seconds, int width)
{
    bool any = false;
    for (int64_t i = 0; i < p->n_rows; i++) {
        const fbi_profile_row *r = &p->rows[i];
        char flops[24];
        if (r->kind != FB_PROFILE_MODULE || !r->count)
            continue;
        if (!any)
            fprintf(to, "\n%-*s %9s %10s %7s %11s %7s %8s\n", width, "module", "calls",
                    "forward ms", "%", "backward ms", "%", "GFLOP");
        any = true;
        double forward = (double)r->total * 1e-9, backward = (double)r->backward * 1e-9;
        fprintf(to, "%-*s %9" PRId64 " %10.3f %7.2f %11.3f %7.2f %8s\n", width, r->name, r->count,
                forward * 1e3, percent(forward, seconds), backward * 1e3,
                percent(backward, seconds), giga(r->flops, flops));
    }
}

/* NULL path: standard output, which stays open. */
static FILE *open_file(fb_profile *p, const char *path, const char *mode)
{
    FILE *to = path ? fopen(path, mode) : stdout;
    if (!to)
        fbi_fail(p->ctx, FB_E_IO, "fb_profile: cannot write %s: %s", path, strerror(errno));
    return to;
}

static fb_status close_file(fb_profile *p, const char *path, FILE *to)
{
    bool bad = fflush(to) != 0 || ferror(to);
    int e = errno;
    if (path && fclose(to) && !bad) {
        bad = true;
        e = errno;
    }
    return bad ? fbi_fail(p->ctx, FB_E_IO, "fb_profile: cannot write %s: %s",
                          path ? path : "standard output", strerror(e))
               : FB_OK;
}

fb_status fb_profile_print(fb_profile *p, const char *path)
{
    if (!p)
        return FB_E_ARG;
    FBI_ENTRY(p->ctx);
    fb_profile_totals t;
    const fb_profile_row *rows;
    int64_t n = fb_profile_rows(p, &rows);
    fb_status st = fb_profile_totals_of(p, &t);
    FILE *to = rows && !st ? open_file(p, path, "a") : NULL;
    if (!to)
        return p->ctx->status;
    print_head(to, &t);
    print_operators(to, &t, rows, n);
    print_modules(to, p, t.seconds, widest(rows, n, true));
    return close_file(p, path, to);
}

/* --- the trace --- */

static void put_text(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20)
            fprintf(to, "\\u%04x", c);
        else
            fprintf(to, c == '"' || c == '\\' ? "\\%c" : "%c", c);
    }
    fputc('"', to);
}

static void put_event(FILE *to, const fb_profile *p, const fbi_profile_event *e, int pid)
{
    const fbi_profile_row *r = &p->rows[e->row];
    fputs(",\n{\"ph\":\"X\",\"name\":", to);
    put_text(to, r->name);
    fprintf(to, ",\"cat\":\"%s\",\"pid\":%d,\"tid\":0,\"ts\":%.3f,\"dur\":%.3f,\"args\":{",
            kind_names[r->kind], pid, (double)(e->begin - p->origin) * 1e-3,
            (double)e->length * 1e-3);
    if (e->flops > 0)
        fprintf(to, "\"flops\":%.17g%s", e->flops, e->module >= 0 ? "," : "");
    if (e->module >= 0) {
        fputs("\"module\":", to);
        put_text(to, p->rows[e->module].name);
    }
    fputs("}}", to);
}

static void put_name(FILE *to, const char *what, const char *name, int pid)
{
    fprintf(to, "{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%d,\"tid\":0,\"args\":{\"name\":", what,
            pid);
    put_text(to, name);
    fputs("}}", to);
}

fb_status fbi_profile_write(fb_profile *p, const char *path, int pid, const char *title)
{
    FILE *to = open_file(p, path, "w");
    if (!to)
        return p->ctx->status;
    fprintf(to,
            "{\"displayTimeUnit\":\"ms\",\"baseTimeNanoseconds\":%" PRId64
            ",\"missedEvents\":%" PRId64 ",\"traceEvents\":[\n",
            p->epoch, p->missed);
    put_name(to, "process_name", title, pid);
    fputs(",\n", to);
    put_name(to, "thread_name", "main", pid);
    for (int64_t i = 0; i < p->n_events; i++)
        if (p->events[i].length >= 0)
            put_event(to, p, &p->events[i], pid);
    fputs("\n]}\n", to);
    return close_file(p, path, to);
}

fb_status fb_profile_write(fb_profile *p, const char *path)
{
    if (!p)
        return FB_E_ARG;
    FBI_ENTRY(p->ctx);
    if (!path)
        return fbi_fail(p->ctx, FB_E_ARG, "fb_profile_write: the path is NULL");
    return fbi_profile_write(p, path, 0, "flambeau");
}
