/* Plans: from a graph by cuDNN's heuristics to one that can be run again and again. */
#include "core/cuda/cudnn_priv.h"
#include "core/cuda/library_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/core/tensor/dtype.h>

struct fbi_dnn_plan {
    fbi_cudnn_graph graph; /* keeps its parts alive */
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t plan;
    int64_t workspace;
    int n_operands;
};

enum { CONFIGS = 16, NOTES = CUDNN_NUMERICAL_NOTE_TYPE_COUNT };

static void say(const fbi_cudnn_api *api, cudnnStatus_t status, const char *call, fbi_dnn_text *why)
{
    fbi_cudnn_graph none = {.api = api};
    fbi_cudnn_failed(&none, status, call);
    *why = none.error;
}

fbi_dnn_library *fbi_dnn_open(void *stream, fbi_dnn_text *why)
{
    fbi_dnn_library *l = calloc(1, sizeof *l);
    if (!l) {
        snprintf(why->text, sizeof why->text, "no memory for cuDNN");
        return NULL;
    }
    if (!fbi_cudnn_load(&l->api, why->text, sizeof why->text)) {
        free(l);
        return NULL;
    }
    const char *call = "cudnnCreate";
    cudnnStatus_t st = l->api.cudnnCreate(&l->handle);
    if (!st) {
        call = "cudnnSetStream";
        st = l->api.cudnnSetStream(l->handle, stream);
    }
    if (!st)
        return l;
    fbi_dnn_text error;
    say(&l->api, st, call, &error);
    snprintf(why->text, sizeof why->text, "cuDNN is not used: %.*s; without it %s",
             (int)sizeof error.text / 2, error.text, fbi_cuda_cudnn.without);
    fbi_dnn_close(l);
    return NULL;
}

/* Errors have nobody to go to: the context is closing. */
void fbi_dnn_close(fbi_dnn_library *l)
{
    if (l && l->handle)
        (void)l->api.cudnnDestroy(l->handle);
    free(l);
}

/* --- choosing --- */

/* Bits of the numerical notes that an engine must not have. */
static uint32_t forbidden(const fbi_dnn_problem *p)
{
    uint32_t bits = 1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    if (p->dtype == FB_F32 && !p->tf32)
        bits |=
            1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    if (p->exact_conv)
        bits |= 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD | 1u << CUDNN_NUMERICAL_NOTE_FFT;
    return bits;
}

static uint32_t notes_of(fbi_cudnn_graph *g, cudnnBackendDescriptor_t config)
{
    cudnnBackendNumericalNote_t notes[NOTES];
    cudnnBackendDescriptor_t engine = FBI_CUDNN_NEW(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    int64_t n = 0;
    uint32_t bits = 0;
    if (g->status)
        return 0;
    fbi_cudnn_failed(g,
                     g->api->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n,
                                                      &engine),
                     "cudnnBackendGetAttribute(CUDNN_ATTR_ENGINECFG_ENGINE)");
    if (g->status)
        return 0;
    n = 0;
    fbi_cudnn_failed(g,
                     g->api->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                      CUDNN_TYPE_NUMERICAL_NOTE, NOTES, &n, notes),
                     "cudnnBackendGetAttribute(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE)");
    for (int64_t i = 0; i < n && i < NOTES && !g->status; i++)
        bits |= 1u << notes[i];
    return bits;
}

/* Give up descriptors made after the first n. Errors have nobody to go to: what cannot be destroyed
 * is lost. */
static void back_to(fbi_cudnn_graph *g, int n)
{
    while (g->n_all > n)
        (void)g->api->cudnnBackendDestroyDescriptor(g->all[--g->n_all]);
}

/* A configuration as a plan; false: not this one, and why. */
static bool try_config(fbi_dnn_plan *p, const fbi_dnn_library *l, cudnnBackendDescriptor_t config,
                       uint32_t never, size_t memory, fbi_dnn_text *why)
{
    fbi_cudnn_graph *g = &p->graph;
    int64_t n = 0, bytes = 0;
    uint32_t notes = notes_of(g, config) & never;
    if (notes) {
        snprintf(why->text, sizeof why->text, "its engines have numerical notes 0x%x", notes);
        return false;
    }
    cudnnBackendDescriptor_t d = FBI_CUDNN_NEW(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                  &config);
    if (l->handle)
        FBI_CUDNN_SET(g, d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &l->handle);
    if (l->properties)
        FBI_CUDNN_SET(g, d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                      &l->properties);
    if (g->status)
        return false;
    cudnnStatus_t st = g->api->cudnnBackendFinalize(d);
    if (!st)
        st = g->api->cudnnBackendGetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                              CUDNN_TYPE_INT64, 1, &n, &bytes);
    if (st) {
        say(g->api, st, "cudnnBackendFinalize of a plan", why);
        return false;
    }
    if ((uint64_t)bytes > memory) {
        snprintf(why->text, sizeof why->text, "its engines want %lld bytes of workspace",
                 (long long)bytes);
        return false;
    }
    p->plan = d;
    p->workspace = bytes;
    return true;
}

