/* Graphs of cuDNN operations: descriptors, and the operations that ours are made of. */
#include "core/cuda/cudnn_priv.h"

#include <stdio.h>
#include <string.h>

#include <flambeau/core/tensor/dtype.h>

void fbi_cudnn_failed(fbi_cudnn_graph *g, cudnnStatus_t status, const char *call)
{
    char more[256] = "";
    if (status == CUDNN_STATUS_SUCCESS || g->status != CUDNN_STATUS_SUCCESS)
        return;
    g->status = status;
    g->api->cudnnGetLastErrorString(more, sizeof more);
    snprintf(g->error.text, sizeof g->error.text, "%s of %s%s%s",
             g->api->cudnnGetErrorString(status), call, *more ? ": " : "", more);
}

cudnnBackendDescriptor_t fbi_cudnn_new(fbi_cudnn_graph *g, cudnnBackendDescriptorType_t type,
                                       const char *call)
{
    cudnnBackendDescriptor_t d = NULL;
    if (g->status)
        return NULL;
    if (g->n_all == FBI_CUDNN_DESCRIPTORS) {
        fbi_cudnn_failed(g, CUDNN_STATUS_INTERNAL_ERROR, "a graph of too many parts");
        return NULL;
    }
    fbi_cudnn_failed(g, g->api->cudnnBackendCreateDescriptor(type, &d), call);
    if (!g->status)
        g->all[g->n_all++] = d;
    return d;
}

void fbi_cudnn_set(fbi_cudnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t n, const void *value, const char *call)
{
    if (!g->status)
        fbi_cudnn_failed(g, g->api->cudnnBackendSetAttribute(d, name, type, n, value), call);
}

void fbi_cudnn_finalize(fbi_cudnn_graph *g, cudnnBackendDescriptor_t d, const char *call)
{
    if (!g->status)
        fbi_cudnn_failed(g, g->api->cudnnBackendFinalize(d), call);
}

/* Errors have nobody to go to: what cannot be destroyed is lost. */
void fbi_cudnn_graph_free(fbi_cudnn_graph *g)
{
    while (g->n_all > 0)
        (void)g->api->cudnnBackendDestroyDescriptor(g->all[--g->n_all]);
}

cudnnDataType_t fbi_cudnn_type(int32_t dtype)
{
    return dtype == FB_F32   ? CUDNN_DATA_FLOAT
           : dtype == FB_F16 ? CUDNN_DATA_HALF
                             : CUDNN_DATA_BFLOAT16;
}

/* A slot; the last one again when there are too many: the graph has failed then. */
static fbi_cudnn_tensor *slot(fbi_cudnn_graph *g)
{
    if (g->n_tensors == FBI_CUDNN_TENSORS) {
        fbi_cudnn_failed(g, CUDNN_STATUS_INTERNAL_ERROR, "a graph of too many tensors");
        return &g->tensors[FBI_CUDNN_TENSORS - 1];
    }
    return &g->tensors[g->n_tensors++];
}

