/* Collecting samples, and making their inputs. */
#include "core/ops/sample_priv.h"

#include <math.h>
#include <string.h>

void fbi_sample_bad(fbi_samples *s, const void *attrs, int n_in, const fbi_sample_in *in,
                    fb_status status, const char *text)
{
    if (s->n == FBI_SAMPLES_MAX || n_in > FBI_SAMPLE_INPUTS ||
        s->op->attrs_bytes > FBI_SAMPLE_ATTRS)
        return;
    fbi_sample *to = &s->s[s->n++];
    if (attrs)
        memcpy(to->attrs, attrs, s->op->attrs_bytes);
    to->n_in = n_in;
    for (int i = 0; i < n_in; i++)
        to->in[i] = in[i];
    to->status = status;
    to->text = text;
}

void fbi_sample_add(fbi_samples *s, const void *attrs, int n_in, const fbi_sample_in *in)
{
    fbi_sample_bad(s, attrs, n_in, in, FB_OK, "");
}

double fbi_sample_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (double)(*seed >> 8) / 16777216.0;
}

/* Values as matrices of the kind that the sample wants. */
static void as_matrices(const fbi_sample_in *in, double *v)
{
    int64_t rows = in->shape.d[in->shape.n - 2], cols = in->shape.d[in->shape.n - 1];
    int64_t n = fb_shape_numel(in->shape);
    for (int64_t b = 0; b + rows * cols <= n && n; b += rows * cols)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++) {
                if (in->matrix != 'r' && i > j)
                    v[b + i * cols + j] = v[b + j * cols + i];
                if (in->matrix != 's' && i == j)
                    v[b + i * cols + j] += (double)rows;
            }
}

void fbi_sample_values(const fbi_sample_in *in, bool floats, double *v, uint32_t *seed)
{
    int64_t n = fb_shape_numel(in->shape);
    for (int64_t i = 0; i < n; i++) {
        v[i] = in->lo + (in->hi - in->lo) * fbi_sample_random(seed);
        if (in->distinct) /* a permutation of equally spaced values */
            v[i] = in->lo + (in->hi - in->lo) * (double)((i * 7919 + 13) % n) / (double)n;
        if (!floats)
            v[i] = floor(v[i]);
    }
    if (in->matrix)
        as_matrices(in, v);
}
