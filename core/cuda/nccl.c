/* NCCL: communicators that never block, polled; one communication queue for all of them. */
#include "core/cuda/nccl_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static_assert(sizeof(ncclUniqueId) == FBI_LINK_ID_BYTES, "an id has room");

/* Of a context. */
struct fbi_cuda_nccl {
    fbi_nccl_api api;
    bool tried, loaded;
    char reason[768];
};

struct fbi_link {
    fb_context *ctx;
    ncclComm_t comm;
    fbi_link *parent; /* a split in progress: the parent's state is ours */
};

static struct fbi_cuda_nccl *of(const fb_context *ctx)
{
    return fbi_cuda_of(ctx)->nccl;
}

/* --- errors --- */

static const char *name_of(ncclResult_t e)
{
    static const char *const names[] = {
        "ncclSuccess",         "ncclUnhandledCudaError", "ncclSystemError", "ncclInternalError",
        "ncclInvalidArgument", "ncclInvalidUsage",       "ncclRemoteError", "ncclInProgress"};
    return (unsigned)e < sizeof names / sizeof names[0] ? names[e] : "ncclResult";
}

/* FB_OK, FB_AGAIN, or FB_E_DEVICE after noting what went wrong. */
static fb_status status_of(fb_context *ctx, ncclComm_t comm, ncclResult_t e, const char *call)
{
    if (e == ncclSuccess)
        return FB_OK;
    if (e == ncclInProgress)
        return FB_AGAIN;
    struct fbi_cuda_nccl *n = of(ctx);
    const char *last = n->api.ncclGetLastError(comm);
    snprintf(n->reason, sizeof n->reason, "%s: %s (%s) of %s%s%.400s", ctx->device_name, name_of(e),
             n->api.ncclGetErrorString(e), call, last && *last ? ": " : "", last ? last : "");
    return FB_E_DEVICE;
}

static const char *nccl_reason(fb_context *ctx)
{
    return of(ctx) ? of(ctx)->reason : "no memory";
}

/* --- the library --- */

static bool load(fb_context *ctx)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    if (!d->nccl)
        d->nccl = calloc(1, sizeof *d->nccl);
    struct fbi_cuda_nccl *n = d->nccl;
    if (!n)
        return false;
    if (!n->tried) {
        n->tried = true;
        n->loaded = fbi_nccl_load(&n->api, n->reason, sizeof n->reason);
    }
    return n->loaded;
}

/* Names this machine, also among containers that share it or its name. */
static void machine(char *text, size_t size)
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    bool known = f && fgets(text, (int)size, f);
    if (f)
        fclose(f);
    if (!known && gethostname(text, size))
        snprintf(text, size, "?");
    text[size - 1] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

static bool nccl_usable(fb_context *ctx, char card[FBI_LINK_CARD_BYTES])
{
    struct cudaDeviceProp p;
    char where[40];
    cudaError_t e = cudaGetDeviceProperties(&p, fbi_cuda_of(ctx)->index);
    if (!load(ctx))
        return false;
    if (e != cudaSuccess) {
        snprintf(of(ctx)->reason, sizeof of(ctx)->reason, "%s: %s (%s) of cudaGetDeviceProperties",
                 ctx->device_name, cudaGetErrorName(e), cudaGetErrorString(e));
        return false;
    }
    /* Parts of a card have an identity of their own, but NCCL wants whole ones: compare buses. */
    machine(where, sizeof where);
    snprintf(card, FBI_LINK_CARD_BYTES, "%x:%02x:%02x of %s", (unsigned)p.pciDomainID,
             (unsigned)p.pciBusID, (unsigned)p.pciDeviceID, where);
    return true;
}

/* --- communicators --- */

static fbi_link *new_link(fb_context *ctx, fbi_link *parent)
{
    fbi_link *link = calloc(1, sizeof *link);
    if (link)
        *link = (fbi_link){.ctx = ctx, .parent = parent};
    else
        snprintf(of(ctx)->reason, sizeof of(ctx)->reason, "no memory");
    return link;
}

