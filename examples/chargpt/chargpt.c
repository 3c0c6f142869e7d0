/* A character GPT on any text file: one process or many; writes a sample of its own at the end. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/flambeau.h>

#include "model.h"

typedef struct text {
    int64_t n, vocab;
    int64_t *ids;             /* [n] */
    unsigned char chars[256]; /* of each id */
} text;

typedef struct options {
    const char *path, *checkpoint;
    gpt_config model;
    int64_t batch, steps, warmup, sample, shards, threads, seed;
    double lr, min_lr, decay, temperature;
} options;

/* Windows of a text: input [context], target the same one character later. */
typedef struct windows {
    const text *text;
    int64_t begin, stride, context;
} windows;

static int read_window(void *user, int64_t index, void *const *out)
{
    const windows *w = user;
    const int64_t *at = w->text->ids + w->begin + index * w->stride;
    memcpy(out[0], at, (size_t)w->context * sizeof *at);
    memcpy(out[1], at + 1, (size_t)w->context * sizeof *at);
    return 0;
}

static bool read_text(const char *path, text *t)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "chargpt: %s: %s\n", path, strerror(errno));
        return false;
    }
    size_t cap = 1 << 20, n = 0, got;
    unsigned char *raw = malloc(cap);
    while (raw && (got = fread(raw + n, 1, cap - n, f)) > 0) {
        n += got;
        if (n == cap)
            raw = realloc(raw, cap *= 2);
    }
    fclose(f);
    t->ids = raw ? malloc((n + 1) * sizeof *t->ids) : NULL;
    if (!t->ids) {
        fprintf(stderr, "chargpt: %s: no memory\n", path);
        free(raw);
        return false;
    }
    bool seen[256] = {false};
    int64_t id_of[256];
    for (size_t i = 0; i < n; i++)
        seen[raw[i]] = true;
    for (int c = 0; c < 256; c++)
        if (seen[c]) {
            id_of[c] = t->vocab;
            t->chars[t->vocab++] = (unsigned char)c;
        }
    t->n = (int64_t)n;
    for (size_t i = 0; i < n; i++)
        t->ids[i] = id_of[raw[i]];
    free(raw);
    return true;
}

