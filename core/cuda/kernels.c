/* The kernel table, from the rows. A row without its kernel does not link. Before each kernel its
 * card becomes the thread's current one, and operands that it does not know become wide copies. */
#include "core/cuda/dnn_call_priv.h"
#include "core/cuda/widen_priv.h"

/* What a kernel returned; FLAMBEAU_CUDA_BLOCKING=all waits for it, so that an error is its own. */
static fb_status done(const fbi_call *c, fb_status st)
{
    return st || !fbi_cuda_of(c->ctx)->blocking_all ? st : fbi_cuda_sync(c->ctx);
}

/* Asked before a row's own kernel, with operands as they are: whether a library has done the call.
 */
static fb_status (*const first[FBI_OP_COUNT])(const fbi_call *c, bool *served) = {
    [FBI_OP_conv2d] = fbi_cuda_dnn_conv2d,
    [FBI_OP_conv2d_relu] = fbi_cuda_dnn_conv2d,
    [FBI_OP_conv2d_bwd_data] = fbi_cuda_dnn_conv2d_bwd_data,
    [FBI_OP_conv2d_bwd_weight] = fbi_cuda_dnn_conv2d_bwd_weight,
    [FBI_OP_attention] = fbi_cuda_dnn_attention,
    [FBI_OP_attention_bwd] = fbi_cuda_dnn_attention_bwd,
    [FBI_OP_linear_act] = fbi_cuda_lt_linear_act,
    [FBI_OP_linear_dact] = fbi_cuda_lt_linear_dact,
};

static fb_status run_wide(const fbi_call *c, fbi_kernel kernel)
{
    bool served = false;
    fb_status st = fbi_cuda_use(c->ctx);
    if (!st && first[c->op->op])
        st = first[c->op->op](c, &served);
    if (st || served)
        return done(c, st);
    return done(c, fbi_cuda_wants_wide(c) ? fbi_cuda_widened(c, kernel) : kernel(c));
}

#define FBI_PROTO(name) fb_status fbi_cuda_row_##name(const fbi_call *c);
/* Pointwise kernels convert as they load and store. */
#define FBI_RUN_DIRECT(name)                              \
    FBI_PROTO(name)                                       \
    static fb_status run_##name(const fbi_call *c)        \
    {                                                     \
        fb_status st = fbi_cuda_use(c->ctx);              \
        return st ? st : done(c, fbi_cuda_row_##name(c)); \
    }
#define FBI_RUN_WIDE(name)                         \
    FBI_PROTO(name)                                \
    static fb_status run_##name(const fbi_call *c) \
    {                                              \
        return run_wide(c, fbi_cuda_row_##name);   \
    }
#define UNARY(name, ...) FBI_RUN_DIRECT(name) FBI_RUN_DIRECT(name##_bwd) FBI_RUN_DIRECT(name##_bwd2)
#define UNARY_S(name, ...) \
    FBI_RUN_DIRECT(name) FBI_RUN_DIRECT(name##_bwd) FBI_RUN_DIRECT(name##_bwd2)
#define BINARY(name, ...)     \
    FBI_RUN_DIRECT(name)      \
    FBI_RUN_DIRECT(name##_ga) \
    FBI_RUN_DIRECT(name##_gb) \
    FBI_RUN_DIRECT(name##_gaa) FBI_RUN_DIRECT(name##_gab) FBI_RUN_DIRECT(name##_gbb)
#define COMPARE(name, ...)        FBI_RUN_DIRECT(name)
#define PREDICATE(name, ...)      FBI_RUN_DIRECT(name)
#define BITS(name, ...)           FBI_RUN_DIRECT(name)
#define OP(name, ...)             FBI_RUN_WIDE(name)
#define OP_SLOW(name, ...)        FBI_RUN_WIDE(name)
#define OP_NODIFF(name, ...)      FBI_RUN_WIDE(name)
#define OP_FUSED(name, ...)       FBI_RUN_WIDE(name)
#define OP_FUSED_INNER(name, ...) FBI_RUN_WIDE(name)
#define OP_INNER(name, ...)       FBI_RUN_WIDE(name)
#define OP_INNER_DIFF(name, ...)  FBI_RUN_WIDE(name)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"

#define FBI_ENTRY_OF(name) [FBI_OP_##name] = run_##name,

const fbi_kernel fbi_cuda_kernels[FBI_OP_COUNT] = {
#define UNARY(name, ...)   FBI_ENTRY_OF(name) FBI_ENTRY_OF(name##_bwd) FBI_ENTRY_OF(name##_bwd2)
#define UNARY_S(name, ...) FBI_ENTRY_OF(name) FBI_ENTRY_OF(name##_bwd) FBI_ENTRY_OF(name##_bwd2)
#define BINARY(name, ...)   \
    FBI_ENTRY_OF(name)      \
    FBI_ENTRY_OF(name##_ga) \
    FBI_ENTRY_OF(name##_gb) \
    FBI_ENTRY_OF(name##_gaa) FBI_ENTRY_OF(name##_gab) FBI_ENTRY_OF(name##_gbb)
#define COMPARE(name, ...)        FBI_ENTRY_OF(name)
#define PREDICATE(name, ...)      FBI_ENTRY_OF(name)
#define BITS(name, ...)           FBI_ENTRY_OF(name)
#define OP(name, ...)             FBI_ENTRY_OF(name)
#define OP_SLOW(name, ...)        FBI_ENTRY_OF(name)
#define OP_NODIFF(name, ...)      FBI_ENTRY_OF(name)
#define OP_FUSED(name, ...)       FBI_ENTRY_OF(name)
#define OP_FUSED_INNER(name, ...) FBI_ENTRY_OF(name)
#define OP_INNER(name, ...)       FBI_ENTRY_OF(name)
#define OP_INNER_DIFF(name, ...)  FBI_ENTRY_OF(name)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
};
