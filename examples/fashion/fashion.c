/* A convolutional network on Fashion-MNIST: any number of ranks, checkpoints, resume. */
#include <inttypes.h>
#include <stdio.h>

#include <flambeau/flambeau.h>

#include "../options.h"

typedef struct options {
    const char *data, *checkpoint, *profile;
    int64_t shards, threads, epochs, steps, stop_after, batch, limit, seed, save_every;
    double lr;
    bool augment, print_bits, trace;
} options;

static bool parse(int argc, char **argv, options *o, int *exit_code)
{
    *o = (options){.epochs = 5, .batch = 128, .lr = 1e-3};
    const option_row rows[] = {
        {"data", OPTION_TEXT, &o->data, "FOLDER",
         .about = "train.h5 and test.h5, made by \"flambeau data import idx\"", .needed = true},
        {"epochs", OPTION_COUNT, &o->epochs, "N", .about = "times through the data", .least = 1},
        {"steps", OPTION_COUNT, &o->steps, "N",
         .about = "stop after so many steps, over as many epochs as that takes"},
        {"batch", OPTION_COUNT, &o->batch, "N", .about = "images of a step, over all ranks",
         .least = 1},
        {"lr", OPTION_NUMBER, &o->lr, "X",
         .about = "learning rate of Adam, going down to a twentieth along a cosine"},
        {"augment", OPTION_FLAG, &o->augment, NULL,
         .about = "images moved by up to two pixels, and mirrored"},
        {"limit", OPTION_COUNT, &o->limit, "N", .about = "train on the first N images only"},
        {"shards", OPTION_COUNT, &o->shards, "V",
         .about = "same bits for every number of ranks up to V", .most = 4096},
        {"threads", OPTION_COUNT, &o->threads, "T", .about = "threads of a kernel", .most = 1024},
        {"seed", OPTION_COUNT, &o->seed, "N", .about = "another run"},
        {"checkpoint", OPTION_TEXT, &o->checkpoint, "DIR",
         .about = "save here after each epoch, and go on from what is there"},
        {"save-every", OPTION_COUNT, &o->save_every, "N", .about = "save every N steps, too"},
        {"stop-after", OPTION_COUNT, &o->stop_after, "N",
         .about = "save and stop after step N, as if interrupted"},
        {"print-bits", OPTION_FLAG, &o->print_bits, NULL,
         .about = "each step's loss as an exact number, and a digest at the end"},
        {"profile", OPTION_TEXT, &o->profile, "FILE",
         .about = "where the time of some steps goes, with a trace for ui.perfetto.dev in FILE"},
        {"trace", OPTION_FLAG, &o->trace, NULL, .about = "which rank computed which image"},
        {0}};
    return options_parse("Trains a convolutional network on Fashion-MNIST.", rows, argc, argv,
                         exit_code);
}

static fb_module *network(fb_context *ctx)
{
    const fb_conv_options *same = FB_OPTS(fb_conv_options, .padding = {1});
    return fb_nn_sequential(
        ctx, fb_nn_conv2d(ctx, 1, 32, 3, same), fb_nn_batch_norm2d(ctx, 32, NULL), fb_nn_relu(ctx),
        fb_nn_max_pool2d(ctx, 2, NULL), fb_nn_conv2d(ctx, 32, 64, 3, same),
        fb_nn_batch_norm2d(ctx, 64, NULL), fb_nn_relu(ctx), fb_nn_max_pool2d(ctx, 2, NULL),
        fb_nn_flatten(ctx), fb_nn_dropout(ctx, 0.25), fb_nn_linear(ctx, 64 * 7 * 7, 128, NULL),
        fb_nn_relu(ctx), fb_nn_linear(ctx, 128, 10, NULL));
}

/* --- data --- */

/* Rank 0 looks at the files and tells the others. */
static fb_dataset *open_data(fb_trainer *t, const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fb_dataset_open_shared(fb_trainer_group(t), path);
}

static fb_loader *open_train(fb_trainer *t, const options *o, const fb_loader_options *batches)
{
    fb_context *ctx = fb_trainer_context(t);
    const fb_crop_options moved = {.padding = {2, 2, 2, 2}};
    fb_transform *list[] = {fb_transform_random_crop(ctx, 28, 28, &moved),
                            fb_transform_random_horizontal_flip(ctx, 0.5)};
    fb_loader_options l = *batches;
    l.transforms = (fb_transforms){list, o->augment ? 2 : 0};
    return fb_loader_open(fb_trainer_group(t), open_data(t, o->data, "train.h5"), &l);
}

