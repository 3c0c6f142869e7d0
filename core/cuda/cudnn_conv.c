/* A convolution or one of its gradients as a cuDNN graph. */
#include "core/cuda/cudnn_priv.h"

/* Of logical sizes [n, c, h, w], with the channels last in memory. */
static fbi_cudnn_tensor *image(fbi_cudnn_graph *g, cudnnDataType_t type, int64_t id, int64_t n,
                               int64_t c, int64_t h, int64_t w)
{
    const int64_t dim[] = {n, c, h, w}, stride[] = {h * w * c, 1, w * c, c};
    return fbi_cudnn_tensor_new(g, type, id, dim, stride);
}

static cudnnBackendDescriptor_t how(fbi_cudnn_graph *g, const fbi_dnn_conv *c)
{
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    const int64_t two = 2;
    cudnnBackendDescriptor_t d = FBI_CUDNN_NEW(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, c->pad);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, c->pad);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, c->dil);
    FBI_CUDNN_SET(g, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, c->stride);
    fbi_cudnn_finalize(g, d, "cudnnBackendFinalize of a convolution");
    return d;
}

/* The three operations differ in the names of their attributes only. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, how, alpha, beta;
} names[] = {
    [FBI_DNN_CONV] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [FBI_DNN_CONV_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [FBI_DNN_CONV_WEIGHT] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

void fbi_cudnn_conv(fbi_cudnn_graph *g, const fbi_dnn_problem *p)
{
    /* 1 + places of operands, by kind: x, w, y */
    static const int64_t ids[][3] = {[FBI_DNN_CONV] = {1, 2, 4},
                                     [FBI_DNN_CONV_DATA] = {3, 1, 2},
                                     [FBI_DNN_CONV_WEIGHT] = {1, 3, 2}};
    const fbi_dnn_conv *c = &p->u.conv;
    const int64_t *id = ids[p->kind];
    const float one = 1, zero = 0;
    const char *call = "cudnnBackendSetAttribute of a convolution";
    cudnnDataType_t type = fbi_cudnn_type(p->dtype);
    fbi_cudnn_tensor *x = image(g, type, id[0], c->n, c->c, c->h, c->w);
    fbi_cudnn_tensor *w = image(g, type, id[1], c->k, c->c / c->groups, c->r, c->s);
    fbi_cudnn_tensor *y = image(g, type, id[2], c->n, c->k, c->oh, c->ow), *sum = y;
    if (c->bias || c->relu) /* before the one rounding */
        sum = image(g, CUDNN_DATA_FLOAT, 0, c->n, c->k, c->oh, c->ow);
    cudnnBackendDescriptor_t d = how(g, c);
    cudnnBackendDescriptor_t op =
        fbi_cudnn_new(g, names[p->kind].type, "cudnnBackendCreateDescriptor of a convolution");
    fbi_cudnn_set(g, op, names[p->kind].x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x->descriptor, call);
    fbi_cudnn_set(g, op, names[p->kind].w, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w->descriptor, call);
    fbi_cudnn_set(g, op, names[p->kind].y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &sum->descriptor,
                  call);
    fbi_cudnn_set(g, op, names[p->kind].how, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &d, call);
    fbi_cudnn_set(g, op, names[p->kind].alpha, CUDNN_TYPE_FLOAT, 1, &one, call);
    fbi_cudnn_set(g, op, names[p->kind].beta, CUDNN_TYPE_FLOAT, 1, &zero, call);
    fbi_cudnn_add(g, op);
    if (c->bias)
        sum = fbi_cudnn_pointwise(g, CUDNN_POINTWISE_ADD, sum, image(g, type, 3, 1, c->k, 1, 1),
                                  c->relu ? NULL : y);
    if (c->relu)
        fbi_cudnn_pointwise(g, CUDNN_POINTWISE_RELU_FWD, sum, NULL, y);
}
