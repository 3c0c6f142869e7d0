/* The few calls that differ between oneDNN 2.6 and 3.x, with one text for both (dnn_v2.c,
 * dnn_v3.c). */
#ifndef FLAMBEAU_CORE_CPU_DNN_API_PRIV_H
#define FLAMBEAU_CORE_CPU_DNN_API_PRIV_H

#include <dnnl.h>

#include "core/cpu/dnn_priv.h"

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t fbi_md;
typedef const_dnnl_memory_desc_t fbi_cmd;
#else
typedef dnnl_memory_desc_t *fbi_md; /* malloc, see fbi_md_free */
typedef const dnnl_memory_desc_t *fbi_cmd;
#endif

/* NULL: the arguments make no sense to oneDNN. */
fbi_md fbi_md_of(dnnl_data_type_t type, int n, const int64_t *dims, const int64_t *strides);
/* F32. */
static inline fbi_md fbi_md_strided(int n, const int64_t *dims, const int64_t *strides)
{
    return fbi_md_of(dnnl_f32, n, dims, strides);
}
/* F32, layout chosen by the primitive. */
fbi_md fbi_md_any(int n, const int64_t *dims);
void fbi_md_free(fbi_md m);

dnnl_status_t fbi_post_sum(dnnl_post_ops_t p);

/* bias may be NULL; hint is the forward primitive's descriptor for the two backward kinds. */
typedef struct fbi_pd_conv_args {
    fbi_cmd src, weight, bias, dst;
    const int64_t *stride, *dilation, *padding;
    dnnl_primitive_desc_t hint;
    const_dnnl_primitive_attr_t attr;
} fbi_pd_conv_args;
dnnl_status_t fbi_pd_conv(dnnl_primitive_desc_t *pd, dnnl_engine_t e, fbi_conv_kind kind,
                          const fbi_pd_conv_args *p);
/* bias may be NULL. */
dnnl_status_t fbi_pd_matmul(dnnl_primitive_desc_t *pd, dnnl_engine_t e, fbi_cmd src, fbi_cmd weight,
                            fbi_cmd bias, fbi_cmd dst, const_dnnl_primitive_attr_t attr);

#endif
