#include "launch/image_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One new pixel along one axis: old pixels first .. first + n - 1 with these weights. */
typedef struct tap {
    int first, n;
    float *weight;
} tap;

/* Of `to` new pixels over [begin, begin + length) of `from` old ones. */
static void set_tap(tap *t, int i, int from, double begin, double length, int to)
{
    double scale = length / to, width = scale > 1 ? scale : 1;
    double centre = begin + (i + 0.5) * scale, sum = 0;
    int first = (int)floor(centre - width + 0.5), last = (int)floor(centre + width + 0.5);
    t->first = first > 0 ? first : 0;
    last = last < from ? last : from;
    t->n = last - t->first;
    for (int k = 0; k < t->n; k++) {
        double weight = 1 - fabs((t->first + k + 0.5 - centre) / width);
        t->weight[k] = weight > 0 ? (float)weight : 0;
        sum += t->weight[k];
    }
    for (int k = 0; k < t->n; k++)
        t->weight[k] = (float)(t->weight[k] / sum);
}

static tap *make_taps(int from, double begin, double length, int to)
{
    int most = 2 * (int)ceil(length / to > 1 ? length / to : 1) + 2;
    tap *taps = malloc((size_t)to * (sizeof *taps + (size_t)most * sizeof(float)));
    for (int i = 0; taps && i < to; i++) {
        taps[i].weight = (float *)(taps + to) + (size_t)i * (size_t)most;
        set_tap(&taps[i], i, from, begin, length, to);
    }
    return taps;
}

static unsigned char round_to_byte(float x)
{
    return (unsigned char)(x < 0 ? 0 : x > 255 ? 255 : lrintf(x));
}

/* [height, width, channels] to [height, new width, channels]. */
static void squeeze_lines(const fbi_image *image, const tap *taps, int width, float *out)
{
    int channels = image->channels;
    for (int y = 0; y < image->height; y++) {
        const unsigned char *line =
            image->pixels + (size_t)y * (size_t)image->width * (size_t)channels;
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++) {
                float sum = 0;
                for (int k = 0; k < taps[x].n; k++)
                    sum += taps[x].weight[k] * line[(taps[x].first + k) * channels + c];
                *out++ = sum;
            }
    }
}

bool fbi_image_resize(const fbi_image *image, fbi_crop part, int height, int width,
                      unsigned char *planes)
{
    size_t channels = (size_t)image->channels, line = (size_t)width * channels;
    tap *columns = make_taps(image->width, part.left, part.width, width);
    tap *rows = make_taps(image->height, part.top, part.height, height);
    float *narrow = malloc((size_t)image->height * line * sizeof *narrow);
    bool good = columns && rows && narrow;
    if (good)
        squeeze_lines(image, columns, width, narrow);
    for (int y = 0; good && y < height; y++)
        for (size_t i = 0; i < line; i++) {
            float sum = 0;
            for (int k = 0; k < rows[y].n; k++)
                sum += rows[y].weight[k] * narrow[(size_t)(rows[y].first + k) * line + i];
            planes[((i % channels) * (size_t)height + (size_t)y) * (size_t)width + i / channels] =
                round_to_byte(sum);
        }
    free(columns);
    free(rows);
    free(narrow);
    return good;
}
