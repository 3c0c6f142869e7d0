/* Datasets: HDF5 files of samples with named fields, or samples made by the program. */
#ifndef FLAMBEAU_IO_DATASET_H
#define FLAMBEAU_IO_DATASET_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

typedef struct fb_group fb_group;
typedef struct fb_dataset fb_dataset;

#define FB_MAX_FIELDS 16

/** One field of every sample, e.g. "input" or "target". */
typedef struct fb_dataset_field {
    const char *name;
    fb_dtype dtype;            /**< as stored: any dtype */
    fb_shape shape;            /**< of one sample as stored; FB_SCALAR for a single value */
    fb_shape deliver;          /**< of one sample as the loader gives it; n = 0: like `shape` */
    double scale, shift;       /**< scale != 0: the loader delivers F32 = x * scale + shift */
    bool varies;               /**< a sample is any number of rows of `shape`: text, sound */
    int64_t longest;           /**< rows of the longest sample; found out by the dataset */
    const char *const *labels; /**< names of the values 0 .. n_labels - 1, or NULL */
    int64_t n_labels;
} fb_dataset_field;

/** A part of a dataset: places begin .. begin + n of a seeded order, which costs no memory. */
typedef struct fb_dataset_split {
    const char *name;
    int64_t begin, n;
    uint64_t seed; /**< 0: the order in which samples were appended */
    int64_t of;    /**< the order is over the first so many samples; 0: all */
} fb_dataset_split;

typedef struct fb_dataset_options {
    int64_t shard_samples; /**< samples of a shard file; 0: as many as make shard_bytes */
    int64_t shard_bytes;   /**< 0: 512 MiB, of which writing needs twice as much memory */
    fb_group *group;       /**< all of its ranks write; NULL: this process alone */
} fb_dataset_options;

/**
 * Start writing a dataset: the head `path` (name.h5) and shards name-<id>-00000.h5 beside it.
 * The head is written by fb_dataset_finish; before that the dataset does not exist, and an earlier
 * one of this path can be read. One process at a time, or the ranks of opts->group: each appends
 * samples of its own, and those of rank 0 come first in the dataset. Collective then. FB_E_ARG,
 * FB_E_DTYPE, FB_E_SHAPE, FB_E_NOMEM.
 */
FB_API FB_USE_RESULT fb_dataset *fb_dataset_create(fb_context *ctx, const char *path,
                                                   const fb_dataset_field *fields, int n_fields,
                                                   const fb_dataset_options *opts);
/**
 * Open a dataset to append to it: its shards stay as they are, fb_dataset_finish puts a new head in
 * the place of the old one. Collective if opts->group is set. Errors of fb_dataset_open.
 */
FB_API FB_USE_RESULT fb_dataset *fb_dataset_extend(fb_context *ctx, const char *path,
                                                   const fb_dataset_options *opts);
/** Append n samples: values[f] points to n samples of field f, row-major, in the stored dtype.
 * FB_E_ARG, FB_E_STATE, FB_E_IO: a shard cannot be written, e.g. the disk is full. */
FB_API fb_status fb_dataset_append(fb_dataset *ds, int64_t n, const void *const *values);
/** The same with fields that vary: rows[f] holds the number of rows of each of the n samples, which
 * lie in values[f] one behind the other; NULL for fields that do not vary. */
FB_API fb_status fb_dataset_append_rows(fb_dataset *ds, int64_t n, const void *const *values,
                                        const int64_t *const *rows);
/**
 * Say how a dataset that is being written is split, in place of what was said before. Splits may
 * overlap. FB_E_ARG for names that are empty, too long or there twice, FB_E_STATE; whether
 * they lie in the dataset is looked at by fb_dataset_finish (FB_E_ARG).
 */
FB_API fb_status fb_dataset_set_splits(fb_dataset *ds, const fb_dataset_split *splits, int n);
/**
 * Write the last shard and the head, then remove the shards of an earlier dataset of this path. A
 * dataset that is closed without it leaves nothing behind. Collective if a group writes. FB_E_ARG
 * without samples, FB_E_STATE, FB_E_IO.
 */
FB_API fb_status fb_dataset_finish(fb_dataset *ds);

