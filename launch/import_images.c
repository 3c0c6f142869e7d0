/* Folders of PNG and JPEG files, one for each class: input U8 [channels, height, width], target I64
 * with the names of the folders as labels. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/image_priv.h"
#include "launch/import_priv.h"

static const char *const endings[] = {".png", ".jpg", ".jpeg", NULL};

static bool is_png(const char *file, size_t bytes)
{
    return bytes > 8 && !memcmp(file, "\x89PNG\r\n\x1a\n", 8);
}

/* By what is in the file: names lie. */
static bool read_image(const fbi_import *job, fb_context *ctx, const char *path, fbi_image *image)
{
    char text[256];
    size_t bytes;
    char *file = fbi_read_file(ctx, path, &bytes);
    if (!file)
        return false;
    bool good = (is_png(file, bytes) ? fbi_png_read : fbi_jpeg_read)(
        file, bytes, (int)job->channels, image, text, sizeof text);
    free(file);
    if (!good)
        fb_fail(ctx, FB_E_IO, "import %s: %s", path, text);
    return good;
}

/* Which part of an image is kept. */
static fbi_box part_of(const fbi_import *job, const fbi_image *image)
{
    fbi_box all = {0, 0, image->height, image->width};
    if (!job->crop)
        return all;
    double wanted = (double)job->width / (double)job->height;
    fbi_box part = all;
    if (all.width > all.height * wanted)
        part.width = all.height * wanted;
    else
        part.height = all.width / wanted;
    part.top = (all.height - part.height) / 2;
    part.left = (all.width - part.width) / 2;
    return part;
}

static bool add_image(const fbi_import *job, fb_context *ctx, fb_dataset *ds, const char *path,
                      int64_t class, unsigned char *planes, bool any_size)
{
    fbi_image image;
    if (!read_image(job, ctx, path, &image))
        return false;
    bool good = any_size || (image.height == job->height && image.width == job->width);
    if (!good)
        fb_fail(ctx, FB_E_SHAPE,
                "import %s: is %d x %d, the first image is %lld x %lld: use --size HxW", path,
                image.height, image.width, (long long)job->height, (long long)job->width);
    else if (!fbi_image_resize(&image, part_of(job, &image), (int)job->height, (int)job->width,
                               planes)) {
        fb_fail(ctx, FB_E_NOMEM, "import %s: no memory", path);
        good = false;
    }
    free(image.pixels);
    return good && !fb_dataset_append(ds, 1, (const void *const[]){planes, &class});
}

/* Without --size the first image says how large they are. */
static bool find_size(fbi_import *job, fb_context *ctx, const fbi_files *files)
{
    fbi_image first;
    if (job->height)
        return true;
    if (!read_image(job, ctx, files->paths[0], &first))
        return false;
    job->height = first.height;
    job->width = first.width;
    free(first.pixels);
    return true;
}

static bool check_channels(fb_context *ctx, fbi_import *job)
{
    job->channels = job->channels ? job->channels : 3;
    if (job->channels == 1 || job->channels == 3)
        return true;
    fb_fail(ctx, FB_E_ARG, "import: --channels %lld: images have 1 or 3", (long long)job->channels);
    return false;
}

int fbi_import_images(const fbi_import *given, fb_context *ctx)
{
    fbi_import mine = *given, *job = &mine;
    bool any_size = job->height > 0;
    fbi_files files = {0};
    bool good = check_channels(ctx, job) && fbi_files_find(&files, ctx, job->inputs[0], endings) &&
                find_size(job, ctx, &files);
    fb_dataset_field fields[] = {{.name = "input",
                                  .dtype = FB_U8,
                                  .shape = FB_SHAPE(job->channels, job->height, job->width),
                                  .scale = job->scale,
                                  .shift = job->shift},
                                 {.name = "target",
                                  .dtype = FB_I64,
                                  .labels = (const char *const *)files.names,
                                  .n_labels = files.n_classes}};
    fb_dataset *ds = fbi_import_create(job, ctx, fields, 2);
    unsigned char *planes =
        good ? malloc((size_t)(job->channels * job->height * job->width)) : NULL;
    if (good && !planes)
        fb_fail(ctx, FB_E_NOMEM, "import %s: no memory for an image", job->inputs[0]);
    int64_t begin, end;
    fbi_import_range(job, files.n, &begin, &end);
    if (ds && job->rank == 0)
        fbi_progress_begin(job->progress, "images", end - begin);
    for (int64_t i = begin; ds && planes && i < end; i++) {
        if (!add_image(job, ctx, ds, files.paths[i], files.classes[i], planes, any_size))
            break;
        fbi_progress_add(job->progress, 1);
    }
    free(planes);
    fbi_files_free(&files);
    return fbi_import_finish(ds);
}
