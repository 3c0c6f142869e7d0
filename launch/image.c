#include "launch/image_priv.h"

#include <stdlib.h>

bool fbi_image_resize(const fbi_image *image, fbi_box part, int height, int width,
                      unsigned char *planes)
{
    const fbi_picture picture = {.data = image->pixels,
                                 .dtype = FB_U8,
                                 .height = image->height,
                                 .width = image->width,
                                 .channels = image->channels,
                                 .row = (int64_t)image->width * image->channels,
                                 .column = image->channels,
                                 .channel = 1};
    void *scratch = malloc(fbi_resample_scratch(image->height, image->width, height, width));
    if (scratch)
        fbi_resample(&picture, part, &(fb_resize_options){0}, height, width, planes, scratch);
    free(scratch);
    return scratch != NULL;
}
