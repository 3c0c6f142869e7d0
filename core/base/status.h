/* Status codes, and the attributes that every public header uses. */
#ifndef FLAMBEAU_CORE_BASE_STATUS_H
#define FLAMBEAU_CORE_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define FB_BEGIN extern "C" {
#define FB_END   }
#else
#define FB_BEGIN
#define FB_END
#endif

/** Marks what the shared library shows; everything else is hidden. */
#define FB_API __attribute__((visibility("default")))
/** Ignoring the result is a bug: the operator is out of place. */
#define FB_USE_RESULT              __attribute__((warn_unused_result))
#define FB_PRINTF(fmt_at, args_at) __attribute__((format(printf, fmt_at, args_at)))

FB_BEGIN

/** What went wrong. Values stay below 128, so that `return` from main works. */
typedef enum fb_status {
    FB_OK = 0,
    FB_E_ARG,         /**< an argument makes no sense */
    FB_E_SHAPE,       /**< shapes do not fit together */
    FB_E_DTYPE,       /**< a dtype is not accepted here */
    FB_E_NOMEM,       /**< out of memory */
    FB_E_IO,          /**< a file could not be read or written */
    FB_E_NOT_FOUND,   /**< no such file, name or key */
    FB_E_COMM,        /**< ranks disagree, or a rank is gone */
    FB_E_DEVICE,      /**< the device or its driver failed */
    FB_E_STALE,       /**< a handle was used after its scope ended */
    FB_E_UNSUPPORTED, /**< this build or device cannot do it */
    FB_E_USER,        /**< reported by user code */
    FB_E_STATE,       /**< right call, wrong moment: e.g. attach after the first step */
    FB_AGAIN = 75     /**< no error: a signal asked the job to stop, it can go on later */
} fb_status;

/** Name of a status, e.g. "FB_E_SHAPE". Never NULL. */
FB_API const char *fb_status_name(fb_status status);

FB_END
#endif
