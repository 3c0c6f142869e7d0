/* oneDNN 2.6: operation descriptors, memory descriptors by value. */
#include "core/cpu/dnn_api_priv.h"

#include <stdlib.h>

fbi_md fbi_md_of(dnnl_data_type_t type, int n, const int64_t *dims, const int64_t *strides)
{
    fbi_md m = malloc(sizeof *m);
    if (m && dnnl_memory_desc_init_by_strides(m, n, dims, type, strides)) {
        free(m);
        m = NULL;
    }
    return m;
}

fbi_md fbi_md_any(int n, const int64_t *dims)
{
    fbi_md m = malloc(sizeof *m);
    if (m && dnnl_memory_desc_init_by_tag(m, n, dims, dnnl_f32, dnnl_format_tag_any)) {
        free(m);
        m = NULL;
    }
    return m;
}

void fbi_md_free(fbi_md m)
{
    free(m);
}

dnnl_status_t fbi_post_sum(dnnl_post_ops_t p)
{
    return dnnl_post_ops_append_sum(p, 1.0f);
}

dnnl_status_t fbi_pd_conv(dnnl_primitive_desc_t *pd, dnnl_engine_t e, fbi_conv_kind kind,
                          const fbi_pd_conv_args *p)
{
    dnnl_convolution_desc_t d;
    dnnl_alg_kind_t alg = dnnl_convolution_direct;
    dnnl_status_t st = dnnl_invalid_arguments;
    switch (kind) {
    case FBI_CONV_FWD:
        st = dnnl_dilated_convolution_forward_desc_init(&d, dnnl_forward_training, alg, p->src,
                                                        p->weight, p->bias, p->dst, p->stride,
                                                        p->dilation, p->padding, p->padding);
        break;
    case FBI_CONV_DATA:
        st = dnnl_dilated_convolution_backward_data_desc_init(
            &d, alg, p->src, p->weight, p->dst, p->stride, p->dilation, p->padding, p->padding);
        break;
    case FBI_CONV_WEIGHT:
        st = dnnl_dilated_convolution_backward_weights_desc_init(
            &d, alg, p->src, p->weight, p->bias, p->dst, p->stride, p->dilation, p->padding,
            p->padding);
        break;
    }
    return st ? st : dnnl_primitive_desc_create(pd, &d, p->attr, e, p->hint);
}

dnnl_status_t fbi_pd_matmul(dnnl_primitive_desc_t *pd, dnnl_engine_t e, fbi_cmd src, fbi_cmd weight,
                            fbi_cmd bias, fbi_cmd dst, const_dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    dnnl_status_t st = dnnl_matmul_desc_init(&d, src, weight, bias, dst);
    return st ? st : dnnl_primitive_desc_create(pd, &d, attr, e, NULL);
}
