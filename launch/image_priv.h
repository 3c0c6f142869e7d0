/* Pictures of other programs as pixels. */
#ifndef FLAMBEAU_LAUNCH_IMAGE_PRIV_H
#define FLAMBEAU_LAUNCH_IMAGE_PRIV_H

#include <stdbool.h>
#include <stddef.h>

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

/* Rows and columns [top, top + height) x [left, left + width) of an image, in its own unit. */
typedef struct fbi_crop {
    double top, left, height, width;
} fbi_crop;
/* That part at another size, as planes [channels, height, width]: a triangle as wide as a new pixel
 * is, or as an old one where those are wider. false: no memory. */
bool fbi_image_resize(const fbi_image *image, fbi_crop part, int height, int width,
                      unsigned char *planes);

#endif
