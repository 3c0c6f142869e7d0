/* Custom functions: user code with its own backward. */
#ifndef FLAMBEAU_CORE_AUTOGRAD_FUNCTION_H
#define FLAMBEAU_CORE_AUTOGRAD_FUNCTION_H

#include <flambeau/core/autograd/autograd.h>

FB_BEGIN

typedef struct fb_call fb_call;

/** Callbacks run in a scope of their own; they return a status and fill the outputs. */
typedef struct fb_function {
    const char *name;
    int n_out;
    fb_status (*forward)(fb_call *call, fb_tensors in, fb_tensor **out);
    /** grad_in[i] may stay NULL where fb_call_needs(call, i) is false. */
    fb_status (*backward)(fb_call *call, fb_tensors grad_out, fb_tensor **grad_in);
    bool once_differentiable; /**< create_graph is refused with a message */
} fb_function;

/** Apply fn to `in`; `attrs` is copied. Under create_graph, backward must use operators only. */
FB_API fb_status fb_function_apply(fb_context *ctx, const fb_function *fn, const void *attrs,
                                   size_t attrs_size, fb_tensors in, fb_tensor **out);
/** The copy of the attributes given to fb_function_apply. */
FB_API const void *fb_call_attrs(fb_call *call);
/** The context of the inputs. */
FB_API fb_context *fb_call_context(fb_call *call);
/** Keep a tensor for backward, slots 0..7. */
FB_API fb_status fb_call_save(fb_call *call, int slot, fb_tensor *t);
/** What was kept in a slot, in backward. NULL: FB_E_STATE if it was changed in place since. */
FB_API fb_tensor *fb_call_saved(fb_call *call, int slot);
/** Whether the gradient of an input is wanted. */
FB_API bool fb_call_needs(const fb_call *call, int input);

FB_END
#endif
