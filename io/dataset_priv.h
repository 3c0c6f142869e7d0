/* A dataset as the loader sees it. */
#ifndef FLAMBEAU_IO_DATASET_PRIV_H
#define FLAMBEAU_IO_DATASET_PRIV_H

#include <stdatomic.h>

#include <flambeau/io/dataset.h>

#include "core/tensor/context_priv.h"
#include "io/order_priv.h"

/* 1: fields of fixed size. 2: also fields that vary, labels, splits, checksums of blocks. */
enum {
    FBI_DATASET_FORMAT = 2,
    FBI_NAME_BYTES = 128,
    FBI_PATH_BYTES = 4096,
    FBI_MAX_SPLITS = 16,
    FBI_BLOCK_BYTES = 1 << 16 /* of a field in a shard, to each checksum */
};

/* Behind the name of a file that is being written. */
#define FBI_PART ".part"

/* Where a field lies in a shard, as offsets of the file. */
typedef struct fbi_place {
    int64_t at, rows;  /* first byte and number of rows (fixed: samples) of the values */
    int64_t offsets;   /* varies: first byte of the shard's n + 1 first rows, I64 */
    int64_t checksums; /* XXH3-64 of each block of the values; 0: none, format 1 */
} fbi_place;

typedef struct fbi_shard {
    char name[FBI_NAME_BYTES]; /* beside the head */
    char hash[17];             /* XXH3-64 of the whole file, hex */
    int64_t begin, n, bytes;   /* first sample, samples, file size */
    atomic_int fd;             /* -1: not open, or not kept open */
    fbi_place place[FB_MAX_FIELDS];
    char *held[FB_MAX_FIELDS];      /* all values, of fields that are small; NULL: read by sample */
    int64_t *starts[FB_MAX_FIELDS]; /* varies and held: the n + 1 first rows */
} fbi_shard;

/* Values of one field that wait for their shard. */
typedef struct fbi_field_rows {
    char *data;
    size_t bytes, room;
    int64_t *starts; /* varies: first row of each sample, and the row behind the last */
    int64_t n_starts, starts_room;
} fbi_field_rows;

/* One shard's samples are held in memory, so that a shard file is written once, with its right
 * size. */
typedef struct fbi_dataset_writer {
    fb_group *group;  /* or NULL */
    int64_t capacity; /* samples of a shard */
    size_t most;      /* and bytes, where the number of samples does not say that */
    int64_t n;
    fbi_field_rows fields[FB_MAX_FIELDS];
    int n_old;      /* shards that were there before */
    int next, step; /* number of the next shard; other ranks have those between */
} fbi_dataset_writer;

typedef struct fbi_cache fbi_cache;
typedef struct fbi_ring fbi_ring;

/* A dataset made of others: what is different. Like fbi_dataset_fetch, thread-safe. */
typedef struct fbi_dataset_view {
    fb_status (*fetch)(fb_dataset *ds, int64_t index, void *const *out, int64_t *rows, char *text,
                       size_t size);
    /* See fbi_dataset_fetch_rows and fbi_dataset_lengths_here; NULL if no field varies. */
    fb_status (*fetch_rows)(fb_dataset *ds, int f, int64_t index, int64_t first, int64_t n,
                            void *out, char *text, size_t size);
    fb_status (*lengths)(fb_dataset *ds, int f, int32_t *out, char *text, size_t size);
    void (*free)(void *parts);
    /* The dataset number i that it is made of; NULL: there are no more. */
    fb_dataset *(*part)(const void *parts, int i);
} fbi_dataset_view;

struct fb_dataset {
    fb_context *ctx;
    char path[FBI_PATH_BYTES];
    char id[17];
    int64_t size, total; /* samples: of the selected split, and of all */
    int n_fields;
    fb_dataset_field fields[FB_MAX_FIELDS];
    char names[FB_MAX_FIELDS][FBI_NAME_BYTES];
    size_t bytes[FB_MAX_FIELDS];  /* of one stored sample, or of a row if it varies */
    char **labels[FB_MAX_FIELDS]; /* own copies, one block each */
    fb_dataset_split splits[FBI_MAX_SPLITS];
    char split_names[FBI_MAX_SPLITS][FBI_NAME_BYTES];
    int n_splits, selected; /* -1: all samples */
    fbi_order order;        /* of the selected split */
    fbi_shard *shards;
    int n_shards, max_open;
    atomic_int n_open;    /* shards kept open, at most max_open */
    fbi_cache *cache;     /* of the shards, on a disk of this node (io/cache.c); NULL: none */
    fbi_ring *ring;       /* of samples that the program pushes (io/ring.c); else NULL */
    fb_dataset_read read; /* custom */
    void *user;
    bool whole; /* a fetch fills every field of fixed shape: none may be left out */
    const fbi_dataset_view *view; /* made of others, */
    void *parts;                  /* of these */
    fbi_dataset_writer *writer;   /* until it is finished */
    bool written;                 /* or being written: not for reading */
};

/* A dataset with these fields, checked and copied, adopted by the context. NULL: error is set. */
fb_dataset *fbi_dataset_new(fb_context *ctx, const char *path, const fb_dataset_field *fields,
                            int n_fields);
