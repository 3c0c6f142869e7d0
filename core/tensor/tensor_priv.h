/* Handles and storage as the engine sees them. */
#ifndef FLAMBEAU_CORE_TENSOR_TENSOR_PRIV_H
#define FLAMBEAU_CORE_TENSOR_TENSOR_PRIV_H

#include <flambeau/core/tensor/tensor.h>

#include <assert.h>

typedef struct fbi_node fbi_node;
typedef struct fbi_leaf fbi_leaf;
typedef struct fbi_pack fbi_pack;

/* A block of device memory and who may write it. Lives in a slab of its context. */
typedef struct fbi_storage {
    int32_t refs;     /* handles, and works in flight */
    uint32_t version; /* bumped by every in-place change */
    void *data;
    size_t bytes;
    bool counted;                /* by a report that is being made */
    uint8_t klass, flags, queue; /* klass: the allocator's size class; queue: fbi_queue that its
                                    memory was given to */
    uint8_t reuses, spare[3];    /* reuses: of the block, as far as the allocator counts */
    void (*release)(struct fbi_storage *); /* NULL: give `data` back to the allocator */
    void *owner;                           /* for release */
    fbi_pack *packs; /* reordered copies made by a backend, keyed (kind, version) */
    union {
        struct fbi_use *uses;     /* by other queues, see queue_priv.h */
        struct fbi_storage *next; /* free list */
    };
} fbi_storage;

enum {
    FBI_S_READ_ONLY = 1,
    FBI_S_HOST = 2,   /* host memory, whatever the context's device: no kernel may see it */
    FBI_S_GUARDED = 4 /* the context's guard wants to know before it is changed */
};

enum {
    FBI_T_LIVE = 1,     /* cleared when the last reference goes: a later use is stale */
    FBI_T_KEEP = 2,     /* the end of its scope moves it one scope up */
    FBI_T_VIEW = 4,     /* shares the storage of the tensor it was made from */
    FBI_T_BORROWED = 8, /* owned by a module, loader or optimizer: in no scope */
    FBI_T_TWIN = 16     /* detached alias of a node's own output, see fbi_saved */
};

#define FBI_NO_SLOT UINT32_MAX

/* 192 bytes, three cache lines; from a slab of the context, reused oldest first. */
struct fb_tensor {
    int32_t refs; /* one for the scope, one for each slot, graph use or retain */
    uint8_t ndim, dtype, flags, out_index; /* out_index: which output of `node` */
    uint16_t retains;                      /* open fb_retain calls */
    uint16_t spare;
    uint32_t slot; /* index in the context's arena; FBI_NO_SLOT: in no scope */
    fb_context *ctx;
    fbi_storage *storage;
    fbi_node *node;        /* producer, counted; NULL for leaves (see fbi_node_of) */
    fbi_leaf *leaf;        /* gradient, hooks, name; NULL for intermediates */
    int64_t numel, offset; /* offset in elements */
    int64_t size[FB_MAX_DIMS], stride[FB_MAX_DIMS];
};

static_assert(sizeof(struct fb_tensor) == 192, "a handle is three cache lines");
static_assert(sizeof(fbi_storage) == 64, "a storage is one cache line");

/* First element. Not cached: a parameter's storage may be pointed elsewhere. */
static inline void *fbi_ptr(const fb_tensor *t)
{
    extern const uint8_t fbi_dtype_bytes[FB_DTYPE_COUNT];
    return (char *)t->storage->data + t->offset * fbi_dtype_bytes[t->dtype];
}

static inline bool fbi_same_shape(const fb_tensor *a, const fb_tensor *b)
{
    if (a->ndim != b->ndim)
        return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->size[i] != b->size[i])
            return false;
    return true;
}

/* --- handles (core/tensor/handle.c) --- */

/* A blank live handle in the innermost scope, refs 1, no storage. NULL: error is set. */
fb_tensor *fbi_tensor_new(fb_context *ctx);
/* The same, in no scope: the caller owns the reference (flag BORROWED). */
fb_tensor *fbi_tensor_new_owned(fb_context *ctx);
void fbi_tensor_ref(fb_tensor *t);
void fbi_tensor_unref(fb_tensor *t); /* NULL is fine */
/* A new handle in the innermost scope on the same storage and view, without node and leaf. */
fb_tensor *fbi_tensor_alias(fb_tensor *t);
/* Checks that t is live and of an error-free context; else sets FB_E_STALE / FB_E_ARG naming `op`
 * and `what`. */
bool fbi_tensor_check(fb_context *ctx, const fb_tensor *t, const char *op, const char *what);

void fbi_set_shape(fb_tensor *t, fb_dtype dtype, fb_shape shape); /* row-major strides, numel */
fb_shape fbi_strides_of(const fb_tensor *t);
bool fbi_contiguous(const fb_tensor *t);
/* No gaps and no overlap, in any order of dimensions (e.g. channels-last). */
bool fbi_dense(const fb_tensor *t);
/* "[2, 3]" into a ring of buffers inside the context: for messages, valid for the next 7 calls. */
const char *fbi_text(const fb_tensor *t);
const char *fbi_shape_text(fb_context *ctx, fb_shape s);

/* Dimension of the user's `dim` (negative counts from the end), or -1 with an error naming op. */
int fbi_dim(fb_context *ctx, const fb_tensor *t, int dim, const char *op);
/* Result shape of broadcasting; false: they do not fit (no error set). */
bool fbi_broadcast(fb_shape a, fb_shape b, fb_shape *out);

/* --- storage (core/tensor/storage.c) --- */

/* `bytes` of the context's device, 64-byte aligned (256 above 4 KiB), refs 1. NULL: error is set.
 */
fbi_storage *fbi_storage_new(fb_context *ctx, size_t bytes);
/* On foreign memory. */
fbi_storage *fbi_storage_wrap(fb_context *ctx, void *data, size_t bytes,
                              void (*release)(fbi_storage *), void *owner, bool read_only);
void fbi_storage_unref(fb_context *ctx, fbi_storage *s);
/* Point a handle (and so all who hold it) at other storage of the same size: flat buckets, ZeRO. */
void fbi_tensor_repoint(fb_tensor *t, fbi_storage *s, int64_t offset);
void fbi_storage_guarded(fb_context *ctx, fbi_storage *s);
/* Before parameters, averages and states of optimizers are changed in place. */
static inline void fbi_changing(fb_tensor *t)
{
    if (__builtin_expect(t->storage->flags & FBI_S_GUARDED, 0))
        fbi_storage_guarded(t->ctx, t->storage);
}
static inline void fbi_bump(fb_tensor *t)
{
    t->storage->version++;
}

/* --- making tensors without operators (core/tensor/create.c) --- */
fb_tensor *fbi_empty(fb_context *ctx, fb_dtype dtype, fb_shape shape); /* uninitialised, in scope */
/* A view: same storage, other sizes, strides and offset (in elements, absolute); in scope, no node.
 */
fb_tensor *fbi_view(fb_tensor *t, fb_shape sizes, fb_shape strides, int64_t offset);

#endif
