/* Operators by name, for language bindings. */
#ifndef FLAMBEAU_CORE_OPS_OP_H
#define FLAMBEAU_CORE_OPS_OP_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** One attribute of a call. `shape` is read for shapes, `number` for everything else. */
typedef struct fb_attr {
    const char *name;
    double number;
    fb_shape shape;
} fb_attr;

typedef struct fb_op_description {
    const char *name;
    int n_in, n_out;
    bool variadic; /**< any number of inputs */
    bool has_gradient;
    int n_attrs;
} fb_op_description;

/** Number of operators that can be called by name. */
FB_API int fb_op_count(void);
/** The i-th of them; false beyond the end. */
FB_API bool fb_op_info(int i, fb_op_description *out);
/** Name of attribute k of operator i, NULL beyond the end; *is_shape says how it is given. */
FB_API const char *fb_op_attr(int i, int k, bool *is_shape);
/**
 * Call an operator by its name, or by another name that PyTorch has for it ("arcsin", "multiply",
 * "clip" ...). Attributes not given have their defaults; unknown ones are errors. NULL inputs
 * are allowed where the operator says optional. Fills out[0 .. n_out).
 */
FB_API fb_status fb_op_call(fb_context *ctx, const char *name, fb_tensors in, const fb_attr *attrs,
                            int n_attrs, fb_tensor **out);

FB_END
#endif
