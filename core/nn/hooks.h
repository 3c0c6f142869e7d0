/* Hooks on modules: functions that see, and may change, what goes through them. */
#ifndef FLAMBEAU_CORE_NN_HOOKS_H
#define FLAMBEAU_CORE_NN_HOOKS_H

#include <flambeau/core/nn/module.h>

FB_BEGIN

/*
 * As those of torch.nn.Module. A hook runs in every call of the module by fb_nn_forward,
 * fb_nn_forward_n and fb_nn_call (which has no inputs to show), in the order in which hooks were
 * set, until it is removed. To change a tensor, put another one in its place in the array; hooks
 * after it see that one. A status other than FB_OK ends the call, or the backward, with the
 * module's name.
 *
 * Hooks end with their module and must not be removed after that; clones have none. Setting one
 * fails, with NULL: FB_E_ARG, FB_E_NOMEM. A Sequential does not join two layers into one operator
 * while one of them has hooks.
 */

typedef struct fb_nn_hook fb_nn_hook;

/** Before forward, with its inputs; they may be replaced. */
typedef fb_status (*fb_nn_pre_hook_fn)(fb_module *m, fb_tensor **in, int n_in, void *user);
/** After forward, with what it got and what it gave; outputs may be replaced. */
typedef fb_status (*fb_nn_forward_hook_fn)(fb_module *m, fb_tensors in, fb_tensor **out, int n_out,
                                           void *user);
/** In backward, with the gradients of the outputs (NULL: none has come), which may be replaced. */
typedef fb_status (*fb_nn_backward_pre_hook_fn)(fb_module *m, fb_tensor **grad_out, int n_out,
                                                void *user);
/**
 * In backward, once the gradients of the inputs are there (NULL where an input wants none); they
 * may be replaced. If no input wants one it runs with the gradients of the outputs.
 */
typedef fb_status (*fb_nn_backward_hook_fn)(fb_module *m, fb_tensor **grad_in, int n_in,
                                            fb_tensors grad_out, void *user);

/** register_forward_pre_hook. */
FB_API fb_nn_hook *fb_nn_hook_forward_pre(fb_module *m, fb_nn_pre_hook_fn fn, void *user);
/** register_forward_hook. */
FB_API fb_nn_hook *fb_nn_hook_forward(fb_module *m, fb_nn_forward_hook_fn fn, void *user);
/**
 * register_full_backward_pre_hook. It and fb_nn_hook_backward concern calls made while at least one
 * of them is set. Such a call hands other handles on the same memory to forward and to its caller,
 * which must not be changed in place while recording.
 */
FB_API fb_nn_hook *fb_nn_hook_backward_pre(fb_module *m, fb_nn_backward_pre_hook_fn fn, void *user);
/** register_full_backward_hook. */
FB_API fb_nn_hook *fb_nn_hook_backward(fb_module *m, fb_nn_backward_hook_fn fn, void *user);
/** End a hook, also from within it. NULL is allowed. */
FB_API void fb_nn_hook_remove(fb_nn_hook *hook);

FB_END
#endif
