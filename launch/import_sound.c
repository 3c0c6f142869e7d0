/* Folders of WAV, FLAC and OGG files, one for each class: input I16 frames, target I64 with the
 * names of the folders as labels. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/import_priv.h"
#include "launch/sound_priv.h"

static const char *const endings[] = {".wav", ".flac", ".ogg", NULL};

static bool read_sound(fb_context *ctx, const char *path, fbi_sound *sound)
{
    char text[256];
    if (fbi_sound_read(path, sound, text, sizeof text))
        return true;
    fb_fail(ctx, FB_E_IO, "import %s: %s", path, text);
    return false;
}

/* One channel: the mean of all, rounded. */
static void mix(fbi_sound *s)
{
    for (int64_t i = 0; i < s->frames; i++) {
        int64_t sum = 0;
        for (int c = 0; c < s->channels; c++)
            sum += s->samples[i * s->channels + c];
        int64_t half = sum < 0 ? -s->channels / 2 : s->channels / 2;
        s->samples[i] = (int16_t)((sum + half) / s->channels);
    }
    s->channels = 1;
}

/* As many frames as all are to have; what is not there is silence. */
static bool set_length(fbi_sound *s, int64_t frames)
{
    size_t frame = (size_t)s->channels * sizeof *s->samples;
    int16_t *other = realloc(s->samples, (size_t)frames * frame);
    if (!other)
        return false;
    s->samples = other;
    if (frames > s->frames)
        memset(other + s->frames * s->channels, 0, (size_t)(frames - s->frames) * frame);
    s->frames = frames;
    return true;
}

static bool add_sound(const fbi_import *job, fb_context *ctx, fb_dataset *ds, const char *path,
                      int64_t class, int rate)
{
    fbi_sound s;
    if (!read_sound(ctx, path, &s))
        return false;
    if (job->channels == 1 && s.channels > 1)
        mix(&s);
    bool good = s.rate == rate && s.channels == job->channels;
    if (!good)
        fb_fail(ctx, FB_E_SHAPE,
                "import %s: has %d channels at %d Hz, wanted are %lld at %d Hz as in the first "
                "file: convert it, e.g. with \"sox\"",
                path, s.channels, s.rate, (long long)job->channels, rate);
    if (good && job->seconds > 0 && !set_length(&s, (int64_t)(job->seconds * rate + 0.5))) {
        fb_fail(ctx, FB_E_NOMEM, "import %s: no memory for %g seconds", path, job->seconds);
        good = false;
    }
    good = good && !fb_dataset_append_rows(ds, 1, (const void *const[]){s.samples, &class, &s.rate},
                                           (const int64_t *const[]){&s.frames, NULL, NULL});
    free(s.samples);
    return good;
}

/* With --seconds a sample has a fixed number of frames. */
static fb_dataset_field input_field(const fbi_import *job, int rate)
{
    fb_dataset_field field = {
        .name = "input", .dtype = FB_I16, .scale = 1.0 / 32768, .varies = job->seconds == 0};
    if (job->seconds > 0)
        field.shape.d[field.shape.n++] = (int64_t)(job->seconds * rate + 0.5);
    if (job->channels > 1)
        field.shape.d[field.shape.n++] = job->channels;
    return field;
}

int fbi_import_sound(const fbi_import *given, fb_context *ctx)
{
    fbi_import mine = *given, *job = &mine;
    fbi_files files = {0};
    fbi_sound first = {0};
    job->channels = job->channels ? job->channels : 1;
    if (fbi_files_find(&files, ctx, job->inputs[0], endings))
        read_sound(ctx, files.paths[0], &first);
    free(first.samples);
    fb_dataset_field fields[] = {input_field(job, first.rate),
                                 {.name = "target",
                                  .dtype = FB_I64,
                                  .labels = (const char *const *)files.names,
                                  .n_labels = files.n_classes},
                                 {.name = "rate", .dtype = FB_I32}};
    fb_dataset *ds = fbi_import_create(job, ctx, fields, 3);
    int64_t begin, end;
    fbi_import_range(job, files.n, &begin, &end);
    if (ds && job->rank == 0)
        fbi_progress_begin(job->progress, "recordings", end - begin);
    for (int64_t i = begin; ds && i < end; i++) {
        if (!add_sound(job, ctx, ds, files.paths[i], files.classes[i], first.rate))
            break;
        fbi_progress_add(job->progress, 1);
    }
    fbi_files_free(&files);
    return fbi_import_finish(ds);
}
