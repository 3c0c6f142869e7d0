/* cuDNN's graph API: descriptors hold their attributes, the heuristics propose what a library may
 * propose (an engine whose bits differ from run to run, one that rounds F32 inputs, one whose plan
 * fails, then one that is good), and a plan runs its graph operation by operation. */
#include <cstdlib>

#include "tests/cudasim/cudnn_sim.h"

using namespace sim;
typedef cudnnStatus_t D;

struct cudnnContext {
    cudaStream_t stream;
};

namespace
{
enum { ENGINE = -1, GRAPH = -2 }; /* attributes of our own */
enum Engine { UNSTEADY, ROUNDING, FAILING, GOOD, ENGINES };
const int64_t WORKSPACE = 4096;

struct Descriptor {
    cudnnBackendDescriptorType_t type;
    bool final = false;
    std::map<int, std::vector<char>> at;
    Program program; /* of a graph */
};

std::set<void *> live;
thread_local std::string said;
unsigned long runs;

D bad(const char *why, D status = CUDNN_STATUS_BAD_PARAM)
{
    said = why;
    return status;
}

size_t size_of(cudnnBackendAttributeType_t t)
{
    switch (t) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
        return 1;
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return 8;
    default:
        return 4;
    }
}

template <class T> std::vector<T> all(const Descriptor &d, int name)
{
    auto f = d.at.find(name);
    if (f == d.at.end())
        return {};
    std::vector<T> v(f->second.size() / sizeof(T));
    memcpy(v.data(), f->second.data(), v.size() * sizeof(T));
    return v;
}

template <class T> T one(const Descriptor &d, int name, T otherwise = T())
{
    auto v = all<T>(d, name);
    return v.empty() ? otherwise : v[0];
}

/* A finished descriptor that an attribute names. */
const Descriptor *linked(const Descriptor &d, int name)
{
    auto *p = one<Descriptor *>(d, name, NULL);
    return p && live.count(p) && p->final ? p : NULL;
}

bool tensor_of(const Descriptor &d, int name, Tensor *t)
{
    const Descriptor *from = linked(d, name);
    if (!from)
        return false;
    auto dim = all<int64_t>(*from, CUDNN_ATTR_TENSOR_DIMENSIONS);
    auto stride = all<int64_t>(*from, CUDNN_ATTR_TENSOR_STRIDES);
    std::copy(dim.begin(), dim.end(), t->dim);
    std::copy(stride.begin(), stride.end(), t->stride);
    t->id = one<int64_t>(*from, CUDNN_ATTR_TENSOR_UNIQUE_ID);
    t->type = one<cudnnDataType_t>(*from, CUDNN_ATTR_TENSOR_DATA_TYPE);
    t->is_virtual = one<char>(*from, CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0;
    t->by_value = one<char>(*from, CUDNN_ATTR_TENSOR_IS_BY_VALUE) != 0;
    return true;
}

/* Attributes of each operation: how, then the operands, the result last. */
struct Form {
    cudnnBackendDescriptorType_t kind;
    int how, mode; /* the descriptor that says how, and its mode */
    std::vector<int> in;
    int out;
};
const Form forms[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
     CUDNN_ATTR_CONVOLUTION_CONV_MODE,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W},
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
     CUDNN_ATTR_CONVOLUTION_CONV_MODE,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
     CUDNN_ATTR_CONVOLUTION_CONV_MODE,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR,
     CUDNN_ATTR_POINTWISE_MODE,
     {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
      CUDNN_ATTR_OPERATION_POINTWISE_TDESC},
     CUDNN_ATTR_OPERATION_POINTWISE_YDESC},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_MATMUL_DESC,
     CUDNN_ATTR_MATMUL_COMP_TYPE,
     {CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC},
     CUDNN_ATTR_OPERATION_MATMUL_CDESC},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_REDUCTION_DESC,
     CUDNN_ATTR_REDUCTION_OPERATOR,
     {CUDNN_ATTR_OPERATION_REDUCTION_XDESC},
     CUDNN_ATTR_OPERATION_REDUCTION_YDESC},
    {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR,
     0,
     0,
     {CUDNN_ATTR_OPERATION_RESHAPE_XDESC},
     CUDNN_ATTR_OPERATION_RESHAPE_YDESC},
};

