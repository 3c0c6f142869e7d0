/* Loaders: batches of a dataset, shuffled, prefetched, the same for any number of ranks. */
#ifndef FLAMBEAU_IO_LOADER_H
#define FLAMBEAU_IO_LOADER_H

#include <flambeau/io/transform.h>

FB_BEGIN

typedef struct fb_group fb_group;
typedef struct fb_loader fb_loader;

/** A micro-batch; it belongs to the loader until the next fb_loader_next (fb_set holds it longer).
 */
typedef struct fb_batch {
    fb_tensor *input, *target; /**< the fields of these names, or NULL */
    int64_t n;                 /**< samples */
    fb_batch_info at;
} fb_batch;

typedef struct fb_loader_options {
    int64_t global_batch; /**< samples of a step over all ranks; 0: 32 */
    int64_t micro_batch;  /**< at most so many at once; 0: a whole leaf */
    bool shuffle;         /**< a new seeded order for each epoch */
    bool drop_last;       /**< leave out the uneven rest of an epoch */
    int64_t limit;        /**< use the first so many samples only; 0: all */
    uint64_t seed;        /**< 0: the context's seed */

    /* Which samples, in which order. What decides it is the same on every rank, and in a loader
     * that goes on from a checkpoint. */
    int64_t shuffle_block;  /**< with shuffle, for long reads: so many neighbours are a block;
                               blocks are permuted, and the samples of a window of blocks; 0: any
                               sample may be next */
    int64_t shuffle_bytes;  /**< the same as bytes of a block, in place of shuffle_block */
    int64_t shuffle_window; /**< blocks of a window; 0: 16 */
    const double *weights;  /**< draw with replacement, sample i as often as weights[i] says: one
                               for each sample, or with weigh_by for each class; read while the
                               loader opens. 8 bytes a sample are held. NULL: no draws */
    int64_t n_weights;
    const char *weigh_by;  /**< draw by classes: the field that has a sample's class, an integer;
                              without weights every class that has samples is as likely */
    int64_t epoch_samples; /**< of an epoch; the next goes on where it ends. 0: as many as the
                              dataset has */
    int64_t bucket_window; /**< samples of so many batches are sorted by length and dealt out as
                              batches of like length, in any order; 0: as they come. 4 bytes a
                              sample are held */
    const char *bucket_by; /**< by rows of this field; NULL: of the first one that varies */
    bool pad_to_batch;     /**< a field that varies has as many rows as the longest sample of the
                              micro-batch, and not of the dataset; implied by bucket_window */
    int64_t pad_multiple;  /**< and rounded up to a multiple of this, up to `longest`; 0: 1 */

    int64_t prefetch; /**< micro-batches read ahead; 0: 3 */
    int64_t threads; /**< that make samples, which are the same for any number; 0: of the cores that
                    the training leaves to this rank, as many as may be of use: 1 for data in
                    memory, up to 4 for files and callbacks, at least 1 */
    const char *cache;   /**< a folder on a disk of each node, or in its /dev/shm: shards that are
                            read from files are copied there when the loader opens */
    int64_t cache_bytes; /**< of a dataset's shards on each node; 0: all but a twentieth of what is
                            free there */
    int64_t longest;     /**< rows of a sample of a field that varies, in batches: what is longer
                            is cut, what is shorter gets zeros; 0: as the dataset's longest */
    fb_transforms transforms; /**< of each sample, by the loader's threads (io/transform.h) */
} fb_loader_options;

/**
 * Open a loader on the data-parallel group (NULL: this process alone). The global batch is split
 * into the group's leaves (`shards`, else one a rank); fb_loader_next gives this rank's leaves one
 * after the other and tells the context which one it is, so that fb_backward weighs it rightly.
 *
 * Meters and attached models count by the leaves of that group, too; loaders that are open at a
 * time have the same group (FB_E_STATE).
 *
 * With options that say which samples (from shuffle_block on), the order is still O(1) at any place
 * of any epoch and the same for any number of ranks; a checkpoint goes on in the middle of an epoch
 * with another number. One made with others of these options is refused: by its entries, or by
 * fb_loader_epoch (FB_E_STATE).
 *
 * With `cache`, each shard is read once in the job, by one rank, compared with its checksum
 * (FB_E_IO) and given to the other nodes. What has no room there, or cannot be written, is read
 * from where it is, and a line of the log says so. The copies go when the datasets are closed, and
 * with the last process that has them; what jobs have left behind that died before that is removed.
 * Loaders on the same files share them. Fields that are held in memory need none.
 *
 * FB_E_ARG if the batch is larger than the epoch, if options do not fit, or if the ranks do not
 * give the same dataset and options; FB_E_STATE, FB_E_NOMEM. Collective over the group: an error of
 * one rank is told to all.
 */
FB_API FB_USE_RESULT fb_loader *fb_loader_open(fb_group *group, fb_dataset *ds,
                                               const fb_loader_options *opts);
/** Whether another epoch begins or goes on: false after n_epochs and on error (FB_E_STATE: a
 * checkpoint has set a position outside of the dataset). Moves nothing. */
FB_API bool fb_loader_epoch(fb_loader *loader, int64_t n_epochs);
/** The next micro-batch; false at the end of the epoch and on error: FB_E_STATE outside of an
 * epoch; FB_E_IO or FB_E_USER with the file and the sample that could not be read, when its
 * micro-batch would have been next. */
FB_API bool fb_loader_next(fb_loader *loader, fb_batch *batch);
/** Any field of the current micro-batch by name: [n, sample shape]; [n, rows, shape] if it varies.
 */
FB_API fb_tensor *fb_loader_field(fb_loader *loader, const char *name);
/** Rows that the samples of the current micro-batch have in a field that varies: I64 [n], as
 * delivered, so at most options.longest. NULL for other fields. */
FB_API fb_tensor *fb_loader_lengths(fb_loader *loader, const char *name);
/** Start at the first sample of the current epoch, for validation: the context is not driven, so
 * that random numbers and steps of a training loop are left alone. */
FB_API void fb_loader_rewind(fb_loader *loader);
/** Steps of an epoch. */
FB_API int64_t fb_loader_steps(const fb_loader *loader);
/** Global sample index within the epoch at which the next step begins. */
FB_API int64_t fb_loader_position(const fb_loader *loader);
/** Number of the current epoch, from 0. */
FB_API int64_t fb_loader_epoch_number(const fb_loader *loader);
/** Part of the rows of a field that varies that were padding, in what this process got since the
 * loader was opened; 0 for other fields, and before the first micro-batch. */
FB_API double fb_loader_padding(const fb_loader *loader, const char *name);
/** Dataset indices of the current micro-batch, fb_batch.n of them (0 for an empty leaf). */
FB_API const int64_t *fb_loader_indices(const fb_loader *loader, int64_t *n);
/** Stop reading ahead and let go, in the middle of an epoch too; the context closes what is left.
 */
FB_API void fb_loader_close(fb_loader *loader);

FB_END
#endif
