/* The profiler's ear: spans that open and close become sums, and events for a trace. */
#include "core/ops/profile_priv.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/autograd/node_priv.h"

enum {
    DEFAULT_EVENTS = 1 << 20,
    MOST_ERAS = 1 << 16, /* then the older half is forgotten: its graphs are long gone */
    MOST_MARKS = 1 << 13,
    PATH_BYTES = 512
};

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* Room for one more element; false: none, and the profile says so at its end. */
static bool room(fb_profile *p, void *at, int64_t n, int64_t *cap, int64_t first, size_t bytes)
{
    void *old, *v;
    if (n < *cap)
        return true;
    int64_t more = *cap ? 2 * *cap : first;
    memcpy(&old, at, sizeof old);
    v = realloc(old, (size_t)more * bytes);
    if (!v) {
        p->lost = true;
        return false;
    }
    memcpy(at, &v, sizeof v);
    *cap = more;
    return true;
}

/* --- rows --- */

static uint64_t key_of(fb_profile_kind kind, const char *name, const void *of)
{
    uint64_t h = (uint64_t)kind * 0x9E3779B97F4A7C15ull;
    if (of)
        return (h ^ (uintptr_t)of >> 4) * 0xff51afd7ed558ccdull;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3ull;
    return h * 0xff51afd7ed558ccdull;
}

static bool is(const fbi_profile_row *r, fb_profile_kind kind, const char *name, const void *of)
{
    return r->kind == kind && (of ? r->of == of : !strcmp(r->name, name));
}

/* The place of a row, or the empty one where it belongs. Modules that are gone keep theirs. */
static size_t place_of(const fb_profile *p, fb_profile_kind kind, const char *name, const void *of)
{
    size_t i = (size_t)(key_of(kind, name, of) >> 32) & (p->n_places - 1);
    while (p->places[i] && !is(&p->rows[p->places[i] - 1], kind, name, of))
        i = (i + 1) & (p->n_places - 1);
    return i;
}

static bool grow_places(fb_profile *p)
{
    size_t n = p->n_places ? 2 * p->n_places : 256;
    int32_t *places = calloc(n, sizeof *places);
    if (!places) {
        p->lost = true;
        return false;
    }
    free(p->places);
    p->places = places;
    p->n_places = n;
    for (int64_t r = 0; r < p->n_rows; r++) {
        const fbi_profile_row *row = &p->rows[r];
        if (row->kind != FB_PROFILE_MODULE || row->of)
            places[place_of(p, row->kind, row->name, row->of)] = (int32_t)r + 1;
    }
    return true;
}

static int64_t add_row(fb_profile *p, fb_profile_kind kind, const fbi_trace_span *span)
{
    char path[PATH_BYTES];
    if (2 * (size_t)(p->n_rows + 1) > p->n_places && !grow_places(p))
        return -1;
    if (!room(p, &p->rows, p->n_rows, &p->cap_rows, 128, sizeof *p->rows))
        return -1;
    if (span->path)
        span->path(span->of, path, sizeof path);
    char *name = strdup(span->path ? path : span->name);
    if (!name) {
        p->lost = true;
        return -1;
    }
    const void *of = kind == FB_PROFILE_MODULE ? span->of : NULL;
    p->places[place_of(p, kind, name, of)] = (int32_t)p->n_rows + 1;
    p->rows[p->n_rows] =
        (fbi_profile_row){.kind = kind, .name = name, .of = of, .parent = p->module};
    return p->n_rows++;
}

static int64_t row_of(fb_profile *p, fb_profile_kind kind, const fbi_trace_span *span)
{
    const void *of = kind == FB_PROFILE_MODULE ? span->of : NULL;
    size_t i = p->n_places ? place_of(p, kind, span->name, of) : 0;
    return p->n_places && p->places[i] ? p->places[i] - 1 : add_row(p, kind, span);
}

static void module_gone(void *self, const void *of)
{
    fb_profile *p = self;
    for (int64_t r = 0; r < p->n_rows; r++)
        if (p->rows[r].of == of)
            p->rows[r].of = NULL;
}

/* --- which module a node belongs to --- */

static void new_era(fb_profile *p)
{
    uint64_t seq = p->ctx->seq + 1;
    if (p->n_eras && p->eras[p->n_eras - 1].seq == seq) {
        p->eras[p->n_eras - 1].module = p->module;
        return;
    }
    if (p->n_eras == MOST_ERAS) {
        p->n_eras /= 2;
        memmove(p->eras, p->eras + p->n_eras, (size_t)p->n_eras * sizeof *p->eras);
    }
    if (room(p, &p->eras, p->n_eras, &p->cap_eras, 256, sizeof *p->eras))
        p->eras[p->n_eras++] = (fbi_profile_era){seq, p->module};
}

static int64_t module_of(const fb_profile *p, const fbi_node *n)
{
    int64_t low = 0, high = p->n_eras; /* the first that begins later */
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (p->eras[middle].seq > n->seq)
            high = middle;
        else
            low = middle + 1;
    }
    return low ? p->eras[low - 1].module : -1;
}