static fb_status nccl_new_id(fb_context *ctx, void *id)
{
    return status_of(ctx, NULL, of(ctx)->api.ncclGetUniqueId(id), "ncclGetUniqueId");
}

static fb_status nccl_join(fb_context *ctx, const void *id, int rank, int size, fbi_link **link)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId name;
    config.blocking = 0;
    memcpy(&name, id, sizeof name);
    *link = fbi_cuda_use(ctx) ? NULL : new_link(ctx, NULL);
    if (!*link)
        return FB_E_NOMEM;
    ncclResult_t e = of(ctx)->api.ncclCommInitRankConfig(&(*link)->comm, size, name, rank, &config);
    return status_of(ctx, NULL, e, "ncclCommInitRankConfig");
}

static fb_status nccl_split(fbi_link *parent, int color, int key, fbi_link **link)
{
    fb_context *ctx = parent->ctx;
    *link = fbi_cuda_use(ctx) ? NULL : new_link(ctx, parent);
    if (!*link)
        return FB_E_NOMEM;
    ncclResult_t e = of(ctx)->api.ncclCommSplit(
        parent->comm, color < 0 ? NCCL_SPLIT_NOCOLOR : color, key, &(*link)->comm, NULL);
    return status_of(ctx, parent->comm, e, "ncclCommSplit");
}

static fb_status nccl_poll(fbi_link *link)
{
    ncclResult_t state = ncclSuccess;
    if (link->parent) {
        fb_status st = nccl_poll(link->parent);
        if (st)
            return st;
        link->parent = NULL; /* its pointer is set now; NULL: this rank is in no part */
    }
    if (!link->comm)
        return FB_OK;
    ncclResult_t e = of(link->ctx)->api.ncclCommGetAsyncError(link->comm, &state);
    return status_of(link->ctx, link->comm, e ? e : state, "ncclCommGetAsyncError");
}

static fb_status nccl_finish(fbi_link *link)
{
    if (!link->comm)
        return FB_OK;
    return status_of(link->ctx, link->comm, of(link->ctx)->api.ncclCommFinalize(link->comm),
                     "ncclCommFinalize");
}

/* Errors have nobody to go to: the group is closing. */
static void nccl_close(fbi_link *link)
{
    if (link->comm)
        (void)of(link->ctx)->api.ncclCommDestroy(link->comm);
    free(link);
}

/* As a group: one communicator's memory is freed only when the kernels of all have ended.
 * Errors have nobody to go to: the job is ending with one. */
static void nccl_abort(fb_context *ctx, fbi_link **links, int n)
{
    const fbi_nccl_api *api = &of(ctx)->api;
    (void)api->ncclGroupStart();
    for (int i = 0; i < n; i++)
        if (links[i]->comm)
            (void)api->ncclCommAbort(links[i]->comm);
    (void)api->ncclGroupEnd();
    (void)cudaStreamSynchronize(fbi_cuda_of(ctx)->queues[FBI_QUEUE_COMM]);
    for (int i = 0; i < n; i++)
        free(links[i]);
}

/* --- calls --- */

static const ncclDataType_t types[FB_DTYPE_COUNT] = {
    [FB_F32] = ncclFloat32,   [FB_F64] = ncclFloat64, [FB_F16] = ncclFloat16,
    [FB_BF16] = ncclBfloat16, [FB_I32] = ncclInt32,   [FB_I64] = ncclInt64,
    [FB_U8] = ncclUint8,      [FB_BOOL] = ncclUint8};
static const ncclRedOp_t ops[] = {[FBI_COMBINE_SUM] = ncclSum,
                                  [FBI_COMBINE_PROD] = ncclProd,
                                  [FBI_COMBINE_MIN] = ncclMin,
                                  [FBI_COMBINE_MAX] = ncclMax};

/* NCCL's minimum of a number and NaN may be the number. */
static bool nccl_reduces(int op, fb_dtype dtype)
{
    return op == FBI_COMBINE_SUM || op == FBI_COMBINE_PROD || !fbi_cuda_is_float((int)dtype);
}

