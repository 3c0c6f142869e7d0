/* Who keeps the tensors that backward will need, and where. */
#ifndef FLAMBEAU_CORE_AUTOGRAD_SAVED_H
#define FLAMBEAU_CORE_AUTOGRAD_SAVED_H

#include <flambeau/core/autograd/autograd.h>

FB_BEGIN

/**
 * Callbacks that keep tensors for backward: torch.autograd.graph.saved_tensors_hooks. They run
 * without recording, in a scope of their own, and report failures by fb_fail or their status.
 */
typedef struct fb_saved_hooks {
    /**
     * Keep what t has (its values, not its handle: that goes with the call's scope, unless
     * fb_retain holds it) and leave in *packed what unpack and drop will get. NULL there: t is kept
     * as without hooks. t must not be changed. Called for every tensor that an operator, a custom
     * function or a checkpoint saves; a tensor that two operators save is packed twice. After a
     * failure *packed is not looked at.
     */
    fb_status (*pack)(void *user, fb_tensor *t, void **packed);
    /** A tensor like the one that was packed: same shape, dtype and values. Called in backward, at
     * most once for each walk that needs it. NULL: a failure. */
    fb_tensor *(*unpack)(void *user, fb_context *ctx, void *packed);
    /** packed is not needed any more: backward has been through, or the graph is gone. May be
     * NULL. */
    void (*drop)(void *user, void *packed);
    /** The mode has ended and everything packed under it is dropped. May be NULL. */
    void (*close)(void *user);
    void *user;
    bool keep_leaves; /**< leave leaves that require a gradient where they are: parameters, which
                           their module holds anyway. PyTorch packs them, too */
} fb_saved_hooks;

/**
 * From here on these hooks keep what is saved. Ends with the scope it was set in; inside, another
 * one takes its place, and NULL is none.
 *
 * What hooks hold is a copy of theirs: to change the tensor in place afterwards is no error, unless
 * pack kept its memory (fb_retain), which is found as without hooks. FB_E_ARG without pack or
 * unpack, FB_E_NOMEM; then close is not called.
 */
FB_API fb_status fb_saved_tensors_hooks(fb_context *ctx, const fb_saved_hooks *hooks);

/**
 * Keep what is saved in host memory: torch.autograd.graph.save_on_cpu. For models that do not fit
 * on a card; each tensor is copied there when saved and back in backward, and both wait. Leaves
 * that require a gradient stay. In backward, tensors have their bits and their layout again.
 */
FB_API fb_status fb_save_on_cpu(fb_context *ctx);

FB_END
#endif
