/* Pictures of other programs as pixels. */
#ifndef FLAMBEAU_LAUNCH_IMAGE_PRIV_H
#define FLAMBEAU_LAUNCH_IMAGE_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "io/resample_priv.h"

enum { FBI_IMAGE_PIXELS = 1 << 28 }; /* at most */

typedef struct fbi_image {
    int height, width, channels;
    unsigned char *pixels; /* [height, width, channels], malloc'ed */
} fbi_image;

/* Decode a whole file as 1 or 3 channels. false: `text` says why not. */
bool fbi_png_read(const void *file, size_t bytes, int channels, fbi_image *image, char *text,
                  size_t size);
bool fbi_jpeg_read(const void *file, size_t bytes, int channels, fbi_image *image, char *text,
                   size_t size);

/* A part of an image at another size, as planes [channels, height, width]: bilinear, antialiased.
 * false: no memory. */
bool fbi_image_resize(const fbi_image *image, fbi_box part, int height, int width,
                      unsigned char *planes);

#endif
