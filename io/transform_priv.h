/* Transforms from inside: kinds, a loader's list of them, and what a thread needs to run it. */
#ifndef FLAMBEAU_IO_TRANSFORM_PRIV_H
#define FLAMBEAU_IO_TRANSFORM_PRIV_H

#include <flambeau/io/transform.h>

#include "io/dataset_priv.h"

/* A field somewhere in a list: its whole sample, with the rows it has room for if it varies. */
typedef struct fbi_field {
    char name[FBI_NAME_BYTES];
    fb_dtype dtype;
    fb_shape shape;
    bool varies;
    double scale, shift; /* still to be applied; scale 0: none */
} fbi_field;

typedef struct fbi_fields {
    fbi_field f[FB_MAX_FIELDS];
    int n;
} fbi_fields;

enum { FBI_STEP_FIELDS = 2 };

/* A transform on the fields of one list. */
typedef struct fbi_step {
    const fb_transform *t;
    int number; /* in the list: which random numbers it gets */
    int n, in[FBI_STEP_FIELDS], out[FBI_STEP_FIELDS];
    bool last[FBI_STEP_FIELDS];                                /* nobody changes the field later */
    fbi_field before[FBI_STEP_FIELDS], after[FBI_STEP_FIELDS]; /* what it reads and writes */
    size_t scratch; /* bytes that it needs while it runs */
} fbi_step;

/* One run of a transform on a sample, by a thread. */
typedef struct fbi_call {
    fb_rng *rng;
    const fb_sample *sample;
    const fbi_field *before; /* of `in` */
    const fb_value *in[FBI_STEP_FIELDS];
    fb_value *out[FBI_STEP_FIELDS]; /* data, dtype, shape are set; rows are those of `in` */
    void *scratch;
    char *text; /* of an error */
    size_t size;
    struct fbi_walk *walk; /* of fbi_call_other */
    int step;
} fbi_call;

typedef struct fbi_transform_kind {
    const char *name;
    bool pairs; /* asks for a second sample */
    bool names; /* says itself which fields it changes */
    /* What becomes of field f, and what the step is; on failure `text` says why not. */
    fb_status (*infer)(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step, char *text,
                       size_t size);
    fb_status (*run)(const fb_transform *t, fbi_call *call);
    void (*free)(fb_transform *t); /* of what it points to; or NULL */
} fbi_transform_kind;

/* First member of every transform. It does not change once it is in a list. */
struct fb_transform {
    fb_context *ctx;
    const fbi_transform_kind *kind;
    const char *name; /* in messages */
    bool pairs, names;
    int uses;      /* the program, lists, and transforms of transforms */
    uint64_t hash; /* of its options */
    bool named;
    int n_fields;
    char fields[FB_MAX_FIELDS][FBI_NAME_BYTES];
};

/* A transform of `size` bytes, which the context closes. NULL: error is set. */
void *fbi_transform_new(fb_context *ctx, const fbi_transform_kind *kind, size_t size);
/* "transform NAME: ..." as FB_E_ARG; NULL. */
void *fbi_transform_refuse(fb_context *ctx, const fbi_transform_kind *kind, const char *format, ...)
    FB_PRINTF(3, 4);
/* More of what decides the result, for the hash. */
void fbi_transform_note(fb_transform *t, const double *values, size_t n);
void fbi_transform_note_text(fb_transform *t, const char *text);
#define FBI_NOTE(t, ...)                                   \
    fbi_transform_note((t), (const double[]){__VA_ARGS__}, \
                       sizeof(const double[]){__VA_ARGS__} / sizeof(double))
void fbi_transform_retain(fb_transform *t);
void fbi_transform_release(fb_transform *t);
/* A field by name; -1. */
int fbi_fields_find(const fbi_fields *fields, const char *name);
/* One more; -1: there are FB_MAX_FIELDS. */
int fbi_fields_add(fbi_fields *fields, const char *name);
size_t fbi_field_bytes(const fbi_field *field);
size_t fbi_value_bytes(const fb_value *value);
/* Rows that a value has: along the first dimension. */
int64_t fbi_value_rows(const fb_value *value);
/* Element i of whole numbers; -1 for other dtypes. */
int64_t fbi_value_whole(const fb_value *value, int64_t i);
bool fbi_is_whole(fb_dtype dtype);
/* out = in. */
void fbi_value_copy(const fb_value *in, fb_value *out);
/* A second sample, as the list makes it up to this call: value k of it into other[k]. */
fb_status fbi_call_other(fbi_call *call, const fb_value *other[FBI_STEP_FIELDS]);

/* An image among dimensions: planes of height x width. false: `text` says what it is instead. */
typedef struct fbi_planes {
    int64_t n, height, width;
} fbi_planes;
fb_status fbi_field_planes(const fbi_field *field, fbi_planes *planes, char *text, size_t size);
fbi_planes fbi_value_planes(const fb_value *value);
/* Give the field's images another size. */
void fbi_field_resize(fbi_field *field, int64_t height, int64_t width);
/* An element of this dtype that is `x`, rounded and limited, into out; false: there is none. */
bool fbi_element(fb_dtype dtype, double x, void *out);
/* n elements of `bytes` bytes, all like `element`. */
void fbi_fill(void *out, const void *element, size_t bytes, int64_t n);

/* Reads values of U8 or F32 as F32 and back; U8 is rounded and limited. */
void fbi_floats_from(const void *in, fb_dtype dtype, int64_t n, float *out);
void fbi_floats_to(const float *in, int64_t n, fb_dtype dtype, void *out);

/* --- a loader's list (io/pipeline.c) --- */

typedef struct fbi_pipeline fbi_pipeline;

/* A list on the fields of a dataset, which become `fields`. NULL: error is set. */
fbi_pipeline *fbi_pipeline_open(fb_dataset *ds, fb_transforms list, fbi_fields *fields);
void fbi_pipeline_close(fbi_pipeline *p);
/* Bytes that a thread needs to run it. */
size_t fbi_pipeline_scratch(const fbi_pipeline *p);
/* Of all that decides what it makes, but a program's own functions. */
uint64_t fbi_pipeline_hash(const fbi_pipeline *p);

/* A sample as it is stored, and where it goes. */
typedef struct fbi_pipeline_job {
    uint64_t seed;
    int64_t epoch, index;
    int64_t draw; /* as in fbi_sample */
    int64_t n;    /* samples of the dataset that others are drawn from */
    const void *const *in;
    const int64_t *in_rows;
    void *const *out;
    int64_t *rows; /* of fields that vary: for how many there is room, and then how many there are;
                      what is behind these is not written */
    void *scratch; /* aligned like malloc's */
    char *text;    /* of an error */
    size_t size;
} fbi_pipeline_job;

/* One sample through the list. Thread-safe with scratch memory of its own. */
fb_status fbi_pipeline_run(const fbi_pipeline *p, const fbi_pipeline_job *job);

#endif
