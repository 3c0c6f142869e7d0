/* What the trainer says: metrics, lines for a log, a line that rewrites itself, a file of JSON. */
#include "launch/trainer_priv.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/tensor/context_priv.h"
#include "io/lease_priv.h"

enum { LOG_STEPS = 100, TERMINAL_STEPS = 10 };

double fbi_trainer_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- metrics --- */

static fbi_metric *metric_of(fb_trainer *t, const char *prefix, const char *name)
{
    for (int i = 0; i < t->n_metrics; i++)
        if (!strcmp(t->metrics[i].name, name) && !strcmp(t->metrics[i].prefix, prefix))
            return &t->metrics[i];
    return NULL;
}

static fbi_metric *new_metric(fb_trainer *t, const char *prefix, const char *name)
{
    fbi_metric *all = realloc(t->metrics, (size_t)(t->n_metrics + 1) * sizeof *all);
    if (!all) {
        fbi_fail(t->ctx, FB_E_NOMEM, "trainer: no memory for metric %s", name);
        return NULL;
    }
    t->metrics = all;
    fbi_metric *m = &all[t->n_metrics];
    *m = (fbi_metric){.prefix = prefix, .value = NAN, .meter = fb_meter_open(t->ctx, name)};
    snprintf(m->name, sizeof m->name, "%s", name);
    t->n_metrics += m->meter != NULL;
    return m->meter ? m : NULL;
}

fb_status fb_trainer_log(fb_trainer *t, const char *name, fb_tensor *value)
{
    if (!t)
        return FB_E_ARG;
    FBI_ENTRY(t->ctx);
    if (!fbi_enter(t->ctx))
        return fb_status_of(t->ctx);
    if (!t->batch)
        return fbi_fail(t->ctx, FB_E_STATE,
                        "trainer: log: only a step has samples to weigh a value by");
    if (!name || !*name || strlen(name) >= sizeof t->metrics->name)
        return fbi_fail(t->ctx, FB_E_ARG, "trainer: log: a name of 1 to %d characters is needed",
                        (int)sizeof t->metrics->name - 1);
    fbi_metric *m = metric_of(t, t->prefix, name);
    if (!m)
        m = new_metric(t, t->prefix, name);
    if (!m)
        return fb_status_of(t->ctx);
    m->fed = true;
    return fb_meter_add(m->meter, value, (double)t->batch->n);
}

/* Means of all metrics of a prefix, over all ranks. */
fb_status fbi_trainer_means(fb_trainer *t, const char *prefix)
{
    for (int i = 0; i < t->n_metrics; i++) {
        fbi_metric *m = &t->metrics[i];
        if (strcmp(m->prefix, prefix) != 0 || !m->fed)
            continue;
        m->value = fb_meter_mean(m->meter);
        m->fed = false;
    }
    return fb_status_of(t->ctx);
}

double fb_trainer_metric(const fb_trainer *t, const char *name)
{
    char full[192];
    for (int i = 0; t && name && i < t->n_metrics; i++) {
        const fbi_metric *m = &t->metrics[i];
        snprintf(full, sizeof full, "%s%s%s", m->prefix, *m->prefix ? "_" : "", m->name);
        if (!strcmp(full, name))
            return m->value;
    }
    return NAN;
}

/* --- lines --- */

/* mpirun gives each rank a terminal of its own, so "flambeau run" says whether a person looks on.
 */
static bool on_terminal(void)
{
    const char *known = getenv("FLAMBEAU_TERMINAL");
    return known ? *known == '1' : isatty(STDOUT_FILENO);
}

fb_status fbi_trainer_open_log(fb_trainer *t)
{
    t->terminal = on_terminal();
    bool person = fb_world_any(t->world, fb_world_root(t->world) && t->terminal);
    t->log_every = t->o.log_every ? t->o.log_every : person ? TERMINAL_STEPS : LOG_STEPS;
    if (!t->o.log_file || !fb_world_root(t->world))
        return fb_status_of(t->ctx);
    t->log = fopen(t->o.log_file, "ae");
    return t->log ? fb_status_of(t->ctx)
                  : fbi_fail(t->ctx, FB_E_IO, "trainer: log_file %s: %s", t->o.log_file,
                             strerror(errno));
}

static const char *clear_line(const fb_trainer *t)
{
    return t->terminal ? "\r\033[K" : "";
}

