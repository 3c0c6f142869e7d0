/* The penalty of WGAN-GP through a function of one's own: gradients of gradients. */
#include <math.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { N = 4, CHANNELS = 2, SIDE = 5 };

/* --- a function with a backward of its own --- */

static fb_status sin_forward(fb_call *k, fb_tensors in, fb_tensor **out)
{
    fb_call_save(k, 0, in.t[0]);
    out[0] = fb_sin(in.t[0]);
    return FB_OK;
}

static fb_status sin_backward(fb_call *k, fb_tensors g, fb_tensor **grad_in)
{
    if (fb_call_needs(k, 0))
        grad_in[0] = fb_mul(g.t[0], fb_cos(fb_call_saved(k, 0)));
    return FB_OK;
}

static const fb_function my_sin = {
    .name = "my_sin", .n_out = 1, .forward = sin_forward, .backward = sin_backward};

/* --- the penalty --- */

/* Mean of (|gradient of the critic at a point between real and fake| - 1)^2. */
static fb_tensor *penalty(fb_module *critic, fb_tensor *real, fb_tensor *fake, fb_tensor *a)
{
    fb_tensor *g = NULL, *y = NULL;
    fb_tensor *between = fb_add(fb_mul(a, real), fb_mul(fb_add_scalar(fb_neg(a), 1), fake));
    fb_tensor *x = fb_requires_grad(fb_detach(between), true);
    fb_function_apply(fb_context_of(x), &my_sin, NULL, 0, FB_TENSORS(fb_nn_forward(critic, x)), &y);
    fb_gradients(FB_TENSORS(fb_sum(y, FB_ALL, false)), FB_TENSORS(x),
                 FB_OPTS(fb_gradient_options, .create_graph = true), &g);
    fb_tensor *norm = fb_norm(fb_flatten(g, 1, -1), 2, FB_DIMS(1), false);
    return fb_mean(fb_pow_scalar(fb_add_scalar(norm, -1), 2), FB_ALL, false);
}

/* The same with a plain fb_sin. */
static fb_tensor *plain_penalty(fb_module *critic, fb_tensor *real)
{
    fb_tensor *g = NULL, *x = fb_requires_grad(fb_detach(real), true);
    fb_tensor *y = fb_sin(fb_nn_forward(critic, x));
    fb_gradients(FB_TENSORS(fb_sum(y, FB_ALL, false)), FB_TENSORS(x),
                 FB_OPTS(fb_gradient_options, .create_graph = true), &g);
    fb_tensor *norm = fb_norm(fb_flatten(g, 1, -1), 2, FB_DIMS(1), false);
    return fb_mean(fb_pow_scalar(fb_add_scalar(norm, -1), 2), FB_ALL, false);
}

int main(void)
{
    fb_context *c = fb_context_open(NULL);
    fb_module *critic = fb_nn_sequential(
        c, fb_nn_conv2d(c, CHANNELS, 3, 3, FB_OPTS(fb_conv_options, .padding = {1})), fb_nn_tanh(c),
        fb_nn_flatten(c), fb_nn_linear(c, 3 * SIDE * SIDE, 1, NULL));
    fb_shape shape = FB_SHAPE(N, CHANNELS, SIDE, SIDE);
    fb_tensor *real = fb_randn(c, FB_F32, shape), *fake = fb_randn(c, FB_F32, shape);
    fb_tensor *a = fb_rand(c, FB_F32, FB_SHAPE(N, 1, 1, 1));

    /* The gradient with respect to a weight, by the graph and by a difference. */
    fb_tensor *w = fb_nn_param(critic, "3.weight");
    fb_backward(penalty(critic, real, fake, a));
    double slope = 0, h = 1e-3, up, down;
    fb_tensor *direction = fb_sign(fb_grad_of(w));
    slope = fb_item(fb_sum(fb_mul(fb_grad_of(w), direction), FB_ALL, false));
    fb_tensor *step = fb_mul_scalar(direction, h);
    {
        FB_SCOPE(c);
        fb_no_grad(c);
        fb_copy_(w, fb_add(w, step));
    }
    up = fb_item(penalty(critic, real, fake, a));
    {
        FB_SCOPE(c);
        fb_no_grad(c);
        fb_copy_(w, fb_sub(w, fb_mul_scalar(step, 2)));
    }
    down = fb_item(penalty(critic, real, fake, a));
    double difference = (up - down) / (2 * h);
    expect(fabs(difference - slope) < 0.02 * fabs(slope),
           "the penalty's slope is %g, by a difference %g", slope, difference);

    /* With a = 1 the point is the real one: no function of one's own gives the same. */
    double mine = fb_item(penalty(critic, real, fake, fb_ones(c, FB_F32, FB_SHAPE(N, 1, 1, 1))));
    double plain = fb_item(plain_penalty(critic, real));
    expect(fabs(mine - plain) < 1e-6, "with sin's own backward and with ours: %g, %g", plain, mine);

    /* Trained on it the gradients get the norm 1. */
    fb_optimizer *opt = fb_optim_adam(c, critic, FB_OPTS(fb_adam_options, .lr = 0.01));
    double first = fb_item(penalty(critic, real, fake, a));
    for (int i = 0; i < 60; i++) {
        FB_SCOPE(c);
        fb_optim_zero_grad(opt);
        fb_backward(penalty(critic, real, fake, a));
        fb_optim_step(opt);
    }
    double last = fb_item(penalty(critic, real, fake, a));
    expect(last < 0.2 * first, "the penalty falls from %g to %g", first, last);
    return fb_context_close(c) || failures;
}