/* --- spans --- */

static fb_profile_kind kind_of(const fb_profile *p, fbi_span_kind kind)
{
    static const fb_profile_kind kinds[] = {
        [FBI_SPAN_NODE] = FB_PROFILE_BACKWARD,  [FBI_SPAN_BACKWARD] = FB_PROFILE_BACKWARD,
        [FBI_SPAN_STEP] = FB_PROFILE_OPTIMIZER, [FBI_SPAN_COLLECTIVE] = FB_PROFILE_COLLECTIVE,
        [FBI_SPAN_LOADER] = FB_PROFILE_LOADER,  [FBI_SPAN_WAIT] = FB_PROFILE_WAIT,
        [FBI_SPAN_MODULE] = FB_PROFILE_MODULE,
    };
    if (kind != FBI_SPAN_OP)
        return kinds[kind];
    for (int d = p->depth - 1; d >= 0; d--)
        if (p->frames[d].kind == FB_PROFILE_BACKWARD || p->frames[d].kind == FB_PROFILE_OPTIMIZER)
            return p->frames[d].kind;
    return FB_PROFILE_FORWARD;
}

static int64_t add_event(fb_profile *p, int64_t row, int64_t module, int64_t begun)
{
    if (p->n_events == p->max_events) {
        p->missed++;
        return -1;
    }
    if (!room(p, &p->events, p->n_events, &p->cap_events, 1024, sizeof *p->events))
        return -1;
    p->events[p->n_events] = (fbi_profile_event){begun, -1, (int32_t)row, (int32_t)module, 0};
    return p->n_events++;
}

static void span_begin(void *self, const fbi_trace_span *span)
{
    fb_profile *p = self;
    if (p->depth == FBI_PROFILE_DEPTH) {
        p->too_deep++;
        return;
    }
    fb_profile_kind kind = kind_of(p, span->kind);
    int64_t row = row_of(p, kind, span), around = p->module;
    int64_t owner = p->depth ? p->frames[p->depth - 1].owner : -1;
    if (span->kind == FBI_SPAN_NODE)
        owner = module_of(p, span->of);
    if (span->kind == FBI_SPAN_MODULE) {
        p->module = row;
        new_era(p);
    }
    if (span->kind == FBI_SPAN_STEP && (!p->ctx->in_step || p->ctx->batch.last))
        p->steps++;
    if (row >= 0)
        p->rows[row].open++;
    int64_t begun = now_ns();
    int64_t event = row < 0 ? -1 : add_event(p, row, owner < 0 ? around : owner, begun);
    p->frames[p->depth++] = (fbi_profile_frame){
        .row = row, .event = event, .around = around, .owner = owner, .kind = kind, .begun = begun};
}

static void count_span(fb_profile *p, const fbi_profile_frame *f, int64_t took)
{
    fbi_profile_row *r = &p->rows[f->row];
    r->count++;
    r->self += took - f->within;
    p->self += took - f->within;
    if (--r->open == 0) { /* else the outer span has it, too */
        r->total += took;
        r->flops += f->flops;
        r->bytes += f->bytes;
    }
    if (f->event >= 0) {
        p->events[f->event].length = took;
        p->events[f->event].flops = f->flops;
    }
}

/* What kernels took on the device, of the first n marks. */
static void read_marks(fb_profile *p, int64_t n)
{
    if (p->reading)
        return;
    p->reading = true; /* waiting is a span, too */
    for (int64_t i = 0; i < n; i++) {
        const fbi_profile_mark *m = &p->marks[i];
        double s = p->ctx->backend->between(p->ctx, m->begin, m->end);
        p->rows[m->row].device += s > 0 ? (int64_t)(s * 1e9) : 0;
    }
    p->n_marks -= n;
    if (p->n_marks)
        memmove(p->marks, p->marks + n, (size_t)p->n_marks * sizeof *p->marks);
    p->reading = false;
}

static void mark(fb_profile *p, const fbi_profile_frame *f)
{
    void *end = p->ctx->backend->stamp(p->ctx);
    if (end && f->row >= 0 && room(p, &p->marks, p->n_marks, &p->cap_marks, 256, sizeof *p->marks))
        p->marks[p->n_marks++] = (fbi_profile_mark){f->stamp, end, f->row};
    else
        (void)p->ctx->backend->between(p->ctx, f->stamp, end);
}

static void close_frame(fb_profile *p)
{
    const fbi_profile_frame *f = &p->frames[--p->depth];
    int64_t took = now_ns() - f->begun;
    if (f->stamp)
        mark(p, f);
    if (f->kind == FB_PROFILE_MODULE) {
        p->module = f->around;
        new_era(p);
    }
    if (f->row >= 0)
        count_span(p, f, took);
    for (int64_t m = f->owner; m >= 0; m = p->rows[m].parent)
        p->rows[m].backward += took - f->within;
    if (!p->depth) {
        p->flops += f->flops;
        p->bytes += f->bytes;
        return;
    }
    p->frames[p->depth - 1].within += took;
    p->frames[p->depth - 1].flops += f->flops;
    p->frames[p->depth - 1].bytes += f->bytes;
}

