/* Queues of a card, events between them, and every wait for one by its name. */
#include <stdlib.h>
#include <string.h>

#include "core/cuda/cuda_priv.h"

static const struct {
    const char *name;
    fbi_queue who;
} waits[FBI_WAIT_COUNT] = {
#define ROW(name, who, when) [FBI_WAIT_##name] = {#name, FBI_QUEUE_##who},
    FBI_WAITS(ROW)
#undef ROW
};

/* FLAMBEAU_CUDA_DROP_WAIT: the wait that a test takes out; FBI_WAIT_COUNT: none, as always on a
 * card. */
static fbi_wait_id wait_to_drop(void)
{
    const char *name = fbi_cuda_backend.exact_memory ? getenv("FLAMBEAU_CUDA_DROP_WAIT") : NULL;
    int i = 0;
    while (i < FBI_WAIT_COUNT && (!name || strcmp(name, waits[i].name) != 0))
        i++;
    return (fbi_wait_id)i;
}

fb_status fbi_cuda_queues_open(fb_context *ctx, fbi_cuda *d)
{
    d->dropped = wait_to_drop();
    for (int q = 0; q < FBI_QUEUE_COUNT; q++)
        FBI_CUDA_TRY(ctx, cudaStreamCreateWithFlags(&d->queues[q], cudaStreamNonBlocking));
    d->stream = d->queues[FBI_QUEUE_COMPUTE];
    return FB_OK;
}

/* Errors have nobody to go to: the context is closing. */
void fbi_cuda_queues_close(fbi_cuda *d)
{
    for (int q = 0; q < FBI_QUEUE_COUNT; q++)
        if (d->queues[q])
            (void)cudaStreamDestroy(d->queues[q]);
    for (int i = 0; i < d->n_events; i++)
        (void)cudaEventDestroy(d->events[i]);
    free(d->events);
}

/* --- the host waits: where the card may be waiting for other ranks, with an eye on them --- */

typedef struct passing {
    cudaStream_t queue;
    cudaEvent_t event; /* NULL: all of the queue */
    cudaError_t e;
} passing;

static bool has_passed(void *self)
{
    passing *p = self;
    p->e = p->event ? cudaEventQuery(p->event) : cudaStreamQuery(p->queue);
    if (p->e != cudaErrorNotReady)
        return true;
    (void)cudaGetLastError(); /* it is no error that a launch should report */
    return false;
}

/* Until it has passed; profilers hear of it. */
static fb_status stand(fb_context *ctx, passing *p)
{
    fb_status st = FB_OK;
    ctx->host_waits++;
    if (ctx->trace)
        fbi_trace_begin(ctx, (fbi_trace_span){FBI_SPAN_WAIT, "device", NULL, NULL});
    if (ctx->hooks.wait)
        st = ctx->hooks.wait(ctx->hooks.self, has_passed, p);
    else
        p->e = p->event ? cudaEventSynchronize(p->event) : cudaStreamSynchronize(p->queue);
    if (ctx->trace)
        fbi_trace_end(ctx);
    if (!st)
        FBI_CUDA_TRY(ctx, p->e);
    return st;
}

static fb_status wait_for_event(fb_context *ctx, cudaEvent_t event)
{
    passing p = {.event = event};
    if (has_passed(&p)) {
        FBI_CUDA_TRY(ctx, p.e);
        return FB_OK;
    }
    return stand(ctx, &p);
}

fb_status fbi_cuda_queue_sync(fb_context *ctx, fbi_queue queue)
{
    passing p = {.queue = fbi_cuda_of(ctx)->queues[queue]};
    return stand(ctx, &p);
}

/* Whatever was asked of the queues that this context alone uses has been done. */
fb_status fbi_cuda_queues_sync(fb_context *ctx)
{
    fb_status st = fbi_cuda_queue_sync(ctx, FBI_QUEUE_COPY);
    return st ? st : fbi_cuda_queue_sync(ctx, FBI_QUEUE_COMPUTE);
}

fb_status fbi_cuda_wait_here(fb_context *ctx, fbi_wait_id at, cudaEvent_t event)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    if (at == d->dropped)
        return FB_OK;
    if (waits[at].who == FBI_QUEUE_HOST)
        return wait_for_event(ctx, event);
    FBI_CUDA_TRY(ctx, cudaStreamWaitEvent(d->queues[waits[at].who], event, 0));
    return FB_OK;
}

/* --- events for the core: an event that nobody waits for any more is recorded again --- */

static cudaEvent_t take_event(fb_context *ctx)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    if (d->n_events > 0)
        return d->events[--d->n_events];
    cudaEvent_t event = NULL;
    cudaError_t e = fbi_cuda_use(ctx) ? cudaErrorInvalidDevice
                                      : cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    if (e != cudaSuccess)
        fbi_cuda_failed(ctx, e, "cudaEventCreateWithFlags", __FILE__, __LINE__);
    return e == cudaSuccess ? event : NULL;
}

