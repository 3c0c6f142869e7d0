/* What the definition of an operator needs: rows, calls, backward, samples. */
#ifndef FLAMBEAU_CORE_OPS_OP_PRIV_H
#define FLAMBEAU_CORE_OPS_OP_PRIV_H

#include "core/autograd/node_priv.h"
#include "core/ops/backend.h"

/* --- attributes: struct fbi_attrs_NAME for every row --- */

typedef int64_t fbi_attr_int;
typedef double fbi_attr_f64;
typedef uint64_t fbi_attr_u64;
typedef fb_shape fbi_attr_shape;

typedef struct fbi_attrs_scalars {
    double a, b;
} fbi_attrs_scalars; /* of UNARY_S rows */

#define A(type, name, def) fbi_attr_##type name;
#define NOATTRS            char none;
#define FBI_ROW_ATTRS(name, attrs)    \
    typedef struct fbi_attrs_##name { \
        attrs                         \
    } fbi_attrs_##name;
#define OP(name, in, out, attrs, saves, flags)             FBI_ROW_ATTRS(name, attrs)
#define OP_SLOW(name, in, out, attrs, saves, flags)        FBI_ROW_ATTRS(name, attrs)
#define OP_NODIFF(name, in, out, attrs, saves, flags)      FBI_ROW_ATTRS(name, attrs)
#define OP_FUSED(name, in, out, attrs, saves, flags)       FBI_ROW_ATTRS(name, attrs)
#define OP_FUSED_INNER(name, in, out, attrs, saves, flags) FBI_ROW_ATTRS(name, attrs)
#define OP_INNER(name, in, out, attrs, saves, flags)       FBI_ROW_ATTRS(name, attrs)
#define OP_INNER_DIFF(name, in, out, attrs, saves, flags)  FBI_ROW_ATTRS(name, attrs)
#define OP_COMPOSED(name, in, out, attrs, flags)           FBI_ROW_ATTRS(name, attrs)
#define OP_LAPACK(name, in, out, attrs, saves)             FBI_ROW_ATTRS(name, attrs)
#define OP_VIEW(name, attrs)                               FBI_ROW_ATTRS(name, attrs)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
#undef A
#undef NOATTRS
#undef FBI_ROW_ATTRS

/* --- the enum --- */

typedef enum fbi_op {
    FBI_OP_none = 0, /* a leaf's accumulation node */
#define UNARY(name, ...)   FBI_OP_##name, FBI_OP_##name##_bwd, FBI_OP_##name##_bwd2,
#define UNARY_S(name, ...) FBI_OP_##name, FBI_OP_##name##_bwd, FBI_OP_##name##_bwd2,
#define BINARY(name, ...)                                                       \
    FBI_OP_##name, FBI_OP_##name##_ga, FBI_OP_##name##_gb, FBI_OP_##name##_gaa, \
        FBI_OP_##name##_gab, FBI_OP_##name##_gbb,
#define COMPARE(name, ...)        FBI_OP_##name,
#define PREDICATE(name, ...)      FBI_OP_##name,
#define BITS(name, ...)           FBI_OP_##name,
#define OP(name, ...)             FBI_OP_##name,
#define OP_SLOW(name, ...)        FBI_OP_##name,
#define OP_NODIFF(name, ...)      FBI_OP_##name,
#define OP_FUSED(name, ...)       FBI_OP_##name,
#define OP_FUSED_INNER(name, ...) FBI_OP_##name,
#define OP_INNER(name, ...)       FBI_OP_##name,
#define OP_INNER_DIFF(name, ...)  FBI_OP_##name,
#define OP_COMPOSED(name, ...)    FBI_OP_##name,
#define OP_LAPACK(name, ...)      FBI_OP_##name,
#define OP_VIEW(name, ...)        FBI_OP_##name,
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
    FBI_OP_COUNT
} fbi_op;

