/* Micro-batches, mixed precision, clipping, a scaler of losses and an average of the parameters,
 * which is better than the noisy parameters themselves. */
#include <math.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { N = 256, INPUTS = 8 };

/* y = x . (1, -1, 1, -1, ...) + noise */
static int read_sample(void *user, int64_t i, void *const *out)
{
    float *x = out[0], *y = out[1], sum = 0;
    (void)user;
    for (int k = 0; k < INPUTS; k++) {
        x[k] = sinf((float)((i + 1) * (k + 3)) * 12.9898F);
        sum += k % 2 ? -x[k] : x[k];
    }
    *y = sum + sinf((float)i * 78.233F) * 2;
    return 0;
}

static fb_loader *open_loader(fb_context *c, int64_t batch, int64_t micro)
{
    fb_dataset_field fields[] = {{.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(INPUTS)},
                                 {.name = "target", .dtype = FB_F32, .shape = FB_SHAPE(1)}};
    return fb_loader_open(
        NULL, fb_dataset_custom(c, N, fields, 2, read_sample, NULL),
        FB_OPTS(fb_loader_options, .global_batch = batch, .micro_batch = micro, .shuffle = true));
}

static fb_tensor *loss_of(fb_module *m, const fb_batch *b)
{
    return fb_mse_loss(fb_nn_forward(m, b->input), b->target, NULL);
}

/* Distance of the weights from what made the data. */
static double distance(fb_module *m)
{
    float w[INPUTS];
    double sum = 0;
    fb_read(fb_nn_param(m, "weight"), w, sizeof w);
    for (int k = 0; k < INPUTS; k++)
        sum += pow((double)w[k] - (k % 2 ? -1 : 1), 2);
    return sqrt(sum);
}

static fb_ema *train(fb_context *c, fb_loader *l, fb_module *m, fb_optimizer *opt, int *passes)
{
    fb_optim_clip_norm(opt, 1.0);
    fb_scaler *scaler = fb_optim_scaler(opt, NULL);
    fb_ema *ema = fb_ema_open(m, .95);
    fb_meter *mean = fb_meter_open(c, "loss");
    double largest = 0;
    while (fb_loader_epoch(l, 20)) {
        fb_batch b;
        while (fb_loader_next(l, &b)) {
            FB_SCOPE(c);
            fb_tensor *loss;
            {
                FB_SCOPE(c);
                fb_autocast(c, FB_BF16);
                loss = fb_keep(loss_of(m, &b));
            }
            fb_backward(loss); /* scaled by this micro-batch's share; the loader told the context */
            fb_meter_add(mean, loss, (double)b.n);
            fb_optim_step(opt); /* acts after the last micro-batch of a step */
            fb_ema_update(ema); /* likewise */
            ++*passes;
        }
        largest = fmax(largest, fb_optim_grad_norm(opt));
    }
    expect(largest > 0.5, "gradients were measured, the largest norm is %g", largest);
    expect(fb_scaler_skipped(scaler) == 0, "no step overflowed");
    expect(isfinite(fb_meter_mean(mean)), "the loss is a number");
    fb_scaler_close(scaler);
    return ema;
}

int main(void)
{
    fb_context *c = fb_context_open(NULL);
    fb_module *m = fb_nn_linear(c, INPUTS, 1, NULL);
    fb_optimizer *opt = fb_optim_sgd(c, m, FB_OPTS(fb_sgd_options, .lr = 0.2));
    int passes = 0;
    double before = distance(m);
    fb_ema *ema = train(c, open_loader(c, 16, 5), m, opt, &passes);
    expect(passes == 20 * (N / 16) * 4, "16 samples are 4 micro-batches of 5, 5, 5 and 1: %d",
           passes);
    expect(fb_optim_steps(opt) == 20 * (N / 16), "%d steps", (int)fb_optim_steps(opt));
    double after = distance(m), average = distance(fb_ema_module(ema));
    expect(after < 0.5 * before, "the weights come nearer: %g, then %g", before, after);
    expect(average < after, "their average is nearer still: %g", average);

    /* One step over a batch is one over its parts. */
    fb_module *whole = fb_nn_clone(m), *parts = fb_nn_clone(m);
    for (int i = 0; i < 2; i++) {
        fb_module *copy = i ? parts : whole;
        fb_optimizer *sgd = fb_optim_sgd(c, copy, FB_OPTS(fb_sgd_options, .lr = 0.2));
        fb_loader *l = open_loader(c, N, i ? 37 : 0);
        fb_batch b;
        while (fb_loader_epoch(l, 1) && fb_loader_next(l, &b)) {
            FB_SCOPE(c);
            fb_backward(loss_of(copy, &b));
            fb_optim_step(sgd);
        }
    }
    double apart = fb_item(fb_dist(fb_nn_param(whole, "weight"), fb_nn_param(parts, "weight"), 2));
    expect(apart < 1e-6, "a batch and its parts give the same step: %g apart", apart);
    return fb_context_close(c) || failures;
}