void fbi_trainer_say(fb_trainer *t, const char *fmt, ...)
{
    if (!t->speaks)
        return;
    va_list args;
    fputs(clear_line(t), stdout);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

/* A number as JSON has it. */
static void put_json(FILE *f, const char *name, double x)
{
    if (isfinite(x))
        fprintf(f, ", \"%s\": %.9g", name, x);
    else
        fprintf(f, ", \"%s\": null", name);
}

static void write_log(fb_trainer *t, const char *prefix)
{
    if (!t->log || fbi_lease_guard(t->world, t->o.checkpoint))
        return;
    fprintf(t->log, "{\"step\": %lld, \"epoch\": %lld", (long long)t->steps, (long long)t->epochs);
    for (int i = 0; i < t->n_metrics; i++) {
        const fbi_metric *m = &t->metrics[i];
        char full[192];
        snprintf(full, sizeof full, "%s%s%s", prefix, *prefix ? "_" : "", m->name);
        if (!strcmp(m->prefix, prefix))
            put_json(t->log, full, m->value);
    }
    if (!*prefix)
        put_json(t->log, "lr", fb_optim_lr(t->task.optimizer));
    fputs("}\n", t->log);
    fflush(t->log);
}

/* "epoch 3: val loss 0.3, val accuracy 0.9" */
void fbi_trainer_say_validation(fb_trainer *t, const char *prefix)
{
    char line[512];
    int n = snprintf(line, sizeof line, "epoch %lld:", (long long)t->epochs);
    const char *comma = "";
    write_log(t, prefix);
    if (t->task.on_validation)
        return;
    for (int i = 0; i < t->n_metrics && n < (int)sizeof line; i++) {
        const fbi_metric *m = &t->metrics[i];
        if (strcmp(m->prefix, prefix) != 0)
            continue;
        n += snprintf(line + n, sizeof line - (size_t)n, "%s %s %s %.4f", comma, prefix, m->name,
                      m->value);
        comma = ",";
    }
    fbi_trainer_say(t, "%s", line);
}

static void say_step(fb_trainer *t, bool fresh)
{
    int64_t total = fb_trainer_total_steps(t, t->task.train);
    double spent = fbi_trainer_now() - t->began - t->away;
    double rate = spent > 0 ? (double)t->samples / spent : 0;
    int64_t left =
        rate > 0 && total ? (int64_t)((double)((total - t->steps) * t->global_batch) / rate) : 0;
    printf("%sstep %lld", clear_line(t), (long long)t->steps);
    if (total)
        printf("/%lld", (long long)total);
    if (isfinite(t->loss) || fresh)
        printf(" loss %.4f,", t->loss);
    for (int i = 0; i < t->n_metrics; i++)
        if (!*t->metrics[i].prefix && strcmp(t->metrics[i].name, "loss") != 0)
            printf(" %s %.4f,", t->metrics[i].name, t->metrics[i].value);
    printf(" %.0f samples/s", rate);
    if (total)
        printf(", %lld:%02lld left", (long long)(left / 60), (long long)(left % 60));
    fputs(t->terminal ? "" : "\n", stdout);
    fflush(stdout);
}

static fb_status report_means(fb_trainer *t)
{
    fb_status st = fbi_trainer_means(t, "");
    t->loss = fb_trainer_metric(t, "loss");
    if (!st && t->o.on_nan == FB_NAN_STOP && !isfinite(t->loss))
        return fbi_fail(t->ctx, FB_E_USER,
                        "trainer: step %lld: the loss is %g, and trainer.on_nan is stop",
                        (long long)t->steps, t->loss);
    if (!st)
        write_log(t, "");
    if (!st && t->task.on_log)
        t->task.on_log(t);
    return st ? st : fb_status_of(t->ctx);
}

/* Means are collective, so they are due at the same steps on all ranks; in between a person is
 * shown the count of steps ten times a second. */
fb_status fbi_trainer_report(fb_trainer *t)
{
    int64_t total = fb_trainer_total_steps(t, t->task.train);
    bool due = t->steps % t->log_every == 0 || t->steps == total;
    fb_status st = due ? report_means(t) : FB_OK;
    if (st || !t->speaks || t->task.on_log)
        return st;
    double now = fbi_trainer_now();
    if (t->terminal ? now - t->shown >= 0.1 || t->steps == total : due) {
        t->shown = now;
        say_step(t, due);
    }
    return FB_OK;
}