enum {
    FBI_IN0 = 1,
    FBI_IN1 = 2,
    FBI_IN2 = 4,
    FBI_IN3 = 8,
    FBI_IN4 = 16,
    FBI_IN5 = 32,
    FBI_OUT0 = 256,
    FBI_OUT1 = 512,
    FBI_OUT2 = 1024,
    FBI_OUT3 = 2048
};

enum {
    FBI_OPT1 = 1,
    FBI_OPT2 = 2,
    FBI_OPT3 = 4,
    FBI_VARIADIC = 8,
    FBI_VIEW = 16,
    FBI_RANDOM = 32,
    FBI_BETA = 64,
    FBI_COUPLES = 128,
    FBI_THREAD_BITS = 256,
    FBI_CPU_HALF = 512,
    FBI_INNER = 1024,
    FBI_POINTWISE = 2048,
    FBI_AUX = 4096,
    FBI_INTS = 8192,
    FBI_LAPACK = 16384,
    FBI_WIDE = 32768,
    FBI_NO_GRADIENT = 65536,
    FBI_AUX_LAST = 131072
};

typedef struct fbi_bw fbi_bw;
typedef struct fbi_samples fbi_samples;

/* A row, as a struct. */
struct fbi_opdef {
    const char *name;
    fbi_op op;
    uint8_t n_in, n_out;
    uint32_t flags, saves, attrs_bytes;
    fb_status (*infer)(fbi_call *);   /* shapes and dtypes of the outputs, or an error */
    fb_status (*bwd)(fbi_bw *);       /* fast, records nothing; NULL: bwd_ops */
    fb_status (*bwd_ops)(fbi_bw *);   /* of operators; NULL: no derivative */
    fb_status (*compose)(fbi_call *); /* instead of all three: by other operators, into c->out */
    void (*sample)(fbi_samples *);
    const struct fbi_attr_info *attrs; /* for the by-name door */
    int n_attrs;
    double lo, hi, lo2, hi2, ulp; /* of UNARY and BINARY rows, for samples */
};

extern const fbi_opdef fbi_opdefs[FBI_OP_COUNT];

/* How many outputs, the first ones, are results; others are for backward only. */
static inline int fbi_n_results(const fbi_opdef *d)
{
    return d->flags & FBI_AUX ? 1 : d->flags & FBI_AUX_LAST ? d->n_out - 1 : d->n_out;
}

/* --- for infer: describe output i --- */

/* Fresh, row-major. */
fb_status fbi_out(fbi_call *c, int i, fb_dtype dtype, fb_shape shape);
/* Fresh, sizes of `like`; keeps its layout if that is dense (channels-last stays so). */
fb_status fbi_out_like(fbi_call *c, int i, fb_dtype dtype, const fb_tensor *like);
/* A view of `base` (VIEW rows). Offset in elements, absolute. */
fb_status fbi_out_view(fbi_call *c, int i, fb_tensor *base, fb_shape sizes, fb_shape strides,
                       int64_t offset);
/* Fresh, dense, its dimensions in memory in the order of those of `like`. */
fb_status fbi_out_order(fbi_call *c, int i, fb_dtype dtype, fb_shape shape, const fb_tensor *like);
/* Fresh, physically channels-last, logical sizes n c h w or n c d h w. */
fb_status fbi_out_nhwc(fbi_call *c, int i, fb_dtype dtype, fb_shape sizes);
/* Error with the operator's name in front: "softmax: ...". */
fb_status fbi_op_fail(const fbi_call *c, fb_status st, const char *fmt, ...) FB_PRINTF(3, 4);
/* FB_E_DTYPE with names unless in[i] is F32 F64 F16 BF16. */
fb_status fbi_need_float(const fbi_call *c, int i);
/* FB_E_DTYPE if in[i] is BOOL. */
fb_status fbi_need_numbers(const fbi_call *c, int i);
fb_status fbi_need_dtype(const fbi_call *c, int i, fb_dtype dtype);
/* FB_E_SHAPE unless in[i] has n dimensions. */
fb_status fbi_need_ndim(const fbi_call *c, int i, int n);