/**
 * Open a dataset for reading, on this process. Every shard is checked for presence, size and
 * identity. Fields of up to 64 MiB in all are read into memory now, others sample by sample.
 * FB_E_NOT_FOUND, FB_E_IO with the file and what is wrong with it.
 */
FB_API FB_USE_RESULT fb_dataset *fb_dataset_open(fb_context *ctx, const char *path);
/**
 * The same for all ranks of a group: rank 0 looks at the files and tells the others, which saves a
 * parallel file system from as many openings as ranks times shards. Collective. On failure every
 * rank gets the error, with the rank that it happened on.
 */
FB_API FB_USE_RESULT fb_dataset *fb_dataset_open_shared(fb_group *group, const char *path);

/** Fills one sample: out[f] is where field f goes. Called by the loader's threads, several at a
 * time. 0: good. */
typedef int (*fb_dataset_read)(void *user, int64_t index, void *const *out);
/** A dataset of `size` samples made by a callback, which must be thread-safe and touch no context.
 * Its fields cannot vary: FB_E_UNSUPPORTED. */
FB_API FB_USE_RESULT fb_dataset *fb_dataset_custom(fb_context *ctx, int64_t size,
                                                   const fb_dataset_field *fields, int n_fields,
                                                   fb_dataset_read read, void *user);

typedef struct fb_ring_options {
    bool once; /**< a sample is in one epoch, and leaves the ring when that begins; else it stays
                  until `capacity` newer ones are there */
} fb_ring_options;

/**
 * Samples that the program makes while it trains, e.g. a simulation of which a network learns: it
 * pushes them, and a loader gives them. Each rank has samples of its own. fb_loader_epoch begins an
 * epoch with the samples that are there at that moment, in the order in which they were pushed, or
 * shuffled; what is pushed meanwhile is for the next. Ranks may have different numbers of them: who
 * has run out brings empty leaves to a step (with drop_last, the epoch ends there), and with a
 * group fb_loader_epoch is collective when an epoch begins. fb_loader_indices gives numbers since
 * the first push of the rank. A ring has one loader at a time; `capacity` is the same on every
 * rank. Batches depend on nothing but pushes and epochs, in the order in which the program makes
 * them.
 *
 * Samples are in no checkpoint: a loader that goes on from one has its counts of epochs and steps,
 * and begins a new epoch with what has been pushed by then (FB_E_STATE if that is nothing).
 *
 * @param capacity samples held for the next epoch; the current one holds as many beside them
 * @return         FB_E_ARG, FB_E_UNSUPPORTED if a field varies, FB_E_NOMEM
 */
FB_API FB_USE_RESULT fb_dataset *fb_dataset_ring(fb_context *ctx, int64_t capacity,
                                                 const fb_dataset_field *fields, int n_fields,
                                                 const fb_ring_options *opts);
/**
 * Push n samples, as fb_dataset_append takes them; they are copied. Any thread may call it: then
 * which epoch they are in depends on when it does. The oldest ones give way; with `once` nothing is
 * lost: FB_AGAIN, without an error, if there is no room for all n, and none is taken: begin an
 * epoch first. fb_dataset_size says how many are there. FB_E_ARG, FB_E_STATE if it is no ring,
 * FB_E_NOMEM.
 */
FB_API fb_status fb_dataset_push(fb_dataset *ds, int64_t n, const void *const *values);

typedef struct fb_mix_options {
    int64_t block; /**< draws in which the proportions are exact; 0: 1000 */
} fb_mix_options;

/**
 * Several datasets with the same fields as one, of all their samples, source after source. The
 * sources must live longer, and their splits are selected before. With weights, each source has a
 * part of a loader's draws that is in proportion to its weight: a multiple of 1 / block, exact in
 * each block of draws, in an order of its own; it begins again when it is exhausted, while others
 * go on. Draws go on over the epochs, which have as many as all sources together have samples
 * (fb_loader_options.epoch_samples).
 *
 * @param weights of n sources; NULL: the samples of all sources are one set, each as likely
 * @return        FB_E_ARG, FB_E_STATE: a source is being written; FB_E_SHAPE: other fields than the
 *                first one's (names, dtypes, shapes, scales, labels); FB_E_NOMEM
 */
