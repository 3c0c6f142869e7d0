/* ranks: 1 2 */
/* ResNet-18, narrow, on little images: custom modules, batch norm, modes, a schedule by epochs,
 * checkpoints, several ranks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { IMAGES = 48, SIDE = 16, WIDTH = 4, CLASSES = 3, EPOCHS = 10, BATCH = 16 };

/* --- the network --- */

typedef struct block {
    fb_module *conv1, *bn1, *conv2, *bn2, *downsample;
} block;

static const fb_field block_fields[] = {FB_CHILD(block, conv1),      FB_CHILD(block, bn1),
                                        FB_CHILD(block, conv2),      FB_CHILD(block, bn2),
                                        FB_CHILD(block, downsample), {0}};

static fb_tensor *block_forward(fb_module *m, fb_tensor *x)
{
    block *b = fb_nn_self(m);
    fb_tensor *y = fb_nn_forward(b->bn1, fb_nn_forward(b->conv1, x)), *sum = NULL;
    y = fb_nn_forward(b->conv2, y);
    fb_tensor *input = b->downsample ? fb_nn_forward(b->downsample, x) : x;
    fb_nn_forward_n(b->bn2, FB_TENSORS(y, input), FB_OUTS(&sum));
    return sum;
}

static const fb_module_type block_type = {
    .name = "BasicBlock", .size = sizeof(block), .fields = block_fields, .forward = block_forward};

static fb_module *conv(fb_context *c, int64_t in, int64_t out, int64_t k, int64_t stride)
{
    return fb_nn_conv2d(
        c, in, out, k,
        FB_OPTS(fb_conv_options, .stride = {stride}, .padding = {k / 2}, .no_bias = true));
}

static fb_module *block_open(fb_context *c, int64_t in, int64_t out, int64_t stride)
{
    const fb_norm_options relu = {.relu = true};
    block b = {.conv1 = conv(c, in, out, 3, stride),
               .bn1 = fb_nn_batch_norm2d(c, out, &relu),
               .conv2 = conv(c, out, out, 3, 1),
               .bn2 = fb_nn_batch_norm2d(c, out, &relu)};
    if (stride != 1 || in != out)
        b.downsample =
            fb_nn_sequential(c, conv(c, in, out, 1, stride), fb_nn_batch_norm2d(c, out, NULL));
    return fb_nn_new(c, &block_type, &b);
}

static fb_module *layer(fb_context *c, int64_t in, int64_t out, int64_t stride)
{
    return fb_nn_sequential(c, block_open(c, in, out, stride), block_open(c, out, out, 1));
}

static fb_module *resnet18(fb_context *c)
{
    const int64_t w = WIDTH;
    return fb_nn_sequential(c, conv(c, 3, w, 7, 2), fb_nn_batch_norm2d(c, w, NULL), fb_nn_relu(c),
                            layer(c, w, w, 1), layer(c, w, 2 * w, 2), layer(c, 2 * w, 4 * w, 2),
                            layer(c, 4 * w, 8 * w, 2), fb_nn_adaptive_avg_pool2d(c, 1, 1),
                            fb_nn_flatten(c), fb_nn_linear(c, 8 * w, CLASSES, NULL));
}

/* --- the images: a stripe of each class's own colour, and noise --- */

static int read_image(void *user, int64_t i, void *const *out)
{
    float *x = out[0];
    (void)user;
    for (int k = 0; k < 3 * SIDE * SIDE; k++)
        x[k] = 0.3F * sinf((float)(i * 977 + k * 31)) + (float)(k / (SIDE * SIDE) == i % CLASSES);
    *(int64_t *)out[1] = i % CLASSES;
    return 0;
}

