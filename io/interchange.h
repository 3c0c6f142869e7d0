/* Files of other programs. */
#ifndef FLAMBEAU_IO_INTERCHANGE_H
#define FLAMBEAU_IO_INTERCHANGE_H

#include <flambeau/core/tensor/tensor.h>
#include <flambeau/io/load.h>

FB_BEGIN

/* DLPack's own structs, of dlpack.h. */
struct DLManagedTensor;
struct DLManagedTensorVersioned;
typedef struct fb_module fb_module;

/**
 * Read a NumPy array: float16 to 64, int8 to 64, uint8 to 64 and bool, of either byte order, C or
 * Fortran order, versions 1 to 3. uint32 and uint64 become I64.
 *
 * NEP 1. FB_E_NOT_FOUND, FB_E_IO for a file that is cut or no array, FB_E_DTYPE for other types,
 * and for uint64 above what I64 holds.
 */
FB_API FB_USE_RESULT fb_tensor *fb_npy_load(fb_context *ctx, const char *path);
/**
 * The same without reading it: the tensor lies on the file, which is mapped into memory read-only,
 * and must not be cut while it does. Arrays that would have to be changed on the way (another byte
 * order, uint32, uint64), and contexts on a device, get what fb_npy_load gives.
 */
FB_API FB_USE_RESULT fb_tensor *fb_npy_map(fb_context *ctx, const char *path);
/** Write a NumPy array, version 1, C order; BF16 is written as F32. */
FB_API fb_status fb_npy_save(fb_tensor *t, const char *path);

/** Array `name` of a file of several, compressed or not: numpy.savez. FB_E_NOT_FOUND also if there
 * is no such array; other errors as fb_npy_load. */
FB_API FB_USE_RESULT fb_tensor *fb_npz_load(fb_context *ctx, const char *path, const char *name);
/** Names of the arrays of a file, one behind the other, each with a line's end; free() it. NULL:
 * errors as in fb_npz_load. */
FB_API FB_USE_RESULT char *fb_npz_names(fb_context *ctx, const char *path);
/** Write n tensors under their names, not compressed. FB_E_ARG for names that are empty, there
 * twice or longer than 200 characters; FB_E_IO. */
FB_API fb_status fb_npz_save(fb_context *ctx, const char *path, const char *const *names,
                             fb_tensor *const *tensors, int n);

/**
 * Write the parameters and buffers of a module under their names, in their dtypes: a file that
 * Hugging Face's safetensors reads. FB_E_IO. In a job each rank that calls it writes.
 */
FB_API fb_status fb_safetensors_save(fb_module *m, const char *path);
/**
 * Load parameters and buffers by name; NULL are all defaults of the options. Dtypes may differ:
 * values are cast. Nothing is changed unless everything fits: FB_E_SHAPE lists what does not.
 * FB_E_NOT_FOUND, FB_E_IO for a file that is damaged, FB_E_DTYPE. Ranks of a job each load.
 */
FB_API fb_status fb_safetensors_load(fb_module *m, const char *path, const fb_load_options *opts);

/**
 * A tensor for other libraries, without a copy: DLPack 1. Its `deleter` gives it back; it must be
 * called on the context's thread, after the context's end at the latest by fb_context_close's
 * caller. Whoever changes the memory calls fb_touch. FB_E_NOMEM, FB_E_UNSUPPORTED for devices other
 * than the CPU and CUDA. https://dmlc.github.io/dlpack
 */
FB_API FB_USE_RESULT struct DLManagedTensorVersioned *fb_dlpack_export(fb_tensor *t);
/** The same for libraries that know only DLPack before 1.0. */
FB_API FB_USE_RESULT struct DLManagedTensor *fb_dlpack_export_old(fb_tensor *t);
/**
 * A tensor on memory of another library, without a copy; its deleter is called when the last user
 * of the storage goes. On failure it stays the caller's: FB_E_ARG for NULL and negative strides,
 * FB_E_DTYPE, FB_E_UNSUPPORTED for another device than the context's, or a version that is not 1.
 */
FB_API FB_USE_RESULT fb_tensor *fb_dlpack_import(fb_context *ctx,
                                                 struct DLManagedTensorVersioned *managed);
/** The same from libraries that know only DLPack before 1.0. */
FB_API FB_USE_RESULT fb_tensor *fb_dlpack_import_old(fb_context *ctx,
                                                     struct DLManagedTensor *managed);

FB_END
#endif
