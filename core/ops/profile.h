/* Where the time of a program goes: by operator, module, collective, batch and wait. */
#ifndef FLAMBEAU_CORE_OPS_PROFILE_H
#define FLAMBEAU_CORE_OPS_PROFILE_H

#include <flambeau/core/tensor/context.h>

FB_BEGIN

typedef struct fb_profile fb_profile;

/** Zero in every field is the default. */
typedef struct fb_profile_options {
    int64_t max_events; /**< spans that fb_profile_write can show, 32 bytes each: the first ones;
                             0: 1048576; negative: none. The table counts all of them */
} fb_profile_options;

/** What a row is about. */
typedef enum fb_profile_kind {
    FB_PROFILE_FORWARD = 1, /**< operators outside of the next two */
    FB_PROFILE_BACKWARD,    /**< a backward ("backward"), what each operator's gradients take, and
                                 operators that run for them */
    FB_PROFILE_OPTIMIZER,   /**< a step ("optim_step"), and operators within it */
    FB_PROFILE_COLLECTIVE,  /**< starting one and waiting for it */
    FB_PROFILE_LOADER,      /**< waiting for a batch, and making its tensors */
    FB_PROFILE_WAIT,        /**< the host waits for the device */
    FB_PROFILE_MODULE       /**< calls of modules, under the type of the root and the path */
} fb_profile_kind;

/**
 * The sums of one name.
 *
 * FLOPs are those of products, convolutions, attention and recurrences, a multiplication with its
 * addition being two, as torch.utils.flop_counter counts: what the shapes say, whatever algorithm
 * does it; other operators have none. Bytes are the sizes of the operands and results of kernels.
 * Both include what ran within.
 */
typedef struct fb_profile_row {
    fb_profile_kind kind;
    const char *name; /**< valid until fb_profile_close */
    int64_t count;
    double total_s, self_s; /**< with, and without, what ran within it */
    double backward_s;      /**< of modules: the gradients of what was called within them */
    double device_s;        /**< of its own kernels, on a card, as far as it has done them by
                                 fb_profile_stop; 0 on the CPU */
    double flops, bytes;    /**< of modules: forward */
} fb_profile_row;

typedef struct fb_profile_totals {
    double seconds;         /**< while it was running */
    double outside_s;       /**< of that, in no row's self_s */
    double flops, bytes;    /**< of all kernels */
    int64_t steps;          /**< calls of fb_optim_step that changed parameters or could have: the
                                 last micro-batches of steps */
    int64_t events, missed; /**< spans for fb_profile_write, and those beyond max_events */
} fb_profile_totals;

/**
 * Look on from now on; a second profile may look on, too. Costs about 0.1 us for each span, an
 * operator, and nothing can be seen of it after fb_profile_stop.
 *
 * On a card, operators are only handed over in the time of their spans; what their kernels take
 * there is measured by events, in device_s. NULL: the error is set. Closed with the context, if not
 * before.
 */
FB_API FB_USE_RESULT fb_profile *fb_profile_open(fb_context *ctx, const fb_profile_options *opts);
/** Pause; spans that are open end here, and the host waits for the card. FB_E_ARG for NULL;
 * FB_E_NOMEM: spans were lost since there was no memory to count them in. */
FB_API fb_status fb_profile_stop(fb_profile *p);
/** Go on, adding to what there is. */
FB_API fb_status fb_profile_start(fb_profile *p);
/** All rows so far, largest self_s first; valid until the next call on p. *rows may be NULL.
 * @return how many; 0 for NULL */
FB_API int64_t fb_profile_rows(fb_profile *p, const fb_profile_row **rows);
/** The sums over all rows. */
FB_API fb_status fb_profile_totals_of(fb_profile *p, fb_profile_totals *totals);
/**
 * Add a table to a file (NULL: standard output): operators, collectives, batches and waits by the
 * time that they took themselves, then modules.
 *
 * FB_E_IO if it cannot be written.
 */
FB_API fb_status fb_profile_print(fb_profile *p, const char *path);
/**
 * Write all spans as a Chrome trace (JSON), which ui.perfetto.dev and chrome://tracing show.
 *
 * Errors as of fb_profile_print. Format: "Trace Event Format", complete events ("X") in
 * microseconds since `baseTimeNanoseconds` (of the epoch).
 */
FB_API fb_status fb_profile_write(fb_profile *p, const char *path);
/** Stop, free. */
FB_API void fb_profile_close(fb_profile *p);

FB_END
#endif
