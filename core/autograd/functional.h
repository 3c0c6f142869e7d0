/* Derivatives of functions: Jacobians, Hessians and their products with vectors. */
#ifndef FLAMBEAU_CORE_AUTOGRAD_FUNCTIONAL_H
#define FLAMBEAU_CORE_AUTOGRAD_FUNCTIONAL_H

#include <flambeau/core/autograd/autograd.h>

FB_BEGIN

/*
 * All take a function of tensors, fn(user, in, out), that fills out[0 .. n_out), and a point `in`:
 * floating tensors, each of which counts as a leaf there, whatever it is. fn is called once, while
 * recording even under fb_no_grad, and must not depend on anything but its inputs (and constants).
 * Results are in the innermost scope; where an output does not depend on an input they are 0.
 *
 * Errors: FB_E_ARG for no inputs, outputs or a NULL among them, FB_E_DTYPE for an input that has no
 * derivative, FB_E_SHAPE where a function must give one number, for a vector unlike its tensor, and
 * for a result of more than 8 dimensions; FB_E_STATE in strict mode; whatever fn reports. Results
 * are NULL then. torch.autograd.functional.
 */

typedef struct fb_functional_options {
    bool create_graph; /**< results can be differentiated with respect to `in` (and whatever else fn
                            used that requires a gradient) */
    bool strict; /**< an output that does not depend on an input is an error; with create_graph,
                      a derivative that does not, too */
} fb_functional_options;

/**
 * Derivative of each output by each input, row by row: as many backwards as outputs have elements.
 *
 * @param jac [n_out * in.n]: jac[o * in.n + i] has the sizes of out[o], then those of in[i]
 */
FB_API fb_status fb_jacobian(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out,
                             const fb_functional_options *opts, fb_tensor **jac);
/**
 * Second derivatives of a function of one output with one element: as many backwards as inputs have
 * elements.
 *
 * @param hes [in.n * in.n]: hes[i * in.n + j] has the sizes of in[i], then those of in[j]
 */
FB_API fb_status fb_hessian(fb_checkpoint_fn fn, void *user, fb_tensors in,
                            const fb_functional_options *opts, fb_tensor **hes);
/**
 * v times the Jacobian: the gradients by the inputs of sum over o of <v[o], out[o]>. One backward.
 *
 * @param v     like the outputs; n = 0: 1, for one output of one element
 * @param out   [n_out] the outputs; NULL: not wanted
 * @param grads [in.n] like the inputs
 */
FB_API fb_status fb_vjp(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out, fb_tensors v,
                        const fb_functional_options *opts, fb_tensor **out, fb_tensor **grads);
/**
 * The Jacobian times v: how the outputs change along v. By two backwards, since the first is linear
 * in what it begins with; so everything in fn must be differentiable twice.
 *
 * @param v        like the inputs; n = 0: 1, for one input of one element
 * @param out      [n_out] the outputs; NULL: not wanted
 * @param tangents [n_out] like the outputs
 */
FB_API fb_status fb_jvp(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out, fb_tensors v,
                        const fb_functional_options *opts, fb_tensor **out, fb_tensor **tangents);
/**
 * The Hessian times v, of a function of one output with one element, as the gradient of <gradient,
 * v>: two backwards. That is v times the Hessian (torch's vhp), which is the same where the second
 * derivatives are continuous.
 *
 * @param v   like the inputs; n = 0: 1, for one input of one element
 * @param out the output; NULL: not wanted
 * @param hv  [in.n] like the inputs
 */
FB_API fb_status fb_hvp(fb_checkpoint_fn fn, void *user, fb_tensors in, fb_tensors v,
                        const fb_functional_options *opts, fb_tensor **out, fb_tensor **hv);

FB_END
#endif