static fb_loader *open_test(fb_trainer *t, const options *o)
{
    fb_dataset *test = open_data(t, o->data, "test.h5");
    int64_t most = fb_dataset_size(test);
    return fb_loader_open(fb_trainer_group(t), test,
                          FB_OPTS(fb_loader_options, .global_batch = most < 500 ? most : 500));
}

/* --- what the trainer calls --- */

typedef struct run {
    options o;
    fb_loader *train;
} run;

static void trace(const fb_trainer *t, const fb_loader *train, const fb_batch *b)
{
    int64_t n;
    const int64_t *index = fb_loader_indices(train, &n);
    for (int64_t i = 0; i < n; i++)
        printf("trace step %" PRId64 " rank %d sample %" PRId64 "\n", b->at.step,
               fb_world_rank(fb_trainer_world(t)), index[i]);
}

static fb_tensor *learn(fb_trainer *t, const fb_batch *b)
{
    const run *r = fb_trainer_user(t);
    if (r->o.trace)
        trace(t, r->train, b);
    return fb_cross_entropy(fb_nn_forward(fb_trainer_model(t), b->input), b->target, NULL);
}

static fb_tensor *judge(fb_trainer *t, const fb_batch *b)
{
    fb_tensor *guess = fb_argmax(fb_nn_forward(fb_trainer_model(t), b->input), 1, false);
    fb_tensor *hit = fb_eq(guess, fb_to(b->target, FB_I64));
    fb_trainer_log(t, "accuracy", fb_mean(fb_to(hit, FB_F32), FB_ALL, false));
    return NULL; /* no loss: the accuracy is all that is asked for */
}

static void say_loss(fb_trainer *t)
{
    if (fb_world_root(fb_trainer_world(t)))
        printf("step %" PRId64 " loss %a\n", fb_trainer_steps(t), fb_trainer_metric(t, "loss"));
}

static void say_digest(fb_trainer *t)
{
    char digest[17];
    fb_state_digest(fb_trainer_state(t), digest);
    if (fb_world_root(fb_trainer_world(t)) && fb_ok(fb_trainer_context(t)))
        printf("digest %s\n", digest);
}

static fb_trainer_options trainer_options(const options *o)
{
    bool early = o->stop_after && (!o->steps || o->stop_after < o->steps);
    fb_trainer_options t = {.max_epochs = o->steps ? 0 : o->epochs,
                            .max_steps = early ? o->stop_after : o->steps,
                            .checkpoint = o->checkpoint,
                            .profile = o->profile,
                            .save_steps = o->save_every,
                            .log_every = o->print_bits,
                            .quiet = o->print_bits,
                            .shards = o->shards,
                            .threads = o->threads,
                            .seed = o->seed,
                            .keep_arguments = true};
    return t;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* lines reach a log as they are written */
    run r = {0};
    int exit_code;
    if (!parse(argc, argv, &r.o, &exit_code))
        return exit_code;
    fb_trainer_options o = trainer_options(&r.o);
    fb_loader_options batches = {
        .global_batch = r.o.batch, .shuffle = true, .limit = r.o.limit, .seed = (uint64_t)r.o.seed};
    o.groups = (const fb_option_group[]){{"data", fb_loader_option_rows(), &batches}, {0}};
    fb_trainer *t = fb_trainer_open(&argc, &argv, &o);
    fb_context *ctx = fb_trainer_context(t);
    bool bits = r.o.print_bits;

    fb_trainer_task task = {.model = network(ctx),
                            .step = learn,
                            .valid_step = judge,
                            .valid_name = "test",
                            .on_log = bits ? say_loss : NULL,
                            .on_end = bits ? say_digest : NULL,
                            .user = &r};
    task.train = r.train = open_train(t, &r.o, &batches);
    task.valid = bits ? NULL : open_test(t, &r.o);
    task.optimizer = fb_optim_adam(ctx, task.model, FB_OPTS(fb_adam_options, .lr = r.o.lr));
    int64_t whole = r.o.steps ? r.o.steps : fb_loader_steps(r.train) * r.o.epochs;
    int64_t total = r.o.stop_after ? whole : fb_trainer_total_steps(t, r.train);
    task.schedule = fb_schedule_cosine(task.optimizer, total,
                                       FB_OPTS(fb_cosine_options, .min_lr = r.o.lr / 20));
    fb_trainer_fit(t, &task);
    return fb_trainer_close(t); /* prints the first error, if any; frees everything */
}
