/* The context: one device, its memory, its errors, its random numbers. Everything hangs off it. */
#ifndef FLAMBEAU_CORE_TENSOR_CONTEXT_H
#define FLAMBEAU_CORE_TENSOR_CONTEXT_H

#include <flambeau/core/base/status.h>

#define FB_VERSION_MAJOR 0
#define FB_VERSION_MINOR 1
#define FB_VERSION_PATCH 0
#define FB_VERSION       (FB_VERSION_MAJOR * 10000 + FB_VERSION_MINOR * 100 + FB_VERSION_PATCH)

FB_BEGIN

typedef struct fb_context fb_context;

/** Zero in every field is the default. */
typedef struct fb_context_options {
    const char *device;   /**< "cpu" or "cuda:0"; NULL: FLAMBEAU_DEVICE, else the best there is */
    uint64_t seed;        /**< key of all random numbers; 0 is a fixed default, never the clock */
    int threads;          /**< threads of a kernel; 0: the cores that this process may use */
    bool flush_denormals; /**< treat denormal floats as zero inside kernels */
    bool exact_conv; /**< F32 convolutions are plain sums: 3 x 3 ones without Winograd's transforms,
                          which are 2 to 4 times as quick on the CPU and some bits less exact */
    bool allow_tf32; /**< as fb_context_allow_tf32; FLAMBEAU_TF32=1 says the same */
    bool tune;       /**< matrix products of a card try several algorithms and keep the fastest, so
                          bits may differ from run to run; FLAMBEAU_TUNE=1 says the same. In a job rank
                          0 tries, after the first step of DDP, for all ranks; never with fixed shards */
} fb_context_options;

/**
 * Which micro-batch is being worked on. fb_loader_next sets it; fb_context_batch does it by hand.
 *
 * `shard` is the leaf number: random numbers inside a step are keyed by (seed, step, shard).
 */
typedef struct fb_batch_info {
    int64_t epoch, step, shard, batch; /**< batch: number of the step within its epoch */
    bool first, last;                  /**< first and last micro-batch of this rank in the step */
    double share;                      /**< samples of this micro-batch / samples of the step */
} fb_batch_info;

/**
 * Open a context. NULL options are all defaults. On failure the reason is printed on stderr (there
 * is no context to keep it) and NULL returned. A header older or newer than the library is refused.
 */
#define fb_context_open(...) fb_context_open_v(__VA_ARGS__, FB_VERSION)
/** What fb_context_open calls, with the version of the caller's headers. */
FB_API fb_context *fb_context_open_v(const fb_context_options *options, int version);

/**
 * Print the first error, if any, close everything opened on the context in reverse order, free it.
 *
 * @return the status of that error; FB_E_ARG for NULL; FB_E_STATE for a world's context, which
 *         fb_world_close closes.
 */
FB_API fb_status fb_context_close(fb_context *ctx);

/** Version of the library, like FB_VERSION. */
FB_API int fb_version(void);

/** No error so far; false for NULL. */
FB_API bool fb_ok(const fb_context *ctx);
/** Status of the first error, FB_OK if none; FB_E_ARG for NULL. */
FB_API fb_status fb_status_of(const fb_context *ctx);
/** Text of the first error, "" if none. Valid until fb_error_take or fb_context_close. */
FB_API const char *fb_error_message(const fb_context *ctx);
/** Read and clear the first error; the context is usable again. `msg` may be NULL. */
FB_API fb_status fb_error_take(fb_context *ctx, char *msg, size_t size);
/** Report an error from user code, printf style. The first error stays. @return status */
FB_API fb_status fb_fail(fb_context *ctx, fb_status status, const char *fmt, ...) FB_PRINTF(3, 4);

/** Name of the place in the user's program, for messages of language bindings; NULL ends it. */
FB_API void fb_context_label(fb_context *ctx, const char *label);
/** Tell the context which micro-batch follows; NULL: outside of steps again. */
FB_API fb_status fb_context_batch(fb_context *ctx, const fb_batch_info *info);
/** Wait until the device has done everything asked of it. */
FB_API fb_status fb_context_sync(fb_context *ctx);
/** "cpu" or "cuda:0". */
FB_API const char *fb_context_device(const fb_context *ctx);
/** Threads that a kernel uses: a constant of the run, part of the numerics. */
FB_API int fb_context_threads(const fb_context *ctx);
/**
 * Let F32 matrix products and convolutions of a card round their operands to TF32 (10 bits of
 * mantissa instead of 23; sums stay F32), which tensor cores multiply about 8 times as fast. From
 * now on; off by default. Other dtypes, other operators and the CPU never do it.
 *
 * torch.backends.cuda.matmul.allow_tf32, which is off by default, and for convolutions
 * torch.backends.cudnn.allow_tf32, which is on by default there: here it is one switch.
 */
FB_API fb_status fb_context_allow_tf32(fb_context *ctx, bool on);
/** Whether they may now; false for NULL. */
FB_API bool fb_context_allows_tf32(const fb_context *ctx);
/** Start the random numbers again from a seed. */
FB_API fb_status fb_manual_seed(fb_context *ctx, uint64_t seed);

/** Memory of the context's device, in bytes and counts. */
typedef struct fb_memory_stats {
    size_t in_use, peak;        /**< handed out to tensors now; most ever since the last reset */
    size_t reserved;            /**< taken from the system: in_use and what is cached */
    size_t reserved_peak;       /**< most ever since the last reset */
    int64_t blocks;             /**< live blocks */
    int64_t allocations;        /**< blocks handed out so far */
    int64_t system_allocations; /**< calls of the system's allocator: constant in a steady step */
    int64_t retries;        /**< of these, how many followed a refusal, after all that was cached
                                 had been given back: memory is nearly full */
    int64_t failures;       /**< blocks that could not be had: FB_E_NOMEM */
    int64_t handles, nodes; /**< live tensor handles and graph nodes */
    size_t device_free, device_total; /**< of the whole card, for all programs; 0 on the CPU */
    size_t pinned;                    /**< host memory pinned for copies; 0 on the CPU */
} fb_memory_stats;

/** Fill in the numbers of now; torch.cuda.memory_stats has most of them. */
FB_API fb_status fb_memory_stats_of(fb_context *ctx, fb_memory_stats *stats);
/** Both peaks := now. */
FB_API void fb_memory_reset_peak(fb_context *ctx);
/** Give cached free blocks back to the system. */
FB_API void fb_memory_trim(fb_context *ctx);

/* Modes: they end with the scope in which they were set. */
/** Record nothing for backward. */
FB_API void fb_no_grad(fb_context *ctx);
/** Record again, within an fb_no_grad. */
FB_API void fb_enable_grad(fb_context *ctx);
/**
 * Look for NaN and Inf, to find where they come from: torch.autograd.set_detect_anomaly.
 *
 * A backward stops at the first operator that makes a gradient with NaN or Inf of gradients without
 * them. Beyond PyTorch, an operator whose result has NaN fails if its inputs had none, and one
 * whose result has Inf fails if its inputs had neither and no number given to it was infinite (a
 * fill of -inf is wanted). The message (FB_E_USER) names operator, output or input, call site and
 * shapes; for backward those of the call that was recorded, if it was recorded in this mode.
 *
 * For finding mistakes: every result is read by the host, on a card after waiting for it, and sums
 * of gradients may round otherwise than without. A scaled loss (fb_scaler) that overflows is
 * reported, too, although the scaler would skip that step.
 */
FB_API void fb_detect_anomaly(fb_context *ctx);
/** Whether operators are being recorded. */
FB_API bool fb_is_grad_enabled(const fb_context *ctx);

FB_END
#endif