static void span_end(void *self)
{
    fb_profile *p = self;
    if (p->too_deep)
        p->too_deep--;
    else if (p->depth) /* else it began before the profile did */
        close_frame(p);
    if (p->n_marks >= MOST_MARKS)
        read_marks(p, p->n_marks / 2); /* the device has long done them */
}

static void kernel_call(void *self, const fbi_call *c)
{
    fb_profile *p = self;
    double flops = fbi_flops(c), bytes = fbi_call_bytes(c);
    if (!p->depth) {
        p->flops += flops;
        p->bytes += bytes;
        return;
    }
    fbi_profile_frame *f = &p->frames[p->depth - 1];
    f->flops += flops;
    f->bytes += bytes;
    if (p->ctx->backend->stamp && !f->stamp)
        f->stamp = p->ctx->backend->stamp(p->ctx);
}

static void rank_waited(void *self, int rank, double seconds)
{
    fbi_profile_waits *w = &((fb_profile *)self)->waits;
    if (rank < 0)
        return;
    if (rank >= w->n) {
        double *more = realloc(w->seconds, (size_t)(rank + 1) * sizeof *more);
        if (!more) {
            ((fb_profile *)self)->lost = true;
            return;
        }
        memset(more + w->n, 0, (size_t)(rank + 1 - w->n) * sizeof *more);
        w->seconds = more;
        w->n = rank + 1;
    }
    w->seconds[rank] += seconds;
}

/* --- open, stop, go on, close --- */

static void stop(fb_profile *p)
{
    if (!p->running)
        return;
    for (fbi_trace **at = &p->ctx->trace; *at; at = &(*at)->next)
        if (*at == &p->trace) {
            *at = p->trace.next;
            break;
        }
    while (p->depth)
        close_frame(p);
    read_marks(p, p->n_marks);
    p->too_deep = 0;
    p->running = false;
    p->ran += now_ns() - p->begun;
}

static void profile_free(void *object)
{
    fb_profile *p = object;
    stop(p);
    for (int64_t r = 0; r < p->n_rows; r++)
        free(p->rows[r].name);
    free(p->rows);
    free(p->places);
    free(p->events);
    free(p->eras);
    free(p->marks);
    free(p->waits.seconds);
    free(p->shown);
    free(p);
}

fb_profile *fb_profile_open(fb_context *ctx, const fb_profile_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_profile_options o = opts ? *opts : (fb_profile_options){0};
    fb_profile *p = calloc(1, sizeof *p);
    if (!p) {
        fbi_fail(ctx, FB_E_NOMEM, "fb_profile_open: no memory");
        return NULL;
    }
    p->ctx = ctx;
    p->module = -1;
    p->max_events = o.max_events < 0 ? 0 : o.max_events ? o.max_events : DEFAULT_EVENTS;
    p->origin = now_ns();
    p->epoch = clock_ns(CLOCK_REALTIME);
    p->trace = (fbi_trace){p, span_begin, span_end, kernel_call, rank_waited, module_gone, NULL};
    if (fbi_context_adopt(ctx, p, profile_free)) {
        free(p);
        return NULL;
    }
    return fb_profile_start(p) ? NULL : p;
}

fb_status fb_profile_start(fb_profile *p)
{
    if (!p)
        return FB_E_ARG;
    if (p->running)
        return FB_OK;
    p->trace.next = p->ctx->trace;
    p->ctx->trace = &p->trace;
    p->running = true;
    p->n_eras = 0; /* what was called meanwhile is not known */
    p->begun = now_ns();
    return FB_OK;
}

fb_status fb_profile_stop(fb_profile *p)
{
    if (!p)
        return FB_E_ARG;
    stop(p);
    if (!p->lost)
        return FB_OK;
    return fbi_fail(p->ctx, FB_E_NOMEM, "fb_profile: no memory for all spans: some are missing");
}

void fb_profile_close(fb_profile *p)
{
    if (!p)
        return;
    fbi_context_forget(p->ctx, p);
    profile_free(p);
}

fb_status fb_profile_totals_of(fb_profile *p, fb_profile_totals *totals)
{
    if (!p || !totals)
        return FB_E_ARG;
    int64_t ran = p->ran + (p->running ? now_ns() - p->begun : 0);
    *totals = (fb_profile_totals){.seconds = (double)ran * 1e-9,
                                  .outside_s = (double)(ran - p->self) * 1e-9,
                                  .flops = p->flops,
                                  .bytes = p->bytes,
                                  .steps = p->steps,
                                  .events = p->n_events,
                                  .missed = p->missed};
    return FB_OK;
}