/* What a compose function ends with: y, of the operators that it called, is output 0. */
static inline fb_status fbi_composed(fbi_call *c, fb_tensor *y)
{
    c->out[0] = y;
    return y ? FB_OK : c->ctx->status ? c->ctx->status : FB_E_ARG;
}
/* Dimension of in[0], or -1 with the error set. */
int fbi_dim_of(const fbi_call *c, int64_t dim);

/* --- calls --- */

/* Run (and record, if recording) one operator: outputs are handles of the innermost scope.
 * in[i] may be NULL where optional. On failure outputs are NULL and the error is set. */
fb_status fbi_run(fb_context *ctx, fbi_op op, const void *attrs, fb_tensor *const *in, int n_in,
                  fb_tensor **out);
/* The same for one output; ctx is that of the first non-NULL input. The usual call of a public
 * function: fb_tensor *fb_softmax(fb_tensor *x, int dim)
 *     {
 *         return FBI_RUN(softmax, (&(fbi_attrs_softmax){.dim = dim}), x);
 *     } */
fb_tensor *fbi_run1(const void *site, fbi_op op, const void *attrs, int n_in, fb_tensor *const *in);
#define FBI_RUN(name, attrs, ...)                                     \
    fbi_run1(FBI_SITE, FBI_OP_##name, (attrs), FB_COUNT(__VA_ARGS__), \
             (fb_tensor *const[]){__VA_ARGS__})
/* in[0] op= in[1..]: writes into in[0], bumps its version, moves its history. */
fb_status fbi_run_inplace(const void *site, fbi_op op, const void *attrs, int n_in,
                          fb_tensor *const *in);
/* Whether the device of ctx has a kernel for a FUSED row. */
static inline bool fbi_has_kernel(const fb_context *ctx, fbi_op op)
{
    return ctx->kernels && ctx->kernels[op];
}
/* Kernel only, into given outputs: no recording, no inference. For optimizers and backward. */
fb_status fbi_kernel_run(fb_context *ctx, fbi_op op, const void *attrs, fb_tensor *const *in,
                         int n_in, fb_tensor *const *out, int n_out, float beta);
/* t itself if contiguous, else a contiguous copy in the innermost scope (recorded like
 * `contiguous`). */
fb_tensor *fbi_contiguous_of(fb_tensor *t);

/* --- backward of a node --- */

struct fbi_bw {
    fb_context *ctx;
    fbi_node *node;
    const fbi_opdef *op;
    const void *attrs;
    fb_tensor *const *grad; /* [n_out]; NULL: zero */
    fb_tensor **in_grad;    /* [n_in] results: one owned reference each */
    bool linked;            /* create_graph: what is computed here is recorded */
};

/* Whether the gradient of input i is wanted. */
static inline bool fbi_bw_needs(const fbi_bw *bw, int i)
{
    return fbi_edges(bw->node)[i].to != NULL;
}
/* What the row saves: S(IN0 | OUT0). In linked mode they are linked to the graph. NULL: error is
 * set, or the optional input was NULL. */
fb_tensor *fbi_bw_in(fbi_bw *bw, int i);
fb_tensor *fbi_bw_out(fbi_bw *bw, int i);
/* Deliver g (a handle of the scope of this node) as the gradient of input i. NULL with an error set
 * passes. */
fb_status fbi_bw_give(fbi_bw *bw, int i, fb_tensor *g);
/* The incoming gradient, if nobody else holds it: the last kernel that reads it may write its
 * result there, into lines that this core's cache owns. */
fb_tensor *fbi_bw_spare(const fbi_bw *bw);
/* What has arrived of the gradient of input i from other nodes, to be added to in place; NULL if
 * nothing has, or others hold it. */
fb_tensor *fbi_bw_pending(const fbi_bw *bw, int i);
/* Run `op` unrecorded and deliver its output as the gradient of input i, written straight into the
 * leaf's destination (beta 0 or 1) where the row of `op` can. For fast backwards. */