void fbi_dataset_free(void *ds);
/* The folder is left out. How much of the name is left without ".h5": shards begin with it. */
const char *fbi_dataset_base(const fb_dataset *ds);
int fbi_dataset_stem(const fb_dataset *ds);
/* Free the writer of a dataset that has one; if it was not finished, remove the shards written. */
void fbi_dataset_writer_free(fb_dataset *ds);
/* Open for reading on this process alone. NULL: error is set. */
fb_dataset *fbi_dataset_open_here(fb_context *ctx, const char *path);
/* A file cannot be written: why is in errno. */
fb_status fbi_dataset_write_failed(fb_dataset *ds, const char *file);
/* Write the samples that wait as the next shard (io/dataset_shard.c). */
fb_status fbi_dataset_write_shard(fb_dataset *ds);
/* A shard is there, has its size and belongs here; says where its fields lie. */
fb_status fbi_dataset_look_at_shard(fb_dataset *ds, fbi_shard *shard);
/* Put the head in its place and remove shards that no head needs any more (io/dataset_head.c). */
fb_status fbi_dataset_write_head(fb_dataset *ds);
/* Read the fields of up to 64 MiB into memory: a system call costs more than a sample's bytes. */
fb_status fbi_dataset_hold(fb_dataset *ds);
/* Index of a field by name, or -1. */
int fbi_dataset_field(const fb_dataset *ds, const char *name);
/* Own copies of a field's labels; false: no memory. */
bool fbi_dataset_set_labels(fb_dataset *ds, int f, const char *const *labels, int64_t n);
/* Bytes of field f in a shard. */
size_t fbi_dataset_field_bytes(const fb_dataset *ds, const fbi_shard *shard, int f);
/* What the head says beside the fields, as JSON, malloc'ed; NULL: no memory. Reading sets shards
 * (without looking at them), splits and labels. */
char *fbi_dataset_notes(const fb_dataset *ds);
void fbi_dataset_sort_fields(const char *notes, fb_dataset_field *fields, int n);
fb_status fbi_dataset_read_notes(fb_dataset *ds, const char *text);
/* One more split, with a name of its own. */
fb_status fbi_dataset_add_split(fb_dataset *ds, const fb_dataset_split *split);
/* All of them lie in the dataset. */
fb_status fbi_dataset_check_splits(fb_dataset *ds);
/* Which of all samples is sample `index` of the selected split. */
int64_t fbi_dataset_place(const fb_dataset *ds, int64_t index);
/* Path of a file beside the head. */
void fbi_dataset_beside(const fb_dataset *ds, const char *name, char *out);

/* Samples as stored, of a field with a scale, to F32. */
void fbi_dataset_convert(const fb_dataset_field *field, const void *stored, int64_t samples,
                         float *out);

/* Read sample `index` of every field. Thread-safe, touches no context. rows[f] of a field that
 * varies says how many rows there is room for, and then how many the sample has: what is more is
 * left out. NULL: such fields are left out. On failure returns a status and leaves a message in
 * text. */
fb_status fbi_dataset_fetch(fb_dataset *ds, int64_t index, void *const *out, int64_t *rows,
                            char *text, size_t size);
/* Rows first .. first + n of a field that varies, as stored. Else like fbi_dataset_fetch. */
fb_status fbi_dataset_fetch_rows(fb_dataset *ds, int f, int64_t index, int64_t first, int64_t n,
                                 void *out, char *text, size_t size);
/* Samples first .. first + n, neighbours on the disk, will be fetched soon: the kernel may read
 * them by long reads. Thread-safe; nothing happens if it cannot. */
void fbi_dataset_ahead(fb_dataset *ds, int64_t first, int64_t n);
/* Stored integers as I64. */
void fbi_dataset_integers(fb_dtype dtype, const void *stored, int64_t n, int64_t *out);
/* Rows of each sample of a field that varies (io/dataset_lengths.c), read by rank 0 of a group and
 * told to the others; NULL: this process alone. malloc'ed; NULL: error is set. Collective. */
int32_t *fbi_dataset_lengths(fb_dataset *ds, fb_group *group, int f);
/* The same of the selected split into memory; on failure a status and a message in text. */
fb_status fbi_dataset_lengths_here(fb_dataset *ds, int f, int32_t *out, char *text, size_t size);
/* Stored bytes of a sample, of the mean one if fields vary. */
double fbi_dataset_sample_bytes(const fb_dataset *ds);
/* Whether samples come from where a thread may have to wait: files, or the program. */
bool fbi_dataset_waits(const fb_dataset *ds);
/* Bytes of a shard's file from `at`; false: `text` says why not. Thread-safe. */
bool fbi_dataset_read_at(fb_dataset *ds, fbi_shard *shard, void *out, size_t bytes, int64_t at,
                         char *text, size_t size);
/* The samples of a shard whose bytes in field f are damaged: the first and the last of the first
 * block that is. false: all is well, or there are no checksums, or `text` says what else is wrong.
 * `values`: those of the field, or NULL to read them. */
bool fbi_dataset_find_damage(fb_dataset *ds, fbi_shard *shard, int f, const char *values,
                             int64_t *first, int64_t *last, char *text, size_t size);
/* Shape that the loader delivers for a field. */
fb_shape fbi_dataset_deliver_shape(const fb_dataset_field *field);

#endif
