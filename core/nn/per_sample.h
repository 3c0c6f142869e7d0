/* The gradient of each sample of a batch. */
#ifndef FLAMBEAU_CORE_NN_PER_SAMPLE_H
#define FLAMBEAU_CORE_NN_PER_SAMPLE_H

#include <flambeau/core/nn/module.h>

FB_BEGIN

/** The loss of one sample, one number: `sample` has the tensors of the batch, each with a first
 * dimension of 1. */
typedef fb_tensor *(*fb_sample_loss_fn)(fb_module *m, fb_tensors sample, void *user);

/**
 * Gradients of the loss of each sample with respect to each parameter of a module; gradients that
 * have accumulated stay what they are. torch.func.vmap of grad; for clipping by sample (Abadi et
 * al.: Deep Learning with Differential Privacy, arXiv:1607.00133), influence and noise scales.
 *
 * Costs a forward and a backward of one sample for each sample, and memory for `batch` times the
 * parameters. Random operators draw anew for each sample.
 *
 * @param batch tensors [batch, ...] of equal first dimension
 * @param n     of parameters, as fb_nn_each_param counts them; `grads` has so many places
 * @param grads grads[k]: [batch, sizes of parameter k], in the order of fb_nn_each_param and in the
 *              innermost scope; NULL for a parameter that wants no gradient, all NULL after an
 * error
 * @return FB_OK; FB_E_ARG for another number of parameters or a NULL, FB_E_SHAPE for batches that
 *         differ or a loss of several elements, FB_E_STATE if a batch norm is in training: it mixes
 *         samples
 */
FB_API fb_status fb_nn_sample_gradients(fb_module *m, fb_sample_loss_fn loss, void *user,
                                        fb_tensors batch, int n, fb_tensor **grads);

FB_END
#endif