FB_API FB_USE_RESULT fb_dataset *fb_dataset_mix(fb_context *ctx, fb_dataset *const *sources,
                                                const double *weights, int n,
                                                const fb_mix_options *opts);
/** Which source of a mixture sample `index` is of, and which sample of that (NULL: not wanted).
 * -1: no mixture, or no such sample. */
FB_API int fb_dataset_source(const fb_dataset *ds, int64_t index, int64_t *sample);

typedef struct fb_pack_options {
    const char *field; /**< of the tokens, integers of one row each, that varies; NULL: "input" */
    bool shuffle;      /**< documents in a seeded order; else as they are */
    uint64_t seed;     /**< 0: the context's seed */
    int64_t end_token; /**< put behind each document; 0: nothing; token 0: FB_ZERO_INT */
    bool separate;     /**< nothing is learnt across the borders of documents, see below */
    bool whole;        /**< and a document is cut only if it is longer than a window */
    fb_group *group;   /**< rank 0 reads the lengths and tells the others; NULL: this process */
} fb_pack_options;

/**
 * Windows of `length` tokens over the documents of a dataset, one behind the other, as samples:
 * "input" and "target" (the token that follows), I32 [length]. No padding; the stream's rest that
 * makes no window is left out. The dataset must live longer. Any window is found in
 * O(log documents); 8 bytes a document are held. A loader with `shuffle` permutes the windows.
 *
 * `separate`: also "segment" and "position", I32 [length]: which of the pieces of documents in the
 * window a token is of (from 0; -1: padding) and its place in that. Attention should stay within a
 * segment.
 * Where no token follows in the document, target is -100, which losses ignore; the last window is
 * padded with token 0. `whole`: a document that does not fit into what is left of a window begins
 * the next one, and the rest is padding (next-fit).
 *
 * FB_E_ARG, FB_E_NOT_FOUND without such a field, FB_E_DTYPE if it has no integers, FB_E_NOMEM,
 * FB_E_IO. Collective if opts->group is set. A token that is not in 0 .. 2^31 - 1 fails when it is
 * read.
 */
FB_API FB_USE_RESULT fb_dataset *fb_dataset_pack(fb_dataset *ds, int64_t length,
                                                 const fb_pack_options *opts);
/** Part of the windows' tokens that is padding; 0 for other datasets. */
FB_API double fb_dataset_padding(const fb_dataset *ds);

/** Samples; 0 for NULL. */
FB_API int64_t fb_dataset_size(const fb_dataset *ds);
/** Number of fields; 0 for NULL. */
FB_API int fb_dataset_field_count(const fb_dataset *ds);
/** Description of field i; names are valid until the dataset is closed. */
FB_API fb_dataset_field fb_dataset_field_at(const fb_dataset *ds, int i);
/** Name of a value of a field, e.g. of a class; NULL if it has none. Valid until the dataset is
 * closed. */
FB_API const char *fb_dataset_label(const fb_dataset *ds, const char *field, int64_t value);
/** Number of splits; 0 for NULL. */
FB_API int fb_dataset_split_count(const fb_dataset *ds);
/** Split i; its name is valid until the dataset is closed. */
FB_API fb_dataset_split fb_dataset_split_at(const fb_dataset *ds, int i);
/** From now on the dataset is one of its splits alone; NULL: all of it again. Before a loader is
 * opened on it. FB_E_NOT_FOUND lists the splits. */
FB_API fb_status fb_dataset_select(fb_dataset *ds, const char *split);
/** A field of one sample as it is stored: [shape], or [rows, shape] if it varies. FB_E_NOT_FOUND,
 * FB_E_ARG, FB_E_IO. */
FB_API FB_USE_RESULT fb_tensor *fb_dataset_sample(fb_dataset *ds, const char *field, int64_t index);
/** Compare every shard with its checksum. FB_E_IO names the shard, and the samples whose block of
 * 64 KiB is damaged. */
FB_API fb_status fb_dataset_check(fb_dataset *ds);
/** Let go; the context closes what is left. */
FB_API void fb_dataset_close(fb_dataset *ds);

FB_END
#endif
