/* A character GPT on any text file: one process or many; writes a sample of its own at the end. */
#include <stdio.h>
#include <stdlib.h>

#include <flambeau/flambeau.h>

#include "../options.h"
#include "model.h"
#include "text.h"

typedef struct options {
    const char *path, *checkpoint;
    gpt_config model;
    int64_t batch, steps, warmup, sample, shards, threads, seed;
    double lr, min_lr, decay, temperature;
} options;

static bool parse(int argc, char **argv, options *o, int *exit_code)
{
    *o = (options){.model = {.layers = 4, .heads = 4, .width = 128, .context = 64},
                   .batch = 12,
                   .steps = 2000,
                   .warmup = 100,
                   .sample = 500,
                   .lr = 1e-3,
                   .min_lr = 1e-4,
                   .decay = 0.1,
                   .temperature = 0.8};
    const option_row rows[] = {
        {"text", OPTION_TEXT, &o->path, "FILE", .about = "what to learn from: any text",
         .needed = true},
        {"layers", OPTION_COUNT, &o->model.layers, "N", .about = "blocks of the network",
         .least = 1},
        {"heads", OPTION_COUNT, &o->model.heads, "N", .about = "heads of attention", .least = 1},
        {"width", OPTION_COUNT, &o->model.width, "N", .about = "features, a multiple of the heads",
         .least = 1},
        {"context", OPTION_COUNT, &o->model.context, "N", .about = "characters that it looks back",
         .least = 1},
        {"dropout", OPTION_NUMBER, &o->model.dropout, "P", .about = "part of the features left out",
         .most = 0.99},
        {"batch", OPTION_COUNT, &o->batch, "N", .about = "windows of a step, over all ranks",
         .least = 1},
        {"steps", OPTION_COUNT, &o->steps, "N", .about = "steps of training", .least = 1},
        {"warmup", OPTION_COUNT, &o->warmup, "N", .about = "first steps, of rising learning rate"},
        {"lr", OPTION_NUMBER, &o->lr, "X", .about = "learning rate of AdamW after the warm-up"},
        {"min-lr", OPTION_NUMBER, &o->min_lr, "X",
         .about = "learning rate at the end of the cosine"},
        {"decay", OPTION_NUMBER, &o->decay, "X", .about = "weight decay of matrices"},
        {"sample", OPTION_COUNT, &o->sample, "N", .about = "characters to write at the end"},
        {"temperature", OPTION_NUMBER, &o->temperature, "X", .about = "how bold the sample is",
         .least = 0.01},
        {"shards", OPTION_COUNT, &o->shards, "V",
         .about = "same bits for every number of ranks up to V", .most = 4096},
        {"threads", OPTION_COUNT, &o->threads, "T", .about = "threads of a kernel", .most = 1024},
        {"seed", OPTION_COUNT, &o->seed, "N", .about = "another run"},
        {"checkpoint", OPTION_TEXT, &o->checkpoint, "DIR",
         .about = "save here at the end, and go on from what is there"},
        {0}};
    if (!options_parse("Trains a GPT to write like a text, character by character.", rows, argc,
                       argv, exit_code))
        return false;
    if (o->model.width % o->model.heads)
        return options_refuse(argv[0], exit_code, "--width %lld is no multiple of --heads %lld",
                              (long long)o->model.width, (long long)o->model.heads);
    if (o->warmup >= o->steps)
        o->warmup = o->steps / 10; /* a short trial */
    return true;
}

static fb_loader *open_windows(fb_world *world, windows *w, int64_t batch, bool shuffle)
{
    int64_t most = windows_count(w);
    return fb_loader_open(fb_world_group(world), windows_open(fb_world_context(world), w),
                          FB_OPTS(fb_loader_options, .global_batch = batch < most ? batch : most,
                                  .shuffle = shuffle));
}

static fb_tensor *loss_of(fb_module *model, const fb_batch *b)
{
    fb_tensor *logits = fb_flatten(fb_nn_forward(model, b->input), 0, 1);
    return fb_cross_entropy(logits, fb_flatten(b->target, 0, 1), NULL);
}

static double evaluate(fb_module *model, fb_loader *loader, fb_meter *meter)
{
    fb_context *ctx = fb_nn_context(model);
    fb_batch b;
    fb_nn_eval(model);
    for (fb_loader_rewind(loader); fb_loader_next(loader, &b);) {
        FB_SCOPE(ctx);
        fb_no_grad(ctx);
        fb_meter_add(meter, loss_of(model, &b), (double)b.n);
    }
    fb_nn_train(model);
    return fb_meter_mean(meter);
}

/* One character from the distribution of the last position. */
static int64_t draw(fb_context *ctx, fb_tensor *logits, int64_t vocab, double temperature)
{
    float p[256];
    fb_tensor *last = fb_select(fb_select(logits, 0, 0), 0, -1);
    fb_read(fb_softmax(fb_mul_scalar(last, 1 / temperature), 0), p, (size_t)vocab * sizeof *p);
    double u = fb_item(fb_rand(ctx, FB_F32, FB_SCALAR));
    int64_t id = 0;
    for (double sum = p[0]; id + 1 < vocab && sum < u; sum += (double)p[id])
        id++;
    return id;
}

