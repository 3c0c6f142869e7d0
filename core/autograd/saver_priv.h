/* Saved tensors that hooks keep. */
#ifndef FLAMBEAU_CORE_AUTOGRAD_SAVER_PRIV_H
#define FLAMBEAU_CORE_AUTOGRAD_SAVER_PRIV_H

#include <flambeau/core/autograd/saved.h>

#include "core/autograd/pass_priv.h"

/* Hooks; counted by the mode and by everything packed. */
struct fbi_saver {
    int32_t refs;
    fb_context *ctx;
    fb_saved_hooks hooks;
};

typedef struct fbi_packed {
    fbi_saver *saver; /* counted */
    void *packed;
    fbi_node *node;             /* of an input, counted: what unpacking links to; NULL */
    fb_tensor *now;             /* counted; unpacked, while its node's backward runs */
    const fbi_storage *aliased; /* pack holds the tensor's own memory, which must not change */
    uint8_t out_index, dtype;
    fb_shape shape;
} fbi_packed;

/* Have the context's hooks pack t into a slot; flags say whether they did. */
fb_status fbi_save_packed(fbi_node *n, int slot, fb_tensor *t);
/* The tensor of a packed slot; in linked mode an input is linked to the graph. NULL: error is set.
 */
fb_tensor *fbi_unpacked(fb_context *ctx, fbi_node *n, int slot, bool linked);
void fbi_packed_free(fbi_packed *p);
void fbi_saver_unref(fbi_saver *saver);
/* The error of a saved tensor t that was changed in place since. */
fb_status fbi_saved_changed(fb_context *ctx, const fbi_node *n, const fbi_saved *s,
                            const fb_tensor *t);

/* A tensor as bytes of the host: as it lies in memory if it has no gaps, else row-major. */
typedef struct fbi_image {
    fb_dtype dtype;
    fb_shape size, stride;
    size_t bytes;
} fbi_image;

fbi_image fbi_image_of(const fb_tensor *t);
fb_status fbi_image_read(const fbi_image *im, fb_tensor *t, void *dst); /* waits */
fb_tensor *fbi_image_make(fb_context *ctx, const fbi_image *im, const void *src);

#endif
