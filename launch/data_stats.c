#include "launch/data_stats_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/dataset_priv.h"

typedef struct values {
    int64_t n, nans;
    double least, most, mean, square; /* square: sum of squared differences from the mean */
    int64_t rows, fewest;             /* of samples that vary */
    int64_t *labels;                  /* how often each */
} values;

/* Welford: Note on a Method for Calculating Corrected Sums of Squares and Products (1962). */
static void add(values *v, double x)
{
    if (isnan(x)) {
        v->nans++;
        return;
    }
    v->n++;
    v->least = v->n == 1 || x < v->least ? x : v->least;
    v->most = v->n == 1 || x > v->most ? x : v->most;
    double before = x - v->mean;
    v->mean += before / (double)v->n;
    v->square += before * (x - v->mean);
}

/* One stored value as a double. */
static double value_at(fb_dtype dtype, const void *data, int64_t i)
{
    fb_dataset_field one = {.dtype = dtype, .scale = 1};
    float x;
    switch (dtype) {
    case FB_F64:
        return ((const double *)data)[i];
    case FB_I64:
        return (double)((const int64_t *)data)[i];
    case FB_I32:
        return ((const int32_t *)data)[i];
    default: /* F32 holds all values of the others */
        fbi_dataset_convert(&one, (const char *)data + (size_t)i * fb_dtype_size(dtype), 1, &x);
        return x;
    }
}

static bool read_field(fb_dataset *ds, const fb_dataset_field *f, values *v)
{
    v->labels = f->n_labels ? calloc((size_t)f->n_labels, sizeof *v->labels) : NULL;
    v->fewest = INT64_MAX;
    for (int64_t i = 0; i < fb_dataset_size(ds); i++) {
        FB_SCOPE(ds->ctx);
        fb_tensor *t = fb_dataset_sample(ds, f->name, i);
        const void *data = t ? fb_data(t) : NULL;
        if (!data)
            return false;
        int64_t rows = f->varies ? fb_size(t, 0) : 1;
        v->rows += rows;
        v->fewest = rows < v->fewest ? rows : v->fewest;
        for (int64_t k = 0; k < fb_numel(t); k++) {
            double x = value_at(f->dtype, data, k);
            add(v, x);
            if (v->labels && x >= 0 && x < (double)f->n_labels)
                v->labels[(int64_t)x]++;
        }
    }
    return true;
}

static void print(const fb_dataset *ds, const fb_dataset_field *f, const values *v)
{
    printf("%s: %" PRId64 " values", f->name, v->n + v->nans);
    if (v->n)
        printf(", %.6g to %.6g, mean %.6g, standard deviation %.6g", v->least, v->most, v->mean,
               sqrt(v->square / (double)v->n));
    if (v->nans)
        printf(", %" PRId64 " NaN", v->nans);
    if (f->varies)
        printf(", %" PRId64 " to %" PRId64 " rows a sample, %.6g on average", v->fewest, f->longest,
               (double)v->rows / (double)fb_dataset_size(ds));
    printf("\n");
    for (int64_t i = 0; i < f->n_labels && v->labels; i++)
        printf("  %-20s %" PRId64 "\n", fb_dataset_label(ds, f->name, i), v->labels[i]);
}

void fbi_data_stats(fb_dataset *ds)
{
    for (int i = 0; i < fb_dataset_field_count(ds); i++) {
        fb_dataset_field field = fb_dataset_field_at(ds, i);
        values v = {0};
        bool good = read_field(ds, &field, &v);
        if (good)
            print(ds, &field, &v);
        free(v.labels);
        if (!good)
            return;
    }
}