static void write_sample(fb_module *model, const text *t, const options *o)
{
    fb_context *ctx = fb_nn_context(model);
    int64_t context = o->model.context, n = 1;
    int64_t *ids = calloc((size_t)(o->sample + 1), sizeof *ids);
    fb_nn_eval(model);
    while (ids && n <= o->sample && fb_ok(ctx)) {
        FB_SCOPE(ctx);
        fb_no_grad(ctx);
        int64_t from = n > context ? n - context : 0;
        fb_tensor *x = fb_from(ctx, FB_I64, FB_SHAPE(1, n - from), ids + from);
        ids[n] = draw(ctx, fb_nn_forward(model, x), t->vocab, o->temperature);
        putchar(t->chars[ids[n++]]);
    }
    putchar('\n');
    free(ids);
}

typedef struct run {
    const options *o;
    fb_world *world;
    fb_context *ctx;
    fb_module *model;
    fb_optimizer *opt;
    fb_schedule *schedule;
    fb_loader *loader;
    fb_meter *mean;
    fb_state *state;
    int64_t step; /* done */
} run;

static void open_run(run *r, windows *learn)
{
    const options *o = r->o;
    r->ctx = fb_world_context(r->world);
    r->model = gpt_open(r->ctx, &o->model);
    r->opt = fb_optim_adamw(
        r->ctx, r->model,
        FB_OPTS(fb_adamw_options, .lr = o->lr, .beta2 = 0.99, .weight_decay = o->decay));
    fb_optim_rule(r->opt, "*", FB_OPTS(fb_group_options, .no_decay = true, .only_1d = true));
    fb_optim_clip_norm(r->opt, 1);
    r->schedule = fb_schedule_cosine(
        r->opt, o->steps, FB_OPTS(fb_cosine_options, .warmup = o->warmup, .min_lr = o->min_lr));
    fb_ddp_attach(fb_world_group(r->world), r->model, NULL);
    r->loader = open_windows(r->world, learn, o->batch, true);
    r->mean = fb_meter_open(r->ctx, "loss");
    r->state = fb_state_open(r->ctx);
    fb_state_add(r->state, "model", r->model);
    fb_state_add(r->state, "optimizer", r->opt);
    fb_state_add(r->state, "schedule", r->schedule);
    fb_state_add(r->state, "data", r->loader);
    fb_state_add(r->state, "step", &r->step);
    if (o->checkpoint)
        fb_checkpoint_resume(r->world, o->checkpoint, r->state);
}

static void train_epoch(run *r)
{
    fb_batch b;
    while (r->step < r->o->steps && fb_world_running(r->world) && fb_loader_next(r->loader, &b)) {
        FB_SCOPE(r->ctx);
        fb_tensor *loss = loss_of(r->model, &b);
        fb_backward(loss);
        fb_meter_add(r->mean, loss, (double)b.n);
        fb_optim_step(r->opt);
        fb_schedule_step(r->schedule);
        if (!b.at.last || ++r->step % 100)
            continue;
        double value = fb_meter_mean(r->mean);
        if (fb_world_root(r->world) && fb_ok(r->ctx))
            printf("step %lld/%lld loss %.4f\n", (long long)r->step, (long long)r->o->steps, value);
    }
}

/* Learns from the first nine tenths of the text, is judged by the last. */
static void learn(run *r, const text *t)
{
    int64_t split = t->n / 10 * 9, context = r->o->model.context;
    windows first = {.text = t, .end = split, .stride = 1, .context = context};
    windows last = {.text = t, .begin = split, .end = t->n, .stride = context, .context = context};
    open_run(r, &first);
    fb_loader *held_out = open_windows(r->world, &last, 64, false);
    while (r->step < r->o->steps && fb_loader_epoch(r->loader, INT64_MAX)) {
        train_epoch(r);
        if (!fb_world_running(r->world))
            break;
    }
    if (r->o->checkpoint)
        fb_checkpoint_save(r->world, r->o->checkpoint, r->state);
    double value = evaluate(r->model, held_out, r->mean);
    if (fb_world_root(r->world) && fb_ok(r->ctx)) {
        printf("loss over the last 10 %%: %.4f\n", value);
        write_sample(r->model, t, r->o);
    }
    /* The loaders' threads read the windows above. */
    fb_state_close(r->state);
    fb_loader_close(r->loader);
    fb_loader_close(held_out);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* lines reach a log as they are written */
    options o;
    text t;
    int exit_code;
    if (!parse(argc, argv, &o, &exit_code))
        return exit_code;
    if (!text_read(o.path, &t))
        return 1;
    if (t.n < 20 * o.model.context) {
        fprintf(stderr, "chargpt: %s: %lld characters are too few for a context of %lld\n", o.path,
                (long long)t.n, (long long)o.model.context);
        text_free(&t);
        return 1;
    }
    fb_world *world =
        fb_world_open_with(&argc, &argv,
                           FB_OPTS(fb_world_options, .shards = (int)o.shards,
                                   .threads = (int)o.threads, .seed = (uint64_t)o.seed));
    if (!world)
        return 1;
    o.model.vocab = t.vocab;
    run r = {.o = &o, .world = world};
    learn(&r, &t);
    fb_status status = fb_world_close(world);
    text_free(&t);
    return status;
}
