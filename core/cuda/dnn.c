/* What cuDNN is asked to do: plans kept by problem, and running them. Where it has no plan for a
 * problem, that is kept too, and the caller's own kernel serves. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cuda/dnn_call_priv.h"
#include "core/cuda/library_priv.h"

/* More workspace than this is refused: our own kernels are slower, but go in pieces. */
static const size_t MOST_WORKSPACE = (size_t)4 << 30;

typedef struct answer {
    struct answer *next;
    uint64_t hash;
    fbi_dnn_problem problem;
    fbi_dnn_plan *plan; /* NULL: none */
} answer;

struct fbi_cuda_dnn {
    fbi_dnn_library *library; /* NULL: there is none */
    answer *answers;          /* a network has some dozens */
};

static uint64_t hash_of(const fbi_dnn_problem *p)
{
    uint64_t h = 0x9E3779B97F4A7C15u, word;
    for (size_t i = 0; i + sizeof word <= sizeof *p; i += sizeof word) {
        memcpy(&word, (const char *)p + i, sizeof word);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return h;
}

/* Once in a process; who has turned it off knows. */
static void say_why_not(const char *why)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    const char *asked = getenv("FLAMBEAU_CUDNN");
    if ((!asked || strcmp(asked, "off") != 0) && !atomic_flag_test_and_set(&said))
        fbi_cuda_logline("%s", why);
}

/* Opened at the first problem: programs without convolutions do not load it. */
static fbi_cuda_dnn *open_of(fb_context *ctx)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    fbi_dnn_text why = {""};
    if (d->dnn)
        return d->dnn;
    d->dnn = calloc(1, sizeof *d->dnn);
    if (d->dnn)
        d->dnn->library = fbi_dnn_open(d->stream, &why);
    if (d->dnn && !d->dnn->library)
        say_why_not(why.text);
    return d->dnn;
}

void fbi_cuda_dnn_close(fbi_cuda *d)
{
    if (!d->dnn)
        return;
    for (answer *a = d->dnn->answers, *next; a; a = next) {
        next = a->next;
        fbi_dnn_plan_free(a->plan);
        free(a);
    }
    fbi_dnn_close(d->dnn->library);
    free(d->dnn);
    d->dnn = NULL;
}

fbi_dnn_plan *fbi_cuda_dnn_plan(fb_context *ctx, const fbi_dnn_problem *p)
{
    fbi_cuda_dnn *dnn = open_of(ctx);
    if (!dnn || !dnn->library)
        return NULL;
    uint64_t hash = hash_of(p);
    for (answer *a = dnn->answers; a; a = a->next)
        if (a->hash == hash && !memcmp(&a->problem, p, sizeof *p))
            return a->plan;
    answer *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    fbi_dnn_text why;
    a->hash = hash;
    a->problem = *p;
    a->plan = fbi_dnn_plan_new(dnn->library, p, MOST_WORKSPACE, &why);
    a->next = dnn->answers;
    dnn->answers = a;
    return a->plan;
}

bool fbi_cuda_dnn_aligned(const void *p)
{
    return ((uintptr_t)p & 15) == 0;
}

fb_status fbi_cuda_dnn_run(const fbi_call *c, fbi_dnn_plan *plan, void *const *operands)
{
    const fbi_core_api *core = fbi_cuda_of(c->ctx)->core;
    size_t bytes = fbi_dnn_plan_workspace(plan);
    fbi_storage *workspace = bytes ? core->storage_new(c->ctx, bytes) : NULL;
    fbi_dnn_text why;
    fb_status st = FB_OK;
    if (bytes && !workspace)
        return c->ctx->status;
    if (!fbi_dnn_plan_run(plan, operands, workspace ? workspace->data : NULL, &why))
        st = core->fail(c->ctx, FB_E_DEVICE, "%s: %s: cuDNN: %s", c->op->name, c->ctx->device_name,
                        why.text);
    if (workspace)
        core->storage_unref(c->ctx, workspace); /* used again in the order of the stream */
    return st;
}
