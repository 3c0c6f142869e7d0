/* The loop under every pointwise kernel: strides, dtypes and threads around a contiguous inner
 * loop. */
#ifndef FLAMBEAU_CORE_CPU_LOOP_H
#define FLAMBEAU_CORE_CPU_LOOP_H

#include "core/ops/op_priv.h"

/* out[0 .. n) from in[i][0 .. n), all contiguous and of the dtypes asked for. */
typedef void (*fbi_inner)(void *out, const void *const *in, int64_t n, const void *attrs);

/* Run fn over c->out[0] with its first n_in inputs, which have its shape. as[0] is the dtype in
 * which fn writes, as[1 + i] the one in which it reads input i; other dtypes and strides go through
 * a buffer. An absent input is passed as NULL. Bits do not depend on threads. */
fb_status fbi_loop(const fbi_call *c, int n_in, const fb_dtype *as, fbi_inner fn);
/* The same; `past`, if there is one, makes what fn makes where that goes past the caches: whole
 * lines of a multiple of 16 elements. */
fb_status fbi_loop_past(const fbi_call *c, int n_in, const fb_dtype *as, fbi_inner fn,
                        fbi_inner past);

/* n elements from one dtype and stride to another. */
void fbi_convert(void *dst, fb_dtype to, int64_t dst_stride, const void *src, fb_dtype from,
                 int64_t src_stride, int64_t n);

/* dst = src, elementwise, of one shape and any dtypes and strides. */
void fbi_copy_strided(int threads, fb_tensor *dst, const fb_tensor *src);

#endif
