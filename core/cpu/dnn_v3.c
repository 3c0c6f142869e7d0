/* oneDNN 3.x: primitive descriptors in one call, opaque memory descriptors. */
#include "core/cpu/dnn_api_priv.h"

fbi_md fbi_md_of(dnnl_data_type_t type, int n, const int64_t *dims, const int64_t *strides)
{
    fbi_md m = NULL;
    return dnnl_memory_desc_create_with_strides(&m, n, dims, type, strides) ? NULL : m;
}

fbi_md fbi_md_any(int n, const int64_t *dims)
{
    fbi_md m = NULL;
    return dnnl_memory_desc_create_with_tag(&m, n, dims, dnnl_f32, dnnl_format_tag_any) ? NULL : m;
}

void fbi_md_free(fbi_md m)
{
    if (m)
        dnnl_memory_desc_destroy(m);
}

dnnl_status_t fbi_post_sum(dnnl_post_ops_t p)
{
    return dnnl_post_ops_append_sum(p, 1.0f, 0, dnnl_data_type_undef);
}

dnnl_status_t fbi_pd_conv(dnnl_primitive_desc_t *pd, dnnl_engine_t e, fbi_conv_kind kind,
                          const fbi_pd_conv_args *p)
{
    dnnl_alg_kind_t alg = dnnl_convolution_direct;
    switch (kind) {
    case FBI_CONV_FWD:
        return dnnl_convolution_forward_primitive_desc_create(
            pd, e, dnnl_forward_training, alg, p->src, p->weight, p->bias, p->dst, p->stride,
            p->dilation, p->padding, p->padding, p->attr);
    case FBI_CONV_DATA:
        return dnnl_convolution_backward_data_primitive_desc_create(
            pd, e, alg, p->src, p->weight, p->dst, p->stride, p->dilation, p->padding, p->padding,
            p->hint, p->attr);
    case FBI_CONV_WEIGHT:
        return dnnl_convolution_backward_weights_primitive_desc_create(
            pd, e, alg, p->src, p->weight, p->bias, p->dst, p->stride, p->dilation, p->padding,
            p->padding, p->hint, p->attr);
    }
    return dnnl_invalid_arguments;
}

dnnl_status_t fbi_pd_matmul(dnnl_primitive_desc_t *pd, dnnl_engine_t e, fbi_cmd src, fbi_cmd weight,
                            fbi_cmd bias, fbi_cmd dst, const_dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, e, src, weight, bias, dst, attr);
}
