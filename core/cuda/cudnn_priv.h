/* cuDNN 9 through its graph API, in plain C: its functions, and graphs of operations. Knows nothing
 * of a context; errors stick to the graph. */
#ifndef FLAMBEAU_CORE_CUDA_CUDNN_PRIV_H
#define FLAMBEAU_CORE_CUDA_CUDNN_PRIV_H

#include <cudnn.h>

#include "core/cuda/dnn_priv.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FBI_CUDNN_FUNCTIONS(X)       \
    X(cudnnGetVersion)               \
    X(cudnnGetErrorString)           \
    X(cudnnGetLastErrorString)       \
    X(cudnnCreate)                   \
    X(cudnnDestroy)                  \
    X(cudnnSetStream)                \
    X(cudnnBackendCreateDescriptor)  \
    X(cudnnBackendDestroyDescriptor) \
    X(cudnnBackendSetAttribute)      \
    X(cudnnBackendGetAttribute)      \
    X(cudnnBackendFinalize)          \
    X(cudnnBackendExecute)

typedef struct fbi_cudnn_api {
#define FBI_CUDNN_MEMBER(function) __typeof__(function) *function;
    FBI_CUDNN_FUNCTIONS(FBI_CUDNN_MEMBER)
#undef FBI_CUDNN_MEMBER
} fbi_cudnn_api;

/* The functions of the library that is there (cudnn_load.c), or of the simulated one
 * (tests/cudasim/cudnn_linked.c). False: `why` says why there is none. */
bool fbi_cudnn_load(fbi_cudnn_api *api, char *why, size_t size);

/* What plans are made for: a handle of the current card, or a card's properties where there is no
 * card. */
struct fbi_dnn_library {
    fbi_cudnn_api api;
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t properties;
};

enum {
    FBI_CUDNN_DIMS = 4,
    FBI_CUDNN_DESCRIPTORS = 192,
    FBI_CUDNN_TENSORS = 64,
    FBI_CUDNN_OPS = 40
};

typedef struct fbi_cudnn_tensor {
    cudnnBackendDescriptor_t descriptor;
    cudnnDataType_t type;
    int64_t id, dim[FBI_CUDNN_DIMS], stride[FBI_CUDNN_DIMS];
} fbi_cudnn_tensor;

/* Ids up to FBI_DNN_OPERANDS are 1 + the place of an operand. */
typedef struct fbi_cudnn_graph {
    const fbi_cudnn_api *api;
    cudnnBackendDescriptor_t all[FBI_CUDNN_DESCRIPTORS], ops[FBI_CUDNN_OPS];
    fbi_cudnn_tensor tensors[FBI_CUDNN_TENSORS];
    int n_all, n_ops, n_tensors;
    int64_t scalar_id[FBI_DNN_OPERANDS]; /* passed by value, from host memory */
    float scalar[FBI_DNN_OPERANDS];
    int n_scalars;
    cudnnStatus_t status; /* the first that is no success, and of what */
    fbi_dnn_text error;
} fbi_cudnn_graph;

/* --- building (cudnn_graph.c); after an error everything does nothing --- */

void fbi_cudnn_failed(fbi_cudnn_graph *g, cudnnStatus_t status, const char *call);
cudnnBackendDescriptor_t fbi_cudnn_new(fbi_cudnn_graph *g, cudnnBackendDescriptorType_t type,
                                       const char *call);
void fbi_cudnn_set(fbi_cudnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t n, const void *value,
                   const char *call);
void fbi_cudnn_finalize(fbi_cudnn_graph *g, cudnnBackendDescriptor_t d, const char *call);
void fbi_cudnn_graph_free(fbi_cudnn_graph *g);

#define FBI_CUDNN_NEW(g, type) fbi_cudnn_new((g), (type), "cudnnBackendCreateDescriptor(" #type ")")
#define FBI_CUDNN_SET(g, d, name, type, n, value) \
    fbi_cudnn_set((g), (d), (name), (type), (n), (value), "cudnnBackendSetAttribute(" #name ")")
#define FBI_CUDNN_LINK(g, d, name, t) \
    FBI_CUDNN_SET(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &(t)->descriptor)

/* id 0: only inside of the graph, in F32 or as said. */
fbi_cudnn_tensor *fbi_cudnn_tensor_new(fbi_cudnn_graph *g, cudnnDataType_t type, int64_t id,
                                       const int64_t dim[FBI_CUDNN_DIMS],
                                       const int64_t stride[FBI_CUDNN_DIMS]);
/* Row-major. */
fbi_cudnn_tensor *fbi_cudnn_packed(fbi_cudnn_graph *g, cudnnDataType_t type, int64_t id, int64_t a,
                                   int64_t b, int64_t c, int64_t d);
fbi_cudnn_tensor *fbi_cudnn_scalar(fbi_cudnn_graph *g, float value);
/* out NULL: a new F32 tensor of x's shape. b NULL: of one operand. */
fbi_cudnn_tensor *fbi_cudnn_pointwise(fbi_cudnn_graph *g, cudnnPointwiseMode_t mode,
                                      fbi_cudnn_tensor *x, fbi_cudnn_tensor *b,
                                      fbi_cudnn_tensor *out);
/* Where row >= column x, elsewhere value. */
fbi_cudnn_tensor *fbi_cudnn_below(fbi_cudnn_graph *g, fbi_cudnn_tensor *x, float value);
/* Over the last dimension. */
fbi_cudnn_tensor *fbi_cudnn_reduce(fbi_cudnn_graph *g, cudnnReduceTensorOp_t op,
                                   fbi_cudnn_tensor *x);
/* To the sizes of y, which divide those of x: elements that lie side by side are joined. */
void fbi_cudnn_reduce_to(fbi_cudnn_graph *g, cudnnReduceTensorOp_t op, fbi_cudnn_tensor *x,
                         fbi_cudnn_tensor *y);
void fbi_cudnn_matmul(fbi_cudnn_graph *g, fbi_cudnn_tensor *a, fbi_cudnn_tensor *b,
                      fbi_cudnn_tensor *out);
/* The last two dimensions change places. */
fbi_cudnn_tensor *fbi_cudnn_transposed(fbi_cudnn_graph *g, fbi_cudnn_tensor *x,
                                       cudnnDataType_t type);
/* An operation is complete. */
void fbi_cudnn_add(fbi_cudnn_graph *g, cudnnBackendDescriptor_t op);

cudnnDataType_t fbi_cudnn_type(int32_t dtype);

/* The graphs (cudnn_conv.c, cudnn_attention.c). */
void fbi_cudnn_conv(fbi_cudnn_graph *g, const fbi_dnn_problem *p);
void fbi_cudnn_attention(fbi_cudnn_graph *g, const fbi_dnn_problem *p);
void fbi_cudnn_attention_bwd(fbi_cudnn_graph *g, const fbi_dnn_problem *p);

#ifdef __cplusplus
}
#endif
#endif
