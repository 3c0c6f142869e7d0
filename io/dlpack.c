/* Tensors shared with other libraries: DLPack, https://dmlc.github.io/dlpack. Its header is five
 * structs; they stand here, so that nobody needs the package. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/io/interchange.h>

#include "core/tensor/context_priv.h"
#include "core/tensor/device_priv.h"
#include "core/tensor/tensor_priv.h"

enum { DEVICE_CPU = 1, DEVICE_CUDA = 2, MAJOR = 1, READ_ONLY = 1 };
enum { CODE_INT, CODE_UINT, CODE_FLOAT, CODE_BFLOAT = 4, CODE_BOOL = 6 };

typedef struct dl_tensor {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} dl_tensor;

struct DLManagedTensor {
    dl_tensor tensor;
    void *manager;
    void (*deleter)(struct DLManagedTensor *self);
};

struct DLManagedTensorVersioned {
    struct {
        uint32_t major, minor;
    } version;
    void *manager;
    void (*deleter)(struct DLManagedTensorVersioned *self);
    uint64_t flags;
    dl_tensor tensor;
};

static const struct {
    fb_dtype dtype;
    uint8_t code, bits;
} types[] = {{FB_F32, CODE_FLOAT, 32},   {FB_F64, CODE_FLOAT, 64}, {FB_F16, CODE_FLOAT, 16},
             {FB_BF16, CODE_BFLOAT, 16}, {FB_I32, CODE_INT, 32},   {FB_I64, CODE_INT, 64},
             {FB_I16, CODE_INT, 16},     {FB_I8, CODE_INT, 8},     {FB_U8, CODE_UINT, 8},
             {FB_U16, CODE_UINT, 16},    {FB_BOOL, CODE_BOOL, 8}};
enum { N_TYPES = sizeof types / sizeof types[0] };

/* --- out --- */

/* What an exported tensor stands on. */
typedef struct loan {
    fb_tensor *tensor; /* retained */
    int64_t shape[FB_MAX_DIMS], strides[FB_MAX_DIMS];
    union {
        struct DLManagedTensorVersioned versioned;
        struct DLManagedTensor old;
    } managed;
} loan;

static void give_back(struct DLManagedTensorVersioned *self)
{
    loan *l = self->manager;
    fb_release(l->tensor);
    free(l);
}

static void give_back_old(struct DLManagedTensor *self)
{
    loan *l = self->manager;
    fb_release(l->tensor);
    free(l);
}

static bool find_device(fb_tensor *t, dl_tensor *out)
{
    const char *name = fb_context_device(t->ctx);
    int id = 0;
    out->device.type = DEVICE_CPU;
    if (t->ctx->backend->host_memory || (t->storage->flags & FBI_S_HOST))
        return true;
    out->device.type = DEVICE_CUDA;
    if (sscanf(name, "cuda:%d", &id) == 1 && !t->ctx->backend->sync(t->ctx)) {
        out->device.id = id;
        return true;
    }
    fbi_fail(t->ctx, FB_E_UNSUPPORTED, "dlpack: has no name for the device %s", name);
    return false;
}

/* The values of t: in scope a handle without history, so that t may be a parameter. */
static loan *lend(fb_tensor *t, dl_tensor *out)
{
    *out = (dl_tensor){.ndim = t->ndim, .data = fbi_ptr(t)};
    if (!find_device(t, out))
        return NULL;
    loan *l = malloc(sizeof *l);
    fb_tensor *kept = l ? fb_retain(fb_detach(t)) : NULL;
    if (!kept) {
        fbi_fail(t->ctx, FB_E_NOMEM, "dlpack: no memory");
        free(l);
        return NULL;
    }
    l->tensor = kept;
    for (int i = 0; i < t->ndim; i++) {
        l->shape[i] = t->size[i];
        l->strides[i] = t->stride[i];
    }
    out->shape = l->shape;
    out->strides = l->strides;
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].dtype == (fb_dtype)t->dtype) {
            out->dtype.code = types[i].code;
            out->dtype.bits = types[i].bits;
        }
    out->dtype.lanes = 1;
    return l;
}