const Form *form_of(cudnnBackendDescriptorType_t kind)
{
    for (auto &f : forms)
        if (f.kind == kind)
            return &f;
    return NULL;
}

D step_of(const Descriptor &d, const Form &f, Step *s)
{
    s->kind = f.kind;
    if (f.how) {
        const Descriptor *how = linked(d, f.how);
        if (!how)
            return bad("an operation lacks the descriptor that says how");
        s->mode = one<int>(*how, f.mode);
        s->axis = one<int64_t>(*how, CUDNN_ATTR_POINTWISE_AXIS);
        auto pair = [&](int name, int64_t *to) {
            auto v = all<int64_t>(*how, name);
            std::copy(v.begin(), v.begin() + (long)std::min<size_t>(2, v.size()), to);
        };
        pair(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, s->stride);
        pair(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, s->pad);
        pair(CUDNN_ATTR_CONVOLUTION_DILATIONS, s->dil);
    }
    for (int name : f.in) {
        Tensor t;
        if (tensor_of(d, name, &t))
            s->in.push_back(t);
    }
    bool may_lack = f.kind == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR && !s->in.empty();
    if (!tensor_of(d, f.out, &s->out) || (s->in.size() < f.in.size() && !may_lack))
        return bad("an operation lacks an operand");
    const char *wrong = check_step(*s);
    return wrong ? bad(wrong) : CUDNN_STATUS_SUCCESS;
}

D finish_tensor(Descriptor &d)
{
    size_t n = all<int64_t>(d, CUDNN_ATTR_TENSOR_DIMENSIONS).size();
    if (n != 4 || all<int64_t>(d, CUDNN_ATTR_TENSOR_STRIDES).size() != n)
        return bad("a tensor of other than four dimensions");
    for (int name : {CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_ATTR_TENSOR_UNIQUE_ID,
                     CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT})
        if (!d.at.count(name))
            return bad("a tensor lacks its type, id or alignment");
    return CUDNN_STATUS_SUCCESS;
}