static fb_loader *open_windows(fb_world *world, windows *w, int64_t end, int64_t batch,
                               bool shuffle)
{
    fb_shape shape = FB_SHAPE(w->context);
    fb_dataset_field fields[] = {{.name = "input", .dtype = FB_I64, .shape = shape},
                                 {.name = "target", .dtype = FB_I64, .shape = shape}};
    int64_t size = (end - w->begin - w->context - 1) / w->stride + 1;
    fb_dataset *ds = fb_dataset_custom(fb_world_context(world), size, fields, 2, read_window, w);
    return fb_loader_open(fb_world_group(world), ds,
                          FB_OPTS(fb_loader_options, .global_batch = batch < size ? batch : size,
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

static bool parse(int argc, char **argv, options *o)
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
    const struct {
        const char *name;
        int64_t *i;
        double *f;
        const char **s;
    } table[] = {{"text", NULL, NULL, &o->path},
                 {"checkpoint", NULL, NULL, &o->checkpoint},
                 {"layers", &o->model.layers, NULL, NULL},
                 {"heads", &o->model.heads, NULL, NULL},
                 {"width", &o->model.width, NULL, NULL},
                 {"context", &o->model.context, NULL, NULL},
                 {"dropout", NULL, &o->model.dropout, NULL},
                 {"batch", &o->batch, NULL, NULL},
                 {"steps", &o->steps, NULL, NULL},
                 {"warmup", &o->warmup, NULL, NULL},
                 {"sample", &o->sample, NULL, NULL},
                 {"shards", &o->shards, NULL, NULL},
                 {"threads", &o->threads, NULL, NULL},
                 {"seed", &o->seed, NULL, NULL},
                 {"lr", NULL, &o->lr, NULL},
                 {"min-lr", NULL, &o->min_lr, NULL},
                 {"decay", NULL, &o->decay, NULL},
                 {"temperature", NULL, &o->temperature, NULL}};
    enum { N = sizeof table / sizeof table[0] };
    struct option longs[N + 1] = {0};
    for (int i = 0; i < N; i++)
        longs[i] = (struct option){table[i].name, required_argument, NULL, 256 + i};
    bool good = true;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        char *end = "";
        if (c < 256)
            good = false;
        else if (table[c - 256].s)
            *table[c - 256].s = optarg;
        else if (table[c - 256].i)
            *table[c - 256].i = strtoll(optarg, &end, 10);
        else
            *table[c - 256].f = strtod(optarg, &end);
        good = good && !*end;
    }
    if (o->warmup >= o->steps)
        o->warmup = o->steps / 10; /* a short trial */
    if (good && o->path && optind == argc && o->model.heads > 0 &&
        o->model.width % o->model.heads == 0)
        return true;
    fprintf(stderr, "usage: chargpt --text FILE [--NUMBER X ...]\nnumbers:");
    for (int i = 1; i < N; i++)
        fprintf(stderr, " --%s", table[i].name);
    fprintf(stderr, "\nwidth must be a multiple of heads\n");
    return false;
}

static void train(fb_world *world, fb_module *model, const text *t, const options *o)
{
    fb_context *ctx = fb_world_context(world);
    fb_optimizer *opt = fb_optim_adamw(
        ctx, model,
        FB_OPTS(fb_adamw_options, .lr = o->lr, .beta2 = 0.99, .weight_decay = o->decay));
    fb_optim_rule(opt, "*", FB_OPTS(fb_group_options, .no_decay = true, .only_1d = true));
    fb_optim_clip_norm(opt, 1);
    fb_schedule *schedule = fb_schedule_cosine(
        opt, o->steps, FB_OPTS(fb_cosine_options, .warmup = o->warmup, .min_lr = o->min_lr));
    fb_ddp_attach(fb_world_group(world), model, NULL);

    int64_t split = t->n / 10 * 9;
    windows learn = {.text = t, .stride = 1, .context = o->model.context};
    windows judge = {
        .text = t, .begin = split, .stride = o->model.context, .context = o->model.context};
    fb_loader *loader = open_windows(world, &learn, split, o->batch, true);
    fb_loader *held_out = open_windows(world, &judge, t->n, 64, false);
    fb_meter *mean = fb_meter_open(ctx, "loss");
    fb_state *state = fb_state_open(ctx);
    int64_t step = 0;
    fb_state_add(state, "model", model);
    fb_state_add(state, "optimizer", opt);
    fb_state_add(state, "schedule", schedule);
    fb_state_add(state, "data", loader);
    fb_state_add(state, "step", &step);
    if (o->checkpoint)
        fb_checkpoint_resume(world, o->checkpoint, state);

    fb_batch b;
    while (step < o->steps && fb_loader_epoch(loader, INT64_MAX)) {
        while (step < o->steps && fb_world_running(world) && fb_loader_next(loader, &b)) {
            FB_SCOPE(ctx);
            fb_tensor *loss = loss_of(model, &b);
            fb_backward(loss);
            fb_meter_add(mean, loss, (double)b.n);
            fb_optim_step(opt);
            fb_schedule_step(schedule);
            if (!b.at.last || ++step % 100)
                continue;
            double value = fb_meter_mean(mean);
            if (fb_world_root(world))
                printf("step %lld loss %.4f\n", (long long)step, value);
        }
        if (!fb_world_running(world))
            break;
    }
    if (o->checkpoint)
        fb_checkpoint_save(world, o->checkpoint, state);
    double value = evaluate(model, held_out, mean);
    if (fb_world_root(world) && fb_ok(ctx)) {
        printf("loss over the last 10 %%: %.4f\n", value);
        write_sample(model, t, o);
    }
    /* The loaders' threads read the windows above. */
    fb_state_close(state);
    fb_loader_close(loader);
    fb_loader_close(held_out);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* lines reach a log as they are written */
    options o;
    text t = {0};
    if (!parse(argc, argv, &o))
        return 2;
    if (!read_text(o.path, &t))
        return 1;
    if (t.n < 20 * o.model.context) {
        fprintf(stderr, "chargpt: %s: %lld characters are too few for a context of %lld\n", o.path,
                (long long)t.n, (long long)o.model.context);
        return 1;
    }
    fb_world *world =
        fb_world_open_with(&argc, &argv,
                           FB_OPTS(fb_world_options, .shards = (int)o.shards,
                                   .threads = (int)o.threads, .seed = (uint64_t)o.seed));
    if (!world)
        return 1;
    o.model.vocab = t.vocab;
    fb_module *model = gpt_open(fb_world_context(world), &o.model);
    train(world, model, &t, &o);
    fb_status status = fb_world_close(world);
    free(t.ids);
    return status;
}
