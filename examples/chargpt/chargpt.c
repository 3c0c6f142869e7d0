/* A character GPT on any text file: one process or many; writes a sample of its own at the end. */
#include <stdio.h>
#include <stdlib.h>

#include <flambeau/flambeau.h>

#include "../options.h"
#include "model.h"
#include "text.h"

typedef struct options {
    const char *path, *checkpoint, *profile;
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
        {"profile", OPTION_TEXT, &o->profile, "FILE",
         .about = "where the time of some steps goes, with a trace for ui.perfetto.dev in FILE"},
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

static fb_tensor *loss_of(fb_trainer *t, const fb_batch *b)
{
    fb_tensor *logits = fb_flatten(fb_nn_forward(fb_trainer_model(t), b->input), 0, 1);
    return fb_cross_entropy(logits, fb_flatten(b->target, 0, 1), NULL);
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

/* --- what the trainer calls --- */

typedef struct run {
    options o;
    text text;
    windows first, last; /* to learn from, and to be judged by; the loaders' threads read them */
} run;

static void say_loss(fb_trainer *t)
{
    if (fb_world_root(fb_trainer_world(t)))
        printf("loss over the last 10 %%: %.4f\n", fb_trainer_metric(t, "val_loss"));
}

static void say_sample(fb_trainer *t)
{
    const run *r = fb_trainer_user(t);
    if (fb_world_root(fb_trainer_world(t)) && fb_ok(fb_trainer_context(t)))
        write_sample(fb_trainer_model(t), &r->text, &r->o);
}

static fb_optimizer *open_optimizer(fb_module *model, const options *o)
{
    fb_optimizer *opt = fb_optim_adamw(
        fb_nn_context(model), model,
        FB_OPTS(fb_adamw_options, .lr = o->lr, .beta2 = 0.99, .weight_decay = o->decay));
    fb_optim_rule(opt, "*", FB_OPTS(fb_group_options, .no_decay = true, .only_1d = true));
    return opt;
}

/* Learns from the first nine tenths of the text, is judged by the last. */
static fb_status learn(run *r, fb_trainer *t)
{
    const options *o = &r->o;
    fb_world *world = fb_trainer_world(t);
    fb_trainer_task task = {.model = gpt_open(fb_trainer_context(t), &o->model),
                            .step = loss_of,
                            .on_validation = say_loss,
                            .on_end = say_sample,
                            .user = r};
    task.train = open_windows(world, &r->first, o->batch, true);
    task.valid = open_windows(world, &r->last, 64, false);
    task.optimizer = open_optimizer(task.model, o);
    task.schedule =
        fb_schedule_cosine(task.optimizer, fb_trainer_total_steps(t, task.train),
                           FB_OPTS(fb_cosine_options, .warmup = o->warmup, .min_lr = o->min_lr));
    return fb_trainer_fit(t, &task);
}

/* False after a message. */
static bool read_text(run *r)
{
    text *t = &r->text;
    int64_t context = r->o.model.context;
    if (!text_read(r->o.path, t))
        return false;
    if (t->n < 20 * context) {
        fprintf(stderr, "chargpt: %s: %lld characters are too few for a context of %lld\n",
                r->o.path, (long long)t->n, (long long)context);
        text_free(t);
        return false;
    }
    int64_t split = t->n / 10 * 9;
    r->o.model.vocab = t->vocab;
    r->first = (windows){.text = t, .end = split, .stride = 1, .context = context};
    r->last =
        (windows){.text = t, .begin = split, .end = t->n, .stride = context, .context = context};
    return true;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* lines reach a log as they are written */
    run r = {0};
    int exit_code;
    if (!parse(argc, argv, &r.o, &exit_code))
        return exit_code;
    if (!read_text(&r))
        return 1;
    fb_trainer_options o = {.max_steps = r.o.steps,
                            .clip_norm = 1,
                            .validate_every = -1,
                            .checkpoint = r.o.checkpoint,
                            .profile = r.o.profile,
                            .save_every = -1,
                            .shards = r.o.shards,
                            .threads = r.o.threads,
                            .seed = r.o.seed,
                            .keep_arguments = true};
    fb_trainer *t = fb_trainer_open(&argc, &argv, &o);
    learn(&r, t);
    fb_status status = fb_trainer_close(t);
    text_free(&r.text);
    return status;
}
