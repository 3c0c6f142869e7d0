/* What a checkpoint holds: objects under names. Built once. */
#ifndef FLAMBEAU_IO_STATE_H
#define FLAMBEAU_IO_STATE_H

#include <flambeau/core/nn/module.h>
#include <flambeau/core/optim/ema.h>
#include <flambeau/core/optim/meter.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/core/optim/scaler.h>
#include <flambeau/core/optim/schedule.h>
#include <flambeau/io/loader.h>

FB_BEGIN

typedef struct fb_state fb_state;

/** An empty list; the context frees it if fb_state_close does not. NULL: FB_E_NOMEM. */
FB_API FB_USE_RESULT fb_state *fb_state_open(fb_context *ctx);
/** Parameters and buffers by name.
 *
 * Every fb_state_add_*: the object must live until the last save; FB_E_ARG for NULL, a name that is
 * empty, taken, too long or has a '/'. */
FB_API fb_status fb_state_add_module(fb_state *s, const char *name, fb_module *m);
/** State by parameter name, and the count of steps. */
FB_API fb_status fb_state_add_optimizer(fb_state *s, const char *name, fb_optimizer *opt);
/** Steps done, the rates that it began with and set, and what it is made of; its optimizer must be
 * in the state, too. */
FB_API fb_status fb_state_add_schedule(fb_state *s, const char *name, fb_schedule *schedule);
/** Epoch, position and steps. */
FB_API fb_status fb_state_add_loader(fb_state *s, const char *name, fb_loader *loader);
/** The averaged module. */
FB_API fb_status fb_state_add_ema(fb_state *s, const char *name, fb_ema *ema);
/** The scale of losses, and how many good steps it has seen. */
FB_API fb_status fb_state_add_scaler(fb_state *s, const char *name, fb_scaler *scaler);
/** Sums and counts since the last reset. */
FB_API fb_status fb_state_add_meter(fb_state *s, const char *name, fb_meter *meter);
/** A tensor of any kind; its values are replaced by a resume. */
FB_API fb_status fb_state_add_tensor(fb_state *s, const char *name, fb_tensor *t);
/** A number of the program, read at each save, set by a resume. */
FB_API fb_status fb_state_add_int(fb_state *s, const char *name, int64_t *value);
/** The same for a double, kept exactly. */
FB_API fb_status fb_state_add_double(fb_state *s, const char *name, double *value);
/* See fb_state_add_custom. */
typedef size_t (*fb_state_save_fn)(void *user, void *out, size_t size);
typedef int (*fb_state_load_fn)(void *user, const void *data, size_t bytes);
/**
 * Anything else, as bytes of the program's making.
 *
 * `save` writes them to out, which has room for `size`, and returns how many there are; out is NULL
 * when only their number is wanted. SIZE_MAX: it failed. It runs on rank 0 in a save, and on the
 * rank that asks for a digest. `load` gets them on every rank when a checkpoint is read, after
 * everything was found to fit; non-zero: it failed (FB_E_USER).
 */
FB_API fb_status fb_state_add_custom(fb_state *s, const char *name, fb_state_save_fn save,
                                     fb_state_load_fn load, void *user);
/** XXH3-64 over names and values of everything, as hex: the same on every rank after a step, but
 * for meters, of which a rank has its own leaves until the next save. "" on error. */
FB_API const char *fb_state_digest(fb_state *s, char hex[17]);
/** Let go of the list; the objects stay. NULL is allowed. */
FB_API void fb_state_close(fb_state *s);

FB_END

#ifndef __cplusplus
#define fb_state_add(s, name, x) \
    _Generic((x),                                                                                  \
        fb_module *: fb_state_add_module,                                                          \
        fb_optimizer *: fb_state_add_optimizer,                                                    \
        fb_schedule *: fb_state_add_schedule,                                                      \
        fb_loader *: fb_state_add_loader,                                                          \
        fb_ema *: fb_state_add_ema,                                                                \
        fb_scaler *: fb_state_add_scaler,                                                          \
        fb_meter *: fb_state_add_meter,                                                            \
        fb_tensor *: fb_state_add_tensor,                                                          \
        int64_t *: fb_state_add_int,                                                               \
        double *: fb_state_add_double)(s, name, x)
#else
inline fb_status fb_state_add(fb_state *s, const char *n, fb_module *x)
{
    return fb_state_add_module(s, n, x);
}
inline fb_status fb_state_add(fb_state *s, const char *n, fb_optimizer *x)
{
    return fb_state_add_optimizer(s, n, x);
}
inline fb_status fb_state_add(fb_state *s, const char *n, fb_schedule *x)
{
    return fb_state_add_schedule(s, n, x);
}
inline fb_status fb_state_add(fb_state *s, const char *n, fb_loader *x)
{
    return fb_state_add_loader(s, n, x);
}
inline fb_status fb_state_add(fb_state *s, const char *n, fb_ema *x)
{
    return fb_state_add_ema(s, n, x);
}
inline fb_status fb_state_add(fb_state *s, const char *n, fb_scaler *x)
{
    return fb_state_add_scaler(s, n, x);
}
inline fb_status fb_state_add(fb_state *s, const char *n, fb_meter *x)
{
    return fb_state_add_meter(s, n, x);
}
inline fb_status fb_state_add(fb_state *s, const char *n, fb_tensor *x)
{
    return fb_state_add_tensor(s, n, x);
}
inline fb_status fb_state_add(fb_state *s, const char *n, int64_t *x)
{
    return fb_state_add_int(s, n, x);
}
inline fb_status fb_state_add(fb_state *s, const char *n, double *x)
{
    return fb_state_add_double(s, n, x);
}
#endif

#endif
