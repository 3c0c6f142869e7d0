/* DCGAN on little images: two networks, two optimizers, one graph through both; noise differs from
 * step to step; what one learns leaves the other as it is. */
#include <math.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { N = 64, SIDE = 8, NOISE = 8, WIDTH = 8, BATCH = 16, EPOCHS = 40 };

/* A bright square in the middle, on a dark ground, with some noise. */
static int read_image(void *user, int64_t i, void *const *out)
{
    float *x = out[0];
    (void)user;
    for (int k = 0; k < SIDE * SIDE; k++) {
        int row = k / SIDE, column = k % SIDE;
        bool inside = row >= 2 && row < 6 && column >= 2 && column < 6;
        x[k] = (inside ? 0.8F : -0.8F) + 0.1F * sinf((float)(i * 131 + k * 17));
    }
    return 0;
}

static fb_module *make_g(fb_context *c)
{
    const fb_conv_options *twice = FB_OPTS(fb_conv_options, .stride = {2}, .padding = {1});
    return fb_nn_sequential(c, fb_nn_conv_transpose2d(c, NOISE, 2 * WIDTH, 2, NULL),
                            fb_nn_batch_norm2d(c, 2 * WIDTH, NULL), fb_nn_relu(c),
                            fb_nn_conv_transpose2d(c, 2 * WIDTH, WIDTH, 4, twice),
                            fb_nn_batch_norm2d(c, WIDTH, NULL), fb_nn_relu(c),
                            fb_nn_conv_transpose2d(c, WIDTH, 1, 4, twice), fb_nn_tanh(c));
}

static fb_module *make_d(fb_context *c)
{
    const fb_conv_options *half = FB_OPTS(fb_conv_options, .stride = {2}, .padding = {1});
    return fb_nn_sequential(c, fb_nn_conv2d(c, 1, WIDTH, 4, half), fb_nn_leaky_relu(c, .2),
                            fb_nn_conv2d(c, WIDTH, 2 * WIDTH, 4, half), fb_nn_leaky_relu(c, .2),
                            fb_nn_flatten(c), fb_nn_linear(c, 2 * WIDTH * 4, 1, NULL));
}

static fb_tensor *judged(fb_module *d, fb_tensor *x, fb_tensor *as)
{
    return fb_binary_cross_entropy_with_logits(fb_flatten(fb_nn_forward(d, x), 0, 1), as, NULL,
                                               NULL, FB_LOSS_MEAN);
}

typedef struct gan {
    fb_module *g, *d;
    fb_optimizer *og, *od;
    double d_moved, g_moved; /* what the other one's step has changed */
} gan;

static double sum_of(fb_module *m, const char *name)
{
    return fb_item(fb_sum(fb_detach(fb_nn_param(m, name)), FB_ALL, false));
}

static void step(fb_context *c, gan *a, const fb_batch *b)
{
    fb_tensor *one = fb_full(c, FB_F32, FB_SHAPE(b->n), 1);
    fb_tensor *zero = fb_zeros(c, FB_F32, FB_SHAPE(b->n));
    fb_tensor *noise = fb_randn(c, FB_F32, FB_SHAPE(b->n, NOISE, 1, 1));
    fb_tensor *fake = fb_nn_forward(a->g, noise);

    double before = sum_of(a->g, "0.weight");
    fb_tensor *real_loss = judged(a->d, b->input, one); /* two calls, in an order */
    fb_backward(fb_add(real_loss, judged(a->d, fb_detach(fake), zero)));
    fb_optim_step(a->od);
    a->g_moved += fabs(sum_of(a->g, "0.weight") - before);

    before = sum_of(a->d, "0.weight");
    fb_nn_requires_grad(a->d, "*", false);
    fb_backward(judged(a->d, fake, one));
    fb_optim_step(a->og);
    fb_nn_requires_grad(a->d, "*", true);
    a->d_moved += fabs(sum_of(a->d, "0.weight") - before);
}

/* Mean of the middle and of the ground of what the generator makes. */
static void look(fb_context *c, fb_module *g, double *middle, double *ground)
{
    FB_SCOPE(c);
    fb_no_grad(c);
    fb_tensor *x = fb_nn_forward(g, fb_randn(c, FB_F32, FB_SHAPE(32, NOISE, 1, 1)));
    fb_tensor *inside = fb_narrow(fb_narrow(x, 2, 2, 4), 3, 2, 4);
    *middle = fb_item(fb_mean(inside, FB_ALL, false));
    double all = fb_item(fb_sum(x, FB_ALL, false)), part = *middle * 32 * 16;
    *ground = (all - part) / (32 * (SIDE * SIDE - 16));
}

int main(void)
{
    fb_context *c = fb_context_open(NULL);
    gan a = {.g = make_g(c), .d = make_d(c)};
    fb_nn_init(a.g, "?.weight", fb_init_normal(0, .1));
    a.og = fb_optim_adam(c, a.g, FB_OPTS(fb_adam_options, .lr = 2e-3, .beta1 = .5));
    a.od = fb_optim_adam(c, a.d, FB_OPTS(fb_adam_options, .lr = 2e-3, .beta1 = FB_ZERO));
    fb_dataset_field field = {.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(1, SIDE, SIDE)};
    fb_loader *l =
        fb_loader_open(NULL, fb_dataset_custom(c, N, &field, 1, read_image, NULL),
                       FB_OPTS(fb_loader_options, .global_batch = BATCH, .shuffle = true));
    double middle, ground, first_middle, first_ground;
    look(c, a.g, &first_middle, &first_ground);
    while (fb_loader_epoch(l, EPOCHS)) {
        fb_batch b;
        while (fb_loader_next(l, &b)) {
            FB_SCOPE(c);
            step(c, &a, &b);
        }
    }
    look(c, a.g, &middle, &ground);
    expect(fabs(first_middle - first_ground) < 0.3, "at first nothing is to be seen: %g, %g",
           first_middle, first_ground);
    expect(middle > 0.4 && ground < -0.4, "in the end a bright square: %g on %g", middle, ground);
    expect(a.d_moved == 0 && a.g_moved == 0, "neither step moves the other's network");
    return fb_context_close(c) || failures;
}
