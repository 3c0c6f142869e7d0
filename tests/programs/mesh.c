/* ranks: 1 2 4 */
/* Data x tensor parallelism by hand, as on Megatron's MLP: the columns of one layer and the rows of
 * the next are divided along one axis of a mesh, batches along the other. A process that trains the
 * whole model on whole batches comes to the same weights and the same mean loss. */
#include <math.h>
#include <string.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { N = 120, INPUTS = 6, HIDDEN = 16, BATCH = 16, EPOCHS = 3 };

static int read_sample(void *user, int64_t i, void *const *out)
{
    float *x = out[0], *y = out[1], sum = 0;
    (void)user;
    for (int k = 0; k < INPUTS; k++) {
        x[k] = sinf((float)((i + 1) * (k + 3)) * 12.9898F);
        sum += k % 2 ? -x[k] : x[k] * x[k];
    }
    *y = sum;
    return 0;
}

static fb_loader *open_loader(fb_context *c, fb_group *group)
{
    fb_dataset_field fields[] = {{.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(INPUTS)},
                                 {.name = "target", .dtype = FB_F32, .shape = FB_SHAPE(1)}};
    return fb_loader_open(group, fb_dataset_custom(c, N, fields, 2, read_sample, NULL),
                          FB_OPTS(fb_loader_options, .global_batch = BATCH, .shuffle = true));
}

/* --- a sum over the axis whose gradient is the same on all of its ranks already --- */

static fb_status sum_forward(fb_call *call, fb_tensors in, fb_tensor **out)
{
    fb_group *const *axis = fb_call_attrs(call);
    out[0] = fb_all_reduce(*axis, in.t[0], FB_SUM);
    return fb_status_of(fb_call_context(call));
}

static fb_status sum_backward(fb_call *call, fb_tensors grad_out, fb_tensor **grad_in)
{
    grad_in[0] = fb_clone(grad_out.t[0]);
    return fb_status_of(fb_call_context(call));
}

static fb_tensor *sum_over(fb_group *axis, fb_tensor *t)
{
    static const fb_function sum = {"sum_over", 1, sum_forward, sum_backward, false};
    fb_tensor *out = NULL;
    if (fb_function_apply(fb_context_of(t), &sum, &axis, sizeof(fb_group *), FB_TENSORS(t), &out))
        return NULL;
    return out;
}

/* --- the model, whole or this rank's part of it --- */

static fb_module *build(fb_context *c, int64_t hidden)
{
    const fb_linear_options *plain = FB_OPTS(fb_linear_options, .no_bias = true);
    return fb_nn_sequential(c, fb_nn_linear(c, INPUTS, hidden, plain), fb_nn_tanh(c),
                            fb_nn_linear(c, hidden, 1, plain));
}

/* This rank's rows of the first weight, and columns of the second. */
static fb_tensor *part_of(fb_module *whole, const char *name, fb_group *axis)
{
    int64_t n = HIDDEN / fb_group_size(axis);
    int dim = strcmp(name, "0.weight") == 0 ? 0 : 1;
    return fb_narrow(fb_nn_param(whole, name), dim, fb_group_rank(axis) * n, n);
}

static void train(fb_context *c, fb_module *m, fb_loader *l, fb_group *axis, fb_meter *mean)
{
    fb_optimizer *opt = fb_optim_sgd(c, m, FB_OPTS(fb_sgd_options, .lr = 0.1, .momentum = 0.9));
    while (fb_loader_epoch(l, EPOCHS)) {
        fb_batch b;
        while (fb_loader_next(l, &b)) {
            FB_SCOPE(c);
            fb_tensor *y = fb_nn_forward(m, b.input);
            fb_tensor *loss = fb_mse_loss(axis ? sum_over(axis, y) : y, b.target, NULL);
            fb_backward(loss);
            fb_meter_add(mean, loss, (double)b.n * (b.at.share > 0));
            fb_optim_step(opt);
        }
    }
}

/* The ranks of an axis read the same samples. */
static bool same_samples(fb_loader *l, fb_group *axis)
{
    fb_batch b;
    fb_object all[4] = {{0}};
    fb_loader_rewind(l);
    if (!fb_loader_next(l, &b))
        return false;
    int64_t n = 0;
    const int64_t *indices = fb_loader_indices(l, &n);
    bool same =
        fb_group_object_gather(axis, indices, (size_t)n * sizeof *indices, -1, all) == FB_OK;
    for (int r = 0; same && r < fb_group_size(axis); r++)
        same = all[r].bytes == all[0].bytes && memcmp(all[r].data, all[0].data, all[0].bytes) == 0;
    fb_objects_free(all, fb_group_size(axis));
    return same;
}

int main(int argc, char **argv)
{
    fb_world *w = fb_world_open_with(&argc, &argv, FB_OPTS(fb_world_options, .shards = 4));
    fb_context *c = fb_world_context(w);
    int tensor = fb_world_size(w) > 1 ? 2 : 1;
    fb_mesh *mesh = fb_mesh_open(w, (fb_axis[]){{"data", 0}, {"tensor", tensor}}, 2);
    fb_group *data = fb_mesh_group(mesh, "data"), *axis = fb_mesh_group(mesh, "tensor");
    fb_mesh_print(mesh);

    fb_module *whole = build(c, HIDDEN), *m = build(c, HIDDEN / tensor);
    static const char *const names[] = {"0.weight", "2.weight"};
    {
        FB_SCOPE(c);
        fb_no_grad(c);
        for (int i = 0; i < 2; i++)
            fb_copy_(fb_nn_param(m, names[i]), part_of(whole, names[i], axis));
    }
    fb_ddp_attach(data, m, NULL);
    fb_loader *l = open_loader(c, data);
    fb_meter *mean = fb_meter_open(c, "loss");
    train(c, m, l, axis, mean);
    double ours = fb_meter_mean(mean);
    expect(same_samples(l, axis), "ranks of the tensor axis read the same samples");

    fb_meter *whole_mean = fb_meter_open(c, "whole");
    fb_loader_close(l);
    train(c, whole, open_loader(c, NULL), NULL, whole_mean);
    double apart = 0, theirs = fb_meter_mean(whole_mean);
    for (int i = 0; i < 2; i++) {
        FB_SCOPE(c);
        fb_no_grad(c);
        apart = fmax(apart,
                     fb_item(fb_dist(fb_nn_param(m, names[i]), part_of(whole, names[i], axis), 2)));
    }
    expect(apart < 1e-4, "weights are those of the whole model: %g apart", apart);
    expect(fabs(ours - theirs) < 1e-5 * theirs, "so is the mean loss: %.7g and %.7g", ours, theirs);
    expect(fb_ok(c), "there was no error");
    return fb_world_close(w) || failures;
}