static ncclResult_t exchange(const fbi_nccl_api *api, const fbi_link *link, const fbi_link_call *c,
                             cudaStream_t stream)
{
    ncclResult_t e = api->ncclGroupStart();
    for (int i = 0; i < c->n && e == ncclSuccess; i++) {
        const fbi_link_transfer *t = &c->transfers[i];
        e = t->out ? api->ncclSend(t->data, t->bytes, ncclUint8, t->peer, link->comm, stream)
                   : api->ncclRecv(t->data, t->bytes, ncclUint8, t->peer, link->comm, stream);
        if (e == ncclInProgress)
            e = ncclSuccess; /* the end of the group tells */
    }
    ncclResult_t end = api->ncclGroupEnd();
    return e ? e : end;
}

static fb_status nccl_start(fbi_link *link, const fbi_link_call *c)
{
    static const char *const names[] = {"ncclAllReduce", "ncclReduceScatter", "ncclAllGather",
                                        "ncclBroadcast", "ncclSend and ncclRecv"};
    const fbi_nccl_api *api = &of(link->ctx)->api;
    cudaStream_t stream = fbi_cuda_of(link->ctx)->queues[FBI_QUEUE_COMM];
    size_t n = (size_t)c->count, bytes = n * (size_t)fbi_cuda_bytes((int)c->dtype);
    ncclResult_t e = ncclInternalError;
    if (fbi_cuda_use(link->ctx))
        return FB_E_DEVICE;
    switch (c->kind) {
    case FBI_LINK_ALL_REDUCE:
        e = api->ncclAllReduce(c->src, c->dst, n, types[c->dtype], ops[c->op], link->comm, stream);
        break;
    case FBI_LINK_REDUCE_SCATTER:
        e = api->ncclReduceScatter(c->src, c->dst, n, types[c->dtype], ops[c->op], link->comm,
                                   stream);
        break;
    case FBI_LINK_ALL_GATHER:
        e = api->ncclAllGather(c->src, c->dst, bytes, ncclUint8, link->comm, stream);
        break;
    case FBI_LINK_BROADCAST:
        e = api->ncclBroadcast(c->src, c->dst, bytes, ncclUint8, c->root, link->comm, stream);
        break;
    case FBI_LINK_EXCHANGE:
        e = exchange(api, link, c, stream);
        break;
    }
    return status_of(link->ctx, link->comm, e, names[c->kind]);
}

/* --- the communication queue --- */

/* Kernels go where the context's stream is. More operands would take memory that belongs to the
 * compute queue. */
static fb_status nccl_combine(fb_context *ctx, int op, fb_dtype dtype, fb_dtype out_dtype,
                              const int16_t *program, int n, const void *const *operands, void *out,
                              int64_t count)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    cudaStream_t compute = d->stream;
    d->stream = fbi_cuda_of(ctx)->queues[FBI_QUEUE_COMM];
    fb_status st = fbi_cuda_combine(ctx, op, dtype, out_dtype, program, n, operands, out, count);
    d->stream = compute;
    return st;
}

static bool nccl_idle(fb_context *ctx)
{
    cudaError_t e = cudaStreamQuery(fbi_cuda_of(ctx)->queues[FBI_QUEUE_COMM]);
    (void)cudaGetLastError(); /* "not ready" is no error that a launch should report */
    return e != cudaErrorNotReady;
}

void fbi_cuda_comm_close(fbi_cuda *d)
{
    free(d->nccl);
    d->nccl = NULL;
}

const fbi_device_comm fbi_cuda_comm = {
    .library = "NCCL",
    .usable = nccl_usable,
    .reason = nccl_reason,
    .new_id = nccl_new_id,
    .join = nccl_join,
    .split = nccl_split,
    .poll = nccl_poll,
    .reduces = nccl_reduces,
    .start = nccl_start,
    .combine = nccl_combine,
    .idle = nccl_idle,
    .finish = nccl_finish,
    .close = nccl_close,
    .abort = nccl_abort,
};
