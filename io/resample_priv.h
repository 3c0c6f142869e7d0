/* Images of other sizes: Pillow's definition, in F32, rounded once. */
#ifndef FLAMBEAU_IO_RESAMPLE_PRIV_H
#define FLAMBEAU_IO_RESAMPLE_PRIV_H

#include <flambeau/io/transform.h>

/* An image of U8 or F32; strides in elements, from a row, column or channel to the next. */
typedef struct fbi_picture {
    const void *data;
    fb_dtype dtype;
    int64_t height, width, channels;
    int64_t row, column, channel;
} fbi_picture;

/* A part of an image, in its pixels: [top, top + height) x [left, left + width). */
typedef struct fbi_box {
    double top, left, height, width;
} fbi_box;

/* Bytes of scratch memory to give a part, of at most the whole of an image, another size. */
size_t fbi_resample_scratch(int64_t from_height, int64_t from_width, int64_t height, int64_t width);
/* That part as planes [channels, height, width] of the same dtype; bilinear or bicubic. Pixels
 * outside of the part take part in what is antialiased. */
void fbi_resample(const fbi_picture *image, fbi_box part, const fb_resize_options *o,
                  int64_t height, int64_t width, void *planes, void *scratch);
/* Which of `from` pixels is nearest to pixel i of n over [begin, begin + length). */
int64_t fbi_resample_nearest(int64_t i, int64_t n, double begin, double length, int64_t from);

#endif
