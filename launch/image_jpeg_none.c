#include "launch/image_priv.h"

#include <stdio.h>

bool fbi_jpeg_read(const void *file, size_t bytes, int channels, fbi_image *image, char *text,
                   size_t size)
{
    (void)file;
    (void)bytes;
    (void)channels;
    (void)image;
    snprintf(
        text, size, "%s",
        "cannot be read by this build, which has no libjpeg: install libjpeg62-turbo-dev (Debian's "
        "name), then configure again");
    return false;
}
