#include "launch/image_priv.h"

#include <stdio.h>
#include <stdlib.h>

#include <png.h>

bool fbi_png_read(const void *file, size_t bytes, int channels, fbi_image *image, char *text,
                  size_t size)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    const png_color black = {0, 0, 0}; /* behind what is transparent */
    *image = (fbi_image){.channels = channels};
    bool good = png_image_begin_read_from_memory(&png, file, bytes);
    if (good && (size_t)png.width * png.height > FBI_IMAGE_PIXELS) {
        snprintf(text, size, "is %u x %u pixels large", png.height, png.width);
        png_image_free(&png);
        return false;
    }
    png.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
    image->pixels = good ? malloc(PNG_IMAGE_SIZE(png)) : NULL;
    image->height = (int)png.height;
    image->width = (int)png.width;
    good = good && image->pixels && png_image_finish_read(&png, &black, image->pixels, 0, NULL);
    if (good)
        return true;
    snprintf(text, size, "is no PNG image, or is damaged: %s",
             png.message[0] ? png.message : "no memory");
    png_image_free(&png);
    free(image->pixels);
    image->pixels = NULL;
    return false;
}