fb_status fbi_bw_run(fbi_bw *bw, int i, fbi_op op, const void *attrs, int n_in,
                     fb_tensor *const *in);
#define FBI_BW_RUN(bw, i, name, attrs, ...)                              \
    fbi_bw_run((bw), (i), FBI_OP_##name, (attrs), FB_COUNT(__VA_ARGS__), \
               (fb_tensor *const[]){__VA_ARGS__})
/* Run `op`, whose two outputs are the gradients of inputs i and j, both of which are wanted. */
fb_status fbi_bw_run_pair(fbi_bw *bw, int i, int j, fbi_op op, fb_tensor *const *in, int n_in);
/* The same in both modes: in linked mode recorded, for rows whose backwards are one operator. */
fb_status fbi_bw_apply(fbi_bw *bw, int i, fbi_op op, const void *attrs, int n_in,
                       fb_tensor *const *in);
#define FBI_BW_APPLY(bw, i, name, attrs, ...)                              \
    fbi_bw_apply((bw), (i), FBI_OP_##name, (attrs), FB_COUNT(__VA_ARGS__), \
                 (fb_tensor *const[]){__VA_ARGS__})
/* Sum g over the dimensions in which it was broadcast from `shape`. Works in both modes. */
fb_tensor *fbi_sum_to(fb_tensor *g, fb_shape shape);

/* --- samples for the harness --- */

typedef struct fbi_sample_in {
    fb_shape shape;
    fb_dtype dtype; /* 0: the floating dtype under test */
    double lo, hi;  /* range of values; integers are drawn from lo .. hi - 1 */
    bool absent;    /* NULL */
    bool constant;  /* no gradient wanted */
    bool distinct;  /* all values differ clearly (max, sort) */
    char matrix;    /* 'r': regular matrices, 's': symmetric ones, 'p': positive definite too */
} fbi_sample_in;

/* A call that must work; attrs of the row, copied. */
void fbi_sample_add(fbi_samples *s, const void *attrs, int n_in, const fbi_sample_in *in);
/* A call that must fail with `status` and a message containing `text`. */
void fbi_sample_bad(fbi_samples *s, const void *attrs, int n_in, const fbi_sample_in *in,
                    fb_status status, const char *text);

/* --- prototypes of every row's functions --- */

#define FBI_PROTO_INFER(name)  fb_status fbi_infer_##name(fbi_call *);
#define FBI_PROTO_BWD(name)    fb_status fbi_bwd_##name(fbi_bw *);
#define FBI_PROTO_OPS(name)    fb_status fbi_bwd_ops_##name(fbi_bw *);
#define FBI_PROTO_SAMPLE(name) void fbi_sample_##name(fbi_samples *);
#define OP_COMPOSED(name, ...)                \
    fb_status fbi_compose_##name(fbi_call *); \
    FBI_PROTO_SAMPLE(name)
#define OP(name, ...) \
    FBI_PROTO_INFER(name) FBI_PROTO_BWD(name) FBI_PROTO_OPS(name) FBI_PROTO_SAMPLE(name)
#define OP_LAPACK(name, ...)      FBI_PROTO_INFER(name) FBI_PROTO_OPS(name) FBI_PROTO_SAMPLE(name)
#define OP_SLOW(name, ...)        FBI_PROTO_INFER(name) FBI_PROTO_OPS(name) FBI_PROTO_SAMPLE(name)
#define OP_NODIFF(name, ...)      FBI_PROTO_INFER(name) FBI_PROTO_SAMPLE(name)
#define OP_FUSED                  OP
#define OP_FUSED_INNER(name, ...) FBI_PROTO_INFER(name)
#define OP_INNER(name, ...)       FBI_PROTO_INFER(name)
#define OP_INNER_DIFF(name, ...)  FBI_PROTO_INFER(name) FBI_PROTO_OPS(name)
#define OP_VIEW(name, ...)        FBI_PROTO_INFER(name) FBI_PROTO_OPS(name) FBI_PROTO_SAMPLE(name)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"

#endif
