/* The memory side of a backend, and how a context finds one. Kernels: core/ops/backend.h. */
#ifndef FLAMBEAU_CORE_TENSOR_DEVICE_PRIV_H
#define FLAMBEAU_CORE_TENSOR_DEVICE_PRIV_H

#include "core/tensor/context_priv.h"
#include "core/tensor/queue_priv.h"

enum { FBI_BACKEND_ABI = 11 };

typedef struct fbi_core_api fbi_core_api;
typedef struct fbi_device_comm fbi_device_comm;
typedef struct fbi_update fbi_update;
typedef struct fbi_average fbi_average;
typedef struct fbi_flat_view fbi_flat_view;
typedef struct fbi_statistics fbi_statistics;
typedef struct fbi_look fbi_look;
typedef struct fbi_ask fbi_ask;
typedef struct fbi_judgement fbi_judgement;
typedef struct fbi_sweep fbi_sweep;
typedef struct fbi_loss_scale fbi_loss_scale;

/* Bytes of a device; what does not apply is 0. */
typedef struct fbi_device_memory {
    size_t unused, total; /* of the whole card, for all processes */
    size_t pinned;        /* host memory that this context has pinned */
} fbi_device_memory;

/* A device. Functions return a status and leave the text with `fail`. */
struct fbi_backend {
    int abi;
    const char *name; /* "cpu", "cuda" */
    /* Open device `index` for ctx: sets ctx->device, ctx->kernels, ctx->threads. */
    fb_status (*open)(fb_context *ctx, int index, const fb_context_options *options,
                      const fbi_core_api *core);
    void (*close)(fb_context *ctx);
    /* Raw memory for the caching allocator, 256-byte aligned, in the order of a queue; NULL when
     * there is none. */
    void *(*alloc)(fb_context *ctx, fbi_queue queue, size_t bytes);
    void (*free)(fb_context *ctx, fbi_queue queue, void *data, size_t bytes);
    /* Copies between host and device memory, in the order of the compute queue. */
    fb_status (*copy_in)(fb_context *ctx, void *device, const void *host, size_t bytes);
    fb_status (*copy_out)(fb_context *ctx, void *host, const void *device, size_t bytes);
    fb_status (*copy)(fb_context *ctx, void *dst, const void *src, size_t bytes);
    fb_status (*fill_zero)(fb_context *ctx, void *dst, size_t bytes);
    fb_status (*sync)(fb_context *ctx);
    void (*pack_free)(fb_context *ctx, fbi_pack *packs);
    /* A loop over flat memory (core/ops/backend.h). */
    fb_status (*average)(fb_context *ctx, const fbi_average *a);
    bool host_memory; /* pointers may be read by the host */
    /* Every block has the size asked for and goes back at once: a simulator checks both. */
    bool exact_memory;
    /* What follows is NULL with host_memory: nothing there needs it. */
    /* Events order queues. This one has passed when all has that `queue` was asked for. NULL: error
     * is set. */
    void *(*event_record_on)(fb_context *ctx, fbi_queue queue);
    /* Who waits at `at` (see FBI_WAITS) does nothing before the event has passed; it is gone. */
    fb_status (*wait)(fb_context *ctx, fbi_wait_id at, void *event);
    /* Nobody waits for it any more. */
    void (*event_drop)(fb_context *ctx, void *event);
    /* Host memory that the device reads and writes on its own. NULL: error is set. */
    void *(*host_alloc)(fb_context *ctx, size_t bytes);
    void (*host_free)(fb_context *ctx, void *data);
    /* Between pinned and device memory, or within the device, in the order of a queue. */
    fb_status (*copy_on)(fb_context *ctx, fbi_queue queue, void *dst, const void *src,
                         size_t bytes);
    void (*memory)(fb_context *ctx, fbi_device_memory *m);
    /* A mark of time in the order of the compute queue. NULL: none can be had, which is no error.
     */
    void *(*stamp)(fb_context *ctx);
    /* Seconds from a to b, which the host waits for; both are gone. Negative: nobody knows. */
    double (*between)(fb_context *ctx, void *a, void *b);
    /* What follows is for collectives, in the order of the compute queue. */
    /* Operands joined along a program, element by element, as comm/reduce_priv.h says. */
    fb_status (*combine)(fb_context *ctx, int op, fb_dtype dtype, fb_dtype out_dtype,
                         const int16_t *program, int n, const void *const *operands, void *out,
                         int64_t count);
    /* Whether what is marked has happened (or failed: an error is set); then the event is gone. */
    bool (*event_done)(fb_context *ctx, void *event);
    fb_status (*statistics)(fb_context *ctx, const fbi_statistics *s);
    /* A step of an optimizer (core/ops/backend.h). */
    fb_status (*measure)(fb_context *ctx, const fbi_look *look);
    fb_status (*ask)(fb_context *ctx, const fbi_ask *ask);
    fb_status (*judge)(fb_context *ctx, const fbi_judgement *j);
    fb_status (*sweep)(fb_context *ctx, const fbi_sweep *s);
    /* fbi_loss_scale_advance of what is in device memory. */
    fb_status (*advance)(fb_context *ctx, fbi_loss_scale *scale);
    /* *sum += factor * the element x of any dtype; NaN if `count` and it is no count. */
    fb_status (*add_to)(fb_context *ctx, double *sum, fb_dtype dtype, const void *x, double factor,
                        bool count);
    /* What collectives left may be garbage: from now on judge() is against every step. */
    void (*halt)(fb_context *ctx);
    const fbi_device_comm *comm; /* between the devices of several ranks; NULL: never any */
    /* Choices by timing that all ranks must share (fb_context_options.tune). Time what was computed
     * so far and describe what was chosen; *choices is freed with free(). */
    fb_status (*tune)(fb_context *ctx, void **choices, size_t *bytes);
    /* From now on do it so. */
    fb_status (*choose)(fb_context *ctx, const void *choices, size_t bytes);
};

/* Choose the backend of options->device and open it on ctx (core/ops/devices.c). */
fb_status fbi_device_open(fb_context *ctx, const fb_context_options *options);
enum { FBI_DEVICE_BYTES = 32 }; /* the longest name of a device */
/* Versions of the backend's libraries and its devices, a line each with '+' or '-' in front (see
 * fbi_plugin). False: there is no such backend, and `text` says why. */
bool fbi_device_describe(const char *name, char *text, size_t size);

#endif
