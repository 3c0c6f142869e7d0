#include "launch/image_priv.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

/* libjpeg ends the program where it meets an error, unless it is led elsewhere. */
typedef struct watcher {
    struct jpeg_error_mgr manager; /* first: libjpeg gives a pointer to it */
    jmp_buf out;
    char text[JMSG_LENGTH_MAX];
} watcher;

static void leave(j_common_ptr jpeg)
{
    watcher *w = (watcher *)jpeg->err;
    jpeg->err->format_message(jpeg, w->text);
    longjmp(w->out, 1);
}

/* A file that was cut is a warning to libjpeg, which fills it up with grey. */
static void warn(j_common_ptr jpeg, int level)
{
    if (level < 0)
        leave(jpeg);
}

static bool begin(struct jpeg_decompress_struct *jpeg, const void *file, size_t bytes, int channels,
                  fbi_image *image)
{
    jpeg_create_decompress(jpeg);
    jpeg_mem_src(jpeg, file, bytes);
    jpeg_read_header(jpeg, TRUE);
    jpeg->out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    if ((size_t)jpeg->image_width * jpeg->image_height > FBI_IMAGE_PIXELS)
        return false;
    jpeg_start_decompress(jpeg);
    image->height = (int)jpeg->output_height;
    image->width = (int)jpeg->output_width;
    image->pixels = malloc((size_t)image->height * (size_t)image->width * (size_t)channels);
    return image->pixels != NULL;
}

static bool read_lines(struct jpeg_decompress_struct *jpeg, fbi_image *image)
{
    size_t line = (size_t)image->width * (size_t)image->channels;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = image->pixels + jpeg->output_scanline * line;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    return jpeg_finish_decompress(jpeg);
}

bool fbi_jpeg_read(const void *file, size_t bytes, int channels, fbi_image *image, char *text,
                   size_t size)
{
    struct jpeg_decompress_struct jpeg;
    watcher w = {.text = "it is too large, or there is no memory"};
    jpeg.err = jpeg_std_error(&w.manager);
    w.manager.error_exit = leave;
    w.manager.emit_message = warn;
    *image = (fbi_image){.channels = channels};
    bool good =
        !setjmp(w.out) && begin(&jpeg, file, bytes, channels, image) && read_lines(&jpeg, image);
    jpeg_destroy_decompress(&jpeg);
    if (good)
        return true;
    snprintf(text, size, "is no JPEG image, or is damaged: %s", w.text);
    free(image->pixels);
    image->pixels = NULL;
    return false;
}
