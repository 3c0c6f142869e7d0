/* The loader: batches of 128, shuffled, bytes to F32 if the data say so.
 *
 *     loader FILE.h5 [THREADS]            THREADS: of the loader, 0 as it likes
 *     loader --make FILE.h5 SAMPLES BYTES
 *
 * The second writes SAMPLES of BYTES random bytes, delivered as F32, with a label each. The first
 * reads lines and answers each with its seconds: "epochs N"; "pread N", N epochs of a plain loop
 * that preads sample by sample in a random order and makes the same of them; "open N", N times
 * opening and closing the file; "resume P", from asking for position P of an epoch to its first
 * batch. "samples 0" is answered with the samples of an epoch. By hand: echo epochs 10 | loader
 * FILE.h5
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <flambeau/flambeau.h>

#include "io/loader_priv.h"

enum { BATCH = 128 };

static fb_context *ctx;
static const char *path;
static fb_dataset *data;
static fb_loader *loader;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* --- a plain loop, for bytes with a scale and labels of a byte, which lie in memory --- */

typedef struct plain {
    int64_t n, *order;
    size_t bytes;
    int *files;
    int field, target;
    unsigned char *stored, *targets;
    float *values;
} plain;

static void plain_open(plain *p)
{
    uint64_t state = 88172645463325252u;
    p->n = data->size;
    p->bytes = data->bytes[p->field];
    p->order = malloc((size_t)p->n * sizeof *p->order);
    p->files = malloc((size_t)data->n_shards * sizeof *p->files);
    p->stored = malloc(BATCH * p->bytes);
    p->targets = malloc(BATCH);
    p->values = malloc(BATCH * p->bytes * sizeof *p->values);
    for (int s = 0; s < data->n_shards; s++) {
        char file[FBI_PATH_BYTES];
        fbi_dataset_beside(data, data->shards[s].name, file);
        p->files[s] = open(file, O_RDONLY);
    }
    for (int64_t i = 0; i < p->n; i++) {
        int64_t k = (int64_t)(draw(&state) % (uint64_t)(i + 1));
        p->order[i] = p->order[k];
        p->order[k] = i;
    }
}

static void plain_close(plain *p)
{
    for (int s = 0; s < data->n_shards; s++)
        close(p->files[s]);
    free(p->order);
    free(p->files);
    free(p->stored);
    free(p->targets);
    free(p->values);
}

static bool plain_batch(const plain *p, int64_t begin, int64_t n)
{
    int64_t each = data->shards[0].n;
    for (int64_t i = 0; i < n; i++) {
        int64_t index = p->order[begin + i], s = index / each;
        off_t at = (off_t)(data->shards[s].place[p->field].at + index % each * (int64_t)p->bytes);
        if (pread(p->files[s], p->stored + (size_t)i * p->bytes, p->bytes, at) != (ssize_t)p->bytes)
            return false;
    }
    const float scale = (float)data->fields[p->field].scale;
    for (size_t i = 0; i < (size_t)n * p->bytes; i++)
        p->values[i] = (float)p->stored[i] * scale;
    return true;
}

/* Seconds of `epochs`; below 0: it cannot read. */
static double plain_epochs(int64_t epochs)
{
    plain p = {.field = fbi_dataset_field(data, "input"),
               .target = fbi_dataset_field(data, "target")};
    plain_open(&p);
    bool good = true;
    double begun = now();
    for (; epochs > 0; epochs--)
        for (int64_t at = 0; good && at < p.n; at += BATCH)
            good = plain_batch(&p, at, p.n - at < BATCH ? p.n - at : BATCH);
    double seconds = now() - begun;
    plain_close(&p);
    return good ? seconds : -1;
}

/* --- ours --- */

static double epochs(int64_t n)
{
    fb_batch b;
    double begun = now();
    for (; n > 0 && fb_loader_epoch(loader, INT64_MAX); n--)
        while (fb_loader_next(loader, &b))
            ;
    return now() - begun;
}

static double open_and_close(int64_t n)
{
    double begun = now();
    for (; n > 0; n--)
        fb_dataset_close(fb_dataset_open(ctx, path));
    return now() - begun;
}

static double resume(int64_t position)
{
    fb_batch b;
    loader->position = position; /* as a checkpoint sets it */
    loader->inside = false;
    double begun = now();
    if (fb_loader_epoch(loader, INT64_MAX))
        fb_loader_next(loader, &b);
    double seconds = now() - begun;
    loader->inside = false;
    loader->position = 0;
    return seconds;
}

static void answer(const char *what, long long n)
{
    if (!strcmp(what, "samples"))
        printf("%lld\n", (long long)fb_dataset_size(data));
    else
        printf("%.9f\n", !strcmp(what, "pread")    ? plain_epochs(n)
                         : !strcmp(what, "open")   ? open_and_close(n)
                         : !strcmp(what, "resume") ? resume(n)
                                                   : epochs(n));
}

static void make(int64_t samples, int64_t bytes)
{
    const fb_dataset_field fields[] = {
        {.name = "input", .dtype = FB_U8, .shape = FB_SHAPE(bytes), .scale = 1.0 / 255},
        {.name = "target", .dtype = FB_U8}};
    fb_dataset *ds = fb_dataset_create(ctx, path, fields, 2, NULL);
    uint64_t state = 88172645463325252u, *values = malloc((size_t)bytes + 8);
    for (int64_t i = 0; values && i < samples && fb_ok(ctx); i++) {
        for (int64_t k = 0; k < (bytes + 7) / 8; k++)
            values[k] = draw(&state);
        uint8_t target = (uint8_t)(i % 10);
        fb_dataset_append(ds, 1, (const void *const[]){values, &target});
    }
    fb_dataset_finish(ds);
    free(values);
}

int main(int argc, char **argv)
{
    bool makes = argc == 5 && !strcmp(argv[1], "--make");
    if (!makes && argc != 2 && argc != 3) {
        fprintf(stderr,
                "usage: loader FILE.h5 [THREADS]\n       loader --make FILE.h5 SAMPLES BYTES\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    ctx = fb_context_open(FB_OPTS(fb_context_options, .device = "cpu", .threads = 1));
    path = argv[makes ? 2 : 1];
    if (makes) {
        make(atoll(argv[3]), atoll(argv[4]));
        return fb_context_close(ctx);
    }
    data = fb_dataset_open(ctx, path);
    loader = fb_loader_open(NULL, data,
                            FB_OPTS(fb_loader_options, .global_batch = BATCH, .shuffle = true,
                                    .threads = argc == 3 ? atoi(argv[2]) : 0));
    char what[16];
    for (long long n; fb_ok(ctx) && scanf("%15s %lld", what, &n) == 2;)
        answer(what, n);
    return fb_context_close(ctx);
}