/* The configurations that one mode of the heuristics proposes, best first. */
static int64_t proposals(fbi_dnn_plan *p, const fbi_dnn_library *l, cudnnBackendDescriptor_t graph,
                         cudnnBackendHeurMode_t mode, cudnnBackendDescriptor_t *configs,
                         fbi_dnn_text *why)
{
    fbi_cudnn_graph *g = &p->graph;
    cudnnBackendDescriptor_t h = FBI_CUDNN_NEW(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    int64_t n = 0;
    FBI_CUDNN_SET(g, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                  &graph);
    FBI_CUDNN_SET(g, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (l->properties)
        FBI_CUDNN_SET(g, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                      &l->properties);
    if (g->status)
        return 0;
    cudnnStatus_t st = g->api->cudnnBackendFinalize(h);
    if (st) { /* this mode knows nothing; the next one may */
        say(g->api, st, "cudnnBackendFinalize of the heuristics", why);
        return 0;
    }
    for (int i = 0; i < CONFIGS; i++)
        configs[i] = FBI_CUDNN_NEW(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (!g->status)
        fbi_cudnn_failed(g,
                         g->api->cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS,
                                                          &n, configs),
                         "cudnnBackendGetAttribute(CUDNN_ATTR_ENGINEHEUR_RESULTS)");
    return g->status ? 0 : n < CONFIGS ? n : CONFIGS;
}

static void choose(fbi_dnn_plan *p, const fbi_dnn_library *l, uint32_t never, size_t memory,
                   fbi_dnn_text *why)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    fbi_cudnn_graph *g = &p->graph;
    cudnnBackendDescriptor_t configs[CONFIGS];
    cudnnBackendDescriptor_t graph = FBI_CUDNN_NEW(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    FBI_CUDNN_SET(g, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_ops,
                  g->ops);
    if (l->handle)
        FBI_CUDNN_SET(g, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &l->handle);
    fbi_cudnn_finalize(g, graph, "cudnnBackendFinalize of a graph");
    for (size_t m = 0; m < sizeof modes / sizeof modes[0] && !p->plan && !g->status; m++) {
        int mark = g->n_all;
        int64_t n = proposals(p, l, graph, modes[m], configs, why);
        for (int64_t i = 0; i < n && !p->plan && !g->status; i++) {
            int before = g->n_all;
            if (!try_config(p, l, configs[i], never, memory, why))
                back_to(g, before);
        }
        if (!p->plan)
            back_to(g, mark);
    }
}

fbi_dnn_plan *fbi_dnn_plan_new(fbi_dnn_library *l, const fbi_dnn_problem *problem, size_t memory,
                               fbi_dnn_text *why)
{
    static void (*const build[])(fbi_cudnn_graph *, const fbi_dnn_problem *) = {
        [FBI_DNN_CONV] = fbi_cudnn_conv,
        [FBI_DNN_CONV_DATA] = fbi_cudnn_conv,
        [FBI_DNN_CONV_WEIGHT] = fbi_cudnn_conv,
        [FBI_DNN_ATTENTION] = fbi_cudnn_attention,
        [FBI_DNN_ATTENTION_BWD] = fbi_cudnn_attention_bwd};
    static const int operands[] = {4, 3, 3, 6, 13};
    fbi_dnn_plan *p = calloc(1, sizeof *p);
    snprintf(why->text, sizeof why->text, "cuDNN proposes nothing");
    if (!p) {
        snprintf(why->text, sizeof why->text, "no memory for a plan");
        return NULL;
    }
    p->graph.api = &l->api;
    p->handle = l->handle;
    p->n_operands = operands[problem->kind];
    build[problem->kind](&p->graph, problem);
    choose(p, l, forbidden(problem), memory, why);
    if (p->plan)
        return p;
    if (p->graph.status)
        *why = p->graph.error;
    fbi_dnn_plan_free(p);
    return NULL;
}

void fbi_dnn_plan_free(fbi_dnn_plan *plan)
{
    if (plan)
        fbi_cudnn_graph_free(&plan->graph);
    free(plan);
}

size_t fbi_dnn_plan_workspace(const fbi_dnn_plan *plan)
{
    return (size_t)plan->workspace;
}

bool fbi_dnn_plan_run(fbi_dnn_plan *plan, void *const *operands, void *workspace, fbi_dnn_text *why)
{
    fbi_cudnn_graph pack = {.api = plan->graph.api}; /* of one descriptor */
    int64_t ids[2 * FBI_DNN_OPERANDS];
    void *places[2 * FBI_DNN_OPERANDS];
    int n = 0;
    for (int i = 0; i < plan->n_operands; i++) {
        if (!operands[i])
            continue;
        ids[n] = i + 1;
        places[n++] = operands[i];
    }
    for (int i = 0; i < plan->graph.n_scalars; i++) {
        ids[n] = plan->graph.scalar_id[i];
        places[n++] = &plan->graph.scalar[i];
    }
    cudnnBackendDescriptor_t d = FBI_CUDNN_NEW(&pack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    FBI_CUDNN_SET(&pack, d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, ids);
    FBI_CUDNN_SET(&pack, d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, places);
    FBI_CUDNN_SET(&pack, d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    fbi_cudnn_finalize(&pack, d, "cudnnBackendFinalize of operands");
    if (!pack.status)
        fbi_cudnn_failed(&pack, pack.api->cudnnBackendExecute(plan->handle, plan->plan, d),
                         "cudnnBackendExecute");
    *why = pack.error;
    fbi_cudnn_graph_free(&pack);
    return pack.status == CUDNN_STATUS_SUCCESS;
}