static fbi_cudnn_tensor *make(fbi_cudnn_graph *g, cudnnDataType_t type, int64_t id, bool by_value,
                              const int64_t *dim, const int64_t *stride)
{
    fbi_cudnn_tensor *t = slot(g);
    const int64_t align = 16;
    const bool yes = true;
    t->type = type;
    t->id = id > 0 ? id : 100 + g->n_tensors;
    memcpy(t->dim, dim, sizeof t->dim);
    memcpy(t->stride, stride, sizeof t->stride);
    cudnnBackendDescriptor_t d = FBI_CUDNN_NEW(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    t->descriptor = d;
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, FBI_CUDNN_DIMS, dim);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, FBI_CUDNN_DIMS, stride);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &t->id);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    if (by_value)
        FBI_CUDNN_SET(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
    else if (id == 0)
        FBI_CUDNN_SET(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
    fbi_cudnn_finalize(g, d, "cudnnBackendFinalize of a tensor");
    return t;
}

fbi_cudnn_tensor *fbi_cudnn_tensor_new(fbi_cudnn_graph *g, cudnnDataType_t type, int64_t id,
                                       const int64_t dim[FBI_CUDNN_DIMS],
                                       const int64_t stride[FBI_CUDNN_DIMS])
{
    return make(g, type, id, false, dim, stride);
}

fbi_cudnn_tensor *fbi_cudnn_packed(fbi_cudnn_graph *g, cudnnDataType_t type, int64_t id, int64_t a,
                                   int64_t b, int64_t c, int64_t d)
{
    const int64_t dim[] = {a, b, c, d}, stride[] = {b * c * d, c * d, d, 1};
    return make(g, type, id, false, dim, stride);
}

fbi_cudnn_tensor *fbi_cudnn_scalar(fbi_cudnn_graph *g, float value)
{
    static const int64_t one[FBI_CUDNN_DIMS] = {1, 1, 1, 1};
    fbi_cudnn_tensor *t = make(g, CUDNN_DATA_FLOAT, 0, true, one, one);
    if (g->n_scalars == FBI_DNN_OPERANDS) {
        fbi_cudnn_failed(g, CUDNN_STATUS_INTERNAL_ERROR, "a graph of too many scalars");
        return t;
    }
    g->scalar_id[g->n_scalars] = t->id;
    g->scalar[g->n_scalars++] = value;
    return t;
}

void fbi_cudnn_add(fbi_cudnn_graph *g, cudnnBackendDescriptor_t op)
{
    fbi_cudnn_finalize(g, op, "cudnnBackendFinalize of an operation");
    if (g->n_ops == FBI_CUDNN_OPS)
        fbi_cudnn_failed(g, CUDNN_STATUS_INTERNAL_ERROR, "a graph of too many operations");
    if (!g->status)
        g->ops[g->n_ops++] = op;
}

/* axis: of GEN_INDEX. prec: what is computed in. */
static void pointwise(fbi_cudnn_graph *g, cudnnPointwiseMode_t mode, cudnnDataType_t prec,
                      int64_t axis, fbi_cudnn_tensor *const in[3], fbi_cudnn_tensor *out)
{
    const float one = 1;
    cudnnBackendDescriptor_t how = FBI_CUDNN_NEW(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    FBI_CUDNN_SET(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    FBI_CUDNN_SET(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &prec);
    if (mode == CUDNN_POINTWISE_GEN_INDEX)
        FBI_CUDNN_SET(g, how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
    fbi_cudnn_finalize(g, how, "cudnnBackendFinalize of a pointwise mode");
    cudnnBackendDescriptor_t op = FBI_CUDNN_NEW(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    FBI_CUDNN_SET(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR,
                  CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &how);
    FBI_CUDNN_LINK(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, in[0]);
    if (in[1])
        FBI_CUDNN_LINK(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, in[1]);
    if (in[2])
        FBI_CUDNN_LINK(g, op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, in[2]);
    FBI_CUDNN_LINK(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out);
    FBI_CUDNN_SET(g, op, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_TYPE_FLOAT, 1, &one);
    FBI_CUDNN_SET(g, op, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, CUDNN_TYPE_FLOAT, 1, &one);
    fbi_cudnn_add(g, op);
}

static fbi_cudnn_tensor *like(fbi_cudnn_graph *g, cudnnDataType_t type, const fbi_cudnn_tensor *x)
{
    return make(g, type, 0, false, x->dim, x->stride);
}

fbi_cudnn_tensor *fbi_cudnn_pointwise(fbi_cudnn_graph *g, cudnnPointwiseMode_t mode,
                                      fbi_cudnn_tensor *x, fbi_cudnn_tensor *b,
                                      fbi_cudnn_tensor *out)
{
    fbi_cudnn_tensor *const in[3] = {x, b, NULL};
    if (!out)
        out = like(g, CUDNN_DATA_FLOAT, x);
    pointwise(g, mode, CUDNN_DATA_FLOAT, 0, in, out);
    return out;
}

fbi_cudnn_tensor *fbi_cudnn_below(fbi_cudnn_graph *g, fbi_cudnn_tensor *x, float value)
{
    fbi_cudnn_tensor *row = like(g, CUDNN_DATA_INT32, x), *column = like(g, CUDNN_DATA_INT32, x);
    fbi_cudnn_tensor *inside = like(g, CUDNN_DATA_BOOLEAN, x), *y = like(g, CUDNN_DATA_FLOAT, x);
    fbi_cudnn_tensor *const of_x[3] = {x, NULL, NULL}, *const places[3] = {row, column, NULL};
    fbi_cudnn_tensor *const select[3] = {x, fbi_cudnn_scalar(g, value), inside};
    pointwise(g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, 2, of_x, row);
    pointwise(g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, 3, of_x, column);
    pointwise(g, CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN, 0, places, inside);
    pointwise(g, CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, 0, select, y);
    return y;
}

fbi_cudnn_tensor *fbi_cudnn_reduce(fbi_cudnn_graph *g, cudnnReduceTensorOp_t op,
                                   fbi_cudnn_tensor *x)
{
    fbi_cudnn_tensor *y =
        fbi_cudnn_packed(g, CUDNN_DATA_FLOAT, 0, x->dim[0], x->dim[1], x->dim[2], 1);
    fbi_cudnn_reduce_to(g, op, x, y);
    return y;
}

void fbi_cudnn_reduce_to(fbi_cudnn_graph *g, cudnnReduceTensorOp_t op, fbi_cudnn_tensor *x,
                         fbi_cudnn_tensor *y)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t how = FBI_CUDNN_NEW(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    FBI_CUDNN_SET(g, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    FBI_CUDNN_SET(g, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1,
                  &op);
    fbi_cudnn_finalize(g, how, "cudnnBackendFinalize of a reduction");
    cudnnBackendDescriptor_t d = FBI_CUDNN_NEW(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                  &how);
    FBI_CUDNN_LINK(g, d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    FBI_CUDNN_LINK(g, d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    fbi_cudnn_add(g, d);
}

void fbi_cudnn_matmul(fbi_cudnn_graph *g, fbi_cudnn_tensor *a, fbi_cudnn_tensor *b,
                      fbi_cudnn_tensor *out)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t how = FBI_CUDNN_NEW(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    FBI_CUDNN_SET(g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    fbi_cudnn_finalize(g, how, "cudnnBackendFinalize of a matrix product");
    cudnnBackendDescriptor_t op = FBI_CUDNN_NEW(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    FBI_CUDNN_LINK(g, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    FBI_CUDNN_LINK(g, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    FBI_CUDNN_LINK(g, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, out);
    FBI_CUDNN_SET(g, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &how);
    fbi_cudnn_add(g, op);
}

fbi_cudnn_tensor *fbi_cudnn_transposed(fbi_cudnn_graph *g, fbi_cudnn_tensor *x,
                                       cudnnDataType_t type)
{
    const int64_t dim[] = {x->dim[0], x->dim[1], x->dim[3], x->dim[2]};
    const int64_t stride[] = {x->stride[0], x->stride[1], x->stride[3], x->stride[2]};
    fbi_cudnn_tensor *y = make(g, type, 0, false, dim, stride);
    cudnnBackendDescriptor_t op = FBI_CUDNN_NEW(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    FBI_CUDNN_LINK(g, op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    FBI_CUDNN_LINK(g, op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    fbi_cudnn_add(g, op);
    return y;
}
