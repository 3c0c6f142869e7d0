/* What test_orders.py runs on several ranks: which samples a loader gives, step by step, in files;
 * checkpoints on the way. orders make FOLDER; orders FOLDER OUT STOPS_AFTER MODE...: a walk that
 * stops goes on at the last checkpoint when it is called again; in the last one a rank dies there.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flambeau/comm/world.h>
#include <flambeau/io/checkpoint.h>
#include <flambeau/io/loader.h>

enum { SAMPLES = 136, SOURCES = 2, EPOCHS = 3 };

static fb_world *world;
static fb_context *ctx;

/* Samples i of 1 to 60 tokens; class i % 4. */
static int make(const char *folder)
{
    for (int s = 0; s < SOURCES; s++) {
        char path[512];
        fb_dataset_field fields[] = {
            {.name = "input", .dtype = FB_I32, .shape = FB_SCALAR, .varies = true},
            {.name = "target", .dtype = FB_I64, .shape = FB_SCALAR}};
        snprintf(path, sizeof path, "%s/%d.h5", folder, s);
        fb_dataset *ds = fb_dataset_create(ctx, path, fields, 2,
                                           FB_OPTS(fb_dataset_options, .shard_samples = 50));
        for (int64_t i = 0; i < SAMPLES - 61 * s; i++) {
            int32_t tokens[64];
            int64_t n = 1 + i * 29 % 60, class = i % 4;
            for (int k = 0; k < n; k++)
                tokens[k] = (int32_t)(100 * i + k);
            fb_dataset_append_rows(ds, 1, (const void *const[]){tokens, &class},
                                   (const int64_t *const[]){&n, NULL});
        }
        fb_dataset_finish(ds);
    }
    return fb_world_close(world);
}

static const double class_weights[] = {4, 1, 0, 2};

typedef struct mode {
    const char *name;
    fb_loader_options o;
    bool mix, pack;
} mode;

static const mode modes[] = {
    {"plain", {.shuffle = true}},
    {"blocks", {.shuffle = true, .shuffle_block = 8, .shuffle_window = 3}},
    {"wider_blocks", {.shuffle = true, .shuffle_block = 8, .shuffle_window = 5}},
    {"weights", {.weigh_by = "target", .weights = class_weights, .n_weights = 4}},
    {"even", {.weigh_by = "target"}},
    {"epochs", {.shuffle = true, .epoch_samples = 50}},
    {"buckets", {.shuffle = true, .bucket_window = 4}},
    {"mix", {.shuffle = true}, .mix = true},
    {"mixed_blocks", {.shuffle = true, .shuffle_block = 8, .epoch_samples = 300}, .mix = true},
    {"weighted_buckets", {.weigh_by = "target", .bucket_window = 3, .epoch_samples = 200}},
    {"pack", {.shuffle = true}, .pack = true},
};

static fb_loader *open_loader(const mode *m, const char *folder)
{
    fb_group *all = fb_world_group(world);
    fb_dataset *sources[SOURCES], *ds;
    for (int s = 0; s < SOURCES; s++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%d.h5", folder, s);
        sources[s] = fb_dataset_open_shared(all, path);
    }
    ds = sources[0];
    if (m->mix)
        ds = fb_dataset_mix(ctx, sources, (const double[]){3, 1}, SOURCES,
                            FB_OPTS(fb_mix_options, .block = 20));
    if (m->pack)
        ds = fb_dataset_pack(ds, 16,
                             FB_OPTS(fb_pack_options, .shuffle = true, .seed = 2, .separate = true,
                                     .whole = true, .group = all));
    fb_loader_options o = m->o;
    o.global_batch = 10;
    o.seed = 5;
    return fb_loader_open(all, ds, &o);
}

/* "epoch position leaf: samples" */
static void note(FILE *to, fb_loader *l, const fb_batch *b, int64_t position)
{
    int64_t n;
    const int64_t *index = fb_loader_indices(l, &n);
    fprintf(to, "%lld %lld %lld:", (long long)b->at.epoch, (long long)position,
            (long long)b->at.shard);
    for (int64_t i = 0; i < n; i++)
        fprintf(to, " %lld", (long long)index[i]);
    fputc('\n', to);
    fflush(to);
}

static void stop(bool dies)
{
    if (dies && fb_world_rank(world) == fb_world_size(world) - 1)
        raise(SIGKILL);
    if (dies)
        fb_world_barrier(world); /* the others are ended here */
}

static void walk(fb_loader *l, const char *run, FILE *to, int stops_after, bool dies)
{
    int steps = 0;
    fb_state *state = fb_state_open(ctx);
    fb_state_add_loader(state, "data", l);
    fb_checkpoint_resume(world, run, state);
    while (fb_loader_epoch(l, EPOCHS)) {
        fb_batch b;
        int64_t position = fb_loader_position(l);
        while (fb_loader_next(l, &b)) {
            note(to, l, &b, position);
            if (!b.at.last)
                continue;
            position = fb_loader_position(l);
            fb_world_barrier(world); /* as the sum of gradients would be */
            if (++steps == stops_after) {
                stop(dies);
                fb_state_close(state);
                return;
            }
            if (steps % 3 == 0)
                fb_checkpoint_save(world, run, state);
        }
    }
    fb_state_close(state);
}

static void walk_mode(const mode *m, char **argv, bool dies)
{
    char run[512], path[512];
    snprintf(run, sizeof run, "%s/%s", argv[1], m->name);
    snprintf(path, sizeof path, "%s.%s.%d", argv[2], m->name, fb_world_rank(world));
    FILE *to = fopen(path, "w");
    fb_loader *l = to ? open_loader(m, argv[1]) : NULL;
    if (l)
        walk(l, run, to, atoi(argv[3]), dies);
    if (to)
        fclose(to);
    fb_loader_close(l);
}

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    if (argc == 3 && !strcmp(argv[1], "make"))
        return make(argv[2]);
    for (int i = 4; i < argc; i++) {
        const mode *m = modes;
        while (strcmp(m->name, argv[i]))
            m++;
        walk_mode(m, argv, i == argc - 1);
    }
    return fb_world_close(world);
}
