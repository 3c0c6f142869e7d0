#include "io/resample_priv.h"

#include <math.h>

#include "io/transform_priv.h"

/* One new pixel along one axis: old pixels first .. first + n - 1 with these weights. */
typedef struct tap {
    int64_t first, n;
    float *weight;
} tap;

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys 1981; Pillow has a = -0.5, PyTorch's interpolation without antialias -0.75. */
static double cubic(double x, double a)
{
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double weight_at(const fb_resize_options *o, double x)
{
    if (o->filter == FB_RESIZE_BICUBIC)
        return cubic(x, o->no_antialias ? -0.75 : -0.5);
    return triangle(x);
}

static double support(const fb_resize_options *o)
{
    return o->filter == FB_RESIZE_BICUBIC ? 2 : 1;
}

/* Weights of more pixels than there are, of an axis that gets smaller by `scale`. */
static int64_t most_weights(double scale)
{
    return 2 * (int64_t)ceil(2 * (scale > 1 ? scale : 1)) + 2;
}

/* Pixel i of `to` new ones over [begin, begin + length) of `from` old ones: a filter as wide as a
 * new pixel is, or as an old one where those are wider. */
static void set_tap(tap *t, const fb_resize_options *o, int64_t i, int64_t from, double begin,
                    double length, int64_t to)
{
    double scale = length / (double)to, stretch = scale > 1 && !o->no_antialias ? scale : 1;
    double centre = begin + ((double)i + 0.5) * scale, width = support(o) * stretch, sum = 0;
    int64_t first = (int64_t)floor(centre - width + 0.5);
    int64_t last = (int64_t)floor(centre + width + 0.5);
    t->first = first > 0 ? first : 0;
    t->n = (last < from ? last : from) - t->first;
    for (int64_t k = 0; k < t->n; k++) {
        double w = weight_at(o, ((double)(t->first + k) + 0.5 - centre) / stretch);
        t->weight[k] = (float)w;
        sum += t->weight[k];
    }
    /* What the image lacks: without antialias the outermost pixel stands for it, as in PyTorch. */
    for (int64_t k = first; o->no_antialias && k < last; k++)
        if (k < 0 || k >= from) {
            float w = (float)weight_at(o, (double)k + 0.5 - centre);
            t->weight[k < 0 ? 0 : t->n - 1] += w;
            sum += w;
        }
    for (int64_t k = 0; k < t->n; k++)
        t->weight[k] = (float)(t->weight[k] / sum);
}

static float *make_taps(tap *taps, float *weights, const fb_resize_options *o, int64_t from,
                        double begin, double length, int64_t to)
{
    int64_t most = most_weights(length / (double)to);
    for (int64_t i = 0; i < to; i++, weights += most) {
        taps[i].weight = weights;
        set_tap(&taps[i], o, i, from, begin, length, to);
    }
    return weights;
}

size_t fbi_resample_scratch(int64_t from_height, int64_t from_width, int64_t height, int64_t width)
{
    size_t taps = (size_t)(height + width) * sizeof(tap);
    int64_t weights = height * most_weights((double)from_height / (double)height) +
                      width * most_weights((double)from_width / (double)width);
    int64_t narrow = from_height * width + from_width + width;
    return taps + (size_t)(weights + narrow) * sizeof(float);
}

/* A row of one channel as F32. */
static void read_row(const fbi_picture *image, int64_t y, int64_t c, float *line)
{
    int64_t at = y * image->row + c * image->channel;
    if (image->dtype == FB_F32)
        for (int64_t x = 0; x < image->width; x++)
            line[x] = ((const float *)image->data)[at + x * image->column];
    else
        for (int64_t x = 0; x < image->width; x++)
            line[x] = ((const uint8_t *)image->data)[at + x * image->column];
}

static void squeeze_row(const float *line, const tap *taps, int64_t width, float *out)
{
    for (int64_t x = 0; x < width; x++) {
        const float *from = line + taps[x].first, *weight = taps[x].weight;
        int64_t n = taps[x].n, k = 0;
        float sum = 0;
        for (; k + 2 <= n; k += 2) {
            sum += weight[k] * from[k];
            sum += weight[k + 1] * from[k + 1];
        }
        if (k < n)
            sum += weight[k] * from[k];
        out[x] = sum;
    }
}

static void squeeze_column(const float *rows, const tap *t, int64_t width, float *out)
{
    for (int64_t x = 0; x < width; x++)
        out[x] = 0;
    for (int64_t k = 0; k < t->n; k++)
        for (int64_t x = 0; x < width; x++)
            out[x] += t->weight[k] * rows[k * width + x];
}

void fbi_resample(const fbi_picture *image, fbi_box part, const fb_resize_options *o,
                  int64_t height, int64_t width, void *planes, void *scratch)
{
    tap *columns = scratch, *rows = columns + width;
    float *weights = (float *)(rows + height);
    weights = make_taps(columns, weights, o, image->width, part.left, part.width, width);
    weights = make_taps(rows, weights, o, image->height, part.top, part.height, height);
    float *line = weights, *sums = line + image->width, *narrow = sums + width;
    int64_t first = rows[0].first, last = rows[height - 1].first + rows[height - 1].n;
    for (int64_t c = 0; c < image->channels; c++) {
        for (int64_t y = first; y < last; y++) {
            read_row(image, y, c, line);
            squeeze_row(line, columns, width, narrow + (y - first) * width);
        }
        for (int64_t y = 0; y < height; y++) {
            int64_t at = (c * height + y) * width;
            squeeze_column(narrow + (rows[y].first - first) * width, &rows[y], width, sums);
            fbi_floats_to(sums, width, image->dtype,
                          (char *)planes + (size_t)at * fb_dtype_size(image->dtype));
        }
    }
}

int64_t fbi_resample_nearest(int64_t i, int64_t n, double begin, double length, int64_t from)
{
    int64_t at = (int64_t)floor(begin + ((double)i + 0.5) * length / (double)n);
    return at < 0 ? 0 : at < from ? at : from - 1;
}