/* Inside tensors are written before they are read. */
D finish_graph(Descriptor &d)
{
    std::set<int64_t> written;
    for (auto *op : all<Descriptor *>(d, CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
        const Form *f = live.count(op) ? form_of(op->type) : NULL;
        Step s{};
        if (!f)
            return bad("a graph of something that is no operation");
        if (D e = step_of(*op, *f, &s))
            return e;
        for (auto &t : s.in)
            if (t.is_virtual && !written.count(t.id))
                return bad("a virtual tensor is read before it is written");
        written.insert(s.out.id);
        d.program.push_back(s);
    }
    return one<void *>(d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, NULL) ? CUDNN_STATUS_SUCCESS
                                                                  : bad("a graph without handle");
}

/* What the real library refuses is refused: F64, layouts other than channels last, heads of odd
 * sizes, attention in F32. */
bool served(const Program &p)
{
    bool attention = false, good = true;
    for (auto &s : p)
        attention |= s.kind == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR;
    for (auto &s : p)
        for (auto &t : s.in) {
            if (t.is_virtual || t.by_value)
                continue;
            bool half = t.type == CUDNN_DATA_HALF || t.type == CUDNN_DATA_BFLOAT16;
            if (!attention)
                good &= (half || t.type == CUDNN_DATA_FLOAT) && (t.stride[1] == 1 || t.dim[1] == 1);
            else if (s.kind == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
                good &= half && t.dim[2 + (t.stride[3] == 1)] % 8 == 0;
        }
    return good;
}

D finish_heuristics(Descriptor &d)
{
    const Descriptor *g = linked(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    if (!g)
        return bad("heuristics without a finished graph");
    if (!served(g->program))
        return bad("no engine for this graph", CUDNN_STATUS_NOT_SUPPORTED);
    return CUDNN_STATUS_SUCCESS;
}

D finish_plan(Descriptor &d)
{
    const Descriptor *config = linked(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (!config)
        return bad("a plan without a configuration");
    if (one<int64_t>(*config, ENGINE) == FAILING)
        return bad("this engine compiles no plan", CUDNN_STATUS_NOT_SUPPORTED);
    d.program = one<Descriptor *>(*config, GRAPH)->program;
    return CUDNN_STATUS_SUCCESS;
}

D give(int64_t *n, void *to, const void *from, size_t bytes)
{
    *n = 1;
    memcpy(to, from, bytes);
    return CUDNN_STATUS_SUCCESS;
}

/* Descriptors that the caller made get their content. */
D propose(const Descriptor &d, int64_t want, int64_t *n, void *to)
{
    auto **configs = (Descriptor **)to;
    auto *graph = one<Descriptor *>(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    *n = std::min<int64_t>(want, ENGINES);
    for (int64_t i = 0; i < *n; i++) {
        configs[i]->at[ENGINE].assign((char *)&i, (char *)&i + sizeof i);
        configs[i]->at[GRAPH].assign((char *)&graph, (char *)&graph + sizeof graph);
        configs[i]->final = true;
    }
    return CUDNN_STATUS_SUCCESS;
}

D notes_of(const Descriptor &d, int64_t *n, void *to)
{
    int64_t engine = one<int64_t>(d, ENGINE, -1);
    auto *notes = (cudnnBackendNumericalNote_t *)to;
    *n = engine == UNSTEADY || engine == ROUNDING;
    notes[0] = engine == UNSTEADY ? CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC
                                  : CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    return CUDNN_STATUS_SUCCESS;
}

Descriptor *get(void *p)
{
    if (live.count(p))
        return (Descriptor *)p;
    finding("cudnnBackend", cudaSuccess, "%p is no descriptor", p);
    return NULL;
}

/* Where the tensors of a program lie, and what the queue is told of it. */
D bind_operands(const Descriptor &pack, const Program &p, Op *op, std::map<int64_t, void *> *memory,
                std::map<int64_t, float> *values)
{
    auto ids = all<int64_t>(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    auto places = all<void *>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    std::map<int64_t, void *> given;
    for (size_t i = 0; i < ids.size() && i < places.size(); i++)
        given[ids[i]] = places[i];
    for (auto &s : p) {
        auto tensors = s.in;
        tensors.push_back(s.out);
        for (size_t i = 0; i < tensors.size(); i++) {
            auto &t = tensors[i];
            if (t.is_virtual)
                continue;
            if (!given.count(t.id) || !given[t.id])
                return bad("a tensor of the graph has no place");
            if (t.by_value) {
                (*values)[t.id] = *(float *)given[t.id];
                continue;
            }
            if ((uintptr_t)given[t.id] % 16)
                return bad("a tensor is not aligned to 16 bytes");
            (*memory)[t.id] = given[t.id];
            op->refs.push_back(Ref{given[t.id], t.bytes(), (int)t.id, i + 1 == tensors.size()});
        }
    }
    return CUDNN_STATUS_SUCCESS;
}
} /* namespace */

#define CALL(name)                              \
    Lock lk(S().mu);                            \
    if (cudaError_t wanted = injected(#name)) { \
        said = "asked for by the test";         \
        return (D)wanted;                       \
    }

extern "C" {
unsigned long cudasim_cudnn_runs(void)
{
    return runs;
}
size_t cudnnGetVersion(void)
{
    const char *v = getenv("CUDASIM_CUDNN_VERSION");
    return v && *v ? (size_t)atol(v) : CUDNN_VERSION;
}
const char *cudnnGetErrorString(D s)
{
    return s == CUDNN_STATUS_SUCCESS          ? "CUDNN_STATUS_SUCCESS"
           : s == CUDNN_STATUS_BAD_PARAM      ? "CUDNN_STATUS_BAD_PARAM"
           : s == CUDNN_STATUS_NOT_SUPPORTED  ? "CUDNN_STATUS_NOT_SUPPORTED"
           : s == CUDNN_STATUS_INTERNAL_ERROR ? "CUDNN_STATUS_INTERNAL_ERROR"
                                              : "CUDNN_STATUS_EXECUTION_FAILED";
}
void cudnnGetLastErrorString(char *message, size_t size)
{
    snprintf(message, size, "%s", said.c_str());
}
D cudnnCreate(cudnnHandle_t *h)
{
    CALL(cudnnCreate);
    *h = new cudnnContext{NULL};
    return CUDNN_STATUS_SUCCESS;
}
D cudnnDestroy(cudnnHandle_t h)
{
    delete h;
    return CUDNN_STATUS_SUCCESS;
}
D cudnnSetStream(cudnnHandle_t h, cudaStream_t s)
{
    CALL(cudnnSetStream);
    h->stream = s;
    return CUDNN_STATUS_SUCCESS;
}
D cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    CALL(cudnnBackendCreateDescriptor);
    auto *d = new Descriptor;
    d->type = type;
    live.insert(d);
    S().descriptors++;
    *out = d;
    return CUDNN_STATUS_SUCCESS;
}
D cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t p)
{
    Lock lk(S().mu);
    Descriptor *d = get(p);
    if (!d)
        return CUDNN_STATUS_BAD_PARAM;
    live.erase(d);
    S().descriptors--;
    delete d;
    return CUDNN_STATUS_SUCCESS;
}
D cudnnBackendSetAttribute(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name,
                           cudnnBackendAttributeType_t type, int64_t n, const void *v)
{
    CALL(cudnnBackendSetAttribute);
    Descriptor *d = get(p);
    if (!d || d->final || n < 0 || (n > 0 && !v))
        return bad("an attribute of a finished descriptor, or no value");
    auto *from = (const char *)v;
    d->at[name].assign(from, from + (size_t)n * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}
D cudnnBackendGetAttribute(cudnnBackendDescriptor_t const p, cudnnBackendAttributeName_t name,
                           cudnnBackendAttributeType_t, int64_t want, int64_t *n, void *to)
{
    CALL(cudnnBackendGetAttribute);
    Descriptor *d = get(p);
    if (!d || !d->final || want < 1)
        return bad("an attribute of an unfinished descriptor");
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS)
        return propose(*d, want, n, to);
    if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE)
        return notes_of(*d, n, to);
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)
        return give(n, to, &WORKSPACE, sizeof WORKSPACE);
    if (name != CUDNN_ATTR_ENGINECFG_ENGINE)
        return bad("this attribute is not simulated", CUDNN_STATUS_NOT_SUPPORTED);
    Descriptor *engine = get(*(void **)to);
    if (!engine)
        return CUDNN_STATUS_BAD_PARAM;
    engine->at[ENGINE] = d->at[ENGINE];
    engine->final = true;
    *n = 1;
    return CUDNN_STATUS_SUCCESS;
}
D cudnnBackendFinalize(cudnnBackendDescriptor_t p)
{
    CALL(cudnnBackendFinalize);
    Descriptor *d = get(p);
    if (!d)
        return CUDNN_STATUS_BAD_PARAM;
    D e = CUDNN_STATUS_SUCCESS;
    if (const Form *f = form_of(d->type)) {
        Step s{};
        e = step_of(*d, *f, &s);
    } else if (d->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR) {
        e = finish_tensor(*d);
    } else if (d->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
        e = finish_graph(*d);
    } else if (d->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) {
        e = finish_heuristics(*d);
    } else if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
        e = finish_plan(*d);
    }
    d->final = !e;
    return e;
}
/* The graph's data are copied now: descriptors may go before the queue gets here. */
D cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    CALL(cudnnBackendExecute);
    static const char *const me = "cudnnBackendExecute";
    Descriptor *d = get(plan), *v = get(pack);
    if (!h || !d || !v || !d->final || !v->final || !enter(me))
        return bad("no finished plan, or no operands");
    CUstream_st *s = stream(me, h->stream);
    if (!s)
        return bad("no stream");
    void *workspace = one<void *>(*v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, NULL);
    if (!workspace)
        return bad("no workspace");
    Op op{};
    op.api = me;
    Program program = d->program;
    std::map<int64_t, void *> memory;
    std::map<int64_t, float> values;
    if (D e = bind_operands(*v, program, &op, &memory, &values))
        return e;
    op.refs.push_back(Ref{workspace, (size_t)WORKSPACE, -1, true});
    op.run = [=](Op &, Lock &) {
        std::map<int64_t, float> own = values;
        std::map<int64_t, void *> places = memory;
        for (auto &x : own)
            places[x.first] = &x.second;
        memset(workspace, 0xff, (size_t)WORKSPACE);
        run_program(program, places);
        return DONE;
    };
    if (enqueue(s, std::move(op)))
        return CUDNN_STATUS_EXECUTION_FAILED;
    runs++;
    pump(lk);
    return CUDNN_STATUS_SUCCESS;
}
}