static fb_loader *open_loader(fb_world *w, bool shuffle)
{
    fb_dataset_field fields[] = {
        {.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(3, SIDE, SIDE)},
        {.name = "target", .dtype = FB_I64, .shape = FB_SCALAR}};
    fb_context *c = fb_world_context(w);
    fb_dataset *ds = fb_dataset_custom(c, IMAGES, fields, 2, read_image, NULL);
    return fb_loader_open(fb_world_group(w), ds,
                          FB_OPTS(fb_loader_options, .global_batch = BATCH, .shuffle = shuffle));
}

/* --- training --- */

typedef struct run {
    fb_module *model;
    fb_optimizer *opt;
    fb_schedule *schedule;
    fb_loader *train, *val;
    fb_state *state;
    fb_meter *loss, *top1;
} run;

static run open_run(fb_world *w)
{
    fb_context *c = fb_world_context(w);
    run r = {.model = resnet18(c)};
    r.opt = fb_optim_sgd(c, r.model,
                         FB_OPTS(fb_sgd_options, .lr = .05, .momentum = .9, .weight_decay = 1e-4));
    r.schedule = fb_schedule_cosine(r.opt, EPOCHS, NULL);
    fb_ddp_attach(fb_world_group(w), r.model, NULL);
    r.train = open_loader(w, true);
    r.val = open_loader(w, false);
    r.loss = fb_meter_open(c, "loss");
    r.top1 = fb_meter_open(c, "top1");
    r.state = fb_state_open(c);
    fb_state_add(r.state, "model", r.model);
    fb_state_add(r.state, "opt", r.opt);
    fb_state_add(r.state, "schedule", r.schedule);
    fb_state_add(r.state, "train", r.train);
    return r;
}

static double train_epoch(fb_context *c, run *r)
{
    fb_batch b;
    fb_nn_train(r->model);
    while (fb_loader_next(r->train, &b)) {
        FB_SCOPE(c);
        fb_tensor *loss = fb_cross_entropy(fb_nn_forward(r->model, b.input), b.target, NULL);
        fb_backward(loss);
        fb_meter_add(r->loss, loss, (double)b.n);
        fb_optim_step(r->opt);
    }
    fb_schedule_step(r->schedule);
    return fb_meter_mean(r->loss);
}

static double validate(fb_context *c, run *r)
{
    fb_batch b;
    fb_nn_eval(r->model);
    for (fb_loader_rewind(r->val); fb_loader_next(r->val, &b);) {
        FB_SCOPE(c);
        fb_no_grad(c);
        fb_tensor *hit = fb_eq(fb_argmax(fb_nn_forward(r->model, b.input), 1, false), b.target);
        fb_meter_add(r->top1, fb_mean(fb_to(hit, FB_F32), FB_ALL, false), (double)b.n);
    }
    return fb_meter_mean(r->top1);
}

/* A second program that starts where the checkpoint is. */
static double resumed_accuracy(fb_world *w, const char *dir)
{
    run r = open_run(w);
    fb_checkpoint_resume(w, dir, r.state);
    return validate(fb_world_context(w), &r);
}

int main(int argc, char **argv)
{
    fb_world *w = fb_world_open(&argc, &argv);
    fb_context *c = fb_world_context(w);
    const char *dir = fb_world_size(w) > 1 ? "resnet-runs-2" : "resnet-runs-1";
    run r = open_run(w);
    double first = NAN, last = NAN, top1 = NAN;
    while (fb_loader_epoch(r.train, EPOCHS)) {
        last = train_epoch(c, &r);
        if (isnan(first))
            first = last;
        top1 = validate(c, &r);
        fb_checkpoint_save(w, dir, r.state);
    }
    double again = resumed_accuracy(w, dir);
    expect(last < 0.5 * first, "the loss falls from %g to %g", first, last);
    expect(top1 > 0.8, "the accuracy is %g", top1);
    expect(again == top1, "so it is from the checkpoint: %g", again);
    if (fb_world_root(w) &&
        system(fb_world_size(w) > 1 ? "rm -rf resnet-runs-2" : "rm -rf resnet-runs-1"))
        failures++;
    return fb_world_close(w) || failures;
}
