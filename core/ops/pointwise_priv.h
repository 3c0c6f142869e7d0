/* Functions shared by all pointwise rows. */
#ifndef FLAMBEAU_CORE_OPS_POINTWISE_PRIV_H
#define FLAMBEAU_CORE_OPS_POINTWISE_PRIV_H

#include "core/ops/op_priv.h"

fb_status fbi_infer_unary(fbi_call *c);  /* out 0 is like in 0 */
fb_status fbi_infer_binary(fbi_call *c); /* inputs are of one shape and dtype by now */
fb_status fbi_infer_compare(fbi_call *c);
fb_status fbi_infer_predicate(fbi_call *c);
fb_status fbi_infer_bits(fbi_call *c);
fb_status fbi_bwd_ops_unary(fbi_bw *bw);
fb_status fbi_bwd_ops_unary_bwd(fbi_bw *bw);
fb_status fbi_bwd_ops_unary_bwd2(fbi_bw *bw);
fb_status fbi_bwd_ops_binary(fbi_bw *bw);
fb_status fbi_bwd_ops_binary_g(fbi_bw *bw);
fb_status fbi_bwd_ops_binary_gg(fbi_bw *bw);
void fbi_sample_compare(fbi_samples *s);
void fbi_sample_predicate(fbi_samples *s);
void fbi_sample_bits(fbi_samples *s);

#define UNARY(name, ...)   void fbi_sample_unary_##name(fbi_samples *s);
#define UNARY_S(name, ...) void fbi_sample_unary_##name(fbi_samples *s);
#define BINARY(name, ...)  void fbi_sample_binary_##name(fbi_samples *s);
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"

/* Bring inputs 0 and 1 of a BINARY, COMPARE or BITS row to one dtype and shape (recorded). */
fb_status fbi_unify(fb_context *ctx, fbi_op op, fb_tensor **a, fb_tensor **b);

#endif