void fbi_cuda_event_drop(fb_context *ctx, void *event)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    if (!event)
        return;
    if (d->n_events == d->cap_events) {
        int cap = d->cap_events ? d->cap_events * 2 : 16;
        cudaEvent_t *more = realloc(d->events, (size_t)cap * sizeof *more);
        if (!more) {
            (void)cudaEventDestroy((cudaEvent_t)event); /* at worst it is lost */
            return;
        }
        d->events = more;
        d->cap_events = cap;
    }
    d->events[d->n_events++] = (cudaEvent_t)event;
}

void *fbi_cuda_event_record_on(fb_context *ctx, fbi_queue queue)
{
    cudaEvent_t event = take_event(ctx);
    if (!event)
        return NULL;
    cudaError_t e = cudaEventRecord(event, fbi_cuda_of(ctx)->queues[queue]);
    if (e == cudaSuccess)
        return event;
    fbi_cuda_failed(ctx, e, "cudaEventRecord", __FILE__, __LINE__);
    fbi_cuda_event_drop(ctx, event);
    return NULL;
}

fb_status fbi_cuda_wait(fb_context *ctx, fbi_wait_id at, void *event)
{
    fb_status st = event ? fbi_cuda_wait_here(ctx, at, (cudaEvent_t)event) : FB_OK;
    fbi_cuda_event_drop(ctx, event);
    return st;
}

bool fbi_cuda_event_done(fb_context *ctx, void *event)
{
    cudaError_t e = cudaEventQuery((cudaEvent_t)event);
    if (e == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* it is no error that a launch should report */
        return false;
    }
    if (e != cudaSuccess)
        fbi_cuda_failed(ctx, e, "cudaEventQuery", __FILE__, __LINE__);
    fbi_cuda_event_drop(ctx, event);
    return true;
}

/* --- marks of time, for profilers: whatever fails is not told --- */

void *fbi_cuda_stamp(fb_context *ctx)
{
    cudaEvent_t event = NULL;
    if (cudaSetDevice(fbi_cuda_of(ctx)->index) == cudaSuccess &&
        cudaEventCreate(&event) == cudaSuccess &&
        cudaEventRecord(event, fbi_cuda_of(ctx)->stream) == cudaSuccess)
        return event;
    (void)cudaGetLastError(); /* a span without a time is no error that a launch should report */
    if (event)
        (void)cudaEventDestroy(event); /* at worst it is lost */
    return NULL;
}

double fbi_cuda_between(fb_context *ctx, void *a, void *b)
{
    float ms = -1;
    if (a && b &&
        (wait_for_event(ctx, (cudaEvent_t)b) ||
         cudaEventElapsedTime(&ms, (cudaEvent_t)a, (cudaEvent_t)b) != cudaSuccess)) {
        (void)cudaGetLastError(); /* a span without a time is none */
        ms = -1;
    }
    if (a)
        (void)cudaEventDestroy((cudaEvent_t)a); /* at worst it is lost */
    if (b)
        (void)cudaEventDestroy((cudaEvent_t)b); /* at worst it is lost */
    return ms * 1e-3;
}

/* --- pinned memory --- */

/* In front of each block: how large it is. */
enum { HEAD = 256 };

void *fbi_cuda_host_alloc(fb_context *ctx, size_t bytes)
{
    char *base = NULL;
    if (fbi_cuda_use(ctx))
        return NULL;
    cudaError_t e = cudaHostAlloc((void **)&base, bytes + HEAD, cudaHostAllocDefault);
    if (e != cudaSuccess) {
        fbi_cuda_failed(ctx, e, "cudaHostAlloc", __FILE__, __LINE__);
        return NULL;
    }
    memcpy(base, &bytes, sizeof bytes);
    fbi_cuda_of(ctx)->pinned += bytes;
    return base + HEAD;
}

void fbi_cuda_host_free(fb_context *ctx, void *data)
{
    size_t bytes;
    if (!data)
        return;
    char *base = (char *)data - HEAD;
    memcpy(&bytes, base, sizeof bytes);
    fbi_cuda_of(ctx)->pinned -= bytes;
    cudaError_t e = cudaFreeHost(base);
    if (e != cudaSuccess)
        fbi_cuda_failed(ctx, e, "cudaFreeHost", __FILE__, __LINE__);
}

fb_status fbi_cuda_copy_on(fb_context *ctx, fbi_queue queue, void *dst, const void *src,
                           size_t bytes)
{
    if (bytes)
        FBI_CUDA_TRY(ctx, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault,
                                          fbi_cuda_of(ctx)->queues[queue]));
    return FB_OK;
}

void fbi_cuda_halt(fb_context *ctx)
{
    *(volatile int64_t *)fbi_cuda_of(ctx)->halted = 1;
}

void fbi_cuda_memory(fb_context *ctx, fbi_device_memory *m)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    m->pinned = d->pinned;
    if (cudaSetDevice(d->index) != cudaSuccess ||
        cudaMemGetInfo(&m->unused, &m->total) != cudaSuccess)
        (void)cudaGetLastError(); /* it is only told; what failed shows elsewhere */
}
