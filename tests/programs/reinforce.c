/* REINFORCE: episodes of a walk; a policy learns to go right. */
#include <flambeau/flambeau.h>

#include "expect.h"

enum { ACTIONS = 2, LONGEST = 20, EPISODES = 150, GOAL = 4 };

/* A walk on -GOAL .. GOAL: +1 at the right end, -1 at the left one, -0.05 a step. */
typedef struct env {
    double at;
} env;

static void env_reset(env *e)
{
    e->at = 0;
}

static bool env_step(env *e, int action, double *reward)
{
    e->at += action ? -1 : 1;
    bool over = e->at >= GOAL || e->at <= -GOAL;
    *reward = over ? (e->at > 0 ? 1 : -1) : -0.05;
    return !over;
}

/* One episode, and a step on it. @return its reward */
static double episode(fb_context *c, fb_module *policy, fb_optimizer *opt)
{
    FB_SCOPE(c);
    fb_tensor *logp[LONGEST];
    float value[LONGEST];
    double reward[LONGEST], total = 0;
    int n = 0;
    env e;
    bool on = true;
    for (env_reset(&e); on && n < LONGEST && fb_ok(c); n++) {
        FB_SCOPE(c);
        fb_tensor *state = fb_to(fb_from(c, FB_F64, FB_SHAPE(1, 1), &e.at), FB_F32);
        fb_tensor *lp = fb_log_softmax(fb_nn_forward(policy, state), 1);
        fb_tensor *action = fb_multinomial(fb_exp(fb_detach(lp)), 1, false);
        logp[n] = fb_keep(fb_gather(lp, 1, action));
        on = env_step(&e, (int)fb_item_int(action), &reward[n]);
        total += reward[n];
    }
    for (int i = n - 1; i >= 0; i--)
        value[i] = (float)reward[i] + (i + 1 < n ? .97f * value[i + 1] : 0);
    fb_tensor *returns = fb_from(c, FB_F32, FB_SHAPE(n), value);
    fb_tensor *all = fb_flatten(fb_cat((fb_tensors){logp, n}, 0), 0, 1);
    fb_backward(fb_neg(fb_sum(fb_mul(all, returns), FB_ALL, false)));
    fb_optim_step(opt);
    return total;
}

int main(void)
{
    fb_context *c = fb_context_open(NULL);
    fb_module *policy = fb_nn_sequential(c, fb_nn_linear(c, 1, 8, NULL), fb_nn_tanh(c),
                                         fb_nn_linear(c, 8, ACTIONS, NULL));
    fb_optimizer *opt = fb_optim_adam(c, policy, FB_OPTS(fb_adam_options, .lr = 0.02));
    double first = 0, last = 0;
    fb_memory_stats early = {0}, late = {0};
    for (int i = 0; i < EPISODES && fb_ok(c); i++) {
        double reward = episode(c, policy, opt);
        first += i < 20 ? reward / 20 : 0;
        last += i >= EPISODES - 20 ? reward / 20 : 0;
        fb_memory_stats_of(c, i == 0 ? &early : &late);
    }
    expect(last > 0.7, "the reward of an episode rises from %g to %g (0.85 is the best)", first,
           last);
    expect(late.nodes == early.nodes && late.handles == early.handles,
           "no graph of an episode is left: %lld nodes, %lld handles", (long long)late.nodes,
           (long long)late.handles);
    return fb_error_take(c, NULL, 0) || fb_context_close(c) || failures;
}
