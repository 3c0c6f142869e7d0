/* One training step on random data. */
#include <flambeau/flambeau.h>
#include <stdio.h>

int main(void)
{
    fb_context *ctx = fb_context_open(NULL);

    fb_module *model = fb_nn_sequential(ctx, fb_nn_linear(ctx, 10, 50, NULL), fb_nn_relu(ctx),
                                        fb_nn_linear(ctx, 50, 2, NULL));
    fb_optimizer *opt = fb_optim_adam(ctx, model, FB_OPTS(fb_adam_options, .lr = 1e-3));

    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(16, 10));
    fb_tensor *y = fb_randint(ctx, 0, 2, FB_SHAPE(16));

    fb_tensor *loss = fb_cross_entropy(fb_nn_forward(model, x), y, NULL);
    fb_backward(loss);
    fb_optim_step(opt);

    printf("loss %.4f\n", fb_item(loss));
    return fb_context_close(ctx); /* prints the first error, if any; frees everything */
}
