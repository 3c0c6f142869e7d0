#include "tests/fuzz/targets.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flambeau/core/nn/layers.h>
#include <flambeau/io/interchange.h>

#include "io/dataset_priv.h"
#include "launch/bpe_priv.h"
#include "launch/image_priv.h"
#include "launch/import_priv.h"
#include "launch/sound_priv.h"

static fb_context *ctx;
static char folder[64], input[96], output[96];

/* A context and a folder for all inputs of this process. */
static void begin(void)
{
    if (ctx)
        return;
    ctx = fb_context_open(&(fb_context_options){.device = "cpu", .threads = 1});
    strcpy(folder, access("/dev/shm", W_OK) ? "/tmp/fuzz-XXXXXX" : "/dev/shm/fuzz-XXXXXX");
    if (!ctx || !mkdtemp(folder))
        abort();
    snprintf(input, sizeof input, "%s/input", folder);
    snprintf(output, sizeof output, "%s/out.h5", folder);
}

void fuzz_clean(void)
{
    if (!ctx)
        return;
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));)
        unlinkat(dirfd(dir), e->d_name, 0);
    if (dir)
        closedir(dir);
    rmdir(folder);
    fb_context_close(ctx);
    ctx = NULL;
}

static void put_file(const char *path, const uint8_t *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f))
        abort();
}

/* An input may be refused, and the next one is another matter. */
static void forget_error(void)
{
    fb_error_take(ctx, NULL, 0);
}

/* --- files of other programs --- */

static void npy(const uint8_t *data, size_t n)
{
    put_file(input, data, n);
    FB_SCOPE(ctx);
    if (!fb_npy_map(ctx, input))
        forget_error();
    if (!fb_npy_load(ctx, input))
        forget_error();
}

static void npz(const uint8_t *data, size_t n)
{
    put_file(input, data, n);
    FB_SCOPE(ctx);
    char *names = fb_npz_names(ctx, input), *rest = names;
    if (!names)
        forget_error();
    for (char *name; (name = strsep(&rest, "\n"));)
        if (!fb_npz_load(ctx, input, name))
            forget_error();
    free(names);
}

static void safetensors(const uint8_t *data, size_t n)
{
    const fb_load_options any = {.allow_missing = "*", .allow_unexpected = "*"};
    put_file(input, data, n);
    fb_module *m = fb_nn_linear(ctx, 2, 1, NULL);
    if (fb_safetensors_load(m, input, &any))
        forget_error();
    fb_nn_close(m);
}

/* --- imports --- */

static void import(int (*run)(const fbi_import *job, fb_context *ctx), fbi_import job)
{
    fbi_progress progress = {0};
    char *inputs[] = {input, output};
    job.inputs = inputs;
    job.n_inputs = 1;
    job.out = output;
    job.ranks = 1;
    job.progress = &progress;
    FB_SCOPE(ctx);
    if (run(&job, ctx))
        forget_error();
}

static void idx(const uint8_t *data, size_t n)
{
    char labels[128];
    snprintf(labels, sizeof labels, "%s/labels", folder);
    put_file(labels, (const uint8_t *)"\0\0\10\1\0\0\0\2\3\4", 10);
    put_file(input, data, n);
    import(fbi_import_idx, (fbi_import){.input = input, .target = labels});
    import(fbi_import_idx, (fbi_import){.input = labels, .target = input});
}

/* The first byte says how it is read, the second is the name of the target's column. */
static void csv(const uint8_t *data, size_t n)
{
    static const char *const missing[] = {NULL, "nan", "mean", "skip"};
    if (n < 2)
        return;
    const char target[2] = {(char)data[1], '\0'};
    put_file(input, data + 2, n - 2);
    import(fbi_import_csv, (fbi_import){.target = target,
                                        .missing = missing[data[0] & 3],
                                        .separator = data[0] & 4 ? ";" : NULL,
                                        .float_target = data[0] & 8});
}

/* --- pictures and recordings: our calls of libraries, and resizing --- */

