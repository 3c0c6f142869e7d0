/* Transfer: the backbone comes from a checkpoint of another task, its first layers stay, the rest
 * learns slowly, the new head quickly. */
#include <math.h>
#include <stdlib.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { N = 32, INPUTS = 6 };

typedef struct net {
    fb_module *layer1, *norm1, *layer2, *head;
} net;

static const fb_field net_fields[] = {
    FB_CHILD(net, layer1), FB_CHILD(net, norm1), FB_CHILD(net, layer2), FB_CHILD(net, head), {0}};

static fb_tensor *net_forward(fb_module *m, fb_tensor *x)
{
    net *n = fb_nn_self(m);
    x = fb_relu(fb_nn_forward(n->norm1, fb_nn_forward(n->layer1, x)));
    x = fb_relu(fb_nn_forward(n->layer2, x));
    return n->head ? fb_nn_forward(n->head, x) : x;
}

static const fb_module_type net_type = {
    .name = "Net", .size = sizeof(net), .fields = net_fields, .forward = net_forward};

static fb_module *net_open(fb_context *c, int64_t classes)
{
    net n = {.layer1 = fb_nn_linear(c, INPUTS, 16, NULL),
             .norm1 = fb_nn_batch_norm1d(c, 16, NULL),
             .layer2 = fb_nn_linear(c, 16, 16, NULL),
             .head = fb_nn_linear(c, 16, classes, NULL)};
    return fb_nn_new(c, &net_type, &n);
}

static double train(fb_context *c, fb_module *m, fb_optimizer *opt, fb_tensor *x, fb_tensor *y,
                    int steps)
{
    double loss = NAN;
    fb_nn_train(m);
    for (int i = 0; i < steps; i++) {
        FB_SCOPE(c);
        fb_tensor *l = fb_cross_entropy(fb_nn_forward(m, x), y, NULL);
        fb_backward(l);
        fb_optim_step(opt);
        loss = fb_item(l);
    }
    return loss;
}

/* Largest change of a parameter or buffer. */
static double moved(fb_tensor *now, fb_tensor *before)
{
    return fb_item(fb_max(fb_abs(fb_sub(fb_detach(now), before))));
}

int main(int argc, char **argv)
{
    fb_world *w = fb_world_open(&argc, &argv);
    fb_context *c = fb_world_context(w);
    fb_tensor *x = fb_randn(c, FB_F32, FB_SHAPE(N, INPUTS));
    fb_tensor *old = fb_randint(c, 0, 5, FB_SHAPE(N)), *fresh = fb_randint(c, 0, 3, FB_SHAPE(N));

    /* The other task, of five classes. Each part is an entry of its own. */
    fb_module *first = net_open(c, 5);
    train(c, first, fb_optim_adam(c, first, FB_OPTS(fb_adam_options, .lr = 0.01)), x, old, 30);
    static const char *const parts[] = {"layer1", "norm1", "layer2"};
    fb_state *saved = fb_state_open(c), *wanted = fb_state_open(c);
    for (int i = 0; i < 3; i++)
        fb_state_add(saved, parts[i], fb_nn_find(first, parts[i]));
    fb_state_add(saved, "head", fb_nn_find(first, "head"));
    fb_checkpoint_save(w, "transfer-runs", saved);

    /* This one, of three. */
    fb_module *m = net_open(c, 3);
    for (int i = 0; i < 3; i++)
        fb_state_add(wanted, parts[i], fb_nn_find(m, parts[i]));
    fb_checkpoint_resume(w, "transfer-runs", wanted);
    fb_tensor *weight1 = fb_nn_param(m, "layer1.weight"),
              *weight2 = fb_nn_param(m, "layer2.weight");
    fb_tensor *head = fb_nn_param(m, "head.weight"), *mean = fb_nn_param(m, "norm1.running_mean");
    expect(moved(weight1, fb_nn_param(first, "layer1.weight")) == 0, "the backbone is the other's");

    fb_nn_freeze(m, "layer1.*");
    fb_nn_freeze(m, "norm1.*"); /* and its statistics stay as they are */
    fb_optimizer *opt = fb_optim_sgd(c, m, FB_OPTS(fb_sgd_options, .lr = 0.2));
    fb_optim_rule(opt, "layer*", FB_OPTS(fb_group_options, .lr_scale = 0.1));
    fb_tensor *before[] = {fb_clone(fb_detach(weight1)), fb_clone(fb_detach(weight2)),
                           fb_clone(fb_detach(head)), fb_clone(fb_detach(mean))};
    double loss = train(c, m, opt, x, fresh, 1);
    double slow = moved(weight2, before[1]) / fb_item(fb_max(fb_abs(fb_grad_of(weight2))));
    double quick = moved(head, before[2]) / fb_item(fb_max(fb_abs(fb_grad_of(head))));
    expect(fabs(slow - 0.02) < 1e-4 && fabs(quick - 0.2) < 1e-3,
           "rates are 0.02 for the backbone and 0.2 for the head: %g, %g", slow, quick);
    double last = train(c, m, opt, x, fresh, 200);
    expect(last < 0.5 * loss, "the loss falls from %g to %g", loss, last);
    expect(moved(weight1, before[0]) == 0 && moved(mean, before[3]) == 0,
           "what is frozen has not moved");
    if (system("rm -rf transfer-runs"))
        failures++;
    return fb_world_close(w) || failures;
}