struct DLManagedTensorVersioned *fb_dlpack_export(fb_tensor *t)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    dl_tensor tensor;
    loan *l = fbi_enter(t->ctx) ? lend(t, &tensor) : NULL;
    if (!l)
        return NULL;
    l->managed.versioned = (struct DLManagedTensorVersioned){
        .version = {MAJOR, 0},
        .manager = l,
        .deleter = give_back,
        .flags = t->storage->flags & FBI_S_READ_ONLY ? READ_ONLY : 0,
        .tensor = tensor};
    return &l->managed.versioned;
}

struct DLManagedTensor *fb_dlpack_export_old(fb_tensor *t)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    dl_tensor tensor;
    loan *l = fbi_enter(t->ctx) ? lend(t, &tensor) : NULL;
    if (!l)
        return NULL;
    l->managed.old =
        (struct DLManagedTensor){.manager = l, .deleter = give_back_old, .tensor = tensor};
    return &l->managed.old;
}

/* --- in --- */

static fb_dtype dtype_of(fb_context *ctx, const dl_tensor *d)
{
    for (int i = 0; i < N_TYPES && d->dtype.lanes == 1; i++)
        if (types[i].code == d->dtype.code && types[i].bits == d->dtype.bits)
            return types[i].dtype;
    fbi_fail(ctx, FB_E_DTYPE,
             "dlpack: no dtype is code %d with %d bits and %d lanes: convert it first",
             d->dtype.code, d->dtype.bits, d->dtype.lanes);
    return FB_DTYPE_DEFAULT;
}

/* The name of its device here; NULL: the error is set. */
static const char *device_of(fb_context *ctx, const dl_tensor *d, char *out, size_t size)
{
    if (d->device.type == DEVICE_CPU)
        return "cpu";
    if (d->device.type != DEVICE_CUDA) {
        fbi_fail(ctx, FB_E_UNSUPPORTED, "dlpack: device type %d is neither CPU nor CUDA",
                 d->device.type);
        return NULL;
    }
    snprintf(out, size, "cuda:%d", d->device.id);
    return out;
}

static fb_tensor *borrow(fb_context *ctx, const dl_tensor *d, bool read_only,
                         void (*deleter)(void *data, void *user), void *user)
{
    char name[32];
    const char *device = device_of(ctx, d, name, sizeof name);
    fb_dtype dtype = device ? dtype_of(ctx, d) : FB_DTYPE_DEFAULT;
    if (!dtype)
        return NULL;
    if (d->ndim < 0 || d->ndim > FB_MAX_DIMS || (d->ndim && !d->shape)) {
        fbi_fail(ctx, FB_E_SHAPE, "dlpack: %d dimensions; at most %d are possible", d->ndim,
                 FB_MAX_DIMS);
        return NULL;
    }
    char *data = d->data ? (char *)d->data + d->byte_offset : NULL;
    return fb_wrap(ctx, dtype, fb_shape_make(d->ndim, d->shape), data,
                   FB_OPTS(fb_wrap_options, .strides = d->strides, .device = device,
                           .read_only = read_only, .deleter = deleter, .user = user));
}

static void done_with(void *data, void *user)
{
    struct DLManagedTensorVersioned *managed = user;
    (void)data;
    if (managed->deleter)
        managed->deleter(managed);
}

static void done_with_old(void *data, void *user)
{
    struct DLManagedTensor *managed = user;
    (void)data;
    if (managed->deleter)
        managed->deleter(managed);
}

fb_tensor *fb_dlpack_import(fb_context *ctx, struct DLManagedTensorVersioned *managed)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    if (!managed || managed->version.major != MAJOR) {
        fbi_fail(ctx, managed ? FB_E_UNSUPPORTED : FB_E_ARG,
                 managed ? "dlpack: version %u; %d is known" : "dlpack: the tensor is NULL",
                 managed ? managed->version.major : 0, MAJOR);
        return NULL;
    }
    return borrow(ctx, &managed->tensor, managed->flags & READ_ONLY, done_with, managed);
}

fb_tensor *fb_dlpack_import_old(fb_context *ctx, struct DLManagedTensor *managed)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    if (!managed) {
        fbi_fail(ctx, FB_E_ARG, "dlpack: the tensor is NULL");
        return NULL;
    }
    return borrow(ctx, &managed->tensor, false, done_with_old, managed);
}