static void picture(const uint8_t *data, size_t n,
                    bool (*read)(const void *, size_t, int, fbi_image *, char *, size_t))
{
    char text[256];
    fbi_image image;
    unsigned char planes[3 * 5 * 4];
    for (int channels = 1; channels <= 3; channels += 2) {
        if (n > 1 && !read(data, n, channels, &image, text, sizeof text))
            continue;
        if (n > 1 && image.height * (int64_t)image.width < 1 << 20) {
            const fbi_box part = {0, 0, image.height, image.width};
            fbi_image_resize(&image, part, 5, 4, planes);
        }
        if (n > 1)
            free(image.pixels);
    }
}

static void png(const uint8_t *data, size_t n)
{
    picture(data, n, fbi_png_read);
}

static void jpeg(const uint8_t *data, size_t n)
{
    picture(data, n, fbi_jpeg_read);
}

static void sound(const uint8_t *data, size_t n)
{
    fbi_sound s;
    char text[256];
    put_file(input, data, n);
    if (fbi_sound_read(input, &s, text, sizeof text))
        free(s.samples);
}

/* --- texts --- */

/* A whole vocabulary of bytes is long: of the input come more tokens, merges and a text, each
 * behind a zero. */
static void bpe(const uint8_t *data, size_t n)
{
    char *all = calloc(1, n + 3), *merges = all ? memcpy(all, data, n) : NULL;
    char vocab[1 << 14], text[256];
    int used = snprintf(vocab, sizeof vocab, "{"), hidden = 256;
    for (int b = 0; b < 256; b++) {
        bool seen = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        used += snprintf(vocab + used, sizeof vocab - (size_t)used, "\"\\u%04x\":%d,",
                         seen ? b : hidden++, b);
    }
    if (!merges)
        return;
    snprintf(vocab + used, sizeof vocab - (size_t)used, "%.4000s}", all);
    merges += strlen(all) + 1;
    const char *words = merges < all + n ? merges + strlen(merges) + 1 : all + n;
    fbi_bpe *encoder = fbi_bpe_new(vocab, merges < all + n ? merges : "", text, sizeof text);
    fbi_tokens tokens = {0};
    if (encoder && words < all + n)
        fbi_bpe_encode(encoder, words, (size_t)(all + n - words), &tokens);
    free(tokens.token);
    fbi_bpe_free(encoder);
    fbi_bpe_free(fbi_bpe_new(all, "a b", text, sizeof text));
    free(all);
}

/* --- files of our own --- */

/* What a dataset's head says beside what HDF5 reads. */
static void head(const uint8_t *data, size_t n)
{
    const fb_dataset_field fields[] = {
        {.name = "x", .dtype = FB_U8, .shape = FB_SHAPE(3)},
        {.name = "y", .dtype = FB_I64, .varies = true, .longest = 9}};
    char *text = strndup((const char *)data, n);
    fb_dataset *ds = text ? fbi_dataset_new(ctx, output, fields, 2) : NULL;
    if (ds) {
        fb_dataset_field sorted[] = {fields[0], fields[1]};
        fbi_dataset_sort_fields(text, sorted, 2);
        ds->total = 10;
        fb_status st = fbi_dataset_read_notes(ds, text);
        for (int s = 0; !st && s < ds->n_shards; s++)
            st = fbi_dataset_look_at_shard(ds, &ds->shards[s]);
        for (int i = 0; !fb_status_of(ctx) && i < fb_dataset_split_count(ds); i++) {
            fb_dataset_select(ds, fb_dataset_split_at(ds, i).name);
            for (int64_t k = 0; k < fb_dataset_size(ds); k++)
                if (fbi_dataset_place(ds, k) < 0 || fbi_dataset_place(ds, k) >= ds->total)
                    abort();
        }
    }
    fb_dataset_close(ds);
    free(text);
    forget_error();
}

const fuzz_target fuzz_targets[] = {
    {"npy", npy},
    {"npz", npz},
    {"safetensors", safetensors},
    {"idx", idx},
    {"csv", csv},
    {"png", png},
    {"jpeg", jpeg},
    {"sound", sound},
    {"bpe", bpe},
    {"head", head},
    {"manifest", fuzz_manifest},
};
const int n_fuzz_targets = sizeof fuzz_targets / sizeof *fuzz_targets;

const fuzz_target *fuzz_find(const char *name)
{
    begin();
    for (int i = 0; i < n_fuzz_targets; i++)
        if (!strcmp(fuzz_targets[i].name, name))
            return &fuzz_targets[i];
    return NULL;
}
